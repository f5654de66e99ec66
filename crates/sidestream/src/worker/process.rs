//! Runs one attempt of a command tool: a program, its arguments, its output, its end.
//!
//! What is promised, and where it is kept:
//!
//! - The arguments go in as JSON on stdin and, if asked, as flags, without a shell (`command`,
//!   `template`).
//! - Each line that comes out is one output, given to a [`Sink`] as it comes. A slow sink slows the
//!   program; what is held in memory is bounded (`output`, `lines`).
//! - Nothing that a stopped or failed attempt started stays alive: neither the program's group nor,
//!   on Linux, a process that left it (`keeper`, `marked`).
//! - If *we* are killed, the program dies with us (Linux), and what it had started is found at the
//!   next start by [`kill_leftovers`] (Linux).
//!
//! A program learns about its attempt from the environment: `SIDESTREAM_TASK_ID`,
//! `SIDESTREAM_ATTEMPT`, `SIDESTREAM_RESUME_DATA` (JSON, when resumed) and `SIDESTREAM_TOKEN`, the
//! mark by which its processes are recognised.

mod command;
mod failure;
mod keeper;
mod lines;
mod marked;
mod output;
mod template;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use sidestream_core::Json;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use failure::{Cause, Failure};
use keeper::{Exit, Group, Sweep};
pub use marked::kill_leftovers;
use output::{Output, Pipes, Writers};
pub use template::{FlagTemplate, TemplateError};

/// How long the output may stay open after the program itself has ended, before the rest of its
/// group is killed; and once more as long before we stop reading.
///
/// A background process that inherited stdout would otherwise keep the attempt waiting for ever.
pub const LINGER: Duration = Duration::from_millis(500);

/// What to run, as the configuration says it; the same for every attempt.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program: a name looked up in `PATH`, or a path. A relative path with a slash starts at
    /// the working directory.
    pub command: String,
    /// Arguments that are always given, in front of the flags.
    pub arguments: Vec<String>,
    /// Arguments made of the attempt's JSON arguments, in order.
    pub flags: Vec<FlagTemplate>,
    /// Names of the variables passed on from our own environment; nothing else is.
    pub env_allowed: Vec<String>,
    /// Variables set for the program; they win over the ones passed on.
    pub env: BTreeMap<String, String>,
    /// Where it runs; our own working directory if `None`.
    pub working_directory: Option<PathBuf>,
    /// The most bytes of stdout and stderr together that one attempt may write.
    pub output_bytes_max: usize,
    /// The most bytes of one line that become an output; the rest of the line is cut away.
    pub line_bytes_max: usize,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

impl Program {
    /// The names that [`Program::new`] allows.
    pub const ENV_ALLOWED: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

    /// A program without flags, with the defaults: the variables of [`Program::ENV_ALLOWED`], our
    /// working directory, 16 MiB of output, 1 MiB a line, 5 s of grace.
    pub fn new<A: Into<String>>(
        command: impl Into<String>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            command: command.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            flags: Vec::new(),
            env_allowed: Self::ENV_ALLOWED.map(String::from).to_vec(),
            env: BTreeMap::new(),
            working_directory: None,
            output_bytes_max: 16 * 1024 * 1024,
            line_bytes_max: 1024 * 1024,
            stop_grace: Duration::from_secs(5),
        }
    }
}

/// What one attempt adds to the [`Program`].
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Whose processes these are: what [`kill_leftovers`] is later asked to find. Use an id that
    /// belongs to one database.
    pub installation: String,
    /// The task.
    pub task_id: String,
    /// Which attempt at it, from 1.
    pub attempt: u32,
    /// The arguments.
    pub args: Json,
    /// What the task was resumed with, if it was. On Linux one variable holds at most 128 KiB; more
    /// is refused with [`Cause::Arguments`].
    pub resume_data: Option<Json>,
}

/// Where outputs go.
pub trait Sink: Sync {
    /// Takes one output. Called for one output at a time, in order; the program is not read from
    /// until it returns. Dropped in the middle when the attempt is stopped.
    ///
    /// # Errors
    /// [`Closed`] when no more outputs are wanted: the program is then stopped.
    fn output(&self, output: Json) -> impl Future<Output = Result<(), Closed>> + Send;
}

/// A sink takes no more outputs: the task has ended, or somebody else has it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more outputs are taken")]
pub struct Closed;

/// Runs the program once, to its end.
///
/// Its outputs, in order: each line of stdout, as JSON if the line is one JSON value, else as a
/// JSON string; each line of stderr as `{"stream":"stderr","text":…}`. The order between the two is
/// as we happened to read them. Invalid UTF-8 is replaced by U+FFFD; a line may end in CRLF; a last
/// line needs no newline; a line over the limit, or of more than 1 MiB as JSON, is cut and ends in
/// `…[N bytes cut]`.
///
/// Its result, on exit code 0: the last line of stdout that is not blank if that is one JSON value
/// (a long one is not cut here), else all of stdout as a JSON string without its last newlines, or,
/// where that is more than 1 MiB, its end behind `[N bytes cut]…`; else, if it wrote nothing, `None`.
///
/// When `cancel` fires, the sink closes or the output limit is reached, SIGTERM goes to all its
/// processes and SIGKILL, after the grace, to those that are left; only then does this return. What
/// they write meanwhile is discarded. Dropping the future does the same in the background, on the
/// runtime that it ran on; if that is shut down, SIGKILL comes at once. Needs a tokio runtime with
/// I/O and time.
///
/// A program that ends by itself with exit code 0 may leave a process behind that is in a group of
/// its own and holds neither stdout nor stderr (a build server, say). Everything else it started
/// is killed.
///
/// # Errors
/// A [`Failure`]: its [`Cause`] says what happened, [`Failure::is_retryable`] whether another
/// attempt can help.
///
/// ```
/// use sidestream::worker::process::{Closed, Invocation, Program, Sink, run};
/// use sidestream_core::Json;
/// use tokio_util::sync::CancellationToken;
///
/// struct Show;
///
/// impl Sink for Show {
///     async fn output(&self, output: Json) -> Result<(), Closed> {
///         assert_eq!(output.as_str(), r#""counting""#);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let program = Program::new("sh", ["-c", "echo counting"]);
/// let invocation = Invocation {
///     installation: "2f1c".into(),
///     task_id: "97d4".into(),
///     attempt: 1,
///     args: Json::from_text(r#"{"path": "src"}"#)?,
///     resume_data: None,
/// };
/// let result = run(&program, &invocation, &Show, &CancellationToken::new()).await?;
/// assert_eq!(result, Some(Json::string("counting")));
/// # Ok(())
/// # }
/// ```
pub async fn run<S: Sink>(
    program: &Program,
    invocation: &Invocation,
    sink: &S,
    cancel: &CancellationToken,
) -> Result<Option<Json>, Failure> {
    let prepared = command::prepare(program, invocation)?;
    if cancel.is_cancelled() {
        return Err(Failure::of(program, Cause::Cancelled, ""));
    }
    let mut leash = Leash::start(program, prepared).await?;
    let mut output = Output::new(program);
    let ended = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Failure::of(program, Cause::Cancelled, "")),
        ended = leash.attend(&mut output, invocation.args.as_str(), sink) => {
            ended.map_err(|cause| Failure::of(program, cause, ""))
        }
    };
    match ended {
        Ok(exit) => {
            leash.finish(exit).await;
            output.conclude(program, exit)
        }
        Err(failure) => {
            leash.stop().await;
            Err(failure)
        }
    }
}

/// A running program that is stopped, with its grace, when this is dropped.
struct Leash {
    running: Option<Running>,
    grace: Duration,
    runtime: Handle,
}

impl Leash {
    async fn start(program: &Program, prepared: command::Prepared) -> Result<Self, Failure> {
        let (group, child_pipes) = keeper::start(prepared)
            .await
            .map_err(|error| command::refused(program, &error))?;
        // Should this fail, the group is dropped and with it killed.
        let pipes = Pipes::new(child_pipes)
            .map_err(|error| Failure::of(program, Cause::System, &error.to_string()))?;
        Ok(Self {
            running: Some(Running { group, pipes }),
            grace: program.stop_grace,
            runtime: Handle::current(),
        })
    }

    /// Feeds the program and passes its outputs on until it has ended and all was read.
    async fn attend<S: Sink>(
        &mut self,
        output: &mut Output,
        args: &str,
        sink: &S,
    ) -> Result<Exit, Cause> {
        let Running { group, pipes } = self.running.as_mut().expect("it has not been let go");
        let group = &*group;
        let stdin = pipes.stdin.take();
        let writers = pipes.writers().map_err(|_| Cause::System)?;
        let at_end = CancellationToken::new();
        let give_up = CancellationToken::new();

        let reading = async {
            output.pass_on(pipes, sink, &give_up).await?;
            at_end.cancel();
            Ok(())
        };
        let waiting = async {
            let exit = group.exit().await;
            kill_those_who_linger(group, &writers, &at_end, &give_up).await;
            Ok(exit)
        };
        let ((), exit, ()) = tokio::try_join!(reading, waiting, feed(stdin, args, group))?;
        Ok(exit)
    }

    /// Ends a group whose leader has ended by itself.
    async fn finish(mut self, exit: Exit) {
        let sweep = match exit {
            Exit::Code(0) => Sweep::Group,
            // A next attempt must not meet the remains of this one.
            _ => Sweep::Marked,
        };
        if let Some(mut running) = self.running.take() {
            running.group.finish(sweep).await;
        }
    }

    /// Stops the program and waits until it is gone.
    async fn stop(mut self) {
        if let Some(stopping) = self.let_go() {
            // An error means that the runtime shuts down: the group has been killed then.
            let _ = stopping.await;
        }
    }

    /// Begins to stop the program; goes on by itself, so that no one can interrupt it.
    #[expect(
        clippy::disallowed_methods,
        reason = "bounded by the grace, whoever is gone by then"
    )]
    fn let_go(&mut self) -> Option<JoinHandle<()>> {
        let running = self.running.take()?;
        // Here and not in the future below: that may never be polled again, when the runtime that
        // was driven by the caller is not driven any more.
        running.group.terminate();
        Some(self.runtime.spawn(running.stop(self.grace)))
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// A program and our ends of its pipes. Dropped, it is killed at once.
struct Running {
    group: Group,
    pipes: Pipes,
}

impl Running {
    /// Gives the program, which has been told to terminate, its grace; then kills what is left.
    async fn stop(mut self, grace: Duration) {
        drop(self.pipes.stdin.take());
        // Those who left the group get their chance too.
        self.group.terminate_outsiders().await;
        // The pipes tell when the last of the processes that hold them is gone; and a program with
        // a full pipe could not end.
        let ending = async { tokio::join!(self.pipes.discard(), self.group.exit()) };
        let _ = timeout(grace, ending).await;
        self.group.kill();
        self.group.finish(Sweep::Marked).await;
    }
}

/// Writes the arguments and closes stdin. The program need not read them.
async fn feed(stdin: Option<ChildStdin>, args: &str, group: &Group) -> Result<(), Cause> {
    let Some(mut stdin) = stdin else {
        return Ok(());
    };
    // The only error a pipe knows is that its reader is gone, which is the reader's affair.
    let writing = async {
        stdin.write_all(args.as_bytes()).await?;
        // With it, the arguments are a line, which `read` in a shell needs.
        stdin.write_all(b"\n").await
    };
    tokio::select! {
        _ = writing => {}
        // A background process may hold the other end and never read.
        _ = group.exit() => {}
    }
    Ok(())
}

/// Bounds how long output can be awaited once the program itself has ended.
async fn kill_those_who_linger(
    group: &Group,
    writers: &Writers,
    at_end: &CancellationToken,
    give_up: &CancellationToken,
) {
    if timeout(LINGER, at_end.cancelled()).await.is_ok() {
        return;
    }
    group.kill();
    // The killed need a moment to close their files. Who has left the group keeps them open. A sink
    // may be behind, with nobody left who writes: then all that was written is still passed on.
    if timeout(LINGER, at_end.cancelled()).await.is_err() && writers.are_left() {
        group.kill_marked().await;
        give_up.cancel();
    }
}
