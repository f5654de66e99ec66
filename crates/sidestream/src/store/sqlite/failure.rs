//! What SQLite and the file system answer when something goes wrong, and what a caller can do about
//! it. Everything passes through here once, at the store's door.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;
use sidestream_core::Invalid;
use sidestream_core::event::Unreadable;

use crate::error::{StoreError, StoreErrorKind};

/// What came of a step inside the store.
pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Why a step inside the store was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// SQLite said so.
    Sqlite(rusqlite::Error),
    /// SQLite said so when asked to commit.
    Commit(rusqlite::Error),
    /// A row holds what no version of ours writes.
    Unreadable(String),
    /// A mistake of ours.
    Bug(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Unreadable(invalid.to_string())
    }
}

impl From<Unreadable> for Failure {
    fn from(unreadable: Unreadable) -> Self {
        Self::Unreadable(unreadable.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Failure {
    /// The same, for those outside: `file` is the database.
    pub(super) fn at(self, file: &Path) -> StoreError {
        let file = file.display();
        match self {
            Self::Unreadable(problem) => {
                let message = format!("the database {file} is damaged: {problem}");
                StoreError::new(StoreErrorKind::Damaged, message)
            }
            Self::Bug(problem) => StoreError::new(StoreErrorKind::Bug, problem),
            Self::Sqlite(error) => {
                let kind = kind_of(&error);
                StoreError::new(kind, message(kind, &file, &error)).caused_by(error)
            }
            Self::Commit(error) => {
                let kind = match kind_of(&error) {
                    StoreErrorKind::Unavailable if may_be_committed(&error) => {
                        StoreErrorKind::OutcomeUnknown
                    }
                    kind => kind,
                };
                StoreError::new(kind, message(kind, &file, &error)).caused_by(error)
            }
        }
    }
}

/// An error of the file system, at a path.
pub(super) fn at_path(path: &Path, error: io::Error) -> StoreError {
    use io::ErrorKind as Io;
    let path = path.display();
    let (kind, problem) = match error.kind() {
        Io::PermissionDenied | Io::ReadOnlyFilesystem | Io::NotADirectory | Io::NotFound => {
            (StoreErrorKind::Full, "cannot be written")
        }
        Io::StorageFull | Io::QuotaExceeded => (StoreErrorKind::Full, "has no room left"),
        _ => (StoreErrorKind::Unavailable, "cannot be used"),
    };
    StoreError::new(kind, format!("{path} {problem}: {error}")).caused_by(error)
}

fn kind_of(error: &rusqlite::Error) -> StoreErrorKind {
    use rusqlite::Error as E;
    match error {
        E::SqliteFailure(failure, _) => match failure.code {
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreErrorKind::Damaged,
            ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied => StoreErrorKind::Full,
            _ if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => StoreErrorKind::Full,
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SystemIoFailure
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Bug,
        },
        // A column that does not hold what it is declared to hold.
        E::FromSqlConversionFailure(..)
        | E::IntegralValueOutOfRange(..)
        | E::Utf8Error(..)
        | E::InvalidColumnType(..) => StoreErrorKind::Damaged,
        _ => StoreErrorKind::Bug,
    }
}

/// Can a commit that failed so turn out to be there after a crash?
///
/// A commit is one write of frames to the log ahead, the last marked as the end of the transaction,
/// then a sync. When a write fails, the mark was not written. When the sync fails it was, and would be
/// honoured if the machine stopped now; the next commit overwrites it.
fn may_be_committed(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|failure| failure.extended_code);
    code != Some(ffi::SQLITE_IOERR_WRITE)
}

fn message(kind: StoreErrorKind, file: &std::path::Display<'_>, error: &rusqlite::Error) -> String {
    match kind {
        StoreErrorKind::Damaged => format!("the database {file} is damaged: {error}"),
        StoreErrorKind::Full => {
            format!("the database {file} cannot be written, or has no room left: {error}")
        }
        StoreErrorKind::OutcomeUnknown => {
            format!("the database {file} did not say whether it committed: {error}")
        }
        StoreErrorKind::Bug => format!("a mistake in the use of the database {file}: {error}"),
        _ => format!("the database {file} did not answer: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(failure: fn(rusqlite::Error) -> Failure, code: i32) -> StoreErrorKind {
        let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        failure(error).at(Path::new("file")).kind()
    }

    #[test]
    fn only_a_commit_that_may_have_happened_is_unknown() {
        use StoreErrorKind::{Damaged, Full, OutcomeUnknown, Unavailable};
        let codes = [
            (ffi::SQLITE_IOERR_FSYNC, Unavailable, OutcomeUnknown),
            (ffi::SQLITE_IOERR_WRITE, Unavailable, Unavailable),
            (ffi::SQLITE_IOERR_SHMSIZE, Full, Full),
            (ffi::SQLITE_FULL, Full, Full),
            (ffi::SQLITE_CORRUPT_INDEX, Damaged, Damaged),
        ];
        for (code, before, at_commit) in codes {
            assert_eq!(kind(Failure::Sqlite, code), before);
            assert_eq!(kind(Failure::Commit, code), at_commit);
        }
    }
}
