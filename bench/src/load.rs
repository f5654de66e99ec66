//! Tasks brought into a store as fast as it takes them, by the same requests that a manager makes: so that what is
//! read afterwards is what a manager would have left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sidestream::core::{
    Command, Json, Namespace, NewTask, ReportNumber, Task, TaskError, TaskId, ToolName, WorkerId,
};
use sidestream::error::{StoreError, StoreErrorKind};
use sidestream::store::{Admission, Answer, Claim, Limits, Request, Synchronous};
use sidestream::{SqliteOptions, SqliteStore, Store};

/// So many tasks at a time.
const BATCH: usize = 1_000;
/// Tasks of so many agents, tools and resources; ten of each thread and run.
const AGENTS: usize = 100;
const TOOLS: usize = 10;
const RESOURCES: usize = 1_000;
/// An hour: nobody renews these leases.
const LEASE_MS: u64 = 3_600_000;

/// What is brought in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) tasks: usize,
    /// Of each task.
    pub(crate) outputs: usize,
    /// Ends each task, one of ten by a failure; else they go on running.
    pub(crate) ends: bool,
}

/// Where [`once`] puts a database of that size.
pub(crate) fn folder(parent: &Path, load: Load) -> PathBuf {
    parent.join(format!("{}-{}", load.tasks, load.outputs))
}

/// A folder with a database of that size, which is made if it is not there yet.
pub(crate) async fn once(parent: &Path, load: Load) -> anyhow::Result<PathBuf> {
    let dir = folder(parent, load);
    let complete = dir.join("complete");
    if complete.exists() {
        match SqliteStore::open(dir.join("store"), SqliteOptions::default()) {
            Ok(_) => return Ok(dir),
            // Another version has made it: it is made again.
            Err(error) if is_of_another_version(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    let options = SqliteOptions {
        synchronous: Synchronous::Normal,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(dir.join("store"), options)?;
    bring(&store, load).await?;
    drop(store);
    std::fs::write(complete, "")?;
    Ok(dir)
}

fn is_of_another_version(error: &StoreError) -> bool {
    matches!(
        error.kind(),
        StoreErrorKind::Damaged | StoreErrorKind::NewerVersion
    )
}

/// A copy of such a database, in a folder of its own, for who changes it.
pub(crate) async fn copy(parent: &Path, load: Load, to: &Path) -> anyhow::Result<()> {
    let original = once(parent, load).await?.join("store");
    std::fs::create_dir_all(to)?;
    let copy = to.join("sidestream.db");
    std::fs::copy(original.join("sidestream.db"), &copy)?;
    // Else the disk would be busy with it while we measure.
    std::fs::File::open(&copy)?.sync_all()?;
    Ok(())
}

/// Brings tasks in.
pub(crate) async fn bring(store: &dyn Store, load: Load) -> anyhow::Result<()> {
    for first in (0..load.tasks).step_by(BATCH) {
        let count = BATCH.min(load.tasks - first);
        let dispatches = (first..first + count).map(|n| Request::Dispatch {
            spec: spec(n),
            admission: Admission::Queue,
        });
        commit(store, dispatches.collect()).await?;
        let tasks = claim(store, count).await?;
        if load.outputs > 0 {
            let outputs = tasks.iter().map(|task| output(task, load.outputs));
            commit(store, outputs.collect()).await?;
        }
        if load.ends {
            let ends = tasks.iter().enumerate().map(|(n, task)| end(task, n));
            commit(store, ends.collect()).await?;
        }
    }
    Ok(())
}

fn spec(n: usize) -> Arc<sidestream::core::Spec> {
    let task = NewTask::new(tool(n))
        .args(serde_json::json!({"q": "x1", "n": n}))
        .agent(format!("agent-{}", n % AGENTS))
        .thread(format!("thread-{}", n / 10))
        .run(format!("run-{}", n / 10))
        .resource(format!("resource-{}", n % RESOURCES))
        .tool_call(format!("call-{n}"));
    // As scattered as a random one.
    let scattered = (n as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let id = TaskId::new(format!("{scattered:032x}")).expect("a fit id");
    let spec = task.into_spec(Namespace::default(), id, Default::default());
    Arc::new(spec.expect("a fit task"))
}

fn tool(n: usize) -> String {
    format!("tool-{}", n % TOOLS)
}

async fn claim(store: &dyn Store, count: usize) -> anyhow::Result<Vec<Task>> {
    let tools = (0..TOOLS).map(|n| ToolName::new(tool(n)));
    let claim = Claim {
        worker: WorkerId::new("elsewhere")?,
        tools: tools.collect::<Result<Vec<_>, _>>()?.into(),
        namespace: None,
        limit: u32::try_from(count)?,
        lease_ms: LEASE_MS,
        limits: Arc::new(Limits {
            per_agent: None,
            ..Limits::default()
        }),
    };
    let mut answers = commit(store, vec![Request::Claim(claim)]).await?;
    let Some(Answer::Claimed(claimed)) = answers.pop() else {
        anyhow::bail!("a claim has another answer");
    };
    let found = claimed.tasks.len();
    anyhow::ensure!(found == count, "{found} of {count} tasks were claimed");
    Ok(claimed.tasks)
}

fn output(task: &Task, count: usize) -> Request {
    let payload = |n| Json::from(serde_json::json!({"step": n, "text": "as much as a token has"}));
    command(
        task,
        Command::Output {
            attempt: task.attempt,
            report: ReportNumber::NONE,
            payloads: (0..count).map(payload).collect(),
        },
    )
}

fn end(task: &Task, n: usize) -> Request {
    let (attempt, report) = (task.attempt, ReportNumber::NONE);
    command(
        task,
        match n % 10 {
            0 => Command::Fail {
                attempt,
                report,
                error: TaskError::new("it was not to be"),
                is_retryable: false,
                jitter: Default::default(),
            },
            _ => Command::Complete {
                attempt,
                report,
                result: Some(serde_json::json!({"ok": true}).into()),
            },
        },
    )
}

fn command(task: &Task, command: Command) -> Request {
    Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command,
    }
}

async fn commit(store: &dyn Store, batch: Vec<Request>) -> anyhow::Result<Vec<Answer>> {
    let committed = store.commit(batch).await?;
    let answers = committed.answers.into_iter();
    let answers = answers.map(|answer| answer.map_err(|error| anyhow::anyhow!("{error:?}")));
    answers.collect()
}
