//! What the tests of single stores share: work for a store, and the check that its log and rows agree.

use std::collections::BTreeMap;
use std::sync::Arc;

use sidestream::clock::{Clock, ManualClock};
use sidestream::core::task::TaskDefaults;
use sidestream::core::{
    Command, Namespace, NewTask, ReportNumber, Seq, Status, Task, TaskId, ToolName, WorkerId,
    lifecycle,
};
use sidestream::error::StoreError;
use sidestream::store::finding::{Finding, Verdict};
use sidestream::store::{
    Admission, Answer, Claim, Limits, ListQuery, LogQuery, PageStart, Request, Store, TimeField,
};

pub(crate) fn dispatch(id: &str, args: serde_json::Value) -> Request {
    let task = NewTask::new("tool")
        .args(args)
        .agent("agent")
        .thread("thread");
    dispatched(id, task)
}

pub(crate) fn dispatched(id: &str, task: NewTask) -> Request {
    let id = TaskId::new(id).expect("a plain id");
    let spec = task.into_spec(Namespace::default(), id, TaskDefaults::default());
    Request::Dispatch {
        spec: Arc::new(spec.expect("a plain task")),
        admission: Admission::Queue,
    }
}

pub(crate) async fn dispatch_some(store: &dyn Store, ids: impl IntoIterator<Item = String>) {
    let batch = ids
        .into_iter()
        .map(|id| dispatch(&id, serde_json::json!({})));
    let committed = store
        .commit(batch.collect())
        .await
        .expect("it is committed");
    assert!(committed.answers.iter().all(Result::is_ok));
}

pub(crate) async fn claim(store: &dyn Store, limit: u32) -> Result<Vec<Task>, StoreError> {
    let claim = Claim {
        worker: WorkerId::new("worker").expect("a plain id"),
        tools: Arc::from([ToolName::new("tool").expect("a plain name")]),
        namespace: None,
        limit,
        lease_ms: 30_000,
        limits: Arc::new(Limits::default()),
    };
    let mut committed = store.commit(vec![Request::Claim(claim)]).await?;
    match committed.answers.remove(0) {
        Ok(Answer::Claimed(claimed)) => Ok(claimed.tasks),
        other => panic!("expected a claim, got {other:?}"),
    }
}

/// Two hours' work that nobody, or somebody, does: `clock` is the store's, and two hours slow.
pub(crate) async fn line_up(store: &dyn Store, clock: &ManualClock) {
    let task = |tool: &str| NewTask::new(tool).args(serde_json::json!({}));
    let now = clock.now();
    let (soon, later) = (now.plus_ms(3_600_000), now.plus_ms(36_000_000));
    let batch = [
        ("nobody", None),
        ("nobody", None),
        ("delayed", Some(soon)),
        ("later", Some(later)),
        ("tool", None),
        ("tool", None),
    ];
    let commit = async |batch: Vec<Request>| {
        let committed = store.commit(batch).await.expect("it is committed");
        assert!(committed.answers.iter().all(Result::is_ok));
    };
    let batch = batch.into_iter().enumerate().map(|(n, (tool, run_at))| {
        let mut task = task(tool);
        task.run_at = run_at;
        dispatched(&format!("{tool}-{n}"), task)
    });
    commit(batch.collect()).await;
    let running = claim(store, 1).await.expect("it is claimed");
    assert_eq!(running.len(), 1, "of those of `tool`, one runs");
    clock.advance_ms(7_190_000);
    commit(vec![dispatched("new", task("new"))]).await;
}

/// What an examination finds of [`line_up`].
pub(crate) fn is_told_of_the_line(findings: &[Finding]) {
    let found = findings.iter().find(|finding| finding.topic == "tools");
    let found = found.expect("it looks at the tools");
    assert_eq!(found.verdict, Verdict::Doubtful, "{found:?}");
    assert_eq!(
        found.seen,
        "2 tasks of nobody have waited for up to 2 h, and none of it runs; \
         a task of delayed has waited for 60 min, and none of it runs"
    );
    assert!(found.advice.contains("remote = true"), "{found:?}");
}

pub(crate) fn complete(task: &Task) -> Request {
    Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command: Command::Complete {
            attempt: task.attempt,
            report: ReportNumber::NONE,
            result: Some(serde_json::json!({"done": true}).into()),
        },
    }
}

/// All tasks of the default namespace, by id, without their leases.
pub(crate) async fn rows(store: &dyn Store) -> BTreeMap<TaskId, Task> {
    let mut query = ListQuery::new(Namespace::default(), 500);
    let mut rows = BTreeMap::new();
    loop {
        let page = store.list(&query).await.expect("the list is read");
        for mut task in page.tasks {
            task.lease = None;
            rows.insert(task.id().clone(), task);
        }
        let Some(next) = page.next else {
            assert_eq!(page.total, rows.len() as u64, "the total is exact");
            return rows;
        };
        query.start = PageStart::After(next);
    }
}

/// The log has no hole (L2), and each row is the fold of its events (L3). Returns the rows.
pub(crate) async fn audit(store: &dyn Store) -> BTreeMap<TaskId, Task> {
    let mut folded: BTreeMap<TaskId, Option<Task>> = BTreeMap::new();
    let mut after = Seq(0);
    loop {
        let query = LogQuery {
            after,
            limit: 1_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = store.log(&query).await.expect("the log is read");
        for entry in &page.entries {
            assert_eq!(entry.event.seq, after.next(), "the log has no hole");
            after = entry.event.seq;
            let task = folded.entry(entry.task.id.clone()).or_default();
            lifecycle::apply(task, &entry.task.namespace, &entry.event);
        }
        if page.entries.is_empty() {
            assert_eq!(page.head.seq, after, "the log ends where it says");
            break;
        }
    }
    let rows = rows(store).await;
    let folded: BTreeMap<_, _> = folded
        .into_iter()
        .filter_map(|(id, task)| Some((id, task?)))
        .collect();
    assert_eq!(rows, folded, "a row is the fold of its events");
    let counts = store.counts().await.expect("the counts are read");
    for status in Status::ALL {
        let rows = rows.values().filter(|task| task.status == status).count();
        assert_eq!(counts.get(&status).copied().unwrap_or(0), rows as u64);
    }
    rows
}

/// What makes the indexes again that a migration replaced: takes away its own, and makes the first one's.
pub(crate) fn without(migration: &str, first: &str) -> String {
    let lines = migration.lines().filter(|line| !line.starts_with("--"));
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    let names = |before: &str| -> Vec<String> {
        let statements = code.split(';').map(str::trim);
        let names =
            statements.filter_map(|one| one.strip_prefix(before)?.split_whitespace().next());
        names.map(str::to_owned).collect()
    };
    let undone = names("CREATE INDEX ").into_iter();
    let mut sql: String = undone.map(|name| format!("DROP INDEX {name};\n")).collect();
    for name in names("DROP INDEX ") {
        let made = first.split(';').find_map(|one| {
            let at = one.find(&format!("CREATE INDEX {name} "))?;
            Some(&one[at..])
        });
        sql.push_str(made.expect("the first one made it"));
        sql.push_str(";\n");
    }
    sql
}

/// Every order lists everything.
pub(crate) async fn every_order_has(store: &dyn Store, tasks: usize) {
    for order_by in [
        TimeField::CreatedAt,
        TimeField::StartedAt,
        TimeField::SuspendedAt,
        TimeField::CompletedAt,
    ] {
        for is_descending in [false, true] {
            let query = ListQuery {
                order_by,
                is_descending,
                ..ListQuery::new(Namespace::default(), 1_000)
            };
            let page = store.list(&query).await.expect("it is listed");
            assert_eq!(page.tasks.len(), tasks, "by {order_by:?}");
            let mut times: Vec<_> = page.tasks.iter().map(|task| order_by.of(task)).collect();
            if is_descending {
                times.reverse();
            }
            assert!(times.is_sorted(), "by {order_by:?}: {times:?}");
        }
    }
}
