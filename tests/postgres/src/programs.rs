//! Where PostgreSQL's programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of PostgreSQL's programs, and their version.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    version: u32,
}

impl Programs {
    /// Looks in `PATH`, then where Debian puts them; takes the newest.
    pub(crate) fn find() -> Self {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
        let of_debian = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
        let folders = in_path().chain(of_debian);
        let found = folders.filter_map(|folder| {
            let version = version(&folder.join("initdb"))?;
            let has_all = folder.join("postgres").exists() && folder.join("psql").exists();
            has_all.then_some(Self { folder, version })
        });
        found.max_by_key(|found| found.version).expect(
            "PostgreSQL's programs initdb, postgres and psql are neither in PATH nor in \
             /usr/lib/postgresql/*/bin: install them (Debian's package is `postgresql`)",
        )
    }

    pub(crate) fn path(&self, program: &str) -> PathBuf {
        self.folder.join(program)
    }

    /// The major version, such as 15.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }
}

/// The folders that `PATH` names.
pub(crate) fn in_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// What `initdb --version` says: `initdb (PostgreSQL) 15.18 (Debian …)`.
fn version(initdb: &Path) -> Option<u32> {
    let said = Command::new(initdb).arg("--version").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let version = said.split(' ').nth(2)?;
    version.split(['.', '\n']).next()?.parse().ok()
}
