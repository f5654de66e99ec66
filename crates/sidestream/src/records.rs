//! Records: tasks that their owner elsewhere runs, kept for it and shown beside our own (WIRE part 3).
//!
//! An agent SDK saves, loads and lists its own background tasks through this. The owner's document
//! comes back as it was given, fields unknown to us included. That a record changed is an event of the
//! log like any other, so whoever watches sees it.
//!
//! ```
//! use std::sync::Arc;
//! use sidestream::core::{Json, Namespace, Record};
//! use sidestream::records::{RecordFilter, Records};
//! use sidestream::store::MemoryStore;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! let records = Records::new(store, Namespace::default(), Some(86_400_000));
//! let document = Json::from_text(r#"{"id":"a","subagentType":"researcher","description":"looks up",
//!     "status":"running","createdAt":"2026-11-21T10:00:00Z","updatedAt":"2026-11-21T10:00:00Z"}"#)?;
//! records.save(Record::from_document(document.clone())?).await?;
//!
//! let found = records.load(&"a".parse()?).await?.expect("it was saved");
//! assert_eq!(found.document(), &document);
//! assert_eq!(records.list(&RecordFilter::all()).await?.len(), 1);
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use serde_json::Map;
use sidestream_core::record::{self, RecordStatus};
use sidestream_core::{Namespace, Record, Rejection, Status, TaskId, Timestamp};

use crate::error::Error;
use crate::store::{Answer, ListQuery, PageStart, Request, Store};
use crate::writer::Writer;

/// What the error of a task says whose owner was restarted while it ran.
pub const INTERRUPTED: &str = "Task interrupted by agent restart";

/// How many records are read, and changed, at a time.
const PAGE: usize = 500;
/// A page ends with the record that brings it to so many bytes.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// The records of one namespace.
#[derive(Debug, Clone)]
pub struct Records {
    store: Arc<dyn Store>,
    /// Where to write: with everyone else's requests, where there is a manager.
    writer: Option<Writer>,
    namespace: Namespace,
    expiration_ms: Option<u64>,
}

/// Which records to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Any of these; all records, if `None`. An empty list matches nothing.
    pub statuses: Option<Vec<RecordStatus>>,
}

impl RecordFilter {
    /// Every record.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Records that stand in any of these statuses.
    #[must_use]
    pub fn statuses(statuses: impl IntoIterator<Item = RecordStatus>) -> Self {
        Self {
            statuses: Some(statuses.into_iter().collect()),
        }
    }
}

/// Which failed records to find.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedFilter {
    /// Whose error contains this text. Those without an error, or with an empty one, do not match.
    pub error_contains: Option<String>,
    /// Made at this time or later. Those whose time cannot be read do not match.
    pub min_created_at: Option<Timestamp>,
    /// Made at this time or earlier. Those whose time cannot be read do not match.
    pub max_created_at: Option<Timestamp>,
}

impl FailedFilter {
    fn matches(&self, record: &Record) -> bool {
        let is_meant = |text: &String| {
            let error = record.error().filter(|error| !error.is_empty());
            error.is_some_and(|error| error.contains(text.as_str()))
        };
        let made = |is_in: &dyn Fn(Timestamp) -> bool| record.created_at().is_some_and(is_in);
        self.error_contains.as_ref().is_none_or(is_meant)
            && self.min_created_at.is_none_or(|min| made(&|at| at >= min))
            && self.max_created_at.is_none_or(|max| made(&|at| at <= max))
    }
}

type Result<T> = std::result::Result<T, Error>;

impl Records {
    /// The records of a namespace. Ended ones expire after `expiration_ms` milliseconds; never, if
    /// `None`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, namespace: Namespace, expiration_ms: Option<u64>) -> Self {
        Self {
            store,
            writer: None,
            namespace,
            expiration_ms,
        }
    }

    pub(crate) fn written_by(mut self, writer: Writer) -> Self {
        self.writer = Some(writer);
        self
    }

    /// Keeps a record, in place of the one under its id if there is one: nothing of that is left. Any
    /// status may follow any other.
    ///
    /// # Errors
    /// [`Rejection::OwnedHere`] when a task that was dispatched here has the id.
    pub async fn save(&self, record: Record) -> Result<()> {
        let answers = self.commit(vec![self.request(record)]).await?;
        for answer in answers {
            answer?;
        }
        Ok(())
    }

    /// A record, as its owner saved it. One that has expired is there until it is cleaned up.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn load(&self, id: &TaskId) -> Result<Option<Arc<Record>>> {
        let task = self.store.get(&self.namespace, id).await?;
        Ok(task.and_then(|task| task.record))
    }

    /// Is there a record under the id?
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn exists(&self, id: &TaskId) -> Result<bool> {
        Ok(self.load(id).await?.is_some())
    }

    /// The ids of the records that match.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, filter: &RecordFilter) -> Result<Vec<TaskId>> {
        let records = self.list_tasks(filter).await?;
        Ok(records.iter().map(|record| record.id().clone()).collect())
    }

    /// The records that match, as their owner saved them, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list_tasks(&self, filter: &RecordFilter) -> Result<Vec<Arc<Record>>> {
        let mut records = Vec::new();
        let mut pages = self.pages(filter);
        while let Some(page) = pages.next().await? {
            records.extend(page);
        }
        Ok(records)
    }

    /// Removes a record, however it stands. Was it there?
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn delete(&self, id: &TaskId) -> Result<bool> {
        // A task that was dispatched here is not the owner's to remove.
        if !self.exists(id).await? {
            return Ok(false);
        }
        Ok(self.remove(vec![id.clone()]).await? > 0)
    }

    /// Removes the ended records that have expired. How many?
    ///
    /// One that its owner saves anew in the very moment between being read and being removed is
    /// removed all the same.
    ///
    /// # Errors
    /// When the store cannot be written. What was removed until then is gone.
    pub async fn cleanup(&self) -> Result<u64> {
        self.remove_expired(self.expiration_ms).await
    }

    /// Removes the ended records that ended more than so many milliseconds ago. How many?
    ///
    /// # Errors
    /// When the store cannot be written. What was removed until then is gone.
    pub async fn cleanup_stale(&self, older_than_ms: u64) -> Result<u64> {
        self.remove_expired(Some(older_than_ms)).await
    }

    /// Fails the records that are still running, with [`INTERRUPTED`] as their error: for an owner
    /// that has just been restarted. What they had of a result stays. How many?
    ///
    /// # Errors
    /// When the store cannot be written. What was failed until then stays so.
    pub async fn recover_running(&self) -> Result<u64> {
        let mut failed = 0;
        let mut pages = self.pages(&RecordFilter::statuses([RecordStatus::Running]));
        while let Some(page) = pages.next().await? {
            let mut requests = Vec::new();
            for record in page {
                requests.push(self.request(self.interrupted(&record)?));
            }
            let answers = self.commit(requests).await?;
            failed += answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        }
        Ok(failed)
    }

    /// The failed records that match: for an owner that would try them again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover_failed(&self, filter: &FailedFilter) -> Result<Vec<Arc<Record>>> {
        let failed = RecordFilter::statuses([RecordStatus::Failed]);
        let mut records = self.list_tasks(&failed).await?;
        records.retain(|record| filter.matches(record));
        Ok(records)
    }

    async fn remove_expired(&self, expiration_ms: Option<u64>) -> Result<u64> {
        let ended = RecordFilter::statuses([
            RecordStatus::Completed,
            RecordStatus::Failed,
            RecordStatus::Killed,
        ]);
        let now = self.store.now();
        let is_expired =
            |record: &Arc<Record>| record::should_expire(&record.to_map(), expiration_ms, now);
        let mut removed = 0;
        let mut pages = self.pages(&ended);
        while let Some(page) = pages.next().await? {
            let expired = page.iter().filter(|record| is_expired(record));
            let ids = expired.map(|record| record.id().clone()).collect();
            removed += self.remove(ids).await?;
        }
        Ok(removed)
    }

    async fn remove(&self, ids: Vec<TaskId>) -> Result<u64> {
        let delete = |id| Request::Delete {
            namespace: self.namespace.clone(),
            id,
        };
        let answers = self.commit(ids.into_iter().map(delete).collect()).await?;
        let removed = answers.iter().map(|answer| match answer {
            Ok(Answer::Removed(count)) => *count,
            // Somebody else was faster.
            _ => 0,
        });
        Ok(removed.sum())
    }

    /// The record of a task that its owner did not bring to an end.
    fn interrupted(&self, record: &Record) -> Result<Record> {
        let now = self.store.now();
        let mut changes = Map::new();
        changes.insert("status".into(), RecordStatus::Failed.as_str().into());
        changes.insert("error".into(), INTERRUPTED.into());
        changes.insert("completedAt".into(), now.to_string().into());
        let document = record::update(record.to_map(), changes, now);
        Ok(Record::from_map(document)?)
    }

    fn request(&self, record: Record) -> Request {
        Request::Record {
            namespace: self.namespace.clone(),
            record: Arc::new(record),
        }
    }

    /// The one place where records are written.
    async fn commit(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<std::result::Result<Answer, Rejection>>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let Some(writer) = &self.writer else {
            return Ok(self.store.commit(requests).await?.answers);
        };
        let mut answers = Vec::with_capacity(requests.len());
        for answer in writer.submit_all(requests).await {
            answers.push(match answer {
                Ok(answer) => Ok(answer),
                Err(Error::Rejected(rejection)) => Err(rejection),
                Err(error) => return Err(error),
            });
        }
        Ok(answers)
    }

    fn pages(&self, filter: &RecordFilter) -> Pages<'_> {
        let mut query = ListQuery::new(self.namespace.clone(), PAGE);
        query.bytes_max = PAGE_BYTES_MAX;
        query.is_external = Some(true);
        let statuses = filter.statuses.iter().flatten().copied();
        query.statuses = statuses.map(Status::from).collect();
        let is_empty = filter.statuses.as_ref().is_some_and(Vec::is_empty);
        Pages {
            store: &*self.store,
            query: (!is_empty).then_some(query),
        }
    }
}

/// Records, a page at a time.
struct Pages<'a> {
    store: &'a dyn Store,
    /// The next page; `None` after the last.
    query: Option<ListQuery>,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Arc<Record>>>> {
        let Some(mut query) = self.query.take() else {
            return Ok(None);
        };
        let page = self.store.list(&query).await?;
        self.query = page.next.map(|next| {
            query.start = PageStart::After(next);
            query
        });
        let records = page.tasks.into_iter().filter_map(|task| task.record);
        Ok(Some(records.collect()))
    }
}
