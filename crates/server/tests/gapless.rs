//! Over HTTP no watcher misses an event, sees one twice, or out of order, whenever it connects, drops
//! and resumes (S1, S2, S6); and a snapshot shows just what was running at its moment.
//!
//! While agents dispatch, resume and cancel, readers of different filters come and go. Afterwards each
//! reader's notes are compared with the log itself.
#![expect(clippy::print_stdout, reason = "a test that fails must show its seed")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidestream::chance::{Chance, SeededChance, SystemChance};
use sidestream::core::TaskIdentity;
use sidestream::store::LogQuery;
use sidestream::{
    AgentId, ChunkType, Config, Context, Filter, HandlerError, ListQuery, NewTask, RunId, Seq,
    SqliteOptions, SqliteStore, Status, TaskId, TaskManager, ThreadId, Tool, ToolName,
};
use sidestream_client::{Backoff, Client, Item, Stream, StreamRequest};
use sidestream_server::{Server, ServerConfig, ServerLimits};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const AGENTS: u64 = 32;
const READERS: u64 = 64;
const LOAD_FOR: Duration = Duration::from_secs(20);
const KEEP_ALIVE_MS: u64 = 200;
/// A bound for what must come sooner or later: only a failure takes so long.
const AT_MOST: Duration = Duration::from_secs(60);

/// One event, as the log has it.
struct Logged {
    seq: Seq,
    chunk_type: ChunkType,
    task: Arc<TaskIdentity>,
}

/// What one reader wrote down.
#[derive(Default)]
struct Notes {
    /// The tasks that its snapshot showed.
    shown: BTreeSet<TaskId>,
    /// The moment of its snapshot.
    snapshot: Option<Seq>,
    /// Every event it saw, over all its connections.
    seen: Vec<(Seq, ChunkType)>,
    /// How often it came back.
    resumed: u32,
}

fn tools() -> [Tool; 2] {
    let works = Tool::new("works", |context: Context, steps: u64| async move {
        for step in 0..steps {
            context.output(&json!({"step": step})).await?;
            tokio::task::yield_now().await;
        }
        match context.attempt().0 {
            1 if steps % 5 == 4 => Err(HandlerError::retryable("once")),
            _ => Ok(steps),
        }
    });
    let asks = Tool::new("asks", |context: Context, (): ()| async move {
        match context.resume_data::<bool>()? {
            None => Err(context.suspend("may I?")),
            Some(answer) => Ok(answer),
        }
    });
    [works, asks]
}

/// Dispatches, resumes and cancels until told to stop.
async fn agent(manager: TaskManager, chance: SeededChance, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let dice = chance.next();
        let new = if dice.is_multiple_of(3) {
            NewTask::new("asks").args(json!(null))
        } else {
            NewTask::new("works")
                .args(json!(dice % 8))
                .max_retries(1u32)
        };
        let new = new
            .agent(format!("agent-{}", dice >> 8 & 3))
            .thread(format!("thread-{}", dice >> 16 & 15))
            .run(format!("run-{}", dice >> 24 & 7));
        let dispatched = manager.dispatch(new).await.expect("accepted");
        let id = dispatched.id().expect("queued");
        tokio::time::sleep(Duration::from_millis(dice >> 32 & 15)).await;
        // Whether the task still waits for this is chance too.
        if dice >> 40 & 3 == 0 {
            let _ = manager.cancel(id).await;
        } else {
            let _ = manager.resume(id, json!(true)).await;
        }
    }
}

fn filter(n: u64) -> Filter {
    let filter = Filter::default();
    match n % 6 {
        0 => filter,
        1 => filter.agent(AgentId::new(format!("agent-{}", n & 3)).expect("a fit id")),
        2 => filter.thread(ThreadId::new(format!("thread-{}", n & 15)).expect("a fit id")),
        3 => filter.run(RunId::new(format!("run-{}", n & 7)).expect("a fit id")),
        4 => filter.tool(ToolName::new("asks").expect("a fit name")),
        _ => filter.types(ChunkType::ALL),
    }
}

/// Watches with a filter, dropping its connection and resuming by its cursor now and then, until it has
/// seen everything up to the end of the log, which it is told when the load is over.
async fn reader(
    client: Client,
    filter: Filter,
    chance: SeededChance,
    end: watch::Receiver<Option<Seq>>,
) -> Notes {
    tokio::time::sleep(Duration::from_millis(chance.next() % 2_000)).await;
    let mut notes = Notes::default();
    let mut stream = client.stream(StreamRequest::watch(filter.clone()));
    loop {
        let is_over = end.borrow().is_some();
        // At the end a quiet stream needs a keep-alive to get there.
        let at_least_ms = if is_over { 2 * KEEP_ALIVE_MS } else { 0 };
        let drop_after_ms = at_least_ms + chance.next() % 1_000;
        let drop_at = Instant::now() + Duration::from_millis(drop_after_ms);
        while let Ok(item) = tokio::time::timeout_at(drop_at, stream.next()).await {
            let item = item
                .expect("a stream that watches never ends")
                .expect("reconnects");
            notes.take(item, place(&stream));
        }
        if notes.snapshot.is_none() {
            continue;
        }
        if end.borrow().is_some_and(|end| place(&stream) >= Some(end)) {
            return notes;
        }
        let cursor = stream
            .cursor()
            .expect("the snapshot is complete")
            .to_owned();
        stream = client.stream(StreamRequest::watch(filter.clone()).after(cursor));
        notes.resumed += 1;
    }
}

fn place(stream: &Stream) -> Option<Seq> {
    let cursor = stream.cursor()?.parse::<sidestream::Cursor>();
    Some(cursor.expect("a cursor").seq)
}

impl Notes {
    fn take(&mut self, item: Item, place: Option<Seq>) {
        match item {
            Item::Chunk(chunk) => {
                let chunk_type = chunk.chunk_type.expect("known");
                assert_ne!(chunk_type, ChunkType::StreamReset, "{}", chunk.json());
                let id = chunk.payload.task_id.clone().expect("of a task");
                match chunk.payload.seq {
                    Some(seq) => self.seen.push((Seq(seq), chunk_type)),
                    None => assert!(self.shown.insert(id.clone()), "twice in a snapshot: {id}"),
                }
            }
            Item::Moved if self.snapshot.is_none() => self.snapshot = place,
            _ => {}
        }
    }
}

/// The log itself, from its beginning to its end, as the store has it.
async fn read_log(manager: &TaskManager, end: Seq) -> Vec<Logged> {
    let mut log = Vec::new();
    while log.len() < end.0 as usize {
        let query = LogQuery {
            after: Seq(log.len() as u64),
            limit: 10_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = manager.store().log(&query).await.expect("readable");
        log.extend(page.entries.into_iter().map(|entry| Logged {
            seq: entry.event.seq,
            chunk_type: ChunkType::of(&entry.event.kind),
            task: entry.task,
        }));
    }
    log
}

/// Which tasks of a filter were running just after an event.
fn running_at(log: &[Logged], filter: &Filter, at: Seq) -> BTreeSet<TaskId> {
    let mut running = BTreeMap::new();
    for logged in log.iter().take_while(|logged| logged.seq <= at) {
        let is_running = match logged.chunk_type {
            ChunkType::Running | ChunkType::Resumed => true,
            ChunkType::Output => continue,
            _ => false,
        };
        if filter.matches_task(&logged.task) {
            running.insert(logged.task.id.clone(), is_running);
        }
    }
    let still = running.into_iter().filter(|(_, is_running)| *is_running);
    still.map(|(id, _)| id).collect()
}

fn check(notes: &Notes, filter: &Filter, log: &[Logged]) {
    let at = notes.snapshot.expect("a snapshot");
    let running = running_at(log, filter, at);
    assert_eq!(notes.shown, running, "{filter:?}: the snapshot at {at}");
    let wanted = log.iter().filter(|logged| {
        let is_news = logged.seq > at;
        is_news && filter.matches_task(&logged.task) && filter.matches_type(logged.chunk_type)
    });
    let wanted: Vec<_> = wanted
        .map(|logged| (logged.seq, logged.chunk_type))
        .collect();
    let differs = wanted.iter().zip(&notes.seen).position(|(a, b)| a != b);
    assert!(
        wanted == notes.seen,
        "{filter:?}: {} events after {at}, {} seen; they differ at {differs:?}",
        wanted.len(),
        notes.seen.len(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_reader_misses_an_event_or_sees_one_twice() {
    let seed = std::env::var("SIDESTREAM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| SystemChance.next());
    println!("SIDESTREAM_SEED={seed}");
    let chance = SeededChance::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), SqliteOptions::default()).expect("opens");
    let config = Config {
        concurrency: 20,
        concurrency_per_agent: Some(8),
        // So small that who resumes often finds the ring too short.
        ring: sidestream::stream::RingLimits {
            chunks: 256,
            bytes: 1 << 20,
        },
        ..Config::default()
    };
    let builder = TaskManager::builder(store).tools(tools()).config(config);
    let manager = builder.start().await.expect("starts");
    let listen = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        limits: ServerLimits {
            keep_alive: Duration::from_millis(KEEP_ALIVE_MS),
            ..ServerLimits::default()
        },
        ..ServerConfig::default()
    };
    let store = Arc::clone(manager.store());
    let server = Server::bind(listen, Some(manager.clone()), store)
        .await
        .expect("binds");
    let base = format!("http://{}", server.local_addr());
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(server.run(stop.clone()));

    let backoff = Backoff {
        first: Duration::from_millis(10),
        max: Duration::from_millis(100),
    };
    let client = Client::builder(base)
        .backoff(backoff)
        .build()
        .expect("a client");
    let (told_end, end) = watch::channel(None);
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let (client, end) = (client.clone(), end.clone());
        let chance = SeededChance::new(chance.next());
        readers.spawn(async move { (filter(n), reader(client, filter(n), chance, end).await) });
    }
    let load = CancellationToken::new();
    let mut agents = JoinSet::new();
    for _ in 0..AGENTS {
        let chance = SeededChance::new(chance.next());
        agents.spawn(agent(manager.clone(), chance, load.clone()));
    }
    tokio::time::sleep(LOAD_FOR).await;
    load.cancel();
    agents.join_all().await;
    let end = end_all(&manager).await;
    told_end.send_replace(Some(end));

    let all = tokio::time::timeout(AT_MOST, readers.join_all()).await;
    let all = all.expect("every reader reaches the end of the log");
    let log = read_log(&manager, end).await;
    for (filter, notes) in &all {
        check(notes, filter, &log);
    }
    let seen: usize = all.iter().map(|(_, notes)| notes.seen.len()).sum();
    let resumed: u32 = all.iter().map(|(_, notes)| notes.resumed).sum();
    println!("{end} events; {READERS} readers saw {seen} and resumed {resumed} times");
    assert!(end > Seq(2_000) && resumed > 500, "hardly any load");
    stop.cancel();
    serving.join_all().await;
    manager.shutdown().await;
}

/// Cancels what has not ended, waits until every handler has stopped, and tells where the log ends.
async fn end_all(manager: &TaskManager) -> Seq {
    let active = ListQuery {
        statuses: vec![Status::Pending, Status::Running, Status::Suspended],
        ..ListQuery::new(manager.namespace().clone(), 100_000)
    };
    let page = manager.list(active).await.expect("readable");
    for task in page.tasks {
        // It may have ended by itself.
        let _ = manager.cancel(task.id()).await;
    }
    manager.head().await.expect("readable").seq
}
