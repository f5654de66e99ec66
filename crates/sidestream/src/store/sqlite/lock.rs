//! The lock on a data directory: one process writes there, and whoever comes second learns who.
//!
//! The operating system releases it when the process ends, however it ends. The file stays, so that
//! nobody locks a file that another has just removed.
//!
//! Beside the holder it names the log, and an event that the log once had: so that a database which was
//! put back as it stood earlier is known when it is opened, and its log named anew
//! (`docs/decisions/0013-a-log-that-went-back.md`).
//!
//! On Unix, a process that closes any file of its own on a database loses every lock that it has on that
//! database, SQLite's among them (<https://sqlite.org/howtocorrupt.html>, 2.2): another process that reads it,
//! as a backup does, would then believe itself the last, and remove the log ahead while it is being written.
//! So the database of a directory that is locked here is opened by SQLite, and by [`DirectoryLock::hold`],
//! which closes it last.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::OnceLock;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sidestream_core::{Epoch, Seq, Timestamp};

use super::failure::at_path;
use crate::error::{StoreError, StoreErrorKind};

/// The directories that this process has locked.
static LOCKED_HERE: Mutex<BTreeSet<DirectoryId>> = Mutex::new(BTreeSet::new());

/// A directory, by whatever path it is reached: its device, and its number there.
type DirectoryId = (u64, u64);

/// A data directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    id: Option<DirectoryId>,
    database: OnceLock<File>,
    file: Mutex<(File, Holder)>,
}

/// Does something with the database of a directory that this process has not locked, and keeps it from being
/// locked here meanwhile; `None` where it is.
pub(super) fn unless_locked_here<T>(directory: &Path, work: impl FnOnce() -> T) -> Option<T> {
    let locked_here = LOCKED_HERE.lock();
    let is_locked = id(directory).is_some_and(|id| locked_here.contains(&id));
    (!is_locked).then(work)
}

#[cfg(unix)]
fn id(directory: &Path) -> Option<DirectoryId> {
    use std::os::unix::fs::MetadataExt as _;
    // The parent of a mere name is an empty path.
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let found = std::fs::metadata(directory).ok()?;
    Some((found.dev(), found.ino()))
}

/// There, whoever closes a file keeps the locks of its other files.
#[cfg(not(unix))]
fn id(_directory: &Path) -> Option<DirectoryId> {
    None
}

/// Who holds the lock: written into the file, for whoever comes second.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<Mark>,
}

/// A log, as far as it is known to have come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mark {
    epoch: String,
    seq: u64,
    /// While commits may be lost in a power cut: which start of the machine has made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
}

impl Mark {
    /// A log that has come so far, with all of it on the disk.
    pub(super) fn of(epoch: &Epoch, seq: Seq) -> Self {
        Self {
            epoch: epoch.to_string(),
            seq: seq.0,
            boot: None,
        }
    }

    /// The same log, whose further commits may not be on the disk.
    pub(super) fn unsynced(self) -> Self {
        let boot = Some(boot().unwrap_or_default());
        Self { boot, ..self }
    }

    /// Can this log be the one that was marked, with nothing lost of it?
    pub(super) fn is_continued_by(&self, epoch: &str, seq: Seq) -> bool {
        let has_all = self.boot.is_none() || self.boot == boot();
        has_all && self.epoch == epoch && self.seq <= seq.0
    }
}

impl DirectoryLock {
    /// Locks a directory.
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] names the holder; [`StoreErrorKind::Full`] means that the directory
    /// cannot be written.
    pub(super) fn take(directory: &Path, now: Timestamp) -> Result<Self, StoreError> {
        let path = directory.join("sidestream.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| at_path(&path, e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(directory, &mut file)),
            Err(TryLockError::Error(e)) => return Err(at_path(&path, e)),
        }
        let holder = Holder {
            pid: std::process::id(),
            host: host(),
            since: now,
            log: read(&mut file).and_then(|former| former.log),
        };
        write(&mut file, &holder).map_err(|e| at_path(&path, e))?;
        let id = id(directory);
        LOCKED_HERE.lock().extend(id);
        Ok(Self {
            id,
            database: OnceLock::new(),
            file: Mutex::new((file, holder)),
        })
    }

    /// Opens the database as a file of our own, to be synced: once, since it is closed with the lock only, when
    /// no connection is left.
    pub(super) fn hold(&self, database: &Path) -> std::io::Result<()> {
        let file = File::options().read(true).write(true).open(database)?;
        self.database.set(file).expect("it is held once");
        Ok(())
    }

    /// Waits until what was written into the database that is held is on the disk.
    pub(super) fn sync_database(&self) -> std::io::Result<()> {
        self.database.get().map_or(Ok(()), File::sync_data)
    }

    /// The log as it was last known here.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.file.lock().1.log.clone()
    }

    /// Notes how far the log has come: never further than what would survive a power cut. A mark that
    /// cannot be written is no harm yet: it only shows less.
    pub(super) fn set_mark(&self, mark: Mark) {
        let (file, holder) = &mut *self.file.lock();
        holder.log = Some(mark);
        if let Err(error) = write(file, holder).and_then(|()| file.sync_data()) {
            tracing::warn!(%error, "the lock file was not written");
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        drop(self.database.take());
        if let Some(id) = &self.id {
            LOCKED_HERE.lock().remove(id);
        }
    }
}

/// The old line is there until the new one is: whatever follows the first line is of no account.
fn write(file: &mut File, holder: &Holder) -> std::io::Result<()> {
    let mut line = serde_json::to_string(holder)?;
    line.push('\n');
    file.seek(SeekFrom::Start(0))?;
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)
}

/// Who holds the lock, or held it last. Where a locked file cannot be read (Windows), or is being written
/// just now, we do not know.
fn read(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.lines().next()?).ok()
}

fn held(directory: &Path, file: &mut File) -> StoreError {
    let who = read(file).map_or_else(
        || "another process".to_owned(),
        |holder| {
            let Holder {
                pid, host, since, ..
            } = holder;
            format!("process {pid} on {host}, since {since}")
        },
    );
    let directory = directory.display();
    let message = format!("the data directory {directory} is in use by {who}");
    StoreError::new(StoreErrorKind::Locked, message)
}

#[cfg(unix)]
fn host() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this machine".into())
}

/// Which start of the machine this is; `None` where it does not say.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_on_where_its_mark_was_or_later() {
        let epoch = Epoch::new("a").expect("a fit name");
        let mark = Mark::of(&epoch, Seq(5));
        assert!(mark.is_continued_by("a", Seq(5)) && mark.is_continued_by("a", Seq(6)));
        assert!(!mark.is_continued_by("a", Seq(4)) && !mark.is_continued_by("b", Seq(5)));
    }

    /// After a power cut the last commits may be gone, and nothing in the database tells.
    #[test]
    fn a_log_that_was_not_synced_goes_on_until_the_machine_is_started_anew() {
        let epoch = Epoch::new("a").expect("a fit name");
        let mark = Mark::of(&epoch, Seq(5)).unsynced();
        assert_eq!(mark.is_continued_by("a", Seq(9)), boot().is_some());
        let earlier = Mark {
            boot: Some("an earlier start".to_owned()),
            ..mark
        };
        assert!(!earlier.is_continued_by("a", Seq(9)));
    }
}
