//! `kill -9` of a process under load: what was answered is there, and log and rows agree.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sidestream::core::TaskId;
use sidestream::store::{SqliteStore, Store};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{audit, claim, complete, dispatch_some, open};

const DIRECTORY: &str = "SIDESTREAM_TEST_CRASH_DIRECTORY";
const ROUNDS: u64 = 10;

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let directory = TempDir::new().expect("a directory");
    let mut answered = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = start_child(directory.path(), round);
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        // Killed after some lines, or some milliseconds later: at another moment each time.
        let lines = 3 + usize::try_from(round * 37 % 50).expect("a small number");
        let mut output = output.lines().map_while(Result::ok);
        let said = output.by_ref().filter(|line| line.starts_with("task "));
        answered.extend(
            said.take(lines)
                .map(|line| line["task ".len()..].to_owned()),
        );
        tokio::time::sleep(Duration::from_millis(round * 7 % 23)).await;
        child.kill().expect("it is killed");
        let rest = output.filter_map(|line| Some(line.strip_prefix("task ")?.to_owned()));
        // The last line may be torn.
        let mut rest: Vec<String> = rest.collect();
        rest.pop();
        answered.extend(rest);
        child.wait().expect("it has ended");

        let store = open(directory.path()).expect("it opens");
        let rows = audit(&store).await;
        for id in &answered {
            let id = TaskId::new(id.as_str()).expect("a plain id");
            assert!(rows.contains_key(&id), "{id} was answered and is lost");
        }
    }
    assert!(answered.len() > 100, "only {} tasks", answered.len());
}

fn start_child(directory: &Path, round: u64) -> Child {
    let this = std::env::current_exe().expect("the test has a file");
    Command::new(this)
        .args(["crash::child", "--exact", "--nocapture", "--ignored"])
        .env(DIRECTORY, directory)
        .env("SIDESTREAM_TEST_CRASH_ROUND", round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

/// Not a test: what the test above starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process for another test to kill"]
async fn child() {
    let (Ok(directory), Ok(round)) = (
        std::env::var(DIRECTORY),
        std::env::var("SIDESTREAM_TEST_CRASH_ROUND"),
    ) else {
        return;
    };
    let store = Arc::new(open(Path::new(&directory)).expect("it opens"));
    let mut working = JoinSet::new();
    working.spawn(work(Arc::clone(&store)));
    for n in 0..100_000 {
        let ids: Vec<String> = (0..3).map(|i| format!("r{round}-{n}-{i}")).collect();
        dispatch_some(&*store, ids.clone()).await;
        let mut output = std::io::stdout().lock();
        for id in ids {
            writeln!(output, "task {id}").expect("somebody listens");
        }
        output.flush().expect("somebody listens");
    }
}

async fn work(store: Arc<SqliteStore>) {
    loop {
        let tasks = claim(&*store, 5).await.expect("it is claimed");
        let batch = tasks.iter().map(complete).collect();
        store.commit(batch).await.expect("it is committed");
    }
}
