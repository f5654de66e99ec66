//! Work that goes on, at seven tenths of the best rate at which it could go on for ever: retention removes what it
//! leaves, as fast as it comes. Rates, latencies, memory and files are to stay as they are.
#![expect(clippy::print_stderr, reason = "a line now and then says how it goes")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use sidestream::{
    ChunkStream, ChunkType, Config, Context, Filter, HandlerError, NewTask, Retention,
    SnapshotKind, SqliteOptions, SqliteStore, Store, StreamOptions, TaskManager, Tool,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::found::{Found, percentile};
use crate::process;

/// How many tasks are in flight while the best rate is looked for.
const IN_FLIGHT: usize = 100;
/// How many may be afterwards: what was held up is made up for.
const SLOTS: u32 = 1_000;
/// How long the best rate is looked for, once retention removes as much as comes.
const BEST: Duration = Duration::from_secs(20);
/// The share of it that is asked for then.
const SHARE: f64 = 0.7;
/// How long ended tasks and events are kept: so short that from the second line on as much goes as comes.
const KEPT: Duration = Duration::from_secs(20);

/// How long, and how often it says how it goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) seconds: usize,
    pub(crate) line_seconds: usize,
}

/// What was seen between two lines.
#[derive(Debug, Default, Clone)]
struct Line {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    memory_kib: f64,
    file_bytes: f64,
    wal_bytes: f64,
    free_pages: f64,
}

/// On SQLite, where files can grow.
pub(crate) async fn run(dir: &Path, settings: Settings) -> anyhow::Result<Found> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(dir, SqliteOptions::default())?);
    let file = dir.join("sidestream.db");
    let mut soak = Soak::start(Arc::clone(&store), file).await?;
    soak.line(KEPT + BEST / 2).await?;
    let best = soak.line(BEST).await?.per_second;
    let rate = best * SHARE;
    eprintln!("best {best:.0} tasks/s; {rate:.0} are asked for now");
    soak.pace(rate);
    let length = Duration::from_secs(settings.line_seconds.max(1) as u64);
    let mut lines = Vec::new();
    for nth in 0..settings
        .seconds
        .div_ceil(settings.line_seconds.max(1))
        .max(3)
    {
        let line = soak.line(length).await?;
        eprintln!("{}", line.told((nth + 1) * settings.line_seconds));
        lines.push(line);
    }
    let completed = soak.completed;
    soak.stop().await;
    let head = store.head().await?;
    anyhow::ensure!(
        head.seq.0 >= 3 * completed && head.floor.0 > 0,
        "of {completed} completed tasks the log has {} events, and {} are pruned",
        head.seq.0,
        head.floor.0
    );
    let verified = format!(
        "{completed} completions were seen; of {} events {} were pruned",
        head.seq.0, head.floor.0
    );
    Ok(found(&lines, best, verified))
}

/// What a line has of a kind.
type Value = fn(&Line) -> f64;

/// The last third beside the second.
fn found(lines: &[Line], best: f64, verified: String) -> Found {
    let third = lines.len() / 3;
    let (second, last) = (&lines[third..2 * third], &lines[2 * third..]);
    let of = |lines: &[Line], value: fn(&Line) -> f64| {
        percentile(&mut lines.iter().map(value).collect::<Vec<_>>(), 0.5)
    };
    let longest = lines.iter().map(|line| line.max_ms).fold(0.0, f64::max);
    let values: [(&str, Value); 7] = [
        ("tasks_per_second", |line| line.per_second),
        ("p50_ms", |line| line.p50_ms),
        ("p99_ms", |line| line.p99_ms),
        ("memory_kib", |line| line.memory_kib),
        ("file_bytes", |line| line.file_bytes),
        ("wal_bytes", |line| line.wal_bytes),
        ("free_pages", |line| line.free_pages),
    ];
    let mut found = Found::verified(verified)
        .value("best_per_second", best)
        .value("max_ms", longest);
    for (name, value) in values {
        let (before, after) = (of(second, value), of(last, value));
        found = found.value(name, after);
        if before > 0.0 {
            let percent = (after / before - 1.0) * 100.0;
            eprintln!(
                "{name}: {before:.2} in the second third, {after:.2} in the last ({percent:+.1} %)"
            );
            found = found.value(&format!("{name}_change_percent"), percent);
        }
    }
    found
}

impl Line {
    fn told(&self, seconds: usize) -> String {
        format!(
            "{seconds:>6} s {:>8.0}/s  p50 {:>6.2}  p99 {:>7.2}  max {:>7.2} ms  memory {:>5.0} MiB  file {:>6.0} MB  \
             log ahead {:>4.0} MB  {:>7.0} pages free",
            self.per_second,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.memory_kib / 1_024.0,
            self.file_bytes / 1e6,
            self.wal_bytes / 1e6,
            self.free_pages
        )
    }
}

/// Work under way.
struct Soak {
    manager: TaskManager,
    stream: ChunkStream,
    /// Who waits for one of them dispatches; each completion gives one back while the best rate is looked for,
    /// afterwards time does.
    places: Arc<Semaphore>,
    is_paced: bool,
    started: Instant,
    completed: u64,
    file: PathBuf,
    working: JoinSet<()>,
}

impl Soak {
    async fn start(store: Arc<dyn Store>, file: PathBuf) -> anyhow::Result<Self> {
        let config = Config {
            concurrency: SLOTS,
            concurrency_per_agent: None,
            retention: Retention {
                completed: KEPT,
                failed: KEPT,
                untold: KEPT,
                log: KEPT,
                every: Duration::from_secs(2),
                ..Retention::default()
            },
            ..Config::default()
        };
        let noop = Tool::new("noop", |_: Context, asked_us: u64| async move {
            Ok::<_, HandlerError>(asked_us)
        });
        let manager = TaskManager::builder_on(store)
            .tool(noop)
            .config(config)
            .start()
            .await?;
        let completed = StreamOptions {
            filter: Filter::default().types([ChunkType::Completed]),
            snapshot: SnapshotKind::None,
            ..StreamOptions::default()
        };
        let stream = manager.stream(completed).await?;
        let (places, started) = (Arc::new(Semaphore::new(IN_FLIGHT)), Instant::now());
        let dispatching = |_| dispatch(manager.clone(), Arc::clone(&places), started);
        let working = (0..IN_FLIGHT).map(dispatching).collect();
        Ok(Self {
            manager,
            stream,
            places,
            is_paced: false,
            started,
            completed: 0,
            file,
            working,
        })
    }

    /// From now on so many are dispatched a second, whatever completes.
    fn pace(&mut self, per_second: f64) {
        self.is_paced = true;
        let places = Arc::clone(&self.places);
        self.working.spawn(async move {
            let (begun, mut given) = (Instant::now(), 0);
            let mut tick = tokio::time::interval(Duration::from_millis(2));
            loop {
                tick.tick().await;
                let due = (begun.elapsed().as_secs_f64() * per_second) as usize;
                places.add_permits(due - given);
                given = due;
            }
        });
    }

    /// What is seen in so long a time.
    async fn line(&mut self, length: Duration) -> anyhow::Result<Line> {
        let (begun, mut latencies_ms) = (Instant::now(), Vec::new());
        while begun.elapsed() < length {
            let items = self
                .stream
                .next_batch()
                .await
                .expect("the stream goes on")?;
            let now_us = self.started.elapsed().as_micros() as f64;
            for chunk in items.iter().filter_map(|item| item.chunk.as_ref()) {
                let asked_us = chunk.payload()?["result"].as_f64().expect("a number");
                latencies_ms.push((now_us - asked_us) / 1_000.0);
            }
            let seen = latencies_ms.len();
            if !self.is_paced {
                self.places
                    .add_permits(items.iter().filter(|item| item.chunk.is_some()).count());
            }
            anyhow::ensure!(seen > 0 || begun.elapsed() < length, "nothing completes");
        }
        let took = begun.elapsed().as_secs_f64();
        self.completed += latencies_ms.len() as u64;
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0.0, |found| found.len() as f64);
        let memory_kib = process::resident_kib(std::process::id());
        Ok(Line {
            per_second: latencies_ms.len() as f64 / took,
            p50_ms: percentile(&mut latencies_ms, 0.5),
            p99_ms: percentile(&mut latencies_ms, 0.99),
            max_ms: percentile(&mut latencies_ms, 1.0),
            memory_kib: memory_kib.context("/proc does not say VmRSS")? as f64,
            file_bytes: bytes(&self.file),
            wal_bytes: bytes(&self.file.with_extension("db-wal")),
            free_pages: free_pages(&self.file)?,
        })
    }

    async fn stop(mut self) {
        self.working.shutdown().await;
        self.manager.shutdown().await;
    }
}

/// Dispatches whenever there is a place.
async fn dispatch(manager: TaskManager, places: Arc<Semaphore>, started: Instant) {
    loop {
        places.acquire().await.expect("never closed").forget();
        let asked_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let task = NewTask::new("noop")
            .args(serde_json::json!(asked_us))
            .agent("bench");
        manager.dispatch(task).await.expect("accepted");
    }
}

fn free_pages(file: &Path) -> anyhow::Result<f64> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Ok(connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?)
}
