//! Starts a program in a group of its own, and has the only right to signal that group.
//!
//! Each program has a *keeper*: a thread that starts it, waits for its end, kills what is left of
//! its group and only then collects it. A thread, for two reasons:
//!
//! - On Linux the program is to die with us, and the kernel's means for that (`PR_SET_PDEATHSIG`)
//!   ties it to the *thread* that started it. A runtime may end its threads; a keeper stays.
//! - Until it is collected, the ended leader keeps its id from being given to a new process, so a
//!   signal to the group cannot hit a stranger. Runtimes collect as soon as they can.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitIdOptions};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::command::Prepared;
use super::marked;
use super::output::ChildPipes;

/// How long to wait for processes that were sent SIGKILL. One that hangs in the kernel (a dead
/// network disk) must not keep its attempt from ending; the keeper goes on waiting for it.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else in this process collects children, or has them ignored.
    Unknown,
}

/// Who is killed when a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// The rest of the program's group.
    Group,
    /// Also, on Linux, who left the group but carries the attempt's token.
    Marked,
}

/// The group of a running program. Dropped, it is killed at once.
pub(super) struct Group {
    id: Pid,
    token: String,
    exit: watch::Receiver<Option<Exit>>,
    /// The keeper waits for this order before it collects the leader; as long as we hold it, `id`
    /// is the group's.
    order: Option<mpsc::Sender<(Sweep, oneshot::Sender<()>)>>,
}

/// Starts a program on a keeper of its own.
pub(super) async fn start(prepared: Prepared) -> io::Result<(Group, ChildPipes)> {
    let (started, starting) = oneshot::channel();
    thread::Builder::new()
        .name("sidestream-keeper".into())
        .stack_size(256 * 1024)
        .spawn(move || keep(prepared, started))?;
    starting
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
}

impl Group {
    /// Waits for the leader to end. May be asked again.
    pub(super) async fn exit(&self) -> Exit {
        let mut exit = self.exit.clone();
        let seen = exit.wait_for(Option::is_some).await;
        seen.ok().and_then(|exit| *exit).unwrap_or(Exit::Unknown)
    }

    /// Asks all of the group to end.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
        // Who is stopped would hear of it only when it is continued.
        self.signal(Signal::CONT);
    }

    /// Ends all of the group.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks those who have left the group to end.
    pub(super) async fn terminate_outsiders(&self) {
        let (token, id) = (self.token.clone(), self.id);
        off_the_runtime(move || marked::terminate_outsiders(&token, id)).await;
    }

    /// Kills all that carry the attempt's token, in the group or not.
    pub(super) async fn kill_marked(&self) {
        let token = self.token.clone();
        off_the_runtime(move || marked::kill(&token)).await;
    }

    /// Once the leader has ended, or is about to: kills who is left and collects the leader. When
    /// dropped, the keeper goes on.
    pub(super) async fn finish(&mut self, sweep: Sweep) {
        let Some(order) = self.order.take() else {
            return;
        };
        let (done, waiting) = oneshot::channel();
        if order.send((sweep, done)).is_ok() {
            let _ = timeout(KILL_WAIT, waiting).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if self.order.is_some() {
            // An error means that nobody is left.
            let _ = rustix::process::kill_process_group(self.id, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The keeper sees that no order will come, and does the rest.
        self.kill();
    }
}

/// Reading /proc blocks, if only for some milliseconds.
async fn off_the_runtime(work: impl FnOnce() + Send + 'static) {
    // An error means that the runtime shuts down; then the group is dropped next.
    let _ = tokio::task::spawn_blocking(work).await;
}

/// The life of a keeper.
fn keep(prepared: Prepared, started: oneshot::Sender<io::Result<(Group, ChildPipes)>>) {
    let Prepared { command, token } = prepared;
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let id = Pid::from_child(&child);
    let pipes = ChildPipes::of(&mut child).ok_or_else(|| io::Error::other("it has no pipes"));
    let (exit, exit_seen) = watch::channel(None);
    let (order, orders) = mpsc::channel();
    let group = Group {
        id,
        token: token.clone(),
        exit: exit_seen,
        order: Some(order),
    };
    // Should nobody wait for it any more, the group is dropped here, and with it killed.
    let _ = started.send(pipes.map(|pipes| (group, pipes)));

    exit.send_replace(Some(wait_without_collecting(id)));
    let order = orders.recv().ok();
    let _ = rustix::process::kill_process_group(id, Signal::KILL);
    if order
        .as_ref()
        .is_none_or(|(sweep, _)| *sweep == Sweep::Marked)
    {
        marked::kill(&token);
    }
    let _ = child.wait();
    if let Some((_, done)) = order {
        let _ = done.send(());
    }
}

fn wait_without_collecting(id: Pid) -> Exit {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let waited = rustix::io::retry_on_intr(|| {
        rustix::process::waitid(rustix::process::WaitId::Pid(id), options)
    });
    let Ok(Some(status)) = waited else {
        return Exit::Unknown;
    };
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(number)) => Exit::Signal(number),
        (None, None) => Exit::Unknown,
    }
}

/// Starts the program as the leader of a new session, and so of a new group.
///
/// A session and not only a group: a program that asks a terminal for a password then fails at
/// once, where one in a background group would be stopped for ever.
#[expect(
    unsafe_code,
    reason = "what is to be done between fork and exec has no safe form"
)]
fn spawn(mut command: Command) -> io::Result<Child> {
    #[cfg(target_os = "linux")]
    let parent = rustix::process::getpid();
    let in_child = move || {
        rustix::process::setsid()?;
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // If we died in between, no signal will come any more.
            if rustix::process::getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child of a process with many threads, where only
    // async-signal-safe functions may be called: no allocation, no locks. It makes three plain
    // system calls and turns an error number into an `io::Error`, which allocates nothing.
    unsafe { command.pre_exec(in_child) };
    command.spawn()
}
