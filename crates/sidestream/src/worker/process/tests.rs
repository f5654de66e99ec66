//! The promises of the runner, each with real processes.
//!
//! That a process is gone is seen from a named pipe that it and its children hold open: the last of
//! them to end closes it. Where a wait has a bound, the bound only makes a failure end.

mod exit;
mod input;
mod output;
mod stop;
mod survivors;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};

use super::*;

/// No step here takes that long, unless it never ends.
const BOUND: Duration = Duration::from_secs(20);

async fn within_bound<T>(waiting: impl Future<Output = T>) -> T {
    timeout(BOUND, waiting).await.expect("it hangs")
}

/// A sink that keeps what it gets and tells when it got something.
#[derive(Default)]
struct Kept {
    outputs: Mutex<Vec<Json>>,
    arrived: Notify,
}

impl Sink for Kept {
    async fn output(&self, output: Json) -> Result<(), Closed> {
        self.outputs.lock().push(output);
        self.arrived.notify_one();
        Ok(())
    }
}

impl Kept {
    fn texts(&self) -> Vec<String> {
        self.outputs.lock().iter().map(Json::to_string).collect()
    }
}

fn shell(script: &str) -> Program {
    Program::new("/bin/sh", ["-c", script])
}

fn python(script: &str) -> Program {
    Program::new("python3", ["-c", script])
}

#[expect(
    clippy::disallowed_methods,
    reason = "marks real processes, which no seed replays"
)]
fn invocation(args: &str) -> Invocation {
    Invocation {
        installation: format!("test-{}", uuid::Uuid::new_v4()),
        task_id: "task-1".into(),
        attempt: 1,
        args: Json::from_text(args).expect("the test's arguments are JSON"),
        resume_data: None,
    }
}

/// Runs to the end, and gives the result and the outputs.
async fn ended(program: &Program, args: &str) -> (Result<Option<Json>, Failure>, Vec<String>) {
    let kept = Kept::default();
    let never = CancellationToken::new();
    let result = within_bound(run(program, &invocation(args), &kept, &never)).await;
    (result, kept.texts())
}

/// The text of a result that must be there.
async fn result_of(program: &Program, args: &str) -> String {
    let (result, _) = ended(program, args).await;
    result
        .expect("it succeeds")
        .expect("it has a result")
        .to_string()
}

async fn failure_of(program: &Program, args: &str) -> Failure {
    ended(program, args).await.0.expect_err("it fails")
}

/// For programs in Python. `outside` starts a process in a session of its own; it has left before
/// the call returns, and holds no output unless the options say so. `on_term` handles SIGTERM, here
/// and not in a shell: one that has just forked can lose a signal.
const PRELUDE: &str = "
import os, signal, subprocess, sys
def outside(*command, stdout=subprocess.DEVNULL, **options):
    return subprocess.Popen(command, start_new_session=True, pass_fds=[3], stdout=stdout,
                            stderr=subprocess.DEVNULL, **options)
def on_term(*actions):
    signal.signal(signal.SIGTERM, lambda *_: [action() for action in actions])
def tell(text):
    os.write(3, text.encode() + b'\\n')
def up_and_wait():
    print('up', flush=True)
    while True: signal.pause()
";

/// A named pipe that tells what the processes that hold it wrote, and when the last one is gone.
/// Good for one run: after that nobody reads it, and who opens it waits for ever.
struct Witness {
    lines: mpsc::UnboundedReceiver<String>,
    path: PathBuf,
    _directory: TempDir,
}

impl Witness {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("witness");
        named_pipe(&path);
        Self {
            lines: read_lines(&path),
            path,
            _directory: directory,
        }
    }

    /// A program that finds the pipe open for writing at descriptor 3.
    fn shell(&self, script: &str) -> Program {
        shell(&format!("exec 3>'{}'; {script}", self.path.display()))
    }

    /// The same in Python, after [`PRELUDE`].
    fn python(&self, script: &str) -> Program {
        let start = format!("exec 3>'{}'; exec python3 -c \"$0\"", self.path.display());
        Program::new(
            "/bin/sh",
            ["-c".into(), start, format!("{PRELUDE}\n{script}")],
        )
    }

    async fn line(&mut self) -> String {
        within_bound(self.lines.recv())
            .await
            .expect("a line, not the end")
    }

    /// Waits until nobody holds the pipe; gives the lines that came until then.
    async fn end(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = within_bound(self.lines.recv()).await {
            lines.push(line);
        }
        lines
    }
}

/// Makes a named pipe that nothing has opened.
fn named_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.expect("mkfifo runs").success());
}

/// Writes into a named pipe, on a thread of its own: opening waits for a reader, perhaps for ever.
fn answer(path: &Path, text: &'static str) {
    let path = path.to_owned();
    std::thread::spawn(move || std::fs::write(path, text));
}

fn output_of(name: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(name).args(args).output();
    String::from_utf8(output.expect("it runs").stdout).expect("UTF-8")
}

/// The letter that `ps` shows for a process; `Z` for one that is dead but not yet collected.
fn state(id: &str) -> Option<char> {
    output_of("ps", &["-o", "stat=", "-p", id]).chars().next()
}

/// Kills a process if it is there. Tells whether it was.
fn was_alive(id: &str) -> bool {
    let state = state(id);
    output_of("kill", &["-KILL", id]);
    state.is_some_and(|state| state != 'Z')
}

/// On a thread: opening waits for the first writer, which a failing test may never start.
fn read_lines(path: &Path) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        let file = std::fs::File::open(path).expect("the pipe opens");
        for line in BufReader::new(file).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    receiver
}
