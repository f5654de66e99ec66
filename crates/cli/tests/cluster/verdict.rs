//! What must hold in the end, as the log and the rows have it.

use std::collections::{BTreeMap, BTreeSet};

use sidestream::core::wire::TaskRecord;
use sidestream::core::{Attempt, EventKind, LogEntry};
use sidestream::store::{LogQuery, PageStart, Store};
use sidestream::{ChunkType, Filter, ListQuery, Namespace, PostgresStore, Seq, TaskId};

use crate::parts::{ASK_LIMIT, PER_AGENT};
use crate::watchers::Notes;

/// The events of each task, in order.
pub(crate) type Story = BTreeMap<TaskId, Vec<ChunkType>>;

/// All of the log, without a hole.
pub(crate) async fn read_log(store: &PostgresStore, end: u64) -> Vec<LogEntry> {
    let mut log: Vec<LogEntry> = Vec::new();
    while (log.len() as u64) < end {
        let query = LogQuery {
            after: Seq(log.len() as u64),
            limit: 5_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = store.log(&query).await.unwrap();
        assert!(!page.entries.is_empty(), "the log ends at {}", log.len());
        log.extend(page.entries);
    }
    for (entry, place) in log.iter().zip(1..) {
        assert_eq!(entry.event.seq.0, place, "L2: the log has no holes");
    }
    log
}

pub(crate) fn story(log: &[LogEntry]) -> Story {
    let mut story = Story::new();
    for entry in log {
        let events = story.entry(entry.task.id.clone()).or_default();
        events.push(ChunkType::of(&entry.event.kind));
    }
    story
}

/// R2, R5: who was told of a task finds it, ended, once.
pub(crate) fn every_task_ended_once(acknowledged: &BTreeSet<TaskId>, story: &Story) {
    for id in acknowledged {
        assert!(story.contains_key(id), "{id} was acknowledged and is lost");
    }
    for (id, events) in story {
        let ends = events.iter().filter(|event| event.is_terminal()).count();
        let is_last = events.last().is_some_and(|event| event.is_terminal());
        assert!(ends == 1 && is_last, "{id}: {events:?}");
        let begun = events.iter().filter(|event| **event == ChunkType::Started);
        assert_eq!(begun.count(), 1, "{id} was dispatched once: {events:?}");
    }
}

/// Each attempt of `work` emits the numbers from 0 on, and its result says how many: a report that was repeated
/// after its answer was lost was heard once.
pub(crate) fn outputs_came_once_and_in_order(log: &[LogEntry]) {
    let mut emitted: BTreeMap<(&TaskId, Attempt), u32> = BTreeMap::new();
    for entry in log.iter().filter(|of| of.task.tool_name.as_str() == "work") {
        let (id, at) = (&entry.task.id, entry.event.seq);
        match &entry.event.kind {
            EventKind::Output { attempt, payload } => {
                let next = emitted.entry((id, *attempt)).or_default();
                assert_eq!(payload.as_str(), next.to_string(), "{id} at {at}");
                *next += 1;
            }
            EventKind::Completed { attempt, result } => {
                let result = result.as_ref().expect("it has one").as_str();
                let emitted = emitted.get(&(id, *attempt)).copied();
                assert_eq!(result, emitted.unwrap_or(0).to_string(), "{id} at {at}");
            }
            _ => {}
        }
    }
}

/// R4: at no moment did more run than may.
pub(crate) fn limits_held(log: &[LogEntry]) {
    let mut running: BTreeMap<&TaskId, ()> = BTreeMap::new();
    let mut of_agents: BTreeMap<&str, u32> = BTreeMap::new();
    let mut of_ask = 0;
    for entry in log {
        let task = &entry.task;
        let is_running = match &entry.event.kind {
            EventKind::Started { .. } => true,
            EventKind::Output { .. } => continue,
            _ => false,
        };
        let was_running = match is_running {
            true => running.insert(&task.id, ()).is_some(),
            false => running.remove(&task.id).is_some(),
        };
        let agent = task.agent_id.as_ref().expect("each has one").as_str();
        let count = of_agents.entry(agent).or_default();
        let change = i32::from(is_running) - i32::from(was_running);
        *count = count.saturating_add_signed(change);
        assert!(
            *count <= PER_AGENT,
            "{count} of {agent} at {}",
            entry.event.seq
        );
        if task.tool_name.as_str() == "ask" {
            of_ask = u32::saturating_add_signed(of_ask, change);
            assert!(
                of_ask <= ASK_LIMIT,
                "{of_ask} of ask at {}",
                entry.event.seq
            );
        }
    }
}

/// What the workers of one kind have done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    outputs: usize,
    completed: usize,
    suspended: usize,
    failed: usize,
}

/// The workers in the servers, elsewhere in Rust and in Python all emit, complete, suspend and fail.
pub(crate) fn every_kind_of_worker_did_its_part(log: &[LogEntry]) -> BTreeMap<&str, Done> {
    let mut at_work = BTreeMap::new();
    let mut done: BTreeMap<&str, Done> = BTreeMap::new();
    for entry in log {
        let task = &entry.task.id;
        if let EventKind::Started { worker, .. } = &entry.event.kind {
            let kind = ["remote-", "python-"].into_iter();
            let mut kind = kind.filter(|kind| worker.as_str().starts_with(kind));
            at_work.insert(task, kind.next().unwrap_or("local"));
        }
        let Some(kind) = at_work.get(task) else {
            continue;
        };
        let done = done.entry(kind).or_default();
        let count = match &entry.event.kind {
            EventKind::Output { .. } => &mut done.outputs,
            EventKind::Completed { .. } => &mut done.completed,
            EventKind::Suspended { .. } => &mut done.suspended,
            EventKind::Retrying { error, .. } if &*error.message == "not yet" => &mut done.failed,
            _ => continue,
        };
        *count += 1;
    }
    for (kind, done) in &done {
        let all = [done.outputs, done.completed, done.suspended, done.failed];
        assert!(all.iter().all(|count| *count > 0), "{kind}: {done:?}");
    }
    assert_eq!(done.len(), 3, "{done:?}");
    done
}

/// L3: the rows say what the log says.
pub(crate) async fn rows_agree(store: &PostgresStore, story: &Story) {
    let mut query = ListQuery::new(Namespace::default(), 1_000);
    let mut rows = 0;
    loop {
        let page = store.list(&query).await.unwrap();
        for row in &page.tasks {
            let last = story[row.id()].last().expect("it has events");
            let shown = TaskRecord::from(row).status;
            assert!(shown.is_terminal(), "{} is {shown}", row.id());
            let fits = match last {
                ChunkType::Completed => shown == sidestream::Status::Completed,
                ChunkType::Cancelled => shown == sidestream::Status::Cancelled,
                _ => true,
            };
            assert!(fits, "{} is {shown}, and its last event {last:?}", row.id());
        }
        rows += page.tasks.len();
        match page.next {
            Some(next) => query.start = PageStart::After(next),
            None => break,
        }
    }
    assert_eq!(rows, story.len(), "a row for each task");
}

/// S1, S2, S6: each saw what ran at its beginning, then every event it asked for, once and in order. How many
/// they saw in all.
pub(crate) fn watchers_saw_everything(log: &[LogEntry], notes: &[Notes]) -> usize {
    let mut seen = 0;
    for notes in notes {
        let filter = &notes.filter;
        let since = notes.since.expect("a snapshot");
        let running = running_at(log, filter, since);
        assert_eq!(notes.shown, running, "{filter:?}: the snapshot at {since}");
        let wanted = log.iter().filter(|entry| {
            let is_news = entry.event.seq.0 > since;
            let chunk_type = ChunkType::of(&entry.event.kind);
            is_news && filter.matches_task(&entry.task) && filter.matches_type(chunk_type)
        });
        let wanted: Vec<_> = wanted
            .map(|entry| (entry.event.seq.0, ChunkType::of(&entry.event.kind)))
            .collect();
        let differs = wanted.iter().zip(&notes.seen).position(|(a, b)| a != b);
        assert!(
            wanted == notes.seen,
            "{filter:?}: {} events after {since}, {} seen; they differ at {differs:?}",
            wanted.len(),
            notes.seen.len(),
        );
        seen += notes.seen.len();
    }
    seen
}

fn running_at(log: &[LogEntry], filter: &Filter, at: u64) -> BTreeSet<TaskId> {
    let mut running = BTreeSet::new();
    for entry in log.iter().take_while(|entry| entry.event.seq.0 <= at) {
        let id = &entry.task.id;
        match &entry.event.kind {
            EventKind::Started { .. } if filter.matches_task(&entry.task) => {
                running.insert(id.clone());
            }
            EventKind::Output { .. } => {}
            _ => {
                running.remove(id);
            }
        }
    }
    running
}
