//! The reference store: everything in memory, behind one lock.
//!
//! It is meant to be obviously right, so that the other stores can be measured against it, and fast
//! enough for simulations and for those who need no durability. Each change of a task goes through
//! `Transaction::change`, and each saved row through `State::save`, which keeps every index in step.
//!
//! It is deterministic: the same requests at the same times give the same answers, in the same order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{Epoch, LogEntry, Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp};
use tokio::sync::watch;

use super::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, PageKey, PageStart, Pin, Request,
    Result, Snapshot, SnapshotQuery, Store,
};
use crate::chance::{self, SystemChance};
use crate::clock::{Clock, SystemClock};

mod log;
mod queue;
mod transaction;

use log::{Log, suspend_payload};
use queue::Queue;
use transaction::Transaction;

/// Keeps everything in memory: gone when it is dropped.
///
/// ```
/// use sidestream::store::{MemoryStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sidestream::StoreError> {
/// let store = MemoryStore::new();
/// assert_eq!(store.head().await?.seq.0, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    is_exclusive: bool,
    state: Mutex<State>,
    doorbell: watch::Sender<Seq>,
}

impl MemoryStore {
    /// An empty store that goes by the machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store that goes by a clock of the caller's.
    ///
    /// # Panics
    /// When the operating system gives no randomness for the name of the log.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            epoch: chance::epoch(&SystemChance),
            is_exclusive: false,
            state: Mutex::default(),
            doorbell: watch::Sender::new(Seq(0)),
        }
    }

    /// Names the log, instead of by chance: for simulations, which must be the same each time.
    #[must_use]
    pub fn with_epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// Says whether one manager has the store for itself: see [`Store::is_exclusive`]. It is shared
    /// unless said otherwise.
    #[must_use]
    pub fn exclusive(mut self, is_exclusive: bool) -> Self {
        self.is_exclusive = is_exclusive;
        self
    }

    fn head_of(&self, state: &State) -> Head {
        Head {
            epoch: self.epoch.clone(),
            seq: state.log.head(),
            floor: state.log.floor(),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed> {
        let mut state = self.state.lock();
        let mut transaction = Transaction {
            // Read behind the lock: events are in the order of their times, as far as the clock is.
            now: self.clock.now(),
            state: &mut state,
            entries: Vec::new(),
        };
        let answers = batch
            .into_iter()
            .map(|request| transaction.carry_out(request))
            .collect();
        let entries = transaction.entries;
        if !entries.is_empty() {
            self.doorbell.send_replace(state.log.head());
        }
        Ok(Committed { answers, entries })
    }

    async fn head(&self) -> Result<Head> {
        Ok(self.head_of(&self.state.lock()))
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>> {
        let state = self.state.lock();
        let key = state.key_of(namespace, id);
        Ok(key.map(|key| state.tasks[&key].clone()))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        Ok(self.state.lock().list(query))
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        let state = self.state.lock();
        Ok(Snapshot {
            head: self.head_of(&state),
            pins: state.pins(query).into(),
        })
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        let state = self.state.lock();
        Ok(pins.iter().filter_map(|pin| state.resolve(pin)).collect())
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        let state = self.state.lock();
        let mut entries = match &query.task {
            None => state.log.after(query.after, query.limit),
            Some(task) => state.log.of_task_after(task, query.after, query.limit),
        };
        let mut bytes = 0;
        let fits = |entry: &LogEntry| {
            let fits = bytes < query.bytes_max;
            bytes += entry.payload_bytes();
            fits
        };
        let fitting = entries.iter().map(fits).take_while(|it| *it).count();
        entries.truncate(fitting);
        let is_full = entries.len() >= query.limit || bytes >= query.bytes_max;
        let head = self.head_of(&state);
        let through = match entries.last() {
            _ if !is_full => head.seq,
            Some(last) => last.event.seq,
            None => query.after,
        };
        Ok(LogPage {
            entries,
            head,
            through,
        })
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>> {
        let state = self.state.lock();
        let thread = (namespace.clone(), thread.clone());
        let untold = state.untold.get(&thread).into_iter().flatten();
        let tasks = untold.take(limit).map(|(_, key)| state.tasks[key].clone());
        Ok(tasks.collect())
    }

    async fn counts(&self) -> Result<HashMap<Status, u64>> {
        let state = self.state.lock();
        let counts = state.by_status.iter();
        Ok(counts
            .map(|(status, keys)| (*status, keys.len() as u64))
            .collect())
    }

    async fn keys(&self) -> Result<Vec<ApiKey>> {
        let mut keys = self.state.lock().api_keys.clone();
        keys.sort_by_key(|key| key.created_at);
        Ok(keys)
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        self.doorbell.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The rows, the log, and the indexes over them. `key` is a task's own number, in the order of
/// dispatch, never used again.
#[derive(Debug, Default)]
struct State {
    log: Log,
    last_key: i64,
    tasks: BTreeMap<i64, Task>,
    by_id: BTreeMap<(Namespace, TaskId), i64>,
    by_repetition: BTreeMap<(Namespace, String), i64>,
    by_status: BTreeMap<Status, BTreeSet<i64>>,
    queue: Queue,
    /// Of running tasks: when the lease ends.
    by_lease_end: BTreeSet<(Timestamp, i64)>,
    /// Of running tasks: when the attempt times out.
    by_deadline: BTreeSet<(Timestamp, i64)>,
    /// Of ended tasks: completed ones apart from the others, by when they ended.
    by_end: BTreeMap<bool, BTreeSet<(Timestamp, i64)>>,
    /// Of ended tasks of a thread that nobody has acknowledged: by the event that ended them.
    untold: BTreeMap<(Namespace, ThreadId), BTreeSet<(Seq, i64)>>,
    /// In the order in which they were added.
    api_keys: Vec<ApiKey>,
}

impl State {
    fn key_of(&self, namespace: &Namespace, id: &TaskId) -> Option<i64> {
        let id = (namespace.clone(), id.clone());
        self.by_id.get(&id).copied()
    }

    fn new_key(&mut self) -> i64 {
        self.last_key += 1;
        self.last_key
    }

    /// Saves a row, or removes it, and every index with it.
    fn save(&mut self, key: i64, task: Option<Task>) {
        if let Some(old) = self.tasks.remove(&key) {
            self.leave_indexes(key, &old);
        }
        if let Some(new) = task {
            self.enter_indexes(key, &new);
            self.tasks.insert(key, new);
        }
    }

    fn enter_indexes(&mut self, key: i64, task: &Task) {
        let identity = task.identity();
        let namespace = || identity.namespace.clone();
        self.by_id.insert((namespace(), identity.id.clone()), key);
        if let Some(repetition) = task.spec.repetition_key() {
            self.by_repetition.insert((namespace(), repetition), key);
        }
        self.by_status.entry(task.status).or_default().insert(key);
        // What an owner elsewhere runs takes no slot, has no lease, and expires as its owner says.
        if task.is_external() {
            return;
        }
        self.queue.add(key, task);
        if let Some(lease) = &task.lease {
            self.by_lease_end.insert((lease.until, key));
        }
        if let Some(deadline) = task.deadline() {
            self.by_deadline.insert((deadline, key));
        }
        let Some(ended_at) = ended_at(task) else {
            return;
        };
        let alike = self.by_end.entry(is_completed(task)).or_default();
        alike.insert((ended_at, key));
        if let Some(thread) = &identity.thread_id {
            let thread = (namespace(), thread.clone());
            let untold = self.untold.entry(thread).or_default();
            untold.insert((task.seq, key));
        }
    }

    fn leave_indexes(&mut self, key: i64, task: &Task) {
        let identity = task.identity();
        let namespace = || identity.namespace.clone();
        self.by_id.remove(&(namespace(), identity.id.clone()));
        if let Some(repetition) = task.spec.repetition_key() {
            self.by_repetition.remove(&(namespace(), repetition));
        }
        remove_from(&mut self.by_status, &task.status, &key);
        if task.is_external() {
            return;
        }
        self.queue.remove(key, task);
        if let Some(lease) = &task.lease {
            self.by_lease_end.remove(&(lease.until, key));
        }
        if let Some(deadline) = task.deadline() {
            self.by_deadline.remove(&(deadline, key));
        }
        let Some(ended_at) = ended_at(task) else {
            return;
        };
        remove_from(&mut self.by_end, &is_completed(task), &(ended_at, key));
        if let Some(thread) = &identity.thread_id {
            let thread = (namespace(), thread.clone());
            remove_from(&mut self.untold, &thread, &(task.seq, key));
        }
    }

    fn is_untold(&self, key: i64) -> bool {
        let task = &self.tasks[&key];
        let identity = task.identity();
        identity.thread_id.clone().is_some_and(|thread| {
            let thread = (identity.namespace.clone(), thread);
            let untold = self.untold.get(&thread);
            untold.is_some_and(|untold| untold.contains(&(task.seq, key)))
        })
    }

    fn list(&self, query: &ListQuery) -> Page {
        let place = |key: i64, task: &Task| PageKey {
            time: query.order_by.of(task),
            created_at: task.created_at,
            key,
        };
        let mut places: Vec<_> = self
            .of_namespace(&query.namespace)
            .filter(|(_, task)| matches(query, task))
            .map(|(key, task)| place(key, task))
            .collect();
        places.sort_unstable();
        if query.is_descending {
            places.reverse();
        }
        let total = places.len() as u64;
        let start = match query.start {
            PageStart::Beginning => 0,
            PageStart::Offset(offset) => offset.min(places.len()),
            PageStart::After(last) => places.partition_point(|place| {
                if query.is_descending {
                    *place >= last
                } else {
                    *place <= last
                }
            }),
        };
        let end = start.saturating_add(query.limit).min(places.len());
        let tasks = places[start..end]
            .iter()
            .map(|place| &self.tasks[&place.key]);
        let end = start + fitting(tasks, query.page_bytes_max());
        let page = &places[start..end];
        let last = page.last().filter(|_| end < places.len());
        Page {
            tasks: page
                .iter()
                .map(|place| self.tasks[&place.key].clone())
                .collect(),
            total,
            next: last.copied(),
        }
    }

    fn of_namespace(&self, namespace: &Namespace) -> impl Iterator<Item = (i64, &Task)> {
        let first = TaskId::new("").expect("a task's id may be empty");
        self.by_id
            .range((namespace.clone(), first)..)
            .take_while(move |((of, _), _)| of == namespace)
            .map(|(_, key)| (*key, &self.tasks[key]))
    }

    fn pins(&self, query: &SnapshotQuery) -> Vec<Pin> {
        let statuses: BTreeSet<Status> = query.statuses.iter().copied().collect();
        let keys = statuses
            .iter()
            .filter_map(|status| self.by_status.get(status));
        let mut pins: Vec<(Timestamp, Pin)> = keys
            .flatten()
            .map(|key| (*key, &self.tasks[key]))
            .filter(|(_, task)| task.identity().namespace == query.namespace)
            .filter(|(_, task)| query.filter.matches_task(task.identity()))
            .map(|(key, task)| (task.created_at, pin(key, task)))
            .collect();
        pins.sort_unstable_by_key(|(created_at, pin)| (*created_at, pin.key));
        pins.into_iter().map(|(_, pin)| pin).collect()
    }

    fn resolve(&self, pin: &Pin) -> Option<SnapshotTask> {
        let row = self.tasks.get(&pin.key);
        let identity = match row {
            Some(task) => task.identity(),
            None => self.log.identity(pin.key)?,
        };
        let suspend_payload = match row.filter(|task| task.seq == pin.seq) {
            Some(unchanged) => unchanged.suspend_payload.clone(),
            None => self.log.entry(pin.seq).and_then(suspend_payload),
        };
        Some(SnapshotTask {
            identity: Arc::clone(identity),
            status: pin.status,
            attempt: pin.attempt,
            since: pin.since,
            suspend_payload,
        })
    }
}

fn is_completed(task: &Task) -> bool {
    task.status == Status::Completed
}

fn ended_at(task: &Task) -> Option<Timestamp> {
    task.completed_at.filter(|_| task.status.is_terminal())
}

fn pin(key: i64, task: &Task) -> Pin {
    let since = match task.status {
        Status::Running => task.started_at,
        Status::Suspended => task.suspended_at,
        _ => None,
    };
    Pin {
        key,
        status: task.status,
        attempt: task.attempt,
        since: since.unwrap_or(task.updated_at),
        seq: task.seq,
    }
}

fn matches(query: &ListQuery, task: &Task) -> bool {
    fn is<T: PartialEq>(wanted: Option<&T>, found: Option<&T>) -> bool {
        wanted.is_none() || wanted == found
    }
    let identity = task.identity();
    let date = query.date_field.of(task);
    let is_dated = query.from.is_some() || query.to.is_some();
    let is_in_time = !is_dated
        || date.is_some_and(|date| {
            query.from.is_none_or(|from| date >= from) && query.to.is_none_or(|to| date < to)
        });
    (query.statuses.is_empty() || query.statuses.contains(&task.status))
        && is(query.agent_id.as_ref(), identity.agent_id.as_ref())
        && is(query.run_id.as_ref(), identity.run_id.as_ref())
        && is(query.thread_id.as_ref(), identity.thread_id.as_ref())
        && is(query.resource_id.as_ref(), identity.resource_id.as_ref())
        && is(query.tool_name.as_ref(), Some(&identity.tool_name))
        && is(query.tool_call_id.as_ref(), identity.tool_call_id.as_ref())
        && is(query.is_external.as_ref(), Some(&task.is_external()))
        && is_in_time
}

/// Removes a value from the set under `key`, and the set with its last value. Was it there?
fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) -> bool {
    let Some(set) = sets.get_mut(key) else {
        return false;
    };
    let was_there = set.remove(value);
    if set.is_empty() {
        sets.remove(key);
    }
    was_there
}

/// How many tasks of a list a page ends with.
fn fitting<'t>(tasks: impl IntoIterator<Item = &'t Task>, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |task: &Task| {
        let fits = bytes < bytes_max;
        bytes += task.payload_bytes();
        fits
    };
    tasks.into_iter().map(fits).take_while(|fits| *fits).count()
}
