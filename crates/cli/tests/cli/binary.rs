//! The binary, run in an environment and a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tempfile::TempDir;

/// However loaded the machine is, this is long enough for anything that is waited for here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a data directory in it, and perhaps a configuration.
pub(crate) struct Home(TempDir);

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with_config(toml: &str) -> Self {
        let home = Self::new();
        std::fs::write(home.path().join("sidestream.toml"), toml).unwrap();
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The binary with these arguments; nothing of the developer's own settings reaches it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestream"));
        let ours = std::env::vars_os().filter(|(name, _)| {
            name.to_str()
                .is_some_and(|name| name.starts_with("SIDESTREAM_"))
        });
        for (name, _) in ours {
            command.env_remove(name);
        }
        command
            .args(args)
            .current_dir(self.path())
            .env("HOME", self.path())
            .env_remove("XDG_DATA_HOME")
            .env("SIDESTREAM_DATA", self.data())
            .env("SIDESTREAM_LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        ended(&mut self.command(args))
    }

    /// Runs it, and says what it did if the exit code is another than expected.
    pub(crate) fn run_to(&self, code: i32, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, code, "sidestream {args:?}: {ended:?}");
        ended
    }

    /// Starts a server and waits until it is found.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        let args = [&["serve"], args].concat();
        let child = self.command(&args).stderr(Stdio::piped()).spawn().unwrap();
        let url = String::new();
        let mut server = Server { child, url };
        let stderr = BufReader::new(server.child.stderr.take().unwrap());
        let lines = Lines::of(stderr);
        let said = lines.until("sidestream serves");
        let said = said.expect("the server did not start");
        let (_, url) = said.rsplit_once(' ').expect("its address comes last");
        url.clone_into(&mut server.url);
        server
    }
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    pub(crate) fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// The id that is all of the standard output.
    pub(crate) fn id(&self) -> &str {
        let id = self.stdout.trim_end();
        assert_eq!(id.len(), 36, "{self:?}");
        id
    }

    pub(crate) fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        self.stdout.lines().map(read).collect()
    }
}

/// A server, killed when the test is over.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl Server {
    /// Tells it to stop, and waits for its exit code.
    pub(crate) fn stop(mut self) -> i32 {
        signal(&self.child, rustix::process::Signal::TERM);
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Ends it without ceremony.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// A running binary whose lines are read as they come.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
        let err = BufReader::new(child.stderr.take().unwrap());
        Self {
            child,
            out: Lines::of(out),
            err: Lines::of(err),
        }
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines, read by a thread of their own, so that waiting for one has an end.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(reader: impl BufRead + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                // Whoever stopped listening does not keep us from emptying the pipe.
                let _ = sender.send(line);
            }
        });
        Self(lines)
    }

    /// The next line that contains a text; `None` when there is none before the patience is over.
    pub(crate) fn until(&self, text: &str) -> Option<String> {
        loop {
            let line = self.0.recv_timeout(PATIENCE).ok()?;
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// All that comes until the end.
    pub(crate) fn rest(&self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.0.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        lines
    }
}
