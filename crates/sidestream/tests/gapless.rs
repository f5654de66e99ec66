//! Gapless: 32 writers dispatch, output, suspend, resume, cancel, fail and complete, while 64 watchers with
//! different filters connect, drop and resume at random points. Each rebuilds what it should know from
//! chunks alone. It equals the store's: no chunk twice, none missing, none out of order, no `running` after
//! an end.
//!
//! On several threads and in real time, so that what one thread cannot show has its chance; the simulation
//! looks into the corners. The seed is printed: it repeats what is done, not when.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test tells how it went")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream::chance::SystemChance;
use sidestream::core::wire::SnapshotTask;
use sidestream::core::{Attempt, Command, Jitter, ReportNumber, WorkerId};
use sidestream::store::{
    Answer, ApiKey, Claim, Committed, Head, Limits, LogPage, LogQuery, Page, Pin, Request,
    Snapshot, SnapshotQuery,
};
use sidestream::stream::RingLimits;
use sidestream::testing::{Chance, History, Known, Life, Mirror, SeededChance, WitnessedStore};
use sidestream::{
    AgentId, ChunkType, Config, Cursor, Error, Filter, Json, ListQuery, MemoryStore, Namespace,
    NewTask, ResourceId, RunId, Seq, SnapshotKind, Start, Status, Store, StoreError, StreamOptions,
    Task, TaskError, TaskId, TaskManager, ThreadId, Timestamp, ToolName,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const WRITERS: u64 = 32;
const READERS: u64 = 64;
/// So much longer a planted fault may take to strike.
const STRUCK_WITHIN: Duration = Duration::from_secs(30);
/// So long all may take to be read, once nothing more happens.
const READ_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn gapless_on_memory() {
    let found = gapless(
        || Arc::new(MemoryStore::new()),
        Duration::from_secs(20),
        None,
    );
    eprintln!("{}", found.unwrap());
}

#[cfg(feature = "sqlite")]
#[test]
fn gapless_on_sqlite() {
    use sidestream::{SqliteOptions, SqliteStore};
    let directory = tempfile::tempdir().unwrap();
    let open =
        || Arc::new(SqliteStore::open(directory.path(), SqliteOptions::default()).unwrap()) as _;
    eprintln!("{}", gapless(open, Duration::from_secs(20), None).unwrap());
}

#[test]
fn a_skipped_event_is_caught() {
    let found = gapless(
        || Arc::new(MemoryStore::new()),
        Duration::from_secs(3),
        Some(Fault::SkipsAnEvent),
    );
    eprintln!("{}", found.unwrap_err());
}

#[test]
fn a_snapshot_read_apart_is_caught() {
    let found = gapless(
        || Arc::new(MemoryStore::new()),
        Duration::from_secs(3),
        Some(Fault::SnapshotReadApart),
    );
    eprintln!("{}", found.unwrap_err());
}

/// Runs writers and watchers for a while; says what was seen, or what was wrong.
fn gapless(
    open: impl FnOnce() -> Arc<dyn Store>,
    lasts: Duration,
    fault: Option<Fault>,
) -> Result<String, String> {
    let seed = std::env::var("SIDESTREAM_SEED").ok();
    let seed = seed.map_or_else(|| SystemChance.next(), |text| text.parse().unwrap());
    eprintln!("SIDESTREAM_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(live(open(), seed, lasts, fault))
}

async fn live(
    database: Arc<dyn Store>,
    seed: u64,
    lasts: Duration,
    fault: Option<Fault>,
) -> Result<String, String> {
    let world = World::new(database, seed, fault).await;
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        writers.spawn(Writer::new(&world, number).run());
    }
    let mut readers = JoinSet::new();
    for number in 0..READERS {
        readers.spawn(Reader::new(&world, number).run());
    }
    let until = Instant::now() + lasts;
    // On a busy machine a planted fault takes longer to strike.
    let waits = |now| fault.is_some() && !world.has_struck_often() && now < until + STRUCK_WITHIN;
    let goes_on = |now| now < until || waits(now);
    while goes_on(Instant::now()) && world.violation().is_none() {
        sleep(Duration::from_millis(50)).await;
    }
    world.is_over.store(true, SeqCst);
    while let Some(writer) = writers.join_next().await {
        writer.map_err(|e| e.to_string())?;
    }
    let head = world.database.head().await.unwrap().seq;
    *world.ends_at.lock() = Some(head);
    let mut lives = Vec::new();
    while let Some(reader) = readers.join_next().await {
        lives.extend(reader.map_err(|e| e.to_string())?);
    }
    if let Some(violation) = world.violation() {
        return Err(violation);
    }
    let wanted = world.history.audit(&lives)?;
    let tasks = world.compare_with_rows(&lives).await?;
    Ok(format!(
        "{head} events of {tasks} tasks; {} watchers' lives brought {wanted} chunks, none missing, none twice",
        lives.len()
    ))
}

struct World {
    seed: u64,
    database: Arc<dyn Store>,
    history: Arc<History>,
    /// Two processes: one keeps few chunks in memory, so that its watchers read the log.
    managers: [TaskManager; 2],
    is_over: AtomicBool,
    ends_at: Mutex<Option<Seq>>,
    violation: Mutex<Option<String>>,
    /// How often the planted fault has struck: not each time somebody notices.
    strikes: Arc<AtomicU32>,
}

impl World {
    async fn new(database: Arc<dyn Store>, seed: u64, fault: Option<Fault>) -> Arc<Self> {
        let history = Arc::new(History::default());
        let witness = Arc::clone(&history) as _;
        let database: Arc<dyn Store> = Arc::new(WitnessedStore::new(database, witness));
        let strikes = Arc::<AtomicU32>::default();
        let seen: Arc<dyn Store> = match fault {
            None => Arc::clone(&database),
            Some(fault) => Arc::new(Lying {
                fault,
                inner: Arc::clone(&database),
                chance: SeededChance::new(seed),
                strikes: Arc::clone(&strikes),
            }),
        };
        let manager = async |chunks: usize| {
            let config = Config {
                accepts_any_tool: true,
                ring: RingLimits {
                    chunks,
                    ..RingLimits::default()
                },
                ..Config::default()
            };
            let builder = TaskManager::builder_on(Arc::clone(&seen));
            builder.config(config).start().await.unwrap()
        };
        Arc::new(Self {
            seed,
            history,
            managers: [manager(64).await, manager(65_536).await],
            database,
            is_over: AtomicBool::new(false),
            ends_at: Mutex::new(None),
            violation: Mutex::new(None),
            strikes,
        })
    }

    fn has_struck_often(&self) -> bool {
        self.strikes.load(SeqCst) >= 20
    }

    fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    fn accuse(&self, violation: String) {
        self.violation.lock().get_or_insert(violation);
    }

    fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }

    /// What watchers of everything know in the end is how the rows stand.
    async fn compare_with_rows(&self, lives: &[Life]) -> Result<u64, String> {
        let query = ListQuery::new(Namespace::default(), usize::MAX);
        let page = self.database.list(&query).await.unwrap();
        let head = self.database.head().await.unwrap().seq;
        let is_last = |life: &&Life| life.mirror.place().is_some_and(|place| place.seq == head);
        let of_all = |life: &&Life| life.filter.types.len() == ChunkType::ALL.len();
        for life in lives.iter().filter(is_last).filter(of_all) {
            for row in page
                .tasks
                .iter()
                .filter(|row| life.filter.matches_task(row.identity()))
            {
                let known = life.mirror.tasks().get(row.id());
                let was_shown = known.is_some() || !row.status.is_terminal();
                let is_full = life.statuses.len() == 3;
                if is_full && was_shown && !known.is_some_and(|known| says(known, row)) {
                    let (id, status) = (row.id(), row.status);
                    return Err(format!(
                        "the row of {id} is {status}, and it is known as {known:?}"
                    ));
                }
            }
        }
        Ok(page.total)
    }
}

/// Does what is known of a task fit its row?
fn says(known: &Known, row: &Task) -> bool {
    use ChunkType as C;
    let Some(chunk_type) = known.chunk_type else {
        return false;
    };
    // Who began to watch an ended task that was then retried has not been told of its attempts.
    let fits = [row.attempt, Attempt(0)].contains(&known.attempt);
    fits && match row.status {
        Status::Pending => matches!(chunk_type, C::Started | C::Retrying | C::Queued),
        Status::Running => matches!(chunk_type, C::Running | C::Resumed),
        Status::Suspended => chunk_type == C::Suspended,
        Status::Completed => chunk_type == C::Completed,
        Status::Failed | Status::TimedOut => chunk_type == C::Failed,
        Status::Cancelled => chunk_type == C::Cancelled,
    }
}

// ---------------------------------------------------------------------------------------- who writes

struct Writer {
    world: Arc<World>,
    chance: SeededChance,
    number: u64,
    worker: WorkerId,
    tool: ToolName,
    /// What it holds.
    running: Vec<Task>,
    suspended: Vec<TaskId>,
    failed: Vec<TaskId>,
}

impl Writer {
    fn new(world: &Arc<World>, number: u64) -> Self {
        Self {
            world: Arc::clone(world),
            chance: SeededChance::new(world.seed ^ number),
            number,
            worker: WorkerId::new(format!("writer-{number}")).unwrap(),
            tool: ToolName::new(format!("tool-{number}")).unwrap(),
            running: Vec::new(),
            suspended: Vec::new(),
            failed: Vec::new(),
        }
    }

    fn below(&self, n: u64) -> u64 {
        self.chance.next() % n
    }

    fn manager(&self) -> &TaskManager {
        &self.world.managers[self.below(2) as usize]
    }

    async fn run(mut self) {
        while !self.world.is_over() {
            if let Err(error) = self.step().await {
                return self
                    .world
                    .accuse(format!("writer {}: {error}", self.number));
            }
            sleep(Duration::from_millis(self.below(16))).await;
        }
    }

    async fn step(&mut self) -> Result<(), Error> {
        match self.below(12) {
            0..3 => self.dispatch().await,
            3 | 4 => self.claim().await,
            5 | 6 => self.output().await,
            7 | 8 => self.end_one().await,
            9 => self.resume().await,
            10 => self.cancel().await,
            _ => self.retry().await,
        }
    }

    async fn dispatch(&self) -> Result<(), Error> {
        let n = self.number;
        let tasks = (0..1 + self.below(4)).map(|_| {
            NewTask::new(self.tool.as_str())
                .agent(format!("agent-{}", n % 4))
                .thread(format!("thread-{}", n % 16))
                .run(format!("run-{n}"))
                .resource(format!("resource-{}", n % 8))
                .max_retries(2u32)
        });
        for answer in self.manager().dispatch_all(tasks.collect::<Vec<_>>()).await {
            answer?;
        }
        Ok(())
    }

    async fn claim(&mut self) -> Result<(), Error> {
        let claim = Claim {
            worker: self.worker.clone(),
            tools: [self.tool.clone()].into(),
            namespace: None,
            limit: 4,
            lease_ms: 600_000,
            limits: Arc::new(Limits::default()),
        };
        if let Answer::Claimed(claimed) = self.submit(Request::Claim(claim)).await? {
            self.running.extend(claimed.tasks);
        }
        Ok(())
    }

    async fn submit(&self, request: Request) -> Result<Answer, Error> {
        self.manager().writer().submit(request).await
    }

    async fn command(&self, task: &Task, command: Command) -> Result<(), Error> {
        let request = Request::Command {
            namespace: task.identity().namespace.clone(),
            id: task.id().clone(),
            command,
        };
        match self.submit(request).await {
            // Cancelled meanwhile.
            Ok(_) | Err(Error::Rejected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn output(&self) -> Result<(), Error> {
        let Some(task) = self.some(&self.running) else {
            return Ok(());
        };
        let payloads = (0..1 + self.below(5)).map(|n| Json::from(serde_json::json!({"n": n})));
        let (attempt, payloads) = (task.attempt, payloads.collect());
        self.command(
            &task,
            Command::Output {
                attempt,
                report: ReportNumber::NONE,
                payloads,
            },
        )
        .await
    }

    async fn end_one(&mut self) -> Result<(), Error> {
        if self.running.is_empty() {
            return Ok(());
        }
        let index = self.below(self.running.len() as u64) as usize;
        let task = self.running.swap_remove(index);
        let attempt = task.attempt;
        let jitter = Jitter(0);
        let command = match self.below(6) {
            0 => {
                self.suspended.push(task.id().clone());
                let payload = Json::string("may I?");
                Command::Suspend {
                    attempt,
                    report: ReportNumber::NONE,
                    payload,
                }
            }
            1 => {
                self.failed.push(task.id().clone());
                let error = TaskError::new("no luck");
                let is_retryable = self.below(2) == 0;
                Command::Fail {
                    attempt,
                    report: ReportNumber::NONE,
                    error,
                    is_retryable,
                    jitter,
                }
            }
            2 => Command::TimeOut {
                attempt,
                report: ReportNumber::NONE,
                jitter,
            },
            _ => Command::Complete {
                attempt,
                report: ReportNumber::NONE,
                result: Some(Json::string("done")),
            },
        };
        self.command(&task, command).await
    }

    async fn resume(&mut self) -> Result<(), Error> {
        match self.suspended.pop() {
            Some(id) => unless_rejected(self.manager().resume(&id, serde_json::json!(true)).await),
            None => Ok(()),
        }
    }

    async fn cancel(&mut self) -> Result<(), Error> {
        match self.some(&self.running) {
            Some(task) => {
                self.failed.push(task.id().clone());
                unless_rejected(self.manager().cancel(task.id()).await)
            }
            None => Ok(()),
        }
    }

    async fn retry(&mut self) -> Result<(), Error> {
        match self.failed.pop() {
            Some(id) => unless_rejected(self.manager().retry(&id).await),
            None => Ok(()),
        }
    }

    fn some<T: Clone>(&self, of: &[T]) -> Option<T> {
        match of {
            [] => None,
            of => Some(of[self.below(of.len() as u64) as usize].clone()),
        }
    }
}

fn unless_rejected(answer: Result<Task, Error>) -> Result<(), Error> {
    match answer {
        Ok(_) | Err(Error::Rejected(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

// --------------------------------------------------------------------------------------- who watches

struct Reader {
    world: Arc<World>,
    chance: SeededChance,
    number: u64,
    kind: SnapshotKind,
    life: Life,
    lives: Vec<Life>,
}

impl Reader {
    fn new(world: &Arc<World>, number: u64) -> Self {
        let chance = SeededChance::new(world.seed ^ (1_000 + number));
        let life = Life {
            namespace: Namespace::default(),
            filter: Filter::default(),
            statuses: Vec::new(),
            mirror: Mirror::of_snapshot(),
        };
        let mut reader = Self {
            world: Arc::clone(world),
            chance,
            number,
            kind: SnapshotKind::Running,
            life,
            lives: Vec::new(),
        };
        reader.be_born();
        reader
    }

    fn below(&self, n: u64) -> u64 {
        self.chance.next() % n
    }

    /// A new life: with a snapshot, or from some place in the log on.
    fn be_born(&mut self) {
        self.kind = match self.below(3) {
            0 => SnapshotKind::Running,
            1 => SnapshotKind::Active,
            _ => SnapshotKind::None,
        };
        let filter = self.some_filter();
        let mirror = match self.below(5) {
            0 => {
                let seq = Seq(self.below(self.world.history.head().0 + 1));
                Mirror::resumed(Cursor { epoch: None, seq })
            }
            _ => Mirror::of_snapshot(),
        };
        let has_snapshot = mirror.place().is_none();
        let statuses = match self.kind {
            _ if !has_snapshot => vec![],
            SnapshotKind::Running => vec![Status::Running],
            SnapshotKind::Active => vec![Status::Pending, Status::Running, Status::Suspended],
            SnapshotKind::None => vec![],
        };
        let life = Life {
            namespace: Namespace::default(),
            filter,
            statuses,
            mirror,
        };
        let before = std::mem::replace(&mut self.life, life);
        self.lives.push(before);
    }

    fn some_filter(&self) -> Filter {
        let n = self.below(32);
        let filter = Filter::default();
        let filter = match self.number % 8 {
            0 => filter.agent(AgentId::new(format!("agent-{}", n % 4)).unwrap()),
            1 => filter.run(RunId::new(format!("run-{n}")).unwrap()),
            2 | 3 => filter.thread(ThreadId::new(format!("thread-{}", n % 16)).unwrap()),
            4 => filter.resource(ResourceId::new(format!("resource-{}", n % 8)).unwrap()),
            5 => filter.tool(ToolName::new(format!("tool-{n}")).unwrap()),
            _ => filter,
        };
        match self.below(3) {
            0 => filter,
            1 => filter.types(ChunkType::ALL),
            _ => filter.types([ChunkType::Running, ChunkType::Completed, ChunkType::Output]),
        }
    }

    async fn run(mut self) -> Vec<Life> {
        while !self.world.is_over() && self.world.violation().is_none() {
            sleep(Duration::from_millis(self.below(60))).await;
            let lasts = Duration::from_millis(self.below(900));
            self.session(Instant::now() + lasts, false).await;
            if self.below(4) == 0 {
                self.be_born();
            }
        }
        let deadline = Instant::now() + READ_WITHIN;
        while !self.has_read_all() && self.world.violation().is_none() {
            if Instant::now() > deadline {
                let (number, place) = (self.number, self.life.mirror.place());
                self.world
                    .accuse(format!("watcher {number} does not get past {place:?}"));
            }
            self.session(deadline, true).await;
        }
        self.lives.push(self.life);
        self.lives
    }

    /// Has it seen the last event that it wants, once that is known?
    fn has_read_all(&self) -> bool {
        let (Some(head), Some(place)) = (*self.world.ends_at.lock(), self.life.mirror.place())
        else {
            return false;
        };
        place.seq >= head
    }

    async fn session(&mut self, until: Instant, is_last: bool) {
        self.life.mirror = self.life.mirror.resume();
        let options = StreamOptions {
            filter: self.life.filter.clone(),
            start: match self.life.mirror.place() {
                Some(place) => Start::After(place.clone()),
                None => Start::Now,
            },
            snapshot: self.kind,
            // Its keep-alive says when there is nothing more.
            keep_alive: is_last.then_some(Duration::from_millis(20)),
            ..StreamOptions::default()
        };
        let manager = &self.world.managers[self.below(2) as usize];
        let mut stream = match manager.stream(options).await {
            Ok(stream) => stream,
            Err(error) => {
                return self
                    .world
                    .accuse(format!("a stream is not opened: {error}"));
            }
        };
        let is_done = |reader: &Self| {
            is_last && (reader.has_read_all() || reader.world.violation().is_some())
        };
        while Instant::now() < until && !is_done(self) {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, stream.next_batch()).await {
                Err(_) => return,
                Ok(None) => return self.world.accuse("a stream ends by itself".into()),
                Ok(Some(Err(error))) => {
                    return self.world.accuse(format!("a stream fails: {error}"));
                }
                Ok(Some(Ok(items))) => {
                    for item in items {
                        if let Err(violation) = self.life.mirror.take(&item) {
                            return self.world.accuse(violation);
                        }
                        if self.life.mirror.resets() > 0 {
                            return self.world.accuse("a reset without need".into());
                        }
                    }
                }
            }
            if self.below(8) == 0 {
                sleep(Duration::from_millis(self.below(40))).await;
            }
        }
    }
}

// ---------------------------------------------------------------------------------- planted faults

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Now and then a page of the log lacks an event. (Not one that the process reads for all of its
    /// watchers, which would notice.)
    SkipsAnEvent,
    /// The rows of a snapshot are read, and a little later the place that they are the state after.
    SnapshotReadApart,
}

#[derive(Debug)]
struct Lying {
    fault: Fault,
    inner: Arc<dyn Store>,
    chance: SeededChance,
    strikes: Arc<AtomicU32>,
}

type Outcome<T> = Result<T, StoreError>;

impl Lying {
    fn strikes(&self, it_does: bool) {
        self.strikes.fetch_add(u32::from(it_does), SeqCst);
    }
}

#[async_trait]
impl Store for Lying {
    async fn commit(&self, batch: Vec<Request>) -> Outcome<Committed> {
        self.inner.commit(batch).await
    }

    async fn head(&self) -> Outcome<Head> {
        self.inner.head().await
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Outcome<Option<Task>> {
        self.inner.get(namespace, id).await
    }

    async fn list(&self, query: &ListQuery) -> Outcome<Page> {
        self.inner.list(query).await
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Outcome<Snapshot> {
        let mut snapshot = self.inner.snapshot(query).await?;
        if self.fault == Fault::SnapshotReadApart {
            sleep(Duration::from_millis(1)).await;
            let read_with_the_rows = snapshot.head.seq;
            snapshot.head = self.inner.head().await?;
            self.strikes(snapshot.head.seq > read_with_the_rows);
        }
        Ok(snapshot)
    }

    async fn resolve(&self, pins: &[Pin]) -> Outcome<Vec<SnapshotTask>> {
        self.inner.resolve(pins).await
    }

    async fn log(&self, query: &LogQuery) -> Outcome<LogPage> {
        let mut page = self.inner.log(query).await?;
        let is_of_one_watcher = query.limit < 2_048;
        let is_hit = self.chance.next().is_multiple_of(50);
        if self.fault == Fault::SkipsAnEvent
            && is_of_one_watcher
            && is_hit
            && page.entries.len() > 1
        {
            let index = self.chance.next() as usize % (page.entries.len() - 1);
            page.entries.remove(index);
            self.strikes(true);
        }
        Ok(page)
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Outcome<Vec<Task>> {
        self.inner.completions(namespace, thread, limit).await
    }

    async fn counts(&self) -> Outcome<HashMap<Status, u64>> {
        self.inner.counts().await
    }

    async fn keys(&self) -> Outcome<Vec<ApiKey>> {
        self.inner.keys().await
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        self.inner.doorbell()
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
