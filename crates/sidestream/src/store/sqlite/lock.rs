//! The lock on a data directory: one process writes there, and whoever comes second learns who.
//!
//! The operating system releases it when the process ends, however it ends. The file stays, so that
//! nobody locks a file that another has just removed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sidestream_core::Timestamp;

use super::failure::at_path;
use crate::error::{StoreError, StoreErrorKind};

/// A data directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

/// Who holds the lock: written into the file, for whoever comes second.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    host: String,
    since: Timestamp,
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
        name_holder(&mut file, now).map_err(|e| at_path(&path, e))?;
        Ok(Self { _file: file })
    }
}

fn name_holder(file: &mut File, now: Timestamp) -> std::io::Result<()> {
    let holder = Holder {
        pid: std::process::id(),
        host: host(),
        since: now,
    };
    let mut line = serde_json::to_string(&holder)?;
    line.push('\n');
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(line.as_bytes())
}

fn held(directory: &Path, file: &mut File) -> StoreError {
    let mut text = String::new();
    // Where a locked file cannot be read (Windows), or is being written just now, we do not know who.
    let holder = file.read_to_string(&mut text).ok();
    let holder = holder.and_then(|_| serde_json::from_str::<Holder>(&text).ok());
    let who = holder.map_or_else(
        || "another process".to_owned(),
        |Holder { pid, host, since }| format!("process {pid} on {host}, since {since}"),
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
