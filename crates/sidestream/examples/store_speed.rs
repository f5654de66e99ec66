//! How fast a store is: whole lives of tasks that do nothing, and reads of a large store.
//!
//! ```text
//! cargo run --release --example store_speed -- lives [TASKS] [BATCH] [full|normal|postgres] [plain|rich]
//! cargo run --release --example store_speed -- reads [STORED] [RUNNING] [normal|postgres]
//! cargo run --release --example store_speed -- claims [WAITING] [AGENTS] [normal|postgres]
//! cargo run --release --example store_speed -- together [STORES] [BATCH] [SECONDS]
//! ```
//!
//! With `--features postgres` there is a PostgreSQL of its own, which waits for the disk at every commit;
//! `together` has several stores on it, each committing one batch after the other.
//!
//! A plain task has a tool, an agent and arguments; a rich one also a thread, a run and a tool call, each
//! of which has an index of its own.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a measurement prints, and stops at the first surprise"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidestream::core::{
    AgentId, Command, Filter, Namespace, NewTask, ReportNumber, Seq, Spec, Status, Task, TaskId,
    ToolName, WorkerId,
};
use sidestream::store::{
    Admission, Answer, Claim, Limits, ListQuery, LogQuery, PageStart, Request, SnapshotQuery,
    SqliteOptions, SqliteStore, Store, Synchronous, TimeField,
};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        let given = args.get(at).map(|text| text.parse().unwrap());
        given.unwrap_or(default)
    };
    match args.first().map(String::as_str) {
        Some("claims") => {
            let place = Place::new(args.get(3), "normal");
            claims(&place, number(1, 100_000), number(2, 10_000)).await;
        }
        Some("reads") => {
            let place = Place::new(args.get(3), "normal");
            reads(&place, number(1, 1_000_000), number(2, 100_000)).await;
        }
        #[cfg(feature = "postgres")]
        Some("together") => together(number(1, 4), number(2, 100), number(3, 5)).await,
        _ => {
            let place = Place::new(args.get(3), "full");
            let is_rich = args.get(4).is_some_and(|word| word == "rich");
            lives(&place, number(1, 100_000), number(2, 100), is_rich).await;
        }
    }
}

/// Where a store keeps its data.
enum Place {
    Sqlite(tempfile::TempDir, Synchronous),
    #[cfg(feature = "postgres")]
    Postgres(sidestream_test_postgres::Cluster),
}

impl Place {
    fn new(given: Option<&String>, otherwise: &str) -> Self {
        let directory = || tempfile::tempdir().unwrap();
        match given.map_or(otherwise, String::as_str) {
            "normal" => Self::Sqlite(directory(), Synchronous::Normal),
            "full" => Self::Sqlite(directory(), Synchronous::Full),
            #[cfg(feature = "postgres")]
            "postgres" => Self::Postgres(sidestream_test_postgres::Cluster::start_with(
                sidestream_test_postgres::Options {
                    fsync: true,
                    settings: ["shared_buffers=512MB", "max_wal_size=4GB"]
                        .map(Into::into)
                        .into(),
                    ..Default::default()
                },
            )),
            other => panic!("there is no store {other}"),
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(directory, synchronous) => {
                let options = SqliteOptions {
                    synchronous: *synchronous,
                    ..SqliteOptions::default()
                };
                Arc::new(SqliteStore::open(directory.path(), options).unwrap())
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(cluster) => {
                let url = cluster.url("postgres");
                let opened = sidestream::store::PostgresStore::open(&url, Default::default());
                Arc::new(opened.await.unwrap())
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Sqlite(_, synchronous) => format!("SQLite {synchronous:?}"),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "PostgreSQL".into(),
        }
    }
}

/// Several stores on one database, as if they were processes: each dispatches, claims and completes a
/// batch after the other, of a tool of its own.
#[cfg(feature = "postgres")]
async fn together(stores: usize, batch: usize, seconds: usize) {
    let place = Place::new(Some(&"postgres".to_owned()), "");
    let mut running = tokio::task::JoinSet::new();
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    for n in 0..stores {
        let store = place.open().await;
        running.spawn(async move {
            let mut lives = 0;
            let mut slowest = Duration::ZERO;
            while Instant::now() < until {
                let begun = Instant::now();
                dispatch(&*store, n * 1_000_000 + lives, batch, 10, false).await;
                let claimed = claim(&*store, batch, None).await;
                complete(&*store, &claimed).await;
                lives += claimed.len();
                slowest = slowest.max(begun.elapsed());
            }
            (lives, slowest)
        });
    }
    let (mut lives, mut slowest) = (0, Duration::ZERO);
    while let Some(ended) = running.join_next().await {
        let (more, slow) = ended.unwrap();
        lives += more;
        slowest = slowest.max(slow);
    }
    println!(
        "{stores} stores together, {batch} to a commit: {:.0} lives a second, {:.0} transitions; slowest round {slowest:?}",
        lives as f64 / seconds as f64,
        3.0 * lives as f64 / seconds as f64,
    );
}

fn spec(n: usize, agents: usize, is_rich: bool) -> Arc<Spec> {
    let id = TaskId::new(uuid::Uuid::new_v4().to_string()).unwrap();
    let mut task = NewTask::new("no-op")
        .args(serde_json::json!({"q": "x1", "n": n}))
        .agent(format!("agent-{}", n % agents));
    if is_rich {
        task = task
            .thread(format!("thread-{}", n % (agents * 100)))
            .run(format!("run-{}", n / 10))
            .tool_call(format!("call-{n}"));
    }
    Arc::new(
        task.into_spec(Namespace::default(), id, Default::default())
            .unwrap(),
    )
}

async fn dispatch(store: &dyn Store, from: usize, count: usize, agents: usize, is_rich: bool) {
    let request = |n| Request::Dispatch {
        spec: spec(n, agents, is_rich),
        admission: Admission::Queue,
    };
    let batch = (from..from + count).map(request).collect();
    let committed = store.commit(batch).await.unwrap();
    assert!(committed.answers.iter().all(Result::is_ok));
}

async fn claim(store: &dyn Store, limit: usize, per_agent: Option<u32>) -> Vec<Task> {
    let claim = Claim {
        worker: WorkerId::new("worker-1").unwrap(),
        tools: Arc::from([ToolName::new("no-op").unwrap()]),
        namespace: None,
        limit: limit as u32,
        lease_ms: 30_000,
        limits: Arc::new(Limits {
            per_agent,
            ..Limits::default()
        }),
    };
    let mut committed = store.commit(vec![Request::Claim(claim)]).await.unwrap();
    match committed.answers.remove(0).unwrap() {
        Answer::Claimed(claimed) => claimed.tasks,
        other => panic!("{other:?}"),
    }
}

async fn complete(store: &dyn Store, tasks: &[Task]) {
    let request = |task: &Task| Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command: Command::Complete {
            attempt: task.attempt,
            report: ReportNumber::NONE,
            result: Some(serde_json::json!({"ok": true}).into()),
        },
    };
    let committed = store
        .commit(tasks.iter().map(request).collect())
        .await
        .unwrap();
    assert!(committed.answers.iter().all(Result::is_ok));
}

async fn lives(place: &Place, tasks: usize, batch: usize, is_rich: bool) {
    let opened = place.open().await;
    let store = &*opened;
    let mut spent = [Duration::ZERO; 3];
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for n in (0..tasks).step_by(batch) {
        let begun = Instant::now();
        dispatch(store, n, batch, 10, is_rich).await;
        let dispatched = Instant::now();
        let claimed = claim(store, batch, None).await;
        let then = Instant::now();
        complete(store, &claimed).await;
        spent[0] += dispatched - begun;
        spent[1] += then - dispatched;
        spent[2] += then.elapsed();
        slowest = slowest.max(begun.elapsed());
    }
    let took = start.elapsed();
    let kind = if is_rich { "rich" } else { "plain" };
    println!(
        "{tasks} {kind} lives, {batch} to a commit, {}: {:.0} a second; dispatch {:?}, claim \
         {:?}, complete {:?} each; slowest round {slowest:?}",
        place.name(),
        tasks as f64 / took.as_secs_f64(),
        spent[0] / tasks as u32,
        spent[1] / tasks as u32,
        spent[2] / tasks as u32,
    );
    let begun = Instant::now();
    drop(opened);
    println!("closed in {:?}", begun.elapsed());
}

async fn claims(place: &Place, waiting: usize, agents: usize) {
    let store = &*place.open().await;
    for n in (0..waiting).step_by(1_000) {
        dispatch(store, n, 1_000, agents, false).await;
    }
    let mut took = Vec::new();
    let mut held = Vec::new();
    while took.len() < 200 {
        let begun = Instant::now();
        let claimed = claim(store, 10, Some(1)).await;
        took.push(begun.elapsed());
        held.extend(claimed);
    }
    took.sort();
    println!(
        "{waiting} waiting for {agents} agents of one slot each: a claim of 10 p50 {:?}, p99 {:?}; \
         {} held",
        took[100],
        took[198],
        held.len()
    );
}

async fn reads(place: &Place, stored: usize, running: usize) {
    let store = &*place.open().await;
    let start = Instant::now();
    let batch = 1_000;
    for n in (0..stored).step_by(batch) {
        dispatch(store, n, batch, 100, true).await;
        let claimed = claim(store, batch, None).await;
        if n < stored - running {
            complete(store, &claimed).await;
        }
    }
    let took = start.elapsed();
    println!("{stored} tasks stored, {running} of them running, in {took:?}");
    lists(store, stored).await;
    logs(store).await;
    snapshots(store).await;
}

async fn lists(store: &dyn Store, stored: usize) {
    let list = |change: &dyn Fn(&mut ListQuery)| {
        let mut query = ListQuery::new(Namespace::default(), 50);
        change(&mut query);
        query
    };
    let agent = AgentId::new("agent-7").unwrap();
    let mut deep = list(&|query| query.start = PageStart::Offset(stored / 2));
    let page = store.list(&deep).await.unwrap();
    deep.start = PageStart::After(page.next.unwrap());
    let queries = [
        ("first page", list(&|_| {})),
        ("page in the middle, by cursor", deep),
        ("latest first", list(&|query| query.is_descending = true)),
        (
            "completed",
            list(&|query| query.statuses = vec![Status::Completed]),
        ),
        (
            "failed (there is none)",
            list(&|query| query.statuses = vec![Status::Failed]),
        ),
        (
            "of an agent",
            list(&|query| query.agent_id = Some(agent.clone())),
        ),
        (
            "running, of an agent, latest first",
            list(&|query| {
                query.agent_id = Some(agent.clone());
                query.statuses = vec![Status::Running];
                query.is_descending = true;
            }),
        ),
        (
            "of a thread",
            list(&|query| query.thread_id = Some("thread-77".parse().unwrap())),
        ),
        (
            "latest end first",
            list(&|query| {
                query.order_by = TimeField::CompletedAt;
                query.is_descending = true;
            }),
        ),
        (
            "completed, latest end first",
            list(&|query| {
                query.statuses = vec![Status::Completed];
                query.order_by = TimeField::CompletedAt;
                query.is_descending = true;
            }),
        ),
    ];
    for (name, query) in &queries {
        measure(&format!("list: {name}"), 500, || store.list(query)).await;
    }
    gets(store, stored).await;
    let task = &page.tasks[0];
    let of_task = LogQuery {
        after: Seq(0),
        limit: 1_000,
        bytes_max: LogQuery::BYTES_MAX,
        task: Some((Namespace::default(), task.id().clone())),
    };
    measure("log: of a task", 1_000, || store.log(&of_task)).await;
}

/// Gets tasks from all over the table, each once.
async fn gets(store: &dyn Store, stored: usize) {
    let mut ids = Vec::new();
    for part in 0..100 {
        let mut query = ListQuery::new(Namespace::default(), 50);
        query.start = PageStart::Offset(stored / 100 * part);
        let page = store.list(&query).await.unwrap();
        ids.extend(page.tasks.iter().map(|task| task.id().clone()));
    }
    let mut next = ids.iter().cycle();
    let namespace = Namespace::default();
    measure("get", ids.len(), || {
        store.get(&namespace, next.next().unwrap())
    })
    .await;
}

async fn logs(store: &dyn Store) {
    let head = store.head().await.unwrap().seq;
    let log = LogQuery {
        after: Seq(head.0 / 2),
        limit: 1_000,
        bytes_max: LogQuery::BYTES_MAX,
        task: None,
    };
    measure("log: 1,000 events", 200, || store.log(&log)).await;
}

async fn snapshots(store: &dyn Store) {
    let snapshot = |filter| SnapshotQuery {
        namespace: Namespace::default(),
        filter,
        statuses: vec![Status::Running],
    };
    let all = snapshot(Filter::default());
    measure("snapshot: all running", 50, || store.snapshot(&all)).await;
    let agent = AgentId::new("agent-7").unwrap();
    let some = snapshot(Filter::default().agent(agent));
    measure("snapshot: running, of an agent", 50, || {
        store.snapshot(&some)
    })
    .await;
    let pins = store.snapshot(&all).await.unwrap().pins;
    let pins = pins.all().await.unwrap();
    println!("  {} pins", pins.len());
    let some = &pins[..pins.len().min(100)];
    measure("resolve: 100 of them", 200, || store.resolve(some)).await;
}

async fn measure<T, E: std::fmt::Debug, F: Future<Output = Result<T, E>>>(
    name: &str,
    times: usize,
    mut call: impl FnMut() -> F,
) {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        call().await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    let (p50, p99) = (took[times / 2], took[times * 99 / 100]);
    println!("{name:45} p50 {p50:>10.1?}  p99 {p99:>10.1?}");
}
