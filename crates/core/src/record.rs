//! A background task as an agent SDK keeps it (WIRE part 3): a document of its owner's, whose state
//! the owner reports and we keep.
//!
//! The document is kept as it came, fields unknown to us included; what we need of it is read once.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{Invalid, TaskId};
use crate::json::Json;
use crate::task::{PAYLOAD_BYTES_MAX, Status};
use crate::time::Timestamp;

/// How long an ended record is kept by default: 24 hours, in milliseconds.
pub const EXPIRATION_MS_DEFAULT: u64 = 86_400_000;

/// The statuses of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordStatus {
    /// Waits.
    Pending,
    /// Its owner works on it.
    Running,
    /// Ended with a result.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because somebody said so.
    Killed,
}

impl RecordStatus {
    /// Reads the word on the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "killed" => Self::Killed,
            _ => return None,
        })
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Killed => "killed",
        }
    }

    /// Has the task ended?
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Killed)
    }

    /// How a task of ours is shown to those who know records only.
    #[must_use]
    pub fn of(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running | Status::Suspended => Self::Running,
            Status::Completed => Self::Completed,
            Status::Failed | Status::TimedOut => Self::Failed,
            Status::Cancelled => Self::Killed,
        }
    }
}

impl From<RecordStatus> for Status {
    fn from(status: RecordStatus) -> Self {
        match status {
            RecordStatus::Pending => Self::Pending,
            RecordStatus::Running => Self::Running,
            RecordStatus::Completed => Self::Completed,
            RecordStatus::Failed => Self::Failed,
            RecordStatus::Killed => Self::Cancelled,
        }
    }
}

/// A record, checked. Equal to another when the documents are equal as JSON.
#[derive(Debug, Clone)]
pub struct Record {
    document: Json,
    fields: Fields,
}

/// What we read of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    id: TaskId,
    subagent_type: String,
    description: String,
    status: RecordStatus,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
    result: Option<Json>,
    error: Option<String>,
    metadata: Option<Json>,
}

impl Record {
    /// Checks a document: `id`, `subagentType`, `description`, `createdAt` and `updatedAt` are
    /// texts, `status` is one of the five; nothing else is looked at.
    ///
    /// # Errors
    /// Names the field that is not as it must be.
    pub fn from_document(document: Json) -> Result<Self, Invalid> {
        if document.bytes() > PAYLOAD_BYTES_MAX {
            return Err(Invalid::too_long(
                "record",
                document.bytes(),
                PAYLOAD_BYTES_MAX,
            ));
        }
        let map: Map<String, Value> = document.parse().map_err(|_| {
            Invalid::new(
                "record",
                match document.is_object() {
                    true => "holds a number larger than 1.8e308, or is nested more than 127 deep",
                    false => "is not an object",
                },
            )
        })?;
        let fields = Fields::read(&map)?;
        Ok(Self { document, fields })
    }

    /// The same as [`Record::from_document`], from a map.
    ///
    /// # Errors
    /// Names the field that is not as it must be.
    pub fn from_map(map: Map<String, Value>) -> Result<Self, Invalid> {
        Self::from_document(Json::from(Value::Object(map)))
    }

    /// The document, as its owner gave it.
    #[must_use]
    pub fn document(&self) -> &Json {
        &self.document
    }

    /// The document as a map.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        self.document.parse().expect("checked to be an object")
    }

    /// The owner's own id of the task.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.fields.id
    }

    /// Which kind of subagent does the work.
    #[must_use]
    pub fn subagent_type(&self) -> &str {
        &self.fields.subagent_type
    }

    /// For people.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.fields.description
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> RecordStatus {
        self.fields.status
    }

    /// When it was made, where `createdAt` can be read as a time.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        self.fields.created_at
    }

    /// When its owner last changed it, where `updatedAt` can be read as a time.
    #[must_use]
    pub fn updated_at(&self) -> Option<Timestamp> {
        self.fields.updated_at
    }

    /// When it ended, where `completedAt` is there and can be read as a time.
    #[must_use]
    pub fn completed_at(&self) -> Option<Timestamp> {
        self.fields.completed_at
    }

    /// What it ended with.
    #[must_use]
    pub fn result(&self) -> Option<&Json> {
        self.fields.result.as_ref()
    }

    /// Why it failed.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.fields.error.as_deref()
    }

    /// Any object of its owner's.
    #[must_use]
    pub fn metadata(&self) -> Option<&Json> {
        self.fields.metadata.as_ref()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        self.document == other.document || self.to_map() == other.to_map()
    }
}

impl Eq for Record {}

impl Fields {
    fn read(map: &Map<String, Value>) -> Result<Self, Invalid> {
        let text = |field: &str| match map.get(field) {
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(Invalid::new(field, "is not a text")),
            None => Err(Invalid::new(field, "is missing")),
        };
        let status = text("status")?;
        let (created_at, updated_at) = (text("createdAt")?, text("updatedAt")?);
        let present = |field: &str| map.get(field).filter(|value| !value.is_null());
        Ok(Self {
            id: TaskId::new(text("id")?).map_err(|e| Invalid::new("id", e.problem))?,
            subagent_type: text("subagentType")?.to_owned(),
            description: text("description")?.to_owned(),
            status: RecordStatus::parse(status).ok_or_else(|| {
                let words = "pending, running, completed, failed, killed";
                Invalid::new("status", format!("is none of {words}"))
            })?,
            created_at: lenient_time(&Value::from(created_at)),
            updated_at: lenient_time(&Value::from(updated_at)),
            completed_at: present("completedAt").and_then(lenient_time),
            result: present("result").cloned().map(Json::from),
            error: present("error").map(as_text),
            metadata: present("metadata")
                .filter(|value| value.is_object())
                .cloned()
                .map(Json::from),
        })
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Is a value a record? The check that [`Record::from_document`] makes, without its limits.
#[must_use]
pub fn is_record(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|map| Fields::read(map).is_ok())
}

/// Makes a record's document: the fields given, and `status` pending, `createdAt` and `updatedAt`
/// now, where they are not. `updatedAt` is always now.
#[must_use]
pub fn create(given: Map<String, Value>, now: Timestamp) -> Map<String, Value> {
    let now = Value::from(now.to_string());
    let mut document = Map::new();
    document.insert("status".into(), "pending".into());
    document.insert("createdAt".into(), now.clone());
    document.extend(given);
    document.insert("updatedAt".into(), now);
    document
}

/// Changes a record's document: each field given replaces its namesake whole, and `updatedAt`
/// becomes now.
#[must_use]
pub fn update(
    mut document: Map<String, Value>,
    changes: Map<String, Value>,
    now: Timestamp,
) -> Map<String, Value> {
    document.extend(changes);
    document.insert("updatedAt".into(), now.to_string().into());
    document
}

/// Has an ended record outlived its expiry, strictly? Counted from `completedAt`, else `updatedAt`.
/// Without an expiry (`None`), or where the time cannot be read, it never does.
#[must_use]
pub fn should_expire(
    document: &Map<String, Value>,
    expiration_ms: Option<u64>,
    now: Timestamp,
) -> bool {
    let status = document.get("status").and_then(Value::as_str);
    let is_ended = status
        .and_then(RecordStatus::parse)
        .is_some_and(RecordStatus::is_terminal);
    let ended_at = match document.get("completedAt") {
        None | Some(Value::Null) => document.get("updatedAt"),
        completed_at => completed_at,
    };
    let (Some(at), Some(expiration_ms)) = (ended_at.and_then(lenient_time), expiration_ms) else {
        return false;
    };
    let age_ms = now.ms().saturating_sub(at.ms());
    is_ended && age_ms > i64::try_from(expiration_ms).unwrap_or(i64::MAX)
}

/// Reads a time the way JavaScript's `Date` does, in UTC, as far as records in the wild need it: any
/// RFC 3339 form, a missing zone or time of day, a space for the `T`, unpadded numbers, a bare year
/// or number, and milliseconds as a number.
fn lenient_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => number.as_f64().map(|ms| Timestamp::from_ms(ms as i64)),
        Value::String(text) => lenient_text(text.trim()),
        _ => None,
    }
}

fn lenient_text(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    if let Ok(at) = format!("{text}Z").parse::<Timestamp>() {
        return Some(at);
    }
    // `0` to `49` are years of this century, `50` to `99` of the last: so V8 reads them.
    let year = |digits: &str| -> Option<i16> {
        let year: i16 = digits.parse().ok()?;
        Some(match year {
            0..=49 if digits.len() <= 2 => year + 2000,
            50..=99 if digits.len() <= 2 => year + 1900,
            _ => year,
        })
    };
    let parts: Vec<&str> = text.split('-').collect();
    let (y, m, d) = match parts.as_slice() {
        [y] => (year(y)?, 1, 1),
        [y, m] => (year(y)?, m.parse().ok()?, 1),
        [y, m, d] => (year(y)?, m.parse().ok()?, d.parse().ok()?),
        _ => return None,
    };
    let at = jiff::civil::Date::new(y, m, d)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Some(Timestamp::from_ms(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_cannot_be_read_is_told_why() {
        let problem = |text: &str| {
            let document = Json::from_text(text).expect("it is JSON");
            Record::from_document(document)
                .expect_err("it is no record")
                .to_string()
        };
        assert!(problem("[]").contains("is not an object"));
        assert!(problem(r#"{"id":"a","metadata":1e400}"#).contains("1.8e308"));
        let deep = format!(r#"{{"metadata":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        assert!(problem(&deep).contains("127 deep"));
    }
}
