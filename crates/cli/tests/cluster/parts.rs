//! The processes: servers, each with a worker of its own, and workers elsewhere. Each is a process that can be
//! killed: this very program, run anew with a part to play, or Python.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sidestream::core::RetryPolicy;
use sidestream::core::task::TaskDefaults;
use sidestream::{
    Config, Context, HandlerError, PostgresOptions, PostgresStore, Store, TaskManager, Tool,
};
use sidestream_client::worker::Worker;
use sidestream_server::{Server, ServerConfig, ServerLimits};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::client;

/// So many workers in each of the processes that are workers in Rust.
pub(crate) const WORKERS: usize = 3;
/// No agent, and not this tool, may have more tasks running at once.
pub(crate) const PER_AGENT: u32 = 6;
pub(crate) const ASK_LIMIT: u32 = 4;
const LEASE: Duration = Duration::from_millis(1_500);

const PART: &str = "SIDESTREAM_TEST_PART";
const PLACE: &str = "SIDESTREAM_TEST_PLACE";
const LISTEN: &str = "SIDESTREAM_TEST_LISTEN";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Server,
    Worker,
    /// `examples/worker.py` with our tools.
    Python,
}

/// A process, until this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: String,
}

impl Process {
    /// Starts one, and waits until it says that it is there. `place` is the database of a server, and the
    /// server of a worker; `base` is where a server listened before.
    pub(crate) fn start(part: Part, place: &str, base: Option<&str>) -> Self {
        let command = match part {
            Part::Server | Part::Worker => again(part, place, base),
            Part::Python => python(place),
        };
        let mut child = { command }
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("a {part:?} does not start: {error}"));
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let said = lines.find_map(|line| Some(line.split_once("ready: ")?.1.to_owned()));
        // Nobody reads what else it says.
        std::thread::spawn(move || lines.for_each(drop));
        let said = said.expect("it says that it is ready");
        Self { child, said }
    }

    /// Where a server listens.
    pub(crate) fn base(&self) -> String {
        self.said.clone()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// This program, with a part to play.
fn again(part: Part, place: &str, base: Option<&str>) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test has a file"));
    let listen = base.and_then(|base| base.strip_prefix("http://"));
    command
        .args(["--exact", "--nocapture"])
        .arg("nothing_is_lost_and_nothing_told_twice_whatever_dies")
        .env(PART, format!("{part:?}"))
        .env(PLACE, place)
        .env(LISTEN, listen.unwrap_or("127.0.0.1:0"));
    command
}

fn python(server: &str) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command
        .arg(here.join("tests/cluster/worker.py"))
        .arg(here.join("../../examples"))
        .arg(LEASE.as_secs_f64().to_string())
        .env("SIDESTREAM_URL", server);
    command
}

/// Plays the part that the environment names, for ever; `false` if it names none.
pub(crate) async fn play() -> bool {
    let (Ok(part), Ok(place)) = (std::env::var(PART), std::env::var(PLACE)) else {
        return false;
    };
    match part.as_str() {
        "Server" => serve(&place).await,
        _ => work(&place).await,
    }
    true
}

fn ready(text: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "ready: {text}").expect("somebody listens");
    output.flush().expect("somebody listens");
}

/// What a task of the tool `work` is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) outputs: u32,
    pub(crate) pause_ms: u64,
    /// The attempts up to this one fail.
    pub(crate) failures: u32,
}

fn tools() -> [Tool; 2] {
    let work = Tool::new("work", |context: Context, work: Work| async move {
        for n in 0..work.outputs {
            context.output(&n).await?;
            sleep(Duration::from_millis(work.pause_ms)).await;
        }
        match context.attempt().0 <= work.failures {
            true => Err(HandlerError::retryable("not yet")),
            false => Ok(work.outputs),
        }
    });
    let ask = Tool::new("ask", |context: Context, (): ()| async move {
        match context.resume_data::<u32>()? {
            None => Err(context.suspend("which?")),
            Some(answer) => Ok(answer),
        }
    });
    [work, ask.concurrency(ASK_LIMIT)]
}

async fn serve(database: &str) {
    let options = PostgresOptions {
        connections_max: 8,
        ..PostgresOptions::default()
    };
    let store: Arc<dyn Store> = loop {
        // The database may be starting, too.
        match PostgresStore::open(database, options.clone()).await {
            Ok(store) => break Arc::new(store),
            Err(error) => {
                eprintln!("{error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    let retry = RetryPolicy {
        delay_ms: 50,
        ..RetryPolicy::default()
    };
    let config = Config {
        concurrency: 5,
        concurrency_per_agent: Some(PER_AGENT),
        lease_ms: LEASE.as_millis() as u64,
        defaults: TaskDefaults {
            retry,
            ..TaskDefaults::default()
        },
        ..Config::default()
    };
    let manager = TaskManager::builder_on(Arc::clone(&store));
    let manager = manager.tools(tools()).config(config).start().await.unwrap();
    let config = ServerConfig {
        listen: std::env::var(LISTEN).unwrap().parse().unwrap(),
        limits: ServerLimits {
            keep_alive: Duration::from_millis(300),
            ..ServerLimits::default()
        },
        ..ServerConfig::default()
    };
    let server = loop {
        // Of whoever was killed a moment ago the address may still be taken.
        match Server::bind(config.clone(), Some(manager.clone()), Arc::clone(&store)).await {
            Ok(server) => break server,
            Err(error) => {
                eprintln!("{error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    };
    ready(&format!("http://{}", server.local_addr()));
    server.run(CancellationToken::new()).await;
}

async fn work(base: &str) {
    let mut workers = JoinSet::new();
    ready("starts");
    for n in 0..WORKERS {
        let worker = Worker::builder(client(base))
            .name(format!("remote-{n}"))
            .tools(tools())
            .concurrency(4)
            .lease(LEASE);
        workers.spawn(async move {
            let worker = worker.start().await.unwrap();
            worker.refused().await
        });
    }
    let refused = workers.join_next().await;
    panic!("a worker was refused: {refused:?}");
}
