//! How soon a server on a large database serves: from the start of its process until HTTP answers, and until a
//! task that it is asked to run has ended.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use sidestream::{Context, HandlerError, NewTask, SqliteOptions, SqliteStore, Tool};
use sidestream_client::Client;
use sidestream_server::{Server, ServerConfig};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::found::{Found, ready};
use crate::load::{self, Load};

const TIMES: usize = 7;

/// A million tasks have ten million events.
pub(crate) fn load(tasks: usize) -> Load {
    Load {
        tasks,
        outputs: 7,
        ends: true,
    }
}

/// Works on a copy; `big` is a folder that keeps the database for the next run.
pub(crate) async fn run(big: &Path, dir: &Path, tasks: usize) -> anyhow::Result<Found> {
    let dir = dir.join("store");
    load::copy(big, load(tasks), &dir).await?;
    ready();
    let (mut answers_ms, mut runs_ms) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let (answers, runs) = start(&dir).await?;
        answers_ms.push(answers);
        runs_ms.push(runs);
    }
    let verified = format!("{TIMES} servers on {tasks} tasks each ran a task to its end");
    Ok(Found::verified(verified)
        .latencies("answers_", answers_ms)
        .latencies("", runs_ms))
}

async fn start(dir: &Path) -> anyhow::Result<(f64, f64)> {
    let begun = Instant::now();
    let ms = || begun.elapsed().as_secs_f64() * 1_000.0;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("it is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let address = lines.next_line().await?;
    let address = address.context("the server ended early, and said why on stderr")?;
    let client = Client::new(format!("http://{address}"))?;
    client.list(&Default::default()).await?;
    let answers = ms();
    let dispatched = client.dispatch(&NewTask::new("noop")).await?;
    let id = dispatched.id().context("it became a task")?;
    let task = client.wait(id).await?;
    anyhow::ensure!(task.status == sidestream::Status::Completed, "{task:?}");
    let runs = ms();
    // It ends when its stdin does.
    drop(child.stdin.take());
    child.wait().await?;
    Ok((answers, runs))
}

/// The server: says its address, and serves until stdin ends.
pub(crate) async fn serve(dir: &Path) -> anyhow::Result<()> {
    let config = ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..ServerConfig::default()
    };
    let store = std::sync::Arc::new(SqliteStore::open(dir, SqliteOptions::default())?);
    let reserved = Server::reserve(config, store.clone()).await?;
    let noop = Tool::new("noop", |_: Context, (): ()| async move {
        Ok::<_, HandlerError>(())
    });
    let manager = sidestream::TaskManager::builder_on(store).tool(noop);
    let manager = manager.config(crate::site::keeping_all()).start().await?;
    let server = reserved.with(Some(manager.clone()));
    println!("{}", server.local_addr());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let until_stdin_ends = async move {
        let mut line = String::new();
        let mut stdin = BufReader::new(tokio::io::stdin());
        while stdin
            .read_line(&mut line)
            .await
            .is_ok_and(|length| length > 0)
        {}
        stop.cancel();
    };
    tokio::join!(server.run(shutdown), until_stdin_ends);
    manager.shutdown().await;
    Ok(())
}
