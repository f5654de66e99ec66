//! `kill -9` at any moment loses nothing that was acknowledged (R2), and a watcher that resumes by its
//! cursor sees every event once (S2).
//!
//! A process of this test's own binary is the server. It is killed again and again while clients
//! dispatch to it and one watches everything; each time another is started on the same directory.
#![expect(clippy::print_stdout, reason = "a test that fails must show its seed")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sidestream::chance::{Chance, SeededChance};
use sidestream::{
    ChunkType, Config, Context, Filter, HandlerError, NewTask, SqliteOptions, SqliteStore, Status,
    TaskId, TaskManager, Tool,
};
use sidestream_client::{Backoff, Client, Item, StreamRequest};
use sidestream_server::{Server, ServerConfig};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Names the data directory to the process that is to be the server.
const DIRECTORY: &str = "SIDESTREAM_TEST_DIRECTORY";
/// Names its port.
const PORT: &str = "SIDESTREAM_TEST_PORT";
/// How often the server is killed.
const ROUNDS: u64 = 50;
/// A bound for what must come sooner or later: only a failure takes so long.
const AT_MOST: Duration = Duration::from_secs(120);

/// Not a test: the server that is killed. Does nothing unless the test below started it.
#[test]
fn server_process() {
    let (Ok(directory), Ok(port)) = (std::env::var(DIRECTORY), std::env::var(PORT)) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(Path::new(&directory), port.parse().expect("a port")));
}

async fn serve(directory: &Path, port: u16) {
    let store = SqliteStore::open(directory, SqliteOptions::default()).expect("opens");
    let steps = Tool::new("steps", |context: Context, steps: u32| async move {
        for step in 0..steps {
            context.output(&step).await?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, HandlerError>(steps)
    });
    let flaky = Tool::new("flaky", |context: Context, _: u32| async move {
        match context.attempt().0 % 2 {
            1 => Err(HandlerError::retryable("odd")),
            _ => Ok(()),
        }
    });
    let config = Config {
        concurrency: 50,
        concurrency_per_agent: None,
        ..Config::default()
    };
    let builder = TaskManager::builder(store).tool(steps).tool(flaky);
    let manager = builder.config(config).start().await.expect("starts");
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], port).into(),
        ..ServerConfig::default()
    };
    let store = Arc::clone(manager.store());
    let server = Server::bind(config, Some(manager), store)
        .await
        .expect("binds");
    server.run(CancellationToken::new()).await;
}

/// A server that dies with its handle.
struct Process(Child);

impl Process {
    fn start(directory: &Path, port: u16) -> Self {
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["server_process", "--exact", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(PORT, port.to_string())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("this binary can be started"))
    }
}

impl Drop for Process {
    /// SIGKILL: the process hears nothing of it.
    fn drop(&mut self) {
        self.0.kill().expect("can be killed");
        self.0.wait().expect("can be waited for");
    }
}

/// What the clients were told, and what the watcher saw.
#[derive(Default)]
struct Books {
    acknowledged: Mutex<BTreeSet<TaskId>>,
    ended: watch::Sender<BTreeMap<TaskId, Vec<ChunkType>>>,
}

/// Dispatches until told to stop. What was not acknowledged is dispatched again, under the same key.
async fn dispatch(client: Client, books: Arc<Books>, name: usize, stop: CancellationToken) {
    for n in 0.. {
        let tool = if n % 3 == 0 { "flaky" } else { "steps" };
        let task = NewTask::new(tool)
            .args(serde_json::json!(n % 7))
            .agent(format!("agent-{name}"))
            .max_retries(100u32)
            .idempotency_key(format!("{name}-{n}"));
        loop {
            if stop.is_cancelled() {
                return;
            }
            if let Ok(dispatched) = client.dispatch(&task).await {
                let id = dispatched.id().expect("queued").clone();
                books.acknowledged.lock().await.insert(id);
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Watches everything from the beginning, over every crash: each place of the log once, in order.
async fn watch_all(client: Client, books: Arc<Books>) {
    let everything = StreamRequest::watch(Filter::default())
        .types(ChunkType::ALL)
        .after("0");
    let mut stream = client.stream(everything);
    let mut last = 0;
    while let Some(item) = stream.next().await {
        let Item::Chunk(chunk) = item.expect("the stream connects again by itself") else {
            continue;
        };
        let seq = chunk
            .payload
            .seq
            .expect("an event of the log: never a reset");
        assert_eq!(seq, last + 1, "the place after {last}: {}", chunk.json());
        last = seq;
        if chunk.is_terminal() {
            let id = chunk.payload.task_id.clone().expect("of a task");
            let chunk_type = chunk.chunk_type.expect("known");
            books
                .ended
                .send_modify(|ended| ended.entry(id).or_default().push(chunk_type));
        }
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("has an address").port()
}

fn client(port: u16) -> Client {
    let backoff = Backoff {
        first: Duration::from_millis(20),
        max: Duration::from_millis(200),
    };
    let builder = Client::builder(format!("http://127.0.0.1:{port}"));
    builder.backoff(backoff).build().expect("a client")
}

async fn until_healthy(client: &Client) {
    while !client.is_healthy().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_nothing_and_tell_nothing_twice() {
    let seed = std::env::var("SIDESTREAM_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| sidestream::chance::SystemChance.next());
    println!("SIDESTREAM_SEED={seed}");
    let chance = SeededChance::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let (port, books) = (free_port(), Arc::new(Books::default()));
    let client = client(port);

    let stop = CancellationToken::new();
    let mut dispatchers = JoinSet::new();
    for name in 0..4 {
        dispatchers.spawn(dispatch(
            client.clone(),
            Arc::clone(&books),
            name,
            stop.clone(),
        ));
    }
    let mut watching = JoinSet::new();
    watching.spawn(watch_all(client.clone(), Arc::clone(&books)));

    for round in 0..ROUNDS {
        let server = Process::start(directory.path(), port);
        let healthy = tokio::time::timeout(AT_MOST, until_healthy(&client)).await;
        healthy.unwrap_or_else(|_| panic!("round {round}: the server did not come back"));
        tokio::time::sleep(Duration::from_millis(chance.next() % 250)).await;
        drop(server);
    }
    let server = Process::start(directory.path(), port);
    stop.cancel();
    dispatchers.join_all().await;

    let acknowledged = books.acknowledged.lock().await.clone();
    println!(
        "{} tasks acknowledged over {ROUNDS} kills",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 100, "hardly any load");
    let mut ended = books.ended.subscribe();
    let all = ended.wait_for(|ended| acknowledged.iter().all(|id| ended.contains_key(id)));
    tokio::select! {
        all = tokio::time::timeout(AT_MOST, all) => drop(all.expect("every acknowledged task ends")),
        watched = watching.join_next() => panic!("the watcher ended: {watched:?}"),
    }
    for (id, ends) in ended.borrow().iter() {
        assert_eq!(ends.len(), 1, "task {id} ended as {ends:?}");
    }
    for id in &acknowledged {
        let task = client.get(id).await.expect("answers").expect("is there");
        assert_eq!(task.status, Status::Completed, "{task:?}");
    }
    drop(server);
}
