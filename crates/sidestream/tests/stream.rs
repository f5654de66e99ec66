//! The promises of a stream, S1 to S8, each by name; and what happens when its store cannot be read.
//!
//! Tasks are driven by hand here, through the writer, so that each event comes when the test says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidestream::core::{Attempt, Command, Epoch, ReportNumber};
use sidestream::store::{Answer, Claim, Limits, Prune, Request};
use sidestream::stream::RingLimits;
use sidestream::testing::{Faults, FaultyStore, SeededChance};
use sidestream::{
    AgentId, Chunk, ChunkStream, ChunkType, Config, Cursor, Filter, Json, MemoryStore, Namespace,
    NewTask, ResourceId, RunId, Seq, SnapshotKind, Start, Store, StreamItem, StreamOptions, Task,
    TaskId, TaskManager, ThreadId, Timestamp, ToolName,
};
use tokio::time::{Instant, timeout};

use ChunkType::{
    Cancelled, Completed, Output, Queued, Resumed, Running, Started, StreamReset, Suspended,
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// A process that runs nothing by itself, on a store that others may share.
struct Process {
    manager: TaskManager,
    store: Arc<FaultyStore>,
}

async fn process_on(database: &Arc<MemoryStore>, ring: RingLimits) -> Process {
    let chance = Arc::new(SeededChance::new(1));
    let store = Arc::new(FaultyStore::new(
        Arc::clone(database) as Arc<dyn Store>,
        chance,
    ));
    let config = Config {
        accepts_any_tool: true,
        ring,
        ..Config::default()
    };
    let builder = TaskManager::builder_on(Arc::clone(&store) as Arc<dyn Store>);
    let manager = builder.config(config).start().await.unwrap();
    Process { manager, store }
}

fn database() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_epoch(Epoch::new("k3v9").unwrap()))
}

async fn process() -> Process {
    process_on(&database(), RingLimits::default()).await
}

fn small_ring() -> RingLimits {
    RingLimits {
        chunks: 4,
        ..RingLimits::default()
    }
}

impl Process {
    async fn submit(&self, request: Request) -> Answer {
        self.manager.writer().submit(request).await.unwrap()
    }

    async fn dispatch(&self, task: NewTask) -> Task {
        self.manager
            .dispatch(task)
            .await
            .unwrap()
            .task()
            .unwrap()
            .clone()
    }

    /// Dispatches a task, and gives it to a worker.
    async fn run(&self, task: NewTask) -> Task {
        let task = self.dispatch(task).await;
        self.claim(&task).await
    }

    async fn claim(&self, task: &Task) -> Task {
        let claim = Claim {
            worker: "hand".parse().unwrap(),
            tools: [task.identity().tool_name.clone()].into(),
            namespace: None,
            limit: 1,
            lease_ms: 86_400_000,
            limits: Arc::new(Limits::default()),
        };
        match self.submit(Request::Claim(claim)).await {
            Answer::Claimed(mut claimed) => claimed.tasks.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn command(&self, task: &Task, command: Command) -> Task {
        let request = Request::Command {
            namespace: task.identity().namespace.clone(),
            id: task.id().clone(),
            command,
        };
        match self.submit(request).await {
            Answer::Applied(task) => task,
            other => panic!("{other:?}"),
        }
    }

    async fn output(&self, task: &Task, payloads: impl IntoIterator<Item = u64>) {
        let attempt = task.attempt;
        let payloads = payloads.into_iter().map(|n| Json::from(json!(n))).collect();
        self.command(
            task,
            Command::Output {
                attempt,
                report: ReportNumber::NONE,
                payloads,
            },
        )
        .await;
    }

    async fn suspend(&self, task: &Task) {
        let (attempt, payload) = (task.attempt, Json::string("may I?"));
        self.command(
            task,
            Command::Suspend {
                attempt,
                report: ReportNumber::NONE,
                payload,
            },
        )
        .await;
    }

    async fn complete(&self, task: &Task) {
        let attempt = task.attempt;
        self.command(
            task,
            Command::Complete {
                attempt,
                report: ReportNumber::NONE,
                result: None,
            },
        )
        .await;
    }

    /// Forgets all of the log but its last events.
    async fn prune_but(&self, events_max: u64) {
        let prune = Prune {
            before: Timestamp::from_ms(0),
            events_max,
            limit: u32::MAX,
        };
        self.submit(Request::Prune(prune)).await;
    }

    async fn open(&self, options: StreamOptions) -> ChunkStream {
        self.manager.stream(options).await.unwrap()
    }
}

fn all() -> Filter {
    Filter::default().types(ChunkType::ALL)
}

fn of(filter: Filter) -> StreamOptions {
    StreamOptions {
        filter,
        ..StreamOptions::default()
    }
}

fn after(cursor: &str, filter: Filter) -> StreamOptions {
    StreamOptions {
        start: Start::After(cursor.parse().unwrap()),
        ..of(filter)
    }
}

async fn next(stream: &mut ChunkStream) -> StreamItem {
    let next = timeout(HOUR, stream.next()).await;
    next.expect("the stream stays silent")
        .expect("the stream has ended")
        .unwrap()
}

async fn next_chunk(stream: &mut ChunkStream) -> Arc<Chunk> {
    next(stream)
        .await
        .chunk
        .expect("an item that only moves the cursor")
}

/// What is ready now: types, and of outputs what they say.
async fn ready(stream: &mut ChunkStream) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(Some(item)) = timeout(Duration::from_millis(1), stream.next()).await {
        seen.push(match item.unwrap().chunk {
            None => "|".to_owned(),
            Some(chunk) if chunk.chunk_type == Output => chunk.payload()["payload"].to_string(),
            Some(chunk) => word(chunk.chunk_type).to_owned(),
        });
    }
    seen
}

fn word(chunk_type: ChunkType) -> &'static str {
    let word = chunk_type.as_str();
    word.strip_prefix("background-task-").unwrap_or(word)
}

async fn end(stream: &mut ChunkStream) -> Vec<ChunkType> {
    let mut seen = Vec::new();
    while let Some(item) = timeout(HOUR, stream.next())
        .await
        .expect("the story does not end")
    {
        seen.extend(item.unwrap().chunk.map(|chunk| chunk.chunk_type));
    }
    seen
}

// ------------------------------------------------------------------------------------------------ S1

/// S1: how things stand, the moment of that, and from there on everything.
#[tokio::test(start_paused = true)]
async fn a_stream_opens_with_what_runs_and_goes_on_with_what_happens() {
    let process = process().await;
    let running = process.run(NewTask::new("runs")).await;
    let suspended = process.run(NewTask::new("asks")).await;
    process.suspend(&suspended).await;
    process.dispatch(NewTask::new("waits")).await;
    let head = process.manager.head().await.unwrap().seq;

    let mut streams = Vec::new();
    for snapshot in [
        SnapshotKind::Running,
        SnapshotKind::Active,
        SnapshotKind::None,
    ] {
        streams.push(
            process
                .open(StreamOptions {
                    snapshot,
                    ..of(all())
                })
                .await,
        );
    }
    process.output(&running, [7]).await;
    process.complete(&running).await;
    process
        .manager
        .resume(suspended.id(), json!(true))
        .await
        .unwrap();
    process.claim(&suspended).await;

    let news = ["7", "completed", "queued", "resumed"];
    let snapshots: [&[&str]; 3] = [
        &["running", "|"],
        &["running", "suspended", "started", "|"],
        &["|"],
    ];
    for (stream, snapshot) in streams.iter_mut().zip(snapshots) {
        assert_eq!(stream.cursor(), None);
        assert_eq!(ready(stream).await, [snapshot, &news].concat());
        let cursor = Cursor::new(Epoch::new("k3v9").unwrap(), Seq(head.0 + 4));
        assert_eq!(stream.cursor(), Some(&cursor));
    }
}

/// S1: the snapshot is of the moment of opening, however late it is read, and however often the task has
/// changed since; what it waits for is shown as well.
#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_its_own_moment_however_late_it_is_read() {
    let process = process().await;
    let tasks = [NewTask::new("a"), NewTask::new("b")];
    let [running, suspended] = tasks.map(|task| process.run(task));
    let (running, suspended) = (running.await, suspended.await);
    process.suspend(&suspended).await;
    let options = StreamOptions {
        snapshot: SnapshotKind::Active,
        ..StreamOptions::default()
    };
    let mut stream = process.open(options).await;
    process.complete(&running).await;
    process.manager.delete(running.id()).await.unwrap();
    process
        .manager
        .resume(suspended.id(), json!(true))
        .await
        .unwrap();
    process.claim(&suspended).await;

    let first = next_chunk(&mut stream).await;
    assert_eq!(
        (first.chunk_type, first.task_id()),
        (Running, Some(running.id()))
    );
    let second = next_chunk(&mut stream).await;
    assert_eq!(second.payload()["suspendPayload"], "may I?");
    assert_eq!(second.payload()["attempt"], 1);
    assert_eq!(ready(&mut stream).await, ["|", "completed", "resumed"]);
}

/// S1: a snapshot of many pages is one moment all the same.
#[tokio::test(start_paused = true)]
async fn a_snapshot_of_many_pages_is_one_moment() {
    let process = process().await;
    let mut tasks = Vec::new();
    for _ in 0..700 {
        tasks.push(process.run(NewTask::new("many")).await);
    }
    let mut stream = process.open(StreamOptions::default()).await;
    let mut seen = 0;
    while next(&mut stream).await.chunk.is_some() {
        // Others end while it is being shown.
        process.complete(&tasks[699 - seen]).await;
        seen += 1;
    }
    assert_eq!(seen, 700);
    for _ in 0..700 {
        assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);
    }
}

// ------------------------------------------------------------------------------------------------ S2

/// S2: whoever gives a cursor gets exactly what followed: at each place of a story, in this process and
/// in another, with the log named or not.
#[tokio::test(start_paused = true)]
async fn a_stream_resumes_exactly_at_every_cursor_of_a_story() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let elsewhere = process_on(&database, small_ring()).await;
    let task = here.run(NewTask::new("tells").thread("t1")).await;
    here.output(&task, [1, 2, 3]).await;
    here.suspend(&task).await;
    here.run(NewTask::new("noise")).await;
    here.manager.resume(task.id(), json!(true)).await.unwrap();
    let task = here.claim(&task).await;
    here.output(&task, [4]).await;
    here.complete(&task).await;

    let filter = || all().thread(ThreadId::new("t1").unwrap());
    let mut story = here.open(after("0", filter())).await;
    let mut told: Vec<(String, Option<Cursor>)> = Vec::new();
    while told.len() < 10 {
        let item = next(&mut story).await;
        told.push((item.chunk.unwrap().json().to_string(), item.cursor));
    }
    for (nth, (_, cursor)) in told.iter().enumerate() {
        let cursor = cursor.as_ref().unwrap();
        for process in [&here, &elsewhere] {
            for place in [cursor.to_string(), cursor.seq.to_string()] {
                let mut resumed = process.open(after(&place, filter())).await;
                assert_eq!(resumed.cursor().map(|cursor| cursor.seq), Some(cursor.seq));
                for (json, _) in &told[nth + 1..] {
                    assert_eq!(**next_chunk(&mut resumed).await.json(), **json);
                }
                assert_eq!(ready(&mut resumed).await, [""; 0]);
            }
        }
    }
}

/// S2: what one process writes, the streams of another bring at once, and without being polled for.
#[tokio::test(start_paused = true)]
async fn streams_of_other_processes_see_it_too() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let elsewhere = process_on(&database, RingLimits::default()).await;
    let mut stream = elsewhere.open(StreamOptions::default()).await;
    assert_eq!(next(&mut stream).await.chunk, None);
    let began = Instant::now();
    here.run(NewTask::new("runs")).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    assert_eq!(began.elapsed(), Duration::ZERO);

    // And where the bell does not ring, a little later.
    elsewhere.store.set_faults(Faults {
        drops_bells: 1_000,
        ..Faults::NONE
    });
    here.run(NewTask::new("runs")).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
}

// ------------------------------------------------------------------------------------------------ S3

async fn reset(process: &Process, cursor: &str) -> (serde_json::Value, ChunkStream) {
    let mut stream = process.open(after(cursor, Filter::default())).await;
    let first = next_chunk(&mut stream).await;
    assert_eq!(first.chunk_type, StreamReset);
    (first.payload(), stream)
}

/// S3: an old cursor gets `stream-reset` and a fresh snapshot.
#[tokio::test(start_paused = true)]
async fn a_pruned_cursor_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    let running = process.run(NewTask::new("runs")).await;
    process.output(&running, 0..10).await;
    process.prune_but(3).await;

    let (payload, mut stream) = reset(&process, "k3v9-8").await;
    assert_eq!(payload["reason"], "the log has been pruned past the cursor");
    assert_eq!(payload["oldestCursor"], "k3v9-9");
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.complete(&running).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);

    // The oldest cursor is still honoured.
    let mut stream = process.open(after("k3v9-9", Filter::default())).await;
    assert_eq!(ready(&mut stream).await, ["7", "8", "9", "completed"]);
}

/// S3: a cursor of a lost future, as after an older copy was restored.
#[tokio::test(start_paused = true)]
async fn a_cursor_from_the_future_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    process.run(NewTask::new("runs")).await;
    for cursor in ["k3v9-3", "3", "k3v9-18446744073709551615"] {
        let (payload, mut stream) = reset(&process, cursor).await;
        assert_eq!(payload["reason"], "the cursor is ahead of the log");
        assert_eq!(ready(&mut stream).await, ["running", "|"]);
    }
}

/// S3: a cursor of another log, though its number would do.
#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_log_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    process.run(NewTask::new("runs")).await;
    let (payload, mut stream) = reset(&process, "other-1").await;
    assert_eq!(payload["reason"], "the cursor belongs to another log");
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
}

/// S3: who reads too slowly for the retention is told as well, and loses no more than that.
#[tokio::test(start_paused = true)]
async fn a_reader_overtaken_by_the_pruning_is_told() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("runs")).await;
    let mut stream = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.output(&task, 0..20).await;
    process.prune_but(10).await;
    assert_eq!(ready(&mut stream).await, ["stream-reset", "running", "|"]);
    process.output(&task, [20]).await;
    assert_eq!(ready(&mut stream).await, ["20"]);
}

/// S3: what was pruned before a process had read it is no silent gap, and no end of the process.
#[tokio::test(start_paused = true)]
async fn a_process_overtaken_by_the_pruning_goes_on() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let cut_off = process_on(&database, RingLimits::default()).await;
    let mut wide = cut_off.open(StreamOptions::default()).await;
    let thread = ThreadId::new("t1").unwrap();
    let mut narrow = cut_off.open(of(Filter::default().thread(thread))).await;
    assert_eq!(ready(&mut wide).await, ["|"]);
    assert_eq!(ready(&mut narrow).await, ["|"]);

    cut_off.store.set_faults(Faults {
        fails_reads: 1_000,
        ..Faults::NONE
    });
    let task = here.run(NewTask::new("runs").thread("t1")).await;
    here.output(&task, 0..20).await;
    here.prune_but(5).await;
    tokio::time::sleep(3 * SECOND).await;
    cut_off.store.set_faults(Faults::NONE);
    // A commit of its own, for which it must know what came before.
    cut_off.dispatch(NewTask::new("waits")).await;

    for stream in [&mut wide, &mut narrow] {
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(ready(stream).await, ["stream-reset", "running", "|"]);
    }
    here.complete(&task).await;
    assert_eq!(next_chunk(&mut wide).await.chunk_type, Completed);
    assert_eq!(next_chunk(&mut narrow).await.chunk_type, Completed);
}

/// S3, S7: silence is no reason to be told to begin anew: a quiet thread has missed nothing, however much
/// has happened elsewhere and been pruned.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_not_overtaken_by_what_it_did_not_ask_for() {
    let process = process_on(&database(), small_ring()).await;
    let quiet = process.run(NewTask::new("quiet").thread("t1")).await;
    let thread = ThreadId::new("t1").unwrap();
    let mut stream = process.open(of(Filter::default().thread(thread))).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    let loud = process.run(NewTask::new("loud")).await;
    for n in 0..20 {
        process.output(&loud, [n]).await;
    }
    process.prune_but(2).await;
    process.complete(&quiet).await;
    assert_eq!(ready(&mut stream).await, ["completed"]);
}

// ------------------------------------------------------------------------------------------------ S4

/// S4: past the ring there is the log: a reader that sleeps gets every event, in order, and nobody waits
/// for it.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything_and_holds_up_nobody() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells").thread("t1")).await;
    let thread = Filter::default().thread(ThreadId::new("t1").unwrap());
    let mut slow = [
        process.open(StreamOptions::default()).await,
        process.open(of(thread)).await,
        process
            .open(of(Filter::default().task(task.id().clone())))
            .await,
    ];
    let mut quick = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut quick).await, ["running", "|"]);
    for n in 0..3_000 {
        process.output(&task, [n]).await;
        assert_eq!(next_chunk(&mut quick).await.payload()["payload"], n);
    }
    for stream in &mut slow {
        assert_eq!(next_chunk(stream).await.chunk_type, Running);
        assert_eq!(next(stream).await.chunk, None);
        for n in 0..3_000 {
            assert_eq!(next_chunk(stream).await.payload()["payload"], n);
        }
    }
}

// ------------------------------------------------------------------------------------------------ S5

/// S5: nothing is left of a stream that is dropped, whatever it was doing.
#[tokio::test(start_paused = true)]
async fn dropping_a_stream_frees_it_at_once() {
    let process = process().await;
    let mut streams = Vec::new();
    for nth in 0..100 {
        let thread = ThreadId::new(format!("t{nth}")).unwrap();
        streams.push(process.open(of(Filter::default().thread(thread))).await);
    }
    for stream in streams.iter_mut().take(50) {
        // In the midst of waiting.
        assert_eq!(ready(stream).await, ["|"]);
    }
    assert_eq!(process.manager.stats().streams_open, 100);
    drop(streams);
    assert_eq!(process.manager.stats().streams_open, 0);
}

/// S5: so it is when its token is cancelled, or the manager shut down: it ends, and says so.
#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_ends_and_so_does_one_of_a_process_that_stops() {
    let process = process().await;
    let options = StreamOptions {
        cancel: Some(Default::default()),
        ..StreamOptions::default()
    };
    let mut cancelled = process.open(options.clone()).await;
    let mut stopped = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut cancelled).await, ["|"]);
    assert_eq!(ready(&mut stopped).await, ["|"]);
    options.cancel.unwrap().cancel();
    assert_eq!(end(&mut cancelled).await, []);
    assert_eq!(process.manager.stats().streams_open, 1);
    assert_eq!(ready(&mut stopped).await, [""; 0]);
    process.manager.shutdown().await;
    assert_eq!(end(&mut stopped).await, []);
    assert_eq!(process.manager.stats().streams_open, 0);
}

// ------------------------------------------------------------------------------------------------ S6

/// S6: each filter lets through its own, in the snapshot, in the news and in what is replayed.
#[tokio::test(start_paused = true)]
async fn filters_hold_for_snapshot_news_and_replay_alike() {
    let process = process().await;
    let task = |n: u64| {
        NewTask::new(format!("tool-{n}"))
            .agent(format!("agent-{n}"))
            .run(format!("run-{n}"))
            .thread(format!("thread-{n}"))
            .resource(format!("resource-{n}"))
    };
    let mine = process.run(task(1)).await;
    let other = process.run(task(2)).await;
    let filters = [
        Filter::default().tool(ToolName::new("tool-1").unwrap()),
        Filter::default().agent(AgentId::new("agent-1").unwrap()),
        Filter::default().run(RunId::new("run-1").unwrap()),
        Filter::default().thread(ThreadId::new("thread-1").unwrap()),
        Filter::default().resource(ResourceId::new("resource-1").unwrap()),
        Filter::default().task(mine.id().clone()),
    ];
    let mut live = Vec::new();
    for filter in &filters {
        live.push(process.open(of(filter.clone())).await);
    }
    for task in [&other, &mine, &other] {
        process.output(task, [task.seq.0]).await;
    }
    process.complete(&other).await;
    process.complete(&mine).await;
    for (filter, stream) in filters.iter().zip(&mut live) {
        assert_eq!(
            ready(stream).await,
            ["running", "|", "2", "completed"],
            "{filter:?}"
        );
        let mut replayed = process.open(after("0", filter.clone())).await;
        assert_eq!(
            ready(&mut replayed).await,
            ["running", "2", "completed"],
            "{filter:?}"
        );
        let mut types = process
            .open(after("0", filter.clone().types([Started, Completed])))
            .await;
        assert_eq!(
            ready(&mut types).await,
            ["started", "completed"],
            "{filter:?}"
        );
    }
}

/// E2: a tenant's stream knows nothing of another's tasks.
#[tokio::test(start_paused = true)]
async fn another_tenant_sees_nothing() {
    let process = process().await;
    let task = process.run(NewTask::new("runs").thread("t1")).await;
    let other = process
        .manager
        .in_namespace(Namespace::new("default-2").unwrap());
    let thread = Filter::default().thread(ThreadId::new("t1").unwrap());
    for filter in [
        Filter::default(),
        thread,
        Filter::default().task(task.id().clone()),
    ] {
        let mut live = other.stream(of(filter.clone())).await.unwrap();
        let mut replayed = other.stream(after("0", filter)).await.unwrap();
        process.output(&task, [1]).await;
        assert_eq!(ready(&mut live).await, ["|"]);
        assert_eq!(ready(&mut replayed).await, [""; 0]);
    }
}

// ------------------------------------------------------------------------------------------------ S7

/// S7: a quiet stream's cursor goes on with the log, so that it can be resumed after what it did not ask
/// for has been pruned.
#[tokio::test(start_paused = true)]
async fn the_cursor_moves_on_a_quiet_stream() {
    let process = process().await;
    let thread = Filter::default().thread(ThreadId::new("quiet").unwrap());
    let agent = Filter::default().agent(AgentId::new("quiet").unwrap());
    for filter in [thread, agent] {
        let options = StreamOptions {
            keep_alive: Some(15 * SECOND),
            ..of(filter.clone())
        };
        let mut stream = process.open(options).await;
        assert_eq!(next(&mut stream).await.chunk, None);
        let loud = process.run(NewTask::new("loud")).await;
        process.output(&loud, 0..100).await;
        let head = process.manager.head().await.unwrap().seq;

        let began = Instant::now();
        let mut cursor = None;
        while cursor
            .as_ref()
            .is_none_or(|cursor: &Cursor| cursor.seq < head)
        {
            let item = next(&mut stream).await;
            assert_eq!(item.chunk, None);
            cursor = item.cursor;
        }
        assert!(began.elapsed() <= 30 * SECOND, "{:?}", began.elapsed());
        assert_eq!(stream.cursor(), cursor.as_ref());

        process.complete(&loud).await;
        process.prune_but(1).await;
        let mut resumed = process
            .open(after(&cursor.unwrap().to_string(), filter))
            .await;
        assert_eq!(ready(&mut resumed).await, [""; 0]);
    }
}

/// S7: a keep-alive comes when nothing else does, and not before.
#[tokio::test(start_paused = true)]
async fn a_keep_alive_comes_only_after_silence() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let options = StreamOptions {
        keep_alive: Some(15 * SECOND),
        ..StreamOptions::default()
    };
    let mut stream = process.open(options).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    for n in 0..5 {
        tokio::time::sleep(10 * SECOND).await;
        process.output(&task, [n]).await;
        assert_eq!(next_chunk(&mut stream).await.chunk_type, Output);
    }
    let began = Instant::now();
    assert_eq!(next(&mut stream).await.chunk, None);
    assert_eq!(began.elapsed().as_secs(), 15);
}

// ------------------------------------------------------------------------------------------------ S8

/// S8: all of a task's output can be replayed, by who comes late, and again, while it still goes on.
#[tokio::test(start_paused = true)]
async fn a_late_reader_replays_all_output_from_the_start() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    for page in 0..15 {
        process.output(&task, page * 100..(page + 1) * 100).await;
    }
    for _ in 0..2 {
        let mut story = process
            .open(after("0", Filter::default().task(task.id().clone())))
            .await;
        assert_eq!(next_chunk(&mut story).await.chunk_type, Running);
        for n in 0..1_500 {
            assert_eq!(next_chunk(&mut story).await.payload()["payload"], n);
        }
        assert_eq!(ready(&mut story).await, [""; 0]);
    }
}

// ------------------------------------------------------------------------------------------ the end

fn story_of(id: &TaskId, types: &[ChunkType]) -> StreamOptions {
    StreamOptions {
        ends_with_task: true,
        ..after(
            "0",
            Filter::default()
                .task(id.clone())
                .types(types.iter().copied()),
        )
    }
}

/// A task's story ends after its last chunk, not before, and not never: whatever of it is asked for.
#[tokio::test(start_paused = true)]
async fn a_story_ends_when_all_of_it_is_told() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut others = of(Filter::default()
        .task(task.id().clone())
        .tool(ToolName::new("other").unwrap()));
    others.ends_with_task = true;
    let mut streams = [
        process.open(story_of(task.id(), &ChunkType::ALL)).await,
        process.open(story_of(task.id(), &[Output])).await,
        process.open(story_of(task.id(), &[Cancelled])).await,
        process.open(others).await,
    ];
    for stream in &mut streams {
        // It has looked once, and the task goes on.
        ready(stream).await;
    }
    process.output(&task, [1]).await;
    process.suspend(&task).await;
    process
        .manager
        .resume(task.id(), json!(true))
        .await
        .unwrap();
    let task = process.claim(&task).await;
    process.complete(&task).await;
    let told: [&[ChunkType]; 4] = [
        &[Output, Suspended, Queued, Resumed, Completed],
        &[Output],
        &[],
        &[],
    ];
    for (stream, told) in streams.iter_mut().zip(told) {
        assert_eq!(end(stream).await, told);
    }
    let mut late = process
        .open(story_of(task.id(), &[Started, Completed]))
        .await;
    assert_eq!(end(&mut late).await, [Started, Completed]);
}

/// A task that is deleted right after its end has its story told to that end.
#[tokio::test(start_paused = true)]
async fn a_story_ends_with_its_end_though_the_task_is_gone() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(story_of(task.id(), &[])).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    // While the stream asks whether the task has ended, it ends, and is deleted.
    let delays = Faults {
        delays: 1_000,
        delay_max: SECOND,
        ..Faults::NONE
    };
    process.store.set_faults(delays);
    let finished = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        process.store.set_faults(Faults::NONE);
        process.complete(&task).await;
        process.manager.delete(task.id()).await.unwrap();
    };
    let (told, ()) = tokio::join!(end(&mut stream), finished);
    assert_eq!(told, [Completed]);
    // Of one that never was there is nothing to tell.
    let nobody = TaskId::new("nobody").unwrap();
    assert_eq!(
        end(&mut process.open(story_of(&nobody, &[])).await).await,
        []
    );
}

/// A story whose end has been pruned ends as well.
#[tokio::test(start_paused = true)]
async fn a_story_ends_though_its_end_has_been_pruned() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(story_of(task.id(), &[])).await;
    assert_eq!(ready(&mut stream).await, ["running"]);
    process.complete(&task).await;
    let loud = process.run(NewTask::new("loud")).await;
    process.output(&loud, 0..20).await;
    process.prune_but(2).await;
    assert_eq!(end(&mut stream).await, [StreamReset]);
}

// --------------------------------------------------------------------------------- a failing store

/// A store that cannot be read is reported, each time, and when it can be the stream goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_failing_store_is_reported_and_the_stream_goes_on() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    let options = StreamOptions {
        ends_with_task: true,
        ..of(Filter::default().task(task.id().clone()))
    };
    let mut stream = process.open(options).await;
    let failing = Faults {
        fails_reads: 1_000,
        ..Faults::NONE
    };
    let fails = async |stream: &mut ChunkStream| {
        process.store.set_faults(failing);
        for _ in 0..3 {
            let next = timeout(HOUR, stream.next()).await;
            assert!(next.expect("it stays silent").unwrap().is_err());
        }
        process.store.set_faults(Faults::NONE);
    };
    // In the snapshot,
    fails(&mut stream).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    // past the ring,
    process.output(&task, 0..10).await;
    fails(&mut stream).await;
    assert_eq!(
        ready(&mut stream).await,
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    // when it is to begin anew,
    process.output(&task, 0..10).await;
    process.prune_but(2).await;
    fails(&mut stream).await;
    assert_eq!(ready(&mut stream).await, ["stream-reset", "running", "|"]);
    // and at the end.
    process.complete(&task).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);
    fails(&mut stream).await;
    assert_eq!(end(&mut stream).await, []);

    process.store.set_faults(failing);
    assert!(
        process
            .manager
            .stream(StreamOptions::default())
            .await
            .is_err()
    );
}

/// The attempts of a task retried by hand are told apart, and its story goes on after its end.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_retried_goes_on_being_told() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(of(all().task(task.id().clone()))).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.manager.cancel(task.id()).await.unwrap();
    process.manager.retry(task.id()).await.unwrap();
    let task = process.claim(&task).await;
    assert_eq!(task.attempt, Attempt(2));
    assert_eq!(
        ready(&mut stream).await,
        ["cancelled", "retrying", "running"]
    );
}
