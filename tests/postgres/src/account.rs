//! Under which account the server runs: PostgreSQL refuses to be root.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

/// An account of this machine.
#[derive(Debug)]
pub(crate) enum Account {
    /// The one that runs the tests.
    Own,
    /// Another, for root.
    Other { name: String, uid: u32, gid: u32 },
}

impl Account {
    /// Our own; for root, that of PostgreSQL's package, else `nobody`.
    pub(crate) fn choose() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self::Own;
        }
        let accounts = fs::read_to_string("/etc/passwd").expect("there are accounts");
        let find = |wanted: &str| {
            accounts.lines().find_map(|line| {
                let mut fields = line.split(':');
                let name = fields.next().filter(|name| *name == wanted)?;
                let mut numbers = fields.skip(1).map(|field| field.parse().ok());
                Some(Self::Other {
                    name: name.to_owned(),
                    uid: numbers.next()??,
                    gid: numbers.next()??,
                })
            })
        };
        let found = find("postgres").or_else(|| find("nobody"));
        found
            .expect("there is an account `postgres` or `nobody`: the server refuses to run as root")
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Own => "own",
            Self::Other { name, .. } => name,
        }
    }

    /// Gives it a directory.
    pub(crate) fn own(&self, directory: &Path) {
        if let Self::Other { uid, gid, .. } = self {
            chown(directory, Some(*uid), Some(*gid)).expect("root may do this");
        }
    }

    /// A command that runs under it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = match self {
            Self::Own => Command::new(program),
            Self::Other { uid, gid, .. } => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .arg("--clear-groups")
                    .arg(program);
                command
            }
        };
        command.current_dir("/");
        command
    }
}
