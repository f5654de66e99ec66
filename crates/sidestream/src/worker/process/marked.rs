//! Finds processes by the token in their environment, wherever they went.
//!
//! A process can leave its group and its session, and outlive its parents, but what it was started
//! with stays readable in `/proc/PID/environ`, and its children inherit it. Not found are processes
//! that have overwritten that memory (some servers do, to change their title), that were started
//! with an environment of somebody else's making, or that run as another user.
//!
//! Linux only: elsewhere nothing is found.

use uuid::Uuid;

/// The variable that carries the token.
pub(super) const MARK: &str = "SIDESTREAM_TOKEN";

/// The token of one attempt that this process runs: the installation's id, who runs it, and 32
/// hexadecimal digits, with colons between them.
pub(super) fn token(installation: &str, unique: Uuid) -> String {
    let owner = system::own_name();
    format!("{installation}:{owner}:{}", unique.simple())
}

/// Kills what attempts of an installation left behind whose worker's process is gone. Tells how many
/// processes it killed.
///
/// For the start of a worker: one that was itself killed with SIGKILL could not do this at its end. The
/// programs of others that work for the same installation
/// ([`Invocation::installation`](super::Invocation)) on this machine and are still there are left alone.
/// Blocks for some milliseconds, at most some seconds. On systems other than Linux it finds nothing.
pub fn kill_leftovers(installation: &str) -> usize {
    system::kill_all(&|token| {
        owner_of(token, installation).is_some_and(|owner| !system::may_be_alive(owner))
    })
}

/// Kills all processes of one attempt.
pub(super) fn kill(token: &str) {
    system::kill_all(&|other| other == token);
}

/// Asks the processes of one attempt that are not in its group to end.
pub(super) fn terminate_outsiders(token: &str, group: rustix::process::Pid) {
    system::terminate_outsiders(token, group);
}

/// Who runs the attempt that a token is of, if it is one of the installation. Compares the whole id, so
/// that the installation `a` never kills for `a:b` or `ab`.
fn owner_of<'t>(token: &'t str, installation: &str) -> Option<&'t str> {
    let rest = token.strip_prefix(installation)?.strip_prefix(':')?;
    let (owner, unique) = rest.split_once(':')?;
    let is_unique = unique.len() == 32 && unique.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_unique.then_some(owner)
}

#[cfg(target_os = "linux")]
mod system {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::thread;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{
        Pid, PidfdFlags, Signal, getpgid, getpid, kill_process, pidfd_open, pidfd_send_signal,
    };

    use super::MARK;

    /// Who is killed may just have made a child that we have not seen, so we look again until
    /// nobody is left; but not for ever.
    const ROUNDS_MAX: usize = 8;

    /// How long one of the killed may take to be gone.
    const GONE_WAIT: Timespec = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };

    /// How often, and for how long each time, to wait for a process that is just being started.
    const START_LOOKS_MAX: usize = 500;
    const START_LOOK: Duration = Duration::from_millis(1);

    /// The names of processes begin with the namespace of their ids: in another container the same id is
    /// another process, of which we can say nothing.
    pub(super) fn own_name() -> String {
        let id = getpid();
        let namespace = id_namespace().unwrap_or_default();
        let started = started(id).unwrap_or_default();
        format!("{namespace}-{}-{started}", id.as_raw_nonzero())
    }

    /// Is the process of that name still there, as far as can be told? An id is used again, but not with
    /// the same time of its start.
    pub(super) fn may_be_alive(name: &str) -> bool {
        let mut parts = name.split('-');
        let (Some(namespace), Some(id), Some(since)) = (parts.next(), parts.next(), parts.next())
        else {
            return true;
        };
        let Some(id) = id.parse().ok().and_then(Pid::from_raw) else {
            return true;
        };
        if id_namespace().as_deref() != Some(namespace) {
            return true;
        }
        started(id).is_some_and(|started| started == since)
    }

    fn id_namespace() -> Option<String> {
        let link = fs::read_link("/proc/self/ns/pid").ok()?;
        let digits = link.to_str()?.chars().filter(char::is_ascii_digit);
        Some(digits.collect())
    }

    /// When a process was started, in ticks since the machine was; `None` if it has ended.
    fn started(id: Pid) -> Option<String> {
        let stat = String::from_utf8_lossy(&read(id, "stat")?).into_owned();
        // The name of the program, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let state = fields.next()?;
        // Dead, but not collected.
        let has_ended = matches!(state, "Z" | "X" | "x");
        fields.nth(18).filter(|_| !has_ended).map(Into::into)
    }

    type IsOurs<'a> = &'a dyn Fn(&str) -> bool;

    struct Found {
        id: Pid,
        /// Names this very process: its id may be given to another one before we use it. Absent
        /// where the system does not know such handles.
        handle: Option<OwnedFd>,
    }

    pub(super) fn kill_all(is_ours: IsOurs<'_>) -> usize {
        let mut killed = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let found = find(is_ours);
            if found.is_empty() {
                break;
            }
            for process in &found {
                process.signal(Signal::KILL);
                killed.insert(process.id.as_raw_nonzero());
            }
            if !are_gone(&found) {
                break;
            }
        }
        killed.len()
    }

    pub(super) fn terminate_outsiders(token: &str, group: Pid) {
        for process in find(&|other| other == token) {
            // The group itself was told already; to some a second SIGTERM means more than one.
            if getpgid(Some(process.id)) != Ok(group) {
                process.signal(Signal::TERM);
                process.signal(Signal::CONT);
            }
        }
    }

    impl Found {
        fn signal(&self, signal: Signal) {
            // An error means that it is gone, or not ours to signal.
            let _ = match &self.handle {
                Some(handle) => pidfd_send_signal(handle, signal),
                None => kill_process(self.id, signal),
            };
        }
    }

    fn find(is_ours: IsOurs<'_>) -> Vec<Found> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Pid::from_raw)
            // We may be a program of somebody's ourselves.
            .filter(|id| *id != getpid())
            .filter_map(|id| look_at(id, is_ours))
            .collect()
    }

    fn look_at(id: Pid, is_ours: IsOurs<'_>) -> Option<Found> {
        // The handle comes first: should the process end and its id be given to another one, then
        // we either read that one's environment, or hold a handle that reaches nobody.
        let handle = pidfd_open(id, PidfdFlags::empty()).ok();
        let mut environment = read(id, "environ")?;
        if environment.is_empty() && has_started_meanwhile(id) {
            environment = read(id, "environ")?;
        }
        let token = environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.strip_prefix(MARK.as_bytes()))
            .find_map(|rest| rest.strip_prefix(b"="))?;
        let token = std::str::from_utf8(token).ok()?;
        is_ours(token).then_some(Found { id, handle })
    }

    /// Waits if a process is just exchanging its program for another one: its memory holds no
    /// environment then, and it would slip through. The kernel knows no event for this; it takes
    /// microseconds, but on a busy machine the process may lose its turn in the middle.
    #[expect(
        clippy::disallowed_methods,
        reason = "microseconds, on a blocking thread"
    )]
    fn has_started_meanwhile(id: Pid) -> bool {
        for _ in 0..START_LOOKS_MAX {
            // Kernel threads and dead processes have no command line either, but no memory.
            let has_memory = read(id, "statm").is_some_and(|it| !it.starts_with(b"0 "));
            if !has_memory || read(id, "cmdline").is_none_or(|it| !it.is_empty()) {
                return has_memory;
            }
            thread::sleep(START_LOOK);
        }
        false
    }

    fn read(id: Pid, name: &str) -> Option<Vec<u8>> {
        fs::read(format!("/proc/{id}/{name}")).ok()
    }

    /// Waits for their end. False if one takes too long: it hangs in the kernel, and looking again
    /// would not help.
    fn are_gone(found: &[Found]) -> bool {
        let mut handles = found.iter().filter_map(|process| process.handle.as_ref());
        handles.all(|handle| {
            // Readable means ended.
            let mut handles = [PollFd::new(handle, PollFlags::IN)];
            poll(&mut handles, Some(&GONE_WAIT)) != Ok(0)
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn kill_all(_: &dyn Fn(&str) -> bool) -> usize {
        0
    }

    pub(super) fn terminate_outsiders(_: &str, _: rustix::process::Pid) {}

    pub(super) fn own_name() -> String {
        std::process::id().to_string()
    }

    pub(super) fn may_be_alive(_: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_exactly_one_installation() {
        let token = token("a:b", Uuid::from_u128(7));
        let own_name = system::own_name();
        assert_eq!(owner_of(&token, "a:b"), Some(own_name.as_str()));
        for other in ["a", "a:", "", "a:bc"] {
            assert_eq!(owner_of(&token, other), None, "{other}");
        }
        assert_eq!(owner_of("a:b:1-2-3:short", "a:b"), None);
    }

    /// Only who is known to be gone has left something behind.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_owner_is_gone_when_no_process_has_its_id_and_start() {
        let own_name = system::own_name();
        assert!(system::may_be_alive(&own_name));
        let (id, _) = own_name.rsplit_once('-').expect("three parts");
        assert!(
            !system::may_be_alive(&format!("{id}-1")),
            "the id was used again"
        );
        let elsewhere = own_name.replacen(|c: char| c.is_ascii_digit(), "", 1);
        assert!(system::may_be_alive(&elsewhere), "in another container");
        assert!(system::may_be_alive("?"));
    }
}
