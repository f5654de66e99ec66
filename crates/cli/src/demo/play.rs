//! Dispatches everything, watches it, and does what a person would do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sidestream::{Json, NewTask, TaskId};
use sidestream_client::{Chunk, ChunkType, Client, Filter, Item, SnapshotKind, StreamRequest};
use tokio::task::JoinSet;

use super::cast::{self, CAST};
use super::files::Files;
use super::screen::Screen;
use super::tools::Where;
use crate::exit::Failure;

/// How long a person takes to answer.
const PERSON: Duration = Duration::from_millis(1_200);
/// After so many outputs the scan is cancelled.
const SCANS: usize = 5;
/// After so many checksums the process is killed.
const CHECKSUMS: usize = 6;

/// What the stream showed.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Every chunk, as it came.
    pub(super) chunks: Vec<Arc<str>>,
    /// How often a tool did what.
    counts: BTreeMap<(String, ChunkType), usize>,
    /// The process that is to be killed, once it is known.
    pid: Option<i32>,
    has_killed: bool,
}

impl Seen {
    fn count(&self, tool: &str, chunk_type: ChunkType) -> usize {
        let key = (tool.to_owned(), chunk_type);
        self.counts.get(&key).copied().unwrap_or(0)
    }

    fn note(&mut self, tool: &str, chunk: &Chunk) {
        self.chunks.push(Arc::clone(chunk.json()));
        if let Some(chunk_type) = chunk.chunk_type {
            *self
                .counts
                .entry((tool.to_owned(), chunk_type))
                .or_default() += 1;
        }
    }

    fn has_all_ended(&self) -> bool {
        let ended = |tool: &str| {
            let ends = ChunkType::ALL.into_iter().filter(|ty| ty.is_terminal());
            ends.map(|end| self.count(tool, end)).sum::<usize>() > 0
        };
        CAST.iter().all(|part| ended(part.tool))
    }

    /// What should have been seen and was not.
    pub(super) fn faults(&self) -> Vec<String> {
        let expected = [
            (cast::ASKS, ChunkType::Suspended, 1),
            (cast::ASKS, ChunkType::Resumed, 1),
            ("upload", ChunkType::Retrying, 2),
            (cast::KILLED, ChunkType::Retrying, 1),
        ];
        let mut faults = Vec::new();
        for (tool, chunk_type, expected) in expected {
            let count = self.count(tool, chunk_type);
            if count != expected {
                faults.push(format!(
                    "`{tool}` showed {chunk_type} {count} times, not {expected}"
                ));
            }
        }
        if !self.has_killed {
            faults.push("no process was killed".into());
        }
        faults
    }
}

/// Plays it to its end: until every task has ended.
pub(super) async fn play(client: &Client, files: &Files, screen: &Screen) -> Result<Seen, Failure> {
    // From the beginning of the log, so that nothing is missed.
    let request = StreamRequest::watch(Filter::default().types(ChunkType::ALL))
        .snapshot(SnapshotKind::None)
        .after("0");
    let mut stream = client.stream(request);
    dispatch_all(client, files).await?;

    let mut seen = Seen::default();
    let mut acts = JoinSet::new();
    while !seen.has_all_ended() {
        tokio::select! {
            item = stream.next() => match item {
                Some(Ok(Item::Chunk(chunk))) => {
                    let tool = chunk.payload.tool_name.clone().unwrap_or_default();
                    seen.note(&tool, &chunk);
                    screen.show(&chunk)?;
                    react(client, &tool, &chunk, &mut seen, &mut acts, screen)?;
                }
                Some(Ok(Item::Lost { error, .. })) => screen.note(&error.to_string()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::unreachable("the stream ended")),
            },
            Some(act) = acts.join_next() => act.expect("an act does not panic")?,
        }
    }
    Ok(seen)
}

async fn dispatch_all(client: &Client, files: &Files) -> Result<(), Failure> {
    for (number, part) in CAST.iter().enumerate() {
        let directory = files.root.display().to_string();
        let args = Json::from_value(&Where { directory }).expect("it is JSON");
        let task = NewTask::new(part.tool)
            .args(args)
            .agent(part.agent)
            .run(format!("{}-1", part.agent))
            .tool_call(format!("call-{}", number + 1))
            .thread("demo")
            .description(part.description);
        client.dispatch(&task).await?;
    }
    Ok(())
}

type Acts = JoinSet<Result<(), Failure>>;

/// What a person does about it, or an accident.
fn react(
    client: &Client,
    tool: &str,
    chunk: &Chunk,
    seen: &mut Seen,
    acts: &mut Acts,
    screen: &Screen,
) -> Result<(), Failure> {
    let Some(id) = chunk.payload.task_id.clone() else {
        return Ok(());
    };
    let client = client.clone();
    match (tool, chunk.chunk_type) {
        (cast::ASKS, Some(ChunkType::Suspended)) => {
            acts.spawn(approve(client, id, screen.clone()));
        }
        (cast::CANCELLED, Some(ChunkType::Output))
            if seen.count(tool, ChunkType::Output) == SCANS =>
        {
            screen.act(tool, "cancels it")?;
            acts.spawn(async move { Ok(client.cancel(&id).await.map(drop)?) });
        }
        (cast::KILLED, Some(ChunkType::Output)) => {
            seen.pid = seen.pid.or_else(|| pid_of(chunk));
            let is_time = seen.count(tool, ChunkType::Output) == CHECKSUMS + 1;
            if let Some(pid) = seen.pid.filter(|_| is_time) {
                screen.act(tool, &format!("kill -9 {pid}"))?;
                seen.has_killed = kill(pid);
            }
        }
        _ => {}
    }
    Ok(())
}

async fn approve(client: Client, id: TaskId, screen: Screen) -> Result<(), Failure> {
    tokio::time::sleep(PERSON).await;
    screen.act(cast::ASKS, "approves")?;
    let answer = Json::from(json!({"approved": true, "by": "you"}));
    client.resume(&id, &answer).await?;
    Ok(())
}

/// The number that a program tells of its process.
fn pid_of(chunk: &Chunk) -> Option<i32> {
    #[derive(Deserialize)]
    struct Told {
        pid: i32,
    }
    let told = chunk.payload.payload.as_ref()?.parse::<Told>().ok()?;
    Some(told.pid)
}

#[cfg(unix)]
fn kill(pid: i32) -> bool {
    use rustix::process::{Pid, Signal, kill_process};
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}

#[cfg(not(unix))]
fn kill(_: i32) -> bool {
    false
}
