//! One run of a server, from its start to its end: PostgreSQL, or a proxy before it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::account::Account;

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It ends its sessions, and leaves everything in order.
    Fast,
    /// It drops everything where it is, as in a crash: what was committed is recovered at the next start.
    Immediate,
}

/// Keeps the server for as long as the test's end of the pipe is open. If that ends without a word, the
/// test was killed, and nobody else will clean up. Only the server itself may hold the pipe of its
/// messages, so that its end is seen.
const KEEPER: &str = r#"
folder=$1
abrupt=$2
shift 2
"$@" &
server=$!
exec 2>/dev/null
read -r how
kill -"${how:-$abrupt}" "$server"
wait "$server"
[ -n "$how" ] || rm -rf "$folder"
"#;

/// What is known of a program that serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// In a line by which it says that it takes connections.
    pub(crate) ready: &'static str,
    /// The signal that ends it at once, with all that it started.
    pub(crate) abrupt: &'static str,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    keeper: Child,
    log: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it in a folder of its own, and waits until it says that it is ready.
    pub(crate) fn start(
        account: &Account,
        path: &Path,
        args: &[String],
        folder: &Path,
        program: Program,
    ) -> Self {
        let keeper = account.command(Path::new("/bin/sh"));
        // In a session of its own: what is sent to the test's process group is not for the keeper.
        let mut command = Command::new("setsid");
        command.arg(keeper.get_program()).args(keeper.get_args());
        let mut keeper = command
            .args(["-c", KEEPER, "keeper"])
            .arg(folder)
            .arg(program.abrupt)
            .arg(path)
            .args(args)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setsid and sh run");
        let messages = keeper.stderr.take().expect("it is piped");
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("the log is writable");
        let (ready, is_ready) = mpsc::channel();
        let log = std::thread::spawn(move || {
            let mut said = String::new();
            for line in BufReader::new(messages).lines().map_while(Result::ok) {
                let _ = writeln!(log, "{line}");
                if line.contains(program.ready) {
                    let _ = ready.send(Ok(()));
                }
                said = line;
            }
            let _ = ready.send(Err(said));
        });
        let server = Self {
            program,
            keeper,
            log: Some(log),
        };
        if let Err(said) = is_ready.recv().expect("the server says how it started") {
            panic!("{} did not start: {said}", path.display());
        }
        server
    }

    pub(crate) fn stop(mut self, how: Stop) {
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => self.program.abrupt,
        };
        let mut pipe = self.keeper.stdin.take().expect("it is piped");
        // A keeper that is gone already cannot be told.
        let _ = writeln!(pipe, "{signal}");
        drop(pipe);
        let _ = self.keeper.wait();
        if let Some(log) = self.log.take() {
            let _ = log.join();
        }
    }
}
