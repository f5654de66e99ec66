//! How the program ends: its exit codes, and what it says when it could not do what was asked.

use sidestream::core::{Invalid, Rejection};
use sidestream::{StoreError, StoreErrorKind};
use sidestream_client::Error as ClientError;

/// The exit codes. The table in `docs/guide/cli.md` is compared with [`Exit::ALL`] by a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    TaskNotCompleted,
    BadInput,
    Unreachable,
    Refused,
    Denied,
    Interrupted,
}

impl Exit {
    /// Every exit code, with what it means in the words of the guide.
    pub(crate) const ALL: [(Self, u8, &'static str); 7] = [
        (Self::Done, 0, "done"),
        (
            Self::TaskNotCompleted,
            1,
            "the task that was waited for failed, timed out or was cancelled; in `demo`: not all ended as they \
             should have; in `doctor`: something does not work",
        ),
        (
            Self::BadInput,
            2,
            "an argument, a setting or a value cannot be accepted",
        ),
        (
            Self::Unreachable,
            3,
            "no server or database can be reached, or it cannot do it now",
        ),
        (
            Self::Refused,
            4,
            "the task does not exist, or does not allow it as it stands; or no slot is free",
        ),
        (Self::Denied, 5, "the API key is missing, or may not do it"),
        (
            Self::Interrupted,
            130,
            "interrupted (Ctrl-C) while it was waiting for a task",
        ),
    ];

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        let mut all = Self::ALL.into_iter();
        let row = all.find(|(exit, ..)| *exit == self);
        row.expect("every exit is in the table").1
    }
}

/// Why the program did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// What went wrong; empty where it has been said already.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Exit::BadInput, message)
    }

    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, message)
    }

    /// Ends with a code, and says nothing more.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<Invalid> for Failure {
    fn from(error: Invalid) -> Self {
        Self::bad_input(error.to_string())
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid(invalid) => invalid.into(),
            rejection => Self::new(Exit::Refused, rejection.to_string()).hint_for_refusal(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::unreachable(error.to_string());
        match error.kind() {
            StoreErrorKind::Locked => {
                failure.hint("if that is a server, name its address: --server URL")
            }
            StoreErrorKind::NewerVersion => {
                failure.hint("use that version of sidestream, or a newer one")
            }
            StoreErrorKind::Damaged => {
                failure.hint("`sidestream restore` a backup, or say another --data DIRECTORY")
            }
            StoreErrorKind::Full => failure.hint("make room, or say another --data DIRECTORY"),
            _ => failure,
        }
    }
}

impl From<sidestream::Error> for Failure {
    fn from(error: sidestream::Error) -> Self {
        match error {
            sidestream::Error::Invalid(invalid) => invalid.into(),
            sidestream::Error::Rejected(rejection) => rejection.into(),
            sidestream::Error::Store(error) => error.into(),
            error => Self::unreachable(error.to_string()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::Invalid(_) | ClientError::Configuration(_) => Self::bad_input(message),
            ClientError::Denied(_) => Self::new(Exit::Denied, message)
                .hint("give a key with SIDESTREAM_API_KEY or --api-key"),
            ClientError::NotFound(_) | ClientError::Rejected(_) | ClientError::AtCapacity(_) => {
                Self::new(Exit::Refused, message).hint_for_refusal()
            }
            ClientError::Unreachable { .. } => Self::unreachable(message)
                .hint("is the server running? `sidestream serve` starts one"),
            _ => Self::unreachable(message),
        }
    }
}

impl Failure {
    fn hint_for_refusal(self) -> Self {
        if self.message.ends_with("does not exist") {
            return self.hint("`sidestream list` shows those that do");
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn the_guide_has_the_exit_codes_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/cli.md");
        let guide = std::fs::read_to_string(path).expect("the guide is there");
        let rows: Vec<&str> = guide
            .lines()
            .skip_while(|line| *line != "## Exit codes")
            .filter(|line| line.starts_with("| ") && !line.starts_with("| code"))
            .collect();
        let expected = Exit::ALL.map(|(_, code, meaning)| format!("| {code} | {meaning} |"));
        assert_eq!(rows, expected);
    }
}
