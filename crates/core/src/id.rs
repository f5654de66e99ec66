//! Names of things: ids, sequence numbers, cursors. Each is a type of its own, so that none can
//! stand where another is meant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id, name or namespace, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 1_024;

/// A value from outside that cannot be accepted, and why.
///
/// Displays as ``toolName is empty``: the field by its name on the wire, then the problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct Invalid {
    /// The field by its name on the wire, such as `toolName`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub problem: String,
}

impl Invalid {
    /// Says what is wrong with a field.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// Says that a field is longer than allowed; both sizes are in bytes.
    #[must_use]
    pub fn too_long(field: &str, bytes: usize, bytes_max: usize) -> Self {
        let (bytes, bytes_max) = (grouped(bytes), grouped(bytes_max));
        Self::new(
            field,
            format!("is {bytes} bytes, more than the {bytes_max} allowed"),
        )
    }
}

/// Writes a number with a comma between thousands, as messages to people do.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn checked(field: &str, text: &str, may_be_empty: bool) -> Result<(), Invalid> {
    if text.is_empty() && !may_be_empty {
        return Err(Invalid::new(field, "is empty"));
    }
    if text.len() > ID_BYTES_MAX {
        return Err(Invalid::too_long(field, text.len(), ID_BYTES_MAX));
    }
    // PostgreSQL cannot keep a NUL in text, so no store is asked to.
    if text.contains('\0') {
        return Err(Invalid::new(field, "contains a NUL character"));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $may_be_empty:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// When the text is longer than [`ID_BYTES_MAX`], contains a NUL character, or is empty
            /// where that is not allowed.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, Invalid> {
                let text = text.into();
                checked($field, &text, $may_be_empty)?;
                Ok(Self(text))
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// A task's id: any text, unique within its namespace. Those that Sidestream makes begin with the time
    /// and hold 128 random bits, so that knowing one may serve as the right to see the task.
    TaskId, "taskId", true
}

impl TaskId {
    /// Enough of it for people to tell it apart: its last eight characters. What it begins with is alike in
    /// tasks that were made together.
    #[must_use]
    pub fn short(&self) -> &str {
        let text = self.as_str();
        let start = text.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
        &text[start..]
    }
}
text_id! {
    /// A tenant's room: its tasks, streams and keys are invisible from every other. Exact: `a` never
    /// sees `a-b`, and the empty one is a room like any other.
    Namespace, "namespace", true
}
text_id! {
    /// The name of a tool, under which its handler is registered.
    ToolName, "toolName", false
}
text_id! {
    /// The id that the model gave the call of a tool.
    ToolCallId, "toolCallId", false
}
text_id! {
    /// The agent on whose behalf a task runs.
    AgentId, "agentId", false
}
text_id! {
    /// One call of an agent: the agent's run, never an attempt of ours.
    RunId, "runId", false
}
text_id! {
    /// The conversation that a task belongs to.
    ThreadId, "threadId", false
}
text_id! {
    /// The user or object that a task belongs to.
    ResourceId, "resourceId", false
}
text_id! {
    /// Who holds a lease: one per worker process.
    WorkerId, "workerId", false
}

impl Default for Namespace {
    /// The namespace of those who name none: `default`.
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

/// An event's place in the log: 1, 2, 3, … in commit order, without a hole, never reused (L2).
/// `Seq(0)` stands before the first event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a worker's try at a task: 1, 2, 3, …; `Attempt(0)` is a task never tried.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a worker's report of an attempt: 1, 2, 3, … in the order in which they are made;
/// `ReportNumber(0)` is a report without one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ReportNumber(pub u32);

impl ReportNumber {
    /// A report that nobody numbered.
    pub const NONE: Self = Self(0);

    /// The number of the report after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The name of one log. Made with the database, and made anew when an older copy of it is restored, or
/// found in its place, so that a cursor into another log, or into a lost future, is told apart.
///
/// An older copy put back by hand is found by the mark beside the database (SQLite: `sidestream.lock`); so
/// is a log that may have lost commits to a power cut. A copy of the whole directory brings its own mark,
/// and PostgreSQL has none: there, cursors beyond the end of the log are told apart, and no others.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Wraps the name of a log.
    ///
    /// # Errors
    /// When the text is not made of 1 to 64 ASCII letters and digits.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric());
        if text.is_empty() || text.len() > 64 || !plain {
            return Err(Invalid::new(
                "epoch",
                "is not 1 to 64 ASCII letters and digits",
            ));
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a stream, to resume from: everything up to and including `seq` has been seen.
///
/// On the wire it is `EPOCH-SEQ`, or a bare `SEQ` where the log is not named.
///
/// ```
/// use sidestream_core::{Cursor, Seq};
///
/// let cursor: Cursor = "k3v9-41".parse()?;
/// assert_eq!(cursor.seq, Seq(41));
/// assert_eq!(cursor.to_string(), "k3v9-41");
/// assert_eq!("41".parse::<Cursor>()?.epoch, None);
/// assert!("forty-one".parse::<Cursor>().is_err());
/// # Ok::<(), sidestream_core::Invalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The log that the place is in; `None` means whichever log is there.
    pub epoch: Option<Epoch>,
    /// The last event seen.
    pub seq: Seq,
}

impl Cursor {
    /// A place in a named log.
    #[must_use]
    pub fn new(epoch: Epoch, seq: Seq) -> Self {
        Self {
            epoch: Some(epoch),
            seq,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.epoch {
            Some(epoch) => write!(f, "{epoch}-{}", self.seq),
            None => self.seq.fmt(f),
        }
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (epoch, digits) = match text.rsplit_once('-') {
            Some((epoch, digits)) => (Some(epoch), digits),
            None => (None, text),
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let seq = digits.parse().ok().filter(|_| is_number);
        let invalid = || Invalid::new("cursor", "is neither EPOCH-SEQ nor a number");
        Ok(Self {
            epoch: epoch.map(Epoch::new).transpose().map_err(|_| invalid())?,
            seq: Seq(seq.ok_or_else(invalid)?),
        })
    }
}
