//! Every promise that a store can break, once. A store joins by one line, and can leave nothing out.
//!
//! A promise is a function over a [`World`]: a fresh store, a clock that is turned by hand, and all
//! that was ever committed. After each promise the world is audited as a whole: whatever was done in
//! it, the log has no hole (L2), each row is the fold of its events (L3), and the counts are right.
//!
//! ```
//! # use std::sync::{Arc, OnceLock};
//! use sidestream::clock::Clock;
//! use sidestream::store::conformance::Backend;
//! use sidestream::store::{MemoryStore, Store};
//!
//! /// How the suite opens a store: the same data each time.
//! #[derive(Default)]
//! struct Memory(OnceLock<Arc<MemoryStore>>);
//!
//! #[async_trait::async_trait]
//! impl Backend for Memory {
//!     async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
//!         self.0.get_or_init(|| Arc::new(MemoryStore::with_clock(clock))).clone()
//!     }
//! }
//!
//! sidestream::conformance_suite!(memory, Memory::default());
//! ```
//!
//! A promise that is not in the list of [`for_each_promise!`](crate::for_each_promise) is dead code,
//! and the compiler says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin as Pinned;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sidestream_core::task::TaskDefaults;
use sidestream_core::{
    AgentId, Attempt, Command, Jitter, Json, LogEntry, Namespace, NewTask, Record, Rejection,
    ReportNumber, Seq, Spec, Status, Task, TaskError, TaskId, ThreadId, Timestamp, ToolName,
    WorkerId, lifecycle,
};

use super::{
    Admission, Answer, Claim, Claimed, Head, Limits, ListQuery, LogQuery, Request, Rescue, Rescued,
    Store,
};
use crate::clock::{Clock, ManualClock};

mod claims;
mod completions;
mod dispatch;
mod fixtures;
mod keys;
mod list;
mod log;
mod namespaces;
mod records;
mod reference;
mod reports;
mod rescue;
mod retention;
mod rows;
mod shared;
mod sizes;
mod snapshot;
mod values;

use fixtures::*;

/// How the suite comes by a store.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Opens the data of this backend: empty the first time, later as the last store left it. The
    /// store goes by `clock`, which is the same each time. The suite drops a store before it opens
    /// the next, unless the store says that it is not exclusive ([`Store::is_exclusive`]): then several
    /// are open at once.
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store>;
}

/// Hands the name of every promise to another macro: the one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_promise {
    ($then:path $(, $with:tt)*) => {
        $then! { ($($with),*)
            log: answers_come_in_the_order_of_the_batch,
            log: a_rejected_request_spoils_nothing,
            log: a_batch_is_seen_whole_or_not_at_all,
            log: places_are_dense_and_in_commit_order,
            log: many_committers_leave_no_hole,
            log: a_place_is_never_used_again,
            log: every_kind_of_event_is_read_as_it_was_committed,
            log: the_log_is_read_in_pages,
            log: a_cursor_before_the_floor_is_told_apart,
            log: a_tasks_own_log_is_whole_and_paged,
            log: the_doorbell_rings_for_what_was_added,
            log: a_reopened_store_is_the_same,
            rows: a_row_is_the_fold_of_its_events,
            rows: an_answer_shows_the_row,
            rows: a_row_outlives_its_events,
            reference: it_answers_as_the_reference_does,
            snapshot: a_snapshot_holds_what_matches,
            snapshot: a_snapshot_is_one_moment,
            snapshot: a_snapshot_of_many_is_one_moment,
            snapshot: a_pinned_task_is_shown_as_it_stood,
            snapshot: a_deleted_task_is_shown_while_its_events_last,
            dispatch: one_key_is_one_task,
            dispatch: one_tool_call_of_a_run_is_one_task,
            dispatch: one_id_is_one_task,
            dispatch: racing_repetitions_make_one_task,
            dispatch: without_a_slot_nothing_is_created,
            dispatch: what_holds_no_slot_is_not_counted,
            dispatch: racing_dispatches_do_not_exceed_the_limit,
            claims: the_first_in_line_is_claimed_first,
            claims: a_batch_claims_what_it_dispatches,
            claims: nothing_is_claimed_before_its_time,
            claims: only_what_was_asked_for_is_claimed,
            claims: a_claimed_task_has_all_that_its_worker_needs,
            claims: the_limits_hold,
            claims: the_limits_hold_whoever_claims_at_once,
            claims: a_task_is_given_to_one_worker,
            claims: a_suspended_task_holds_no_slot,
            claims: a_full_lane_does_not_hold_up_the_others,
            claims: a_batch_claims_past_a_full_lane,
            reports: a_stale_report_changes_nothing,
            reports: a_repeated_report_changes_nothing,
            reports: a_numbered_report_is_accepted_once,
            reports: an_attempt_numbers_its_own_reports,
            reports: a_renewal_moves_only_the_lease,
            reports: an_unknown_task_is_not_found,
            reports: retries_follow_their_rule,
            reports: an_ended_task_stays_ended,
            rescue: an_attempt_whose_lease_ended_is_ended,
            rescue: a_renewed_lease_is_left_alone,
            rescue: an_attempt_over_its_time_is_timed_out,
            rescue: the_tasks_of_workers_that_are_gone_are_ended_at_once,
            rescue: a_rescue_takes_no_more_than_it_may,
            rescue: a_rescue_leaves_alone_what_it_is_told_to,
            completions: an_end_is_told_until_it_is_acknowledged,
            completions: an_end_is_told_in_its_own_thread,
            completions: a_task_that_ended_anew_is_told_anew,
            completions: a_deleted_task_is_not_told,
            records: a_record_is_kept_as_it_came,
            records: a_record_is_replaced_whole,
            records: what_an_owner_elsewhere_runs_takes_no_slot,
            records: only_the_owner_changes_a_record,
            records: a_record_is_removed_at_its_owners_word_only,
            namespaces: a_namespace_sees_only_its_own,
            namespaces: a_namespace_changes_only_its_own,
            sizes: a_page_of_the_log_ends_early_where_events_are_large,
            sizes: a_page_of_a_list_ends_early_where_tasks_are_large,
            retention: only_an_ended_task_can_be_deleted,
            retention: a_deleted_task_leaves_nothing_but_its_events,
            retention: a_batch_deletes_what_it_ends,
            retention: cleanup_removes_what_is_strictly_older,
            retention: an_untold_end_is_kept_longer,
            retention: a_cleanup_takes_no_more_than_it_may,
            retention: prune_forgets_the_oldest,
            keys: keys_are_kept_and_revoked,
            list: every_filter_holds,
            list: from_is_inclusive_and_to_is_exclusive,
            list: every_order_holds,
            list: pages_cover_everything_once,
            list: a_page_goes_on_where_the_last_one_ended,
            list: a_limit_of_zero_gives_the_total,
            shared: what_one_commits_another_reads,
            shared: the_bell_rings_for_what_others_commit,
            shared: several_who_commit_leave_no_hole,
            shared: batches_that_cross_are_both_carried_out,
            shared: repetitions_through_several_make_one_task,
            shared: the_limits_hold_across_all,
            values: ids_of_any_shape_are_kept_apart,
            values: large_payloads_are_kept,
            values: too_large_payloads_change_nothing,
            values: json_is_kept_to_the_letter,
            values: texts_of_any_shape_are_kept,
            values: numbers_are_kept_to_their_bounds,
        }
    };
}

#[cfg(all(test, any(feature = "postgres", feature = "sqlite")))]
pub(crate) use for_each_promise;

/// Makes a module of tests, one for each promise, of a [`Backend`]: an expression that is evaluated
/// for each test and gives one without data. The crate needs tokio with `macros` and
/// `rt-multi-thread`.
#[macro_export]
macro_rules! conformance_suite {
    ($name:ident, $backend:expr) => {
        mod $name {
            #[allow(unused_imports, reason = "the backend may be written out in full")]
            use super::*;

            $crate::for_each_promise!($crate::conformance_tests, { $backend });
        }
    };
}

/// The tests of [`conformance_suite!`](crate::conformance_suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    (($backend:tt) $($area:ident: $promise:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                $crate::store::conformance::check(stringify!($promise), $backend).await;
            }
        )*
    };
}

type Check = for<'a> fn(&'a mut World) -> Pinned<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! table {
    (() $($area:ident: $promise:ident,)*) => {
        const PROMISES: &[(&str, Check)] = &[
            $((stringify!($promise), |world| Box::pin($area::$promise(world))),)*
        ];
    };
}

for_each_promise!(table);

/// Checks one promise on a backend without data, and audits what it left.
///
/// # Panics
/// When the promise is broken, or is none of ours.
pub async fn check(promise: &str, backend: impl Backend) {
    let known = PROMISES.iter().find(|(name, _)| *name == promise);
    let (_, check) = known.expect("a promise has its name in the list");
    let mut world = World::new(Arc::new(backend)).await;
    check(&mut world).await;
    world.audit().await;
}

/// A store on trial, its clock, and all that was committed to it. Clones share it.
#[derive(Clone)]
pub(crate) struct World {
    backend: Arc<dyn Backend>,
    clock: ManualClock,
    /// `None` only while it is opened anew.
    store: Option<Arc<dyn Store>>,
    seen: Arc<Mutex<Seen>>,
}

/// What was committed.
#[derive(Debug, Default)]
struct Seen {
    entries: BTreeMap<Seq, LogEntry>,
    /// Those that a request named, or may have picked, for removal.
    deleted: BTreeSet<(Namespace, TaskId)>,
    has_cleaned_up: bool,
}

/// What a request came to.
pub(crate) type Outcome = Result<Answer, Rejection>;

impl World {
    async fn new(backend: Arc<dyn Backend>) -> Self {
        let clock = ManualClock::starting_at(at("2026-11-21T00:00:00Z"));
        let store = backend.open(Arc::new(clock.clone())).await;
        Self {
            backend,
            clock,
            store: Some(store),
            seen: Arc::default(),
        }
    }

    /// Closes the store and opens it again. Clones of this world must be gone.
    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.backend.open(Arc::new(self.clock.clone())).await);
    }

    /// The same world, seen through another store that is open at the same time; through the same one,
    /// if no other can be.
    async fn beside(&self) -> Self {
        let mut other = self.clone();
        if !self.store().is_exclusive() {
            other.store = Some(self.backend.open(Arc::new(self.clock.clone())).await);
        }
        other
    }

    fn store(&self) -> &dyn Store {
        self.store.as_deref().expect("the store is open")
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn head(&self) -> Head {
        self.store().head().await.expect("the store works")
    }

    async fn seq(&self) -> Seq {
        self.head().await.seq
    }

    /// Commits a batch, and keeps its events for the audit.
    async fn commit(&self, batch: Vec<Request>) -> Vec<Outcome> {
        {
            let mut seen = self.seen.lock();
            for request in &batch {
                match request {
                    Request::Delete { namespace, id } => {
                        seen.deleted.insert((namespace.clone(), id.clone()));
                    }
                    Request::Cleanup(_) => seen.has_cleaned_up = true,
                    _ => {}
                }
            }
        }
        let asked = batch.len();
        let committed = self.store().commit(batch).await.expect("the store works");
        assert_eq!(
            committed.answers.len(),
            asked,
            "one answer for each request"
        );
        let mut seen = self.seen.lock();
        for entry in committed.entries {
            let seq = entry.event.seq;
            let twice = seen.entries.insert(seq, entry);
            assert!(twice.is_none(), "place {seq} was given out twice (L2)");
        }
        committed.answers
    }

    async fn commit_one(&self, request: Request) -> Outcome {
        let mut answers = self.commit(vec![request]).await;
        answers.pop().expect("one answer for each request")
    }

    /// Dispatches a task that must be new.
    async fn dispatch(&self, spec: Arc<Spec>) -> Task {
        match self.commit_one(dispatch(&spec)).await {
            Ok(Answer::Dispatched { task, is_new: true }) => task,
            other => panic!("expected a new task, got {other:?}"),
        }
    }

    /// Dispatches tasks that must be new, many to a batch.
    async fn dispatch_all(&self, specs: impl IntoIterator<Item = Arc<Spec>>) -> Vec<Task> {
        let requests: Vec<Request> = specs.into_iter().map(|spec| dispatch(&spec)).collect();
        let mut tasks = Vec::new();
        for batch in requests.chunks(500) {
            for answer in self.commit(batch.to_vec()).await {
                match answer {
                    Ok(Answer::Dispatched { task, is_new: true }) => tasks.push(task),
                    other => panic!("expected a new task, got {other:?}"),
                }
            }
        }
        tasks
    }

    async fn try_claim(&self, claim: Claim) -> Claimed {
        match self.commit_one(Request::Claim(claim)).await {
            Ok(Answer::Claimed(claimed)) => claimed,
            other => panic!("expected a claim, got {other:?}"),
        }
    }

    async fn claim(&self, claim: Claim) -> Vec<Task> {
        self.try_claim(claim).await.tasks
    }

    /// Dispatches a task of tool `tool` and claims it.
    async fn running(&self, id: &str, new: NewTask) -> Task {
        let tool = new.tool_name.clone();
        self.dispatch(spec(id, new)).await;
        let mut claimed = self.claim(claim(&[&tool])).await;
        let task = claimed.pop().expect("it can be claimed");
        assert!(claimed.is_empty(), "nothing else was waiting");
        task
    }

    async fn command(&self, task: &Task, command: Command) -> Result<Task, Rejection> {
        match self.commit_one(asked(task, command)).await? {
            Answer::Applied(task) => Ok(task),
            other => panic!("expected a task, got {other:?}"),
        }
    }

    /// A command that must be carried out.
    async fn must(&self, task: &Task, command: Command) -> Task {
        self.command(task, command).await.expect("it is allowed")
    }

    /// A command that must be refused, and change nothing.
    async fn refused(&self, task: &Task, command: Command) -> Rejection {
        let (head, row) = (self.head().await, self.row(task).await);
        let answer = self.command(task, command).await;
        assert_eq!(self.head().await, head, "a refusal leaves no event");
        assert_eq!(self.row(task).await, row, "a refusal changes no row");
        answer.expect_err("it is refused")
    }

    async fn record(&self, namespace: &Namespace, record: &Arc<Record>) -> Result<Task, Rejection> {
        let (namespace, record) = (namespace.clone(), Arc::clone(record));
        match self
            .commit_one(Request::Record { namespace, record })
            .await?
        {
            Answer::Applied(task) => Ok(task),
            other => panic!("expected a task, got {other:?}"),
        }
    }

    async fn rescue(&self, rescue: Rescue) -> Rescued {
        match self.commit_one(Request::Rescue(rescue)).await {
            Ok(Answer::Rescued(rescued)) => rescued,
            other => panic!("expected a rescue, got {other:?}"),
        }
    }

    /// What a request says is gone.
    async fn removed(&self, request: Request) -> u64 {
        match self.commit_one(request).await {
            Ok(Answer::Removed(n) | Answer::Pruned(n) | Answer::Acknowledged(n)) => n,
            other => panic!("expected a number, got {other:?}"),
        }
    }

    async fn delete(&self, task: &Task) -> Result<u64, Rejection> {
        let identity = task.identity();
        let (namespace, id) = (identity.namespace.clone(), identity.id.clone());
        match self.commit_one(Request::Delete { namespace, id }).await? {
            Answer::Removed(n) => Ok(n),
            other => panic!("expected a number, got {other:?}"),
        }
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Option<Task> {
        let task = self.store().get(namespace, id).await;
        task.expect("the store works")
    }

    /// A task as it stands now.
    async fn row(&self, task: &Task) -> Option<Task> {
        let identity = task.identity();
        self.get(&identity.namespace, &identity.id).await
    }

    async fn list(&self, query: &ListQuery) -> super::Page {
        self.store().list(query).await.expect("the store works")
    }

    /// The ids of a thread's untold ends.
    async fn untold(&self, namespace: &Namespace, thread: &str) -> Vec<Task> {
        let thread = ThreadId::new(thread).expect("a thread's id");
        let tasks = self.store().completions(namespace, &thread, 1_000).await;
        tasks.expect("the store works")
    }

    /// The log after a place, read in pages.
    async fn log_after(&self, after: Seq, task: Option<&Task>) -> Vec<LogEntry> {
        let mut entries = Vec::new();
        let mut query = LogQuery {
            after,
            limit: 97,
            bytes_max: LogQuery::BYTES_MAX,
            task: task.map(|task| {
                let identity = task.identity();
                (identity.namespace.clone(), identity.id.clone())
            }),
        };
        loop {
            let page = self.store().log(&query).await.expect("the store works");
            entries.extend(page.entries);
            if page.through >= page.head.seq {
                return entries;
            }
            assert!(page.through > query.after, "a page goes forward");
            query.after = page.through;
        }
    }

    /// Everything that must be so, whatever was done.
    async fn audit(&self) {
        let (entries, deleted, has_cleaned_up) = {
            let seen = self.seen.lock();
            let entries: Vec<LogEntry> = seen.entries.values().cloned().collect();
            (entries, seen.deleted.clone(), seen.has_cleaned_up)
        };
        let head = self.head().await;
        self.audit_log(&entries, &head).await;
        let mut counts: HashMap<Status, u64> = HashMap::new();
        for ((namespace, id), folded) in fold(&entries) {
            let Some(row) = self.get(&namespace, &id).await else {
                let may_be_gone = has_cleaned_up || deleted.contains(&(namespace, id));
                assert!(
                    may_be_gone,
                    "a task is gone that nobody removed: {folded:?}"
                );
                continue;
            };
            *counts.entry(row.status).or_default() += 1;
            let is_held = row.status == Status::Running && !row.is_external();
            assert_eq!(row.lease.is_some(), is_held, "held while running: {row:?}");
            let lease = row.lease.clone();
            let folded = Task { lease, ..folded };
            assert_eq!(row, folded, "a row is the fold of its events (L3)");
        }
        let mut told = self.store().counts().await.expect("the store works");
        told.retain(|_, count| *count > 0);
        assert_eq!(told, counts, "the counts are those of the rows");
    }

    async fn audit_log(&self, entries: &[LogEntry], head: &Head) {
        for (place, entry) in (1..).zip(entries) {
            assert_eq!(entry.event.seq, Seq(place), "the log has no hole (L2)");
        }
        assert_eq!(head.seq, Seq(entries.len() as u64), "the head is the last");
        assert!(head.floor <= head.seq, "the floor is in the log");
        let kept = self.log_after(head.floor, None).await;
        let left = usize::try_from(head.floor.0).expect("a small number");
        assert_eq!(kept, entries[left..], "the log is what was committed");
    }
}

/// The rows that events amount to.
fn fold(entries: &[LogEntry]) -> BTreeMap<(Namespace, TaskId), Task> {
    let mut tasks: BTreeMap<(Namespace, TaskId), Option<Task>> = BTreeMap::new();
    for entry in entries {
        let (namespace, id) = (&entry.task.namespace, &entry.task.id);
        let task = tasks.entry((namespace.clone(), id.clone())).or_default();
        // Another task under the name of one that was deleted, which is no event.
        task.take_if(|known| *known.identity() != entry.task);
        lifecycle::apply(task, namespace, &entry.event);
    }
    let made = tasks.into_iter();
    made.map(|(id, task)| (id, task.expect("an event leaves a task")))
        .collect()
}
