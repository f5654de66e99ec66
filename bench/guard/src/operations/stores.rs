//! What stores do: commits, snapshots, lists. SQLite's are in a temporary folder; instructions do not depend on
//! the disk.

use std::hint::black_box;
use std::sync::Arc;

use sidestream::clock::ManualClock;
use sidestream::core::{
    Command, Filter, Namespace, ReportNumber, Status, Task, Timestamp, ToolName, WorkerId,
};
use sidestream::store::{Admission, Answer, Claim, Limits, Request, SnapshotQuery};
use sidestream::{ListQuery, MemoryStore, SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::Operation;
use super::pure::{result, spec};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::starting_at(Timestamp::from_ms(
        1_790_000_000_000,
    )))
}

/// A SQLite store, its folder, and what its calls run on.
struct Sqlite {
    runtime: Runtime,
    store: SqliteStore,
    /// Removed after the store is closed.
    _dir: TempDir,
}

impl Sqlite {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = SqliteOptions {
            clock: clock(),
            readers: 1,
            ..SqliteOptions::default()
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread().build()?,
            store: SqliteStore::open(dir.path(), options)?,
            _dir: dir,
        })
    }

    /// With a thousand tasks, of which so many run.
    fn filled(running: u32) -> anyhow::Result<Self> {
        let sqlite = Self::new()?;
        sqlite.runtime.block_on(async {
            for from in (0..1_000).step_by(100) {
                dispatch(&sqlite.store, from).await?;
            }
            claim(&sqlite.store, running).await
        })?;
        Ok(sqlite)
    }
}

async fn commit(store: &dyn Store, batch: Vec<Request>) -> anyhow::Result<Vec<Answer>> {
    let answers = store.commit(batch).await?.answers;
    let answers: Result<_, _> = answers.into_iter().collect();
    answers.map_err(|rejection| anyhow::anyhow!("{rejection:?}"))
}

/// A hundred dispatches.
async fn dispatch(store: &dyn Store, from: usize) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    for n in from..from + 100 {
        batch.push(Request::Dispatch {
            spec: spec(n)?,
            admission: Admission::Queue,
        });
    }
    commit(store, batch).await?;
    Ok(())
}

async fn claim(store: &dyn Store, limit: u32) -> anyhow::Result<Vec<Task>> {
    let claim = Claim {
        worker: WorkerId::new("worker")?,
        tools: Arc::from([ToolName::new("tool")?]),
        namespace: None,
        limit,
        lease_ms: 30_000,
        limits: Arc::new(Limits::default()),
    };
    match commit(store, vec![Request::Claim(claim)]).await?.pop() {
        Some(Answer::Claimed(claimed)) => Ok(claimed.tasks),
        other => anyhow::bail!("a claim is answered as one: {other:?}"),
    }
}

async fn complete(store: &dyn Store, tasks: &[Task]) -> anyhow::Result<()> {
    let request = |task: &Task| Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command: Command::Complete {
            attempt: task.attempt,
            report: ReportNumber(1),
            result: Some(result()),
        },
    };
    commit(store, tasks.iter().map(request).collect()).await?;
    Ok(())
}

pub(super) fn memory_dispatches() -> anyhow::Result<Operation> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (store, mut from) = (MemoryStore::with_clock(clock()), 0);
    Ok(Box::new(move || {
        runtime.block_on(dispatch(&store, from))?;
        from += 100;
        Ok(())
    }))
}

pub(super) fn sqlite_lives() -> anyhow::Result<Operation> {
    let (sqlite, mut from) = (Sqlite::new()?, 0);
    Ok(Box::new(move || {
        // All of it goes along, the folder too.
        let sqlite = &sqlite;
        sqlite.runtime.block_on(async {
            dispatch(&sqlite.store, from).await?;
            let tasks = claim(&sqlite.store, 100).await?;
            anyhow::ensure!(tasks.len() == 100, "{} were claimed", tasks.len());
            complete(&sqlite.store, &tasks).await
        })?;
        from += 100;
        Ok(())
    }))
}

pub(super) fn sqlite_snapshot() -> anyhow::Result<Operation> {
    let sqlite = Sqlite::filled(1_000)?;
    let query = SnapshotQuery {
        namespace: Namespace::default(),
        filter: Filter::default(),
        statuses: vec![Status::Running],
    };
    Ok(Box::new(move || {
        // All of it goes along, the folder too.
        let sqlite = &sqlite;
        sqlite.runtime.block_on(async {
            let mut pins = sqlite.store.snapshot(&query).await?.pins;
            let mut tasks = 0;
            while !pins.is_empty() {
                let page = pins.next(128).await?;
                let count = page.len();
                tasks += black_box(sqlite.store.resolve(page).await?).len();
                pins.take(count);
            }
            anyhow::ensure!(tasks == 1_000, "the snapshot has {tasks} tasks");
            Ok(())
        })
    }))
}

pub(super) fn sqlite_list() -> anyhow::Result<Operation> {
    let sqlite = Sqlite::filled(500)?;
    let mut query = ListQuery::new(Namespace::default(), 50);
    query.statuses = vec![Status::Running];
    query.is_descending = true;
    Ok(Box::new(move || {
        // All of it goes along, the folder too.
        let sqlite = &sqlite;
        let page = sqlite.runtime.block_on(sqlite.store.list(&query))?;
        anyhow::ensure!(
            (page.tasks.len(), page.total) == (50, 500),
            "{} of {}",
            page.tasks.len(),
            page.total
        );
        Ok(())
    }))
}
