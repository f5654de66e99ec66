//! `sidestream demo`: real work of three agents, dispatched, watched, broken and mended, over the real
//! path: a server on a free port, a client, a stream.
//!
//! [`cast`] is who does what, and how each task should end. [`tools`] is the work itself, [`files`] what
//! is worked on. [`play`] dispatches, watches, and does what a person would: approves, cancels, kills.
//! [`screen`] shows it. At the end everything is shut down and opened again, and what is stored is
//! compared with what was seen.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sidestream::core::wire::TaskRecord;
use sidestream::{Config, Filter, Namespace, Seq, SqliteOptions, SqliteStore, Store, TaskManager};
use sidestream_client::Client;
use sidestream_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::DemoArgs;
use crate::commands::serve::url_of;
use crate::console::{Console, Style, table};
use crate::exit::{Exit, Failure};
use crate::place::Local;
use crate::show;
use crate::signals::told_to_stop;

mod cast;
mod files;
mod play;
mod screen;
mod tools;

use cast::{CAST, Part};
use files::Files;
use play::Seen;
use screen::Screen;

/// However slow the machine is, the demo ends.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn demo(args: DemoArgs, console: Console) -> Result<Exit, Failure> {
    let data = tempfile::tempdir().map_err(|error| {
        Failure::unreachable(format!("no temporary directory can be made: {error}"))
    })?;
    let files = Files::find(args.directory, data.path())?;
    let directory = data.path().join("data");
    let screen = Screen::new(console);

    let stage = Stage::set_up(directory.clone(), &files).await?;
    screen.title(&format!(
        "Three agents work on {} files of {}. Database: {}. Server: {}.",
        files.paths.len(),
        files.root.display(),
        directory.display(),
        stage.client.base(),
    ))?;
    let played = tokio::select! {
        played = tokio::time::timeout(DEADLINE, play::play(&stage.client, &files, &screen)) => played,
        _ = told_to_stop() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let seen = played.map_err(|_| {
        Failure::new(
            Exit::TaskNotCompleted,
            format!("not all tasks ended within {DEADLINE:?}"),
        )
    })??;
    let took = screen.elapsed();
    stage.shut_down().await;

    let stored = Stored::read(directory).await?;
    stored.show(&screen)?;
    let faults = stored.compare(&seen);
    for fault in &faults {
        console.failure(&Failure::new(Exit::TaskNotCompleted, fault));
    }
    if !faults.is_empty() {
        return Ok(Exit::TaskNotCompleted);
    }
    screen.end(&format!(
        "All {} tasks ended as they should have, in {:.1} s; the stream showed each of the log's {} events \
         once.",
        CAST.len(),
        took.as_secs_f64(),
        seen.chunks.len(),
    ))?;
    Ok(Exit::Done)
}

/// Everything that runs: the manager on its database, the server, and a client of it.
struct Stage {
    client: Client,
    manager: TaskManager,
    stop_server: CancellationToken,
    serving: JoinSet<()>,
}

impl Stage {
    async fn set_up(directory: PathBuf, files: &Files) -> Result<Self, Failure> {
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&directory, SqliteOptions::default())?);
        let config = Config {
            grace: Duration::from_secs(1),
            ..Config::default()
        };
        let manager = TaskManager::builder_on(Arc::clone(&store))
            .config(config)
            .tools(tools::all(files))
            .start()
            .await?;
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..ServerConfig::default()
        };
        let server = Server::bind(config, Some(manager.clone()), store).await;
        let server = server.map_err(|error| Failure::unreachable(error.to_string()))?;
        let client = Client::new(url_of(server.local_addr()))?;
        let stop_server = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(server.run(stop_server.clone()));
        Ok(Self {
            client,
            manager,
            stop_server,
            serving,
        })
    }

    async fn shut_down(mut self) {
        self.stop_server.cancel();
        while self.serving.join_next().await.is_some() {}
        self.manager.shutdown().await;
    }
}

/// What is in the database, after it was closed and opened again.
struct Stored {
    local: Local,
    tasks: Vec<TaskRecord>,
    /// Every chunk of the log, in order.
    chunks: Vec<Arc<str>>,
    /// The replayed task's outputs.
    replayed: Vec<String>,
}

impl Stored {
    async fn read(directory: PathBuf) -> Result<Self, Failure> {
        let local = Local {
            store: Arc::new(SqliteStore::open(&directory, SqliteOptions::default())?),
            namespace: Namespace::default(),
            name: directory.display().to_string(),
        };
        let request = sidestream_client::ListRequest::default();
        let tasks = local.list(&request).await?.tasks;
        let mut chunks = Vec::new();
        let keep = |chunk: &sidestream_client::Chunk| {
            chunks.push(Arc::clone(chunk.json()));
            Ok(())
        };
        local.replay(Seq(0), |_| true, None, keep).await?;

        let mut replayed = Vec::new();
        let task = tasks.iter().find(|task| *task.tool_name == *cast::REPLAYED);
        let filter = Filter::default().types([sidestream::ChunkType::Output]);
        let keep = |chunk: &sidestream_client::Chunk| {
            let output = chunk.payload.payload.as_ref().map(show::output);
            replayed.extend(output.map(|output| output.text.into_owned()));
            Ok(())
        };
        let is_output = |chunk: &sidestream::Chunk| filter.matches_type(chunk.chunk_type);
        local
            .replay(Seq(0), is_output, task.map(|task| &task.id), keep)
            .await?;
        Ok(Self {
            local,
            tasks,
            chunks,
            replayed,
        })
    }

    fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let heading = format!(
            "Shut down, and opened {} again. Stored are {} tasks:",
            self.local.name,
            self.tasks.len()
        );
        screen.heading(&heading)?;
        for line in self.table(screen.console()) {
            screen.plain(&line)?;
        }
        let heading = format!(
            "All the output of `{}`, replayed from the log ({} outputs):",
            cast::REPLAYED,
            self.replayed.len()
        );
        screen.heading(&heading)?;
        let bar = screen.console().paint(Style::Dim, "│");
        for line in &self.replayed {
            screen.plain(&format!("{bar} {}", crate::console::plain(line)))?;
        }
        Ok(())
    }

    fn table(&self, console: Console) -> Vec<String> {
        let row = |task: &TaskRecord| {
            let attempts = task.attempt.to_string();
            vec![
                task.agent_id.as_deref().unwrap_or_default().to_owned(),
                task.tool_name.to_string(),
                console.paint(show::style_of(task.status), task.status.as_str()),
                attempts,
                show::took(task).unwrap_or_default(),
                show::outcome(task),
            ]
        };
        let rows: Vec<_> = self.tasks.iter().map(row).collect();
        table(
            &["AGENT", "TOOL", "STATUS", "ATTEMPTS", "TOOK", "OUTCOME"],
            &rows,
        )
    }

    /// What is not as it should be.
    fn compare(&self, seen: &Seen) -> Vec<String> {
        let mut faults: Vec<String> = CAST.iter().filter_map(|part| self.fault_of(part)).collect();
        if self.tasks.len() != CAST.len() {
            faults.push(format!(
                "{} tasks are stored, not {}",
                self.tasks.len(),
                CAST.len()
            ));
        }
        if seen.chunks != self.chunks {
            let (seen, stored) = (seen.chunks.len(), self.chunks.len());
            faults.push(format!(
                "the stream showed {seen} events, which are not the {stored} of the log in their order"
            ));
        }
        if self.replayed.is_empty() {
            faults.push(format!("no output of `{}` is in the log", cast::REPLAYED));
        }
        faults.extend(seen.faults());
        faults
    }

    fn fault_of(&self, part: &Part) -> Option<String> {
        let tool = part.tool;
        let Some(task) = self.tasks.iter().find(|task| *task.tool_name == *tool) else {
            return Some(format!("`{tool}` is not stored"));
        };
        let (status, attempt) = (task.status, task.attempt.0);
        let outcome = show::outcome(task);
        let is_right = status == part.status
            && attempt == part.attempts
            && outcome.contains(part.outcome_contains);
        (!is_right).then(|| {
            format!(
                "`{tool}` is {status} at attempt {attempt} ({outcome}), and should be {} at attempt {}",
                part.status, part.attempts
            )
        })
    }
}
