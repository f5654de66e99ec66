//! Why something did not work, inside the store; wrapped once, at the door.

use std::error::Error as _;
use std::fmt;

use deadpool_postgres::PoolError;
use rustls::CertificateError;
use tokio_postgres::error::{DbError, SqlState};

use super::outcome::Pending;
use crate::error::{StoreError, StoreErrorKind};

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// Why something did not work.
#[derive(Debug)]
pub(super) enum Failure {
    /// What is stored is not what we store.
    Unreadable(String),
    /// A mistake of ours.
    Bug(String),
    /// The server said so, or the connection to it broke.
    Server(tokio_postgres::Error),
    /// No answer came in time.
    TimedOut(&'static str),
    /// There is no connection to be had.
    NoConnection(String),
    /// The connection broke while it was being committed: it may be asked what became of it.
    Committing(Box<Pending>),
    /// It broke while it was being committed, and nobody could be asked whether it was.
    OutcomeUnknown(Box<Failure>),
    /// A statement that was prepared is not there any more, or is another's.
    Forgotten(String),
    /// The database cannot be used at all, for a reason that has been put into words.
    Refused(StoreErrorKind, String),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let forgotten = [
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::DUPLICATE_PSTATEMENT,
        ];
        match error.code() {
            Some(code) if forgotten.contains(code) => Self::Forgotten(told(&error)),
            _ => Self::Server(error),
        }
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::Server(error),
            PoolError::Timeout(_) => {
                Self::NoConnection("all connections of the pool are in use".into())
            }
            other => Self::NoConnection(other.to_string()),
        }
    }
}

impl From<sidestream_core::Invalid> for Failure {
    fn from(error: sidestream_core::Invalid) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<sidestream_core::event::Unreadable> for Failure {
    fn from(error: sidestream_core::event::Unreadable) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Failure {
    /// What the server said, if it said something.
    pub(super) fn said(&self) -> Option<&DbError> {
        match self {
            Self::Server(error) => error.as_db_error(),
            _ => None,
        }
    }

    /// May it work if the whole transaction is done again, now?
    ///
    /// Two transactions that want what the other has: PostgreSQL ends one of them. Two dispatches of the
    /// same: the second waited for the first, and now finds it.
    pub(super) fn is_conflict(&self) -> bool {
        let codes = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::UNIQUE_VIOLATION,
        ];
        self.said().is_some_and(|said| codes.contains(said.code()))
    }

    /// Has another transaction what this one wants?
    pub(super) fn is_in_the_way(&self) -> bool {
        let codes = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::T_R_DEADLOCK_DETECTED,
        ];
        self.said().is_some_and(|said| codes.contains(said.code()))
    }

    /// Is a table or a column not there? Then a newer version may have taken it away.
    pub(super) fn is_missing(&self) -> bool {
        let codes = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN];
        self.said().is_some_and(|said| codes.contains(said.code()))
    }

    /// Is the connection gone, or about to go? Then what it was doing is undone, unless it was
    /// committing.
    pub(super) fn is_loss(&self) -> bool {
        match self {
            Self::Server(error) => match error.as_db_error() {
                Some(said) => is_going(said.code()),
                None => error.is_closed() || is_io(error),
            },
            Self::TimedOut(_) | Self::NoConnection(_) => true,
            _ => false,
        }
    }

    /// The same, for those outside; `place` says which database.
    pub(super) fn at(self, place: &dyn fmt::Display) -> StoreError {
        let kind = self.kind();
        match self {
            Self::Unreadable(problem) => {
                StoreError::new(kind, format!("{place} is damaged: {problem}"))
            }
            Self::Bug(problem) => StoreError::new(kind, problem),
            Self::Server(error) => {
                let message = match kind {
                    StoreErrorKind::Damaged => format!("{place} is damaged: {}", told(&error)),
                    StoreErrorKind::Full => {
                        format!(
                            "{place} cannot be written, or has no room left: {}",
                            told(&error)
                        )
                    }
                    StoreErrorKind::Bug => {
                        format!("a mistake in the use of {place}: {}", told(&error))
                    }
                    _ => match distrust(&error) {
                        Some(why) => format!("no connection to {place}: {why}"),
                        None => format!("{place} did not do it: {}", told(&error)),
                    },
                };
                StoreError::new(kind, message).caused_by(error)
            }
            Self::TimedOut(what) => {
                StoreError::new(kind, format!("{place} did not {what} in time"))
            }
            Self::NoConnection(problem) => {
                StoreError::new(kind, format!("no connection to {place}: {problem}"))
            }
            Self::Committing(pending) => Self::OutcomeUnknown(Box::new(pending.cause)).at(place),
            Self::OutcomeUnknown(cause) => {
                let cause = cause.at(place);
                let message = format!("{place} did not say whether it committed: {cause}");
                StoreError::new(kind, message).caused_by(cause)
            }
            Self::Forgotten(how) => {
                let message = format!("{place} {FORGETS}: {FORGETS_ADVICE} ({how})");
                StoreError::new(kind, message)
            }
            Self::Refused(_, message) => StoreError::new(kind, message),
        }
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Unreadable(_) => StoreErrorKind::Damaged,
            Self::Bug(_) => StoreErrorKind::Bug,
            Self::Server(error) => match error.as_db_error() {
                Some(said) => kind_of(said.code()),
                None if error.is_closed() || is_io(error) => StoreErrorKind::Unavailable,
                // A value that does not fit its column, or a column that is not what it was.
                None => StoreErrorKind::Bug,
            },
            Self::TimedOut(_) | Self::NoConnection(_) | Self::Forgotten(_) => {
                StoreErrorKind::Unavailable
            }
            Self::Committing(_) | Self::OutcomeUnknown(_) => StoreErrorKind::OutcomeUnknown,
            Self::Refused(kind, _) => *kind,
        }
    }
}

/// What is wrong where a prepared statement is not there any more…
pub(super) const FORGETS: &str = "is behind a proxy that pools connections by transaction and does not know of \
    prepared statements";
/// …and what to do.
pub(super) const FORGETS_ADVICE: &str = "set store.database_prepared = false, or have the proxy bring them along \
    (PgBouncer's max_prepared_statements, since 1.21)";

/// What went wrong, in the server's own words where it has any.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// Why there is no TLS to the server, in words that name what to change.
fn distrust(error: &tokio_postgres::Error) -> Option<String> {
    let reason = |error: &rustls::Error| match error {
        rustls::Error::InvalidCertificate(problem) => distrusted(problem),
        other => format!("TLS: {other}"),
    };
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(error) = found.downcast_ref() {
            return Some(reason(error));
        }
        // TLS reports its errors as those of the connection beneath.
        let beneath = found.downcast_ref::<std::io::Error>();
        if let Some(error) = beneath.and_then(|error| error.get_ref()?.downcast_ref()) {
            return Some(reason(error));
        }
        cause = found.source();
    }
    let cause = error.source()?.to_string();
    let refuses = cause.contains("does not support TLS");
    refuses.then(|| "it speaks no TLS, which sslmode in its URL asks for".to_owned())
}

/// Why a certificate does not prove who the server is.
fn distrusted(problem: &CertificateError) -> String {
    match problem {
        CertificateError::UnknownIssuer => {
            "its certificate is of no authority that is trusted here; \
            sslrootcert in its URL names a file of those that are"
                .to_owned()
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            // Each as `DnsName("db.example.com")` or `IpAddress(127.0.0.1)`.
            let names = presented.iter().filter_map(|name| {
                let name = name.trim_end_matches([')', '"']);
                name.rsplit(['(', '"']).next()
            });
            let names: Vec<_> = names.collect();
            let (expected, names) = (expected.to_str(), names.join(", "));
            format!("its certificate is not for {expected}, but for {names}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}

/// A connection that could not be made, or broke.
fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(found) = cause {
        if found.is::<std::io::Error>() {
            return true;
        }
        cause = found.source();
    }
    error.to_string().starts_with("error connecting")
        || error.to_string().starts_with("error communicating")
        || error.to_string().starts_with("error performing TLS")
        || error.to_string().starts_with("timeout")
}

/// Does the server end the session with it?
fn is_going(code: &SqlState) -> bool {
    let codes = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    codes.contains(code) || code.code().starts_with("08")
}

/// What the caller can do, by the class of the error: see PostgreSQL's appendix A.
fn kind_of(code: &SqlState) -> StoreErrorKind {
    match code.code() {
        // Disk full; no right to write.
        "53100" | "42501" => StoreErrorKind::Full,
        code => match &code[..2] {
            // Data corrupted, index corrupted.
            "XX" => StoreErrorKind::Damaged,
            // A mistake in a statement, a value that does not fit, a constraint of our own.
            "0A" | "21" | "22" | "23" | "2F" | "42" | "44" | "P0" => StoreErrorKind::Bug,
            _ => StoreErrorKind::Unavailable,
        },
    }
}
