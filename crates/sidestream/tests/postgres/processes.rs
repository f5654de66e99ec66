//! Processes that write and read, started and killed by the test of the log's order: this very program,
//! run anew with a part to play.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use sidestream::core::{Command as Asked, Seq, Task};
use sidestream::store::{LogQuery, PostgresStore, Request, Store};
use tokio::task::JoinSet;

use crate::faults::{Dice, Network, Odds};
use crate::support::{open, through};
use crate::work::{claim, complete, dispatch};

const PART: &str = "SIDESTREAM_TEST_PART";
const PORT: &str = "SIDESTREAM_TEST_PORT";
const URL: &str = "SIDESTREAM_TEST_URL";
const SEED: &str = "SIDESTREAM_TEST_SEED";

/// So many write, and so many read, in each process.
const WRITERS: u64 = 16;
const READERS: u64 = 4;

/// Once in so many times a writer's network fails it.
const ODDS: Odds = Odds {
    stall: 300,
    stall_ms_max: 3_000,
    cut: 400,
    cut_answer: 400,
};

/// A process that plays a part.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    listening: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts one; `url` has the server's port, through which its network leads if it is a writer.
    pub(crate) fn start(part: &str, url: &str, port: u16, seed: u64) -> Self {
        let this = std::env::current_exe().expect("the test has a file");
        let mut child = Command::new(this)
            .args(["processes::process", "--exact", "--nocapture", "--ignored"])
            .env(PART, part)
            .env(URL, url)
            .env(PORT, port.to_string())
            .env(SEED, seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let said = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&said);
        let listening = std::thread::spawn(move || {
            let mut output = output;
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|length| length > 0) {
                // A line without its end was torn when the process was killed.
                if let Some(whole) = line.strip_suffix('\n') {
                    heard.lock().push(whole.to_owned());
                }
                line.clear();
            }
        });
        Self {
            child,
            said,
            listening: Some(listening),
        }
    }

    /// `kill -9`. Returns what it said before.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
        self.heard()
    }

    /// Tells it something.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("it is piped");
        writeln!(input, "{line}").expect("it listens");
    }

    /// Waits until it ends. Returns what it said.
    pub(crate) fn wait(mut self) -> Vec<String> {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("it has ended");
        assert!(status.success(), "a process failed");
        self.heard()
    }

    fn heard(&mut self) -> Vec<String> {
        if let Some(listening) = self.listening.take() {
            listening.join().expect("it listens to the end");
        }
        std::mem::take(&mut self.said.lock())
    }
}

/// Not a test: the processes of the test of the log's order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process for another test to start and to kill"]
async fn process() {
    let variable = |name| std::env::var(name).ok();
    let (Some(part), Some(url)) = (variable(PART), variable(URL)) else {
        return;
    };
    let number = |name| variable(name).and_then(|text| text.parse().ok());
    let seed = number(SEED).expect("it is told");
    match part.as_str() {
        "write" => {
            let port = number(PORT).expect("it is told");
            write(&url, u16::try_from(port).expect("a port"), seed).await;
        }
        "read" => read(&url, seed).await,
        other => panic!("nobody knows how to {other}"),
    }
}

fn say(lines: &str) {
    let mut output = std::io::stdout().lock();
    // Who told us to is gone when it does not listen.
    if output.write_all(lines.as_bytes()).is_err() || output.flush().is_err() {
        std::process::exit(1);
    }
}

/// Writes until it is killed.
async fn write(url: &str, server_port: u16, seed: u64) {
    let network = Network::to(server_port, ODDS, seed).await;
    let url = through(&network, url, server_port);
    // Its network may fail it even now.
    let store = loop {
        match PostgresStore::open(&url, Default::default()).await {
            Ok(store) => break Arc::new(store),
            Err(error) => drop(error),
        }
    };
    let mut writing = JoinSet::new();
    for n in 0..WRITERS {
        writing.spawn(one_writer(Arc::clone(&store), seed * 1_000 + n));
    }
    while let Some(ended) = writing.join_next().await {
        ended.expect("a writer does not end");
    }
}

async fn one_writer(store: Arc<PostgresStore>, seed: u64) {
    let dice = Dice::new(seed);
    let mut held: Vec<Task> = Vec::new();
    for n in 0_u64.. {
        let batch = match dice.below(4) {
            0 | 1 => dispatches(seed, n, &dice),
            _ if held.is_empty() => match claim(&*store, 1 + dice.below(4) as u32).await {
                Ok(tasks) => {
                    held = tasks;
                    continue;
                }
                Err(_) => continue,
            },
            2 => held.iter().map(output).collect(),
            _ => held.drain(..).map(|task| complete(&task)).collect(),
        };
        // An error is its network's doing. What was answered is there for ever.
        if let Ok(committed) = store.commit(batch).await {
            let lines = committed
                .entries
                .iter()
                .map(|entry| format!("at {} {}\n", entry.event.seq, entry.task.id));
            say(&lines.collect::<String>());
        }
    }
}

/// New tasks; now and then a repetition of what another writer may be dispatching at this moment.
fn dispatches(seed: u64, n: u64, dice: &Dice) -> Vec<Request> {
    let args = serde_json::json!({"seed": seed, "n": n});
    let new = (0..1 + dice.below(5)).map(|i| format!("{seed}-{n}-{i}"));
    let shared = dice.falls(3).then(|| format!("shared-{}", n / 8));
    let ids = new.chain(shared);
    ids.map(|id| match id.starts_with("shared") {
        true => dispatch(&id, serde_json::json!({})),
        false => dispatch(&id, args.clone()),
    })
    .collect()
}

fn output(task: &Task) -> Request {
    Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command: Asked::Output {
            attempt: task.attempt,
            report: sidestream::core::ReportNumber::NONE,
            payloads: vec![serde_json::json!({"step": 1}).into()],
        },
    }
}

/// Reads until it is told where the log ends.
async fn read(url: &str, seed: u64) {
    let (end, ended) = tokio::sync::watch::channel(u64::MAX);
    std::thread::spawn(move || {
        let mut line = String::new();
        let told = std::io::stdin().read_line(&mut line);
        if told.is_ok_and(|length| length > 0) {
            let _ = end.send(line.trim().parse().expect("a place"));
        } else {
            std::process::exit(1);
        }
    });
    let store = Arc::new(open(url).await);
    let mut reading = JoinSet::new();
    for n in 0..READERS {
        let (store, ended) = (Arc::clone(&store), ended.clone());
        reading.spawn(one_reader(store, ended, seed * 1_000 + n));
    }
    while let Some(read) = reading.join_next().await {
        say(&read.expect("it reads to the end"));
    }
}

/// Follows the log, and says every place in the order in which it saw them.
async fn one_reader(
    store: Arc<PostgresStore>,
    mut ended: tokio::sync::watch::Receiver<u64>,
    seed: u64,
) -> String {
    let dice = Dice::new(seed);
    let mut bell = store.doorbell();
    let mut seen: Vec<u64> = Vec::new();
    loop {
        let last = seen.last().copied().unwrap_or(0);
        if last >= *ended.borrow() {
            let places: Vec<String> = seen.iter().map(u64::to_string).collect();
            return format!("read {}\n", places.join(" "));
        }
        let query = LogQuery {
            after: Seq(last),
            limit: 1 + dice.below(300) as usize,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        // Its session may have been ended.
        let Ok(page) = store.log(&query).await else {
            continue;
        };
        seen.extend(page.entries.iter().map(|entry| entry.event.seq.0));
        if !page.entries.is_empty() {
            continue;
        }
        let news = bell.wait_for(|head| head.0 > last);
        tokio::select! {
            _ = tokio::time::timeout(Duration::from_millis(200), news) => {}
            _ = ended.changed() => {}
        }
    }
}
