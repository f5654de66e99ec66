//! How all tasks stand: the fold of a stream's chunks, and nothing else.
//!
//! An event changes a task only if it is later (`seq`) than what is known of it. A snapshot that begins anew is
//! gathered beside what is shown, and takes its place when it is complete. What is kept is bounded: all that
//! have not ended, up to [`ROWS_MAX`], and the latest of those that have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use sidestream::core::wire::TaskRecord;
use sidestream::{Status, TaskId, Timestamp};
use sidestream_client::{Chunk, ChunkType};

use super::text::safe;
use crate::show;

/// So many tasks are kept in all; further ones are not shown.
pub(super) const ROWS_MAX: usize = 200_000;
/// So many tasks that have ended are kept, and half as many again before the earliest are let go.
const ENDED_MAX: usize = 2_000;
/// So much of a line is kept, in characters.
const LINE_CHARS_MAX: usize = 240;

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: TaskId,
    pub(super) tool: Arc<str>,
    pub(super) agent: Option<Arc<str>>,
    pub(super) thread: Option<Arc<str>>,
    pub(super) run: Option<Arc<str>>,
    pub(super) status: Status,
    pub(super) attempt: u32,
    /// When its latest attempt began.
    pub(super) started_at: Option<Timestamp>,
    /// Since when it stands as it does.
    pub(super) since: Timestamp,
    /// What it said last: of its output, what it waits for, or why it failed.
    pub(super) last: Box<str>,
    /// How many had come before it: of those that stand so since one moment, it tells the order.
    pub(super) number: u64,
    /// The last event that is known of it; 0 where only a snapshot showed it.
    seq: u64,
}

/// All tasks that are known.
#[derive(Debug, Default)]
pub(super) struct Board {
    shown: Tasks,
    /// A snapshot that is not complete, while `shown` is what was known before it.
    incoming: Option<Tasks>,
    is_complete: bool,
    /// Rises with each change.
    version: u64,
}

#[derive(Debug, Default)]
struct Tasks {
    rows: HashMap<TaskId, Row>,
    /// By the place in [`Status::ALL`]. Of the ended ones all that were seen, also those let go.
    counts: [usize; Status::ALL.len()],
    /// How many rows have ended.
    ended: usize,
    /// How many rows there have been.
    numbered: u64,
    /// A task was left out: there are too many.
    is_full: bool,
}

impl Board {
    /// What a chunk says. `true`: a task has just ended.
    pub(super) fn apply(&mut self, chunk: &Chunk, now: Timestamp) -> bool {
        self.version += 1;
        if chunk.chunk_type == Some(ChunkType::StreamReset) {
            self.incoming = Some(Tasks::default());
            return false;
        }
        self.tasks().apply(chunk, now)
    }

    /// The snapshot, if one was coming, is complete. `true`: it was one.
    pub(super) fn complete(&mut self) -> bool {
        if let Some(incoming) = self.incoming.take() {
            self.shown = incoming;
            self.is_complete = false;
        }
        self.version += 1;
        !std::mem::replace(&mut self.is_complete, true)
    }

    /// Takes in tasks that had ended before we looked.
    pub(super) fn take_ended(&mut self, records: &[TaskRecord]) {
        self.version += 1;
        for record in records.iter().filter(|record| record.status.is_terminal()) {
            self.tasks().take(Row::of(record));
        }
    }

    fn tasks(&mut self) -> &mut Tasks {
        self.incoming.as_mut().unwrap_or(&mut self.shown)
    }

    /// Is what is shown a whole picture, and no older one's remains?
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete && self.incoming.is_none()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, id: &TaskId) -> Option<&Row> {
        self.shown.rows.get(id)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.shown.rows.values()
    }

    pub(super) fn count(&self, status: Status) -> usize {
        self.shown.counts[place(status)]
    }

    /// Are there more tasks than are shown?
    pub(super) fn is_full(&self) -> bool {
        self.shown.is_full
    }
}

impl Tasks {
    fn apply(&mut self, chunk: &Chunk, now: Timestamp) -> bool {
        let payload = &chunk.payload;
        let Some(id) = &payload.task_id else {
            return false;
        };
        let known = self.rows.get(id);
        if let (Some(row), Some(seq)) = (known, payload.seq)
            && seq <= row.seq
        {
            return false;
        }
        let mut row = known.cloned().unwrap_or_else(|| Row::new(id, chunk, now));
        let former = known.map(|row| row.status);
        row.apply(chunk, now);
        let has_ended = row.status.is_terminal() && former != Some(row.status);
        self.put(row, former);
        has_ended
    }

    /// Takes a row that is later than what is known.
    fn take(&mut self, row: Row) {
        let former = match self.rows.get(&row.id) {
            // A snapshot shows only what has not ended: a task that has, ended after it.
            Some(known) if known.seq >= row.seq => return,
            known => known.map(|known| known.status),
        };
        self.put(row, former);
    }

    fn put(&mut self, row: Row, former: Option<Status>) {
        let (status, count) = (row.status, self.rows.len());
        match self.rows.entry(row.id.clone()) {
            Entry::Occupied(mut known) => {
                let number = known.get().number;
                known.insert(Row { number, ..row });
            }
            Entry::Vacant(_) if count >= ROWS_MAX && !status.is_terminal() => {
                self.is_full = true;
                return;
            }
            Entry::Vacant(vacant) => {
                self.numbered += 1;
                vacant.insert(Row {
                    number: self.numbered,
                    ..row
                });
            }
        }
        if former == Some(status) {
            return;
        }
        if let Some(former) = former {
            self.counts[place(former)] -= 1;
            self.ended -= usize::from(former.is_terminal());
        }
        self.counts[place(status)] += 1;
        self.ended += usize::from(status.is_terminal());
        if self.ended > ENDED_MAX + ENDED_MAX / 2 {
            self.let_go();
        }
    }

    /// Forgets the tasks that ended the longest ago.
    fn let_go(&mut self) {
        let ended = self.rows.values().filter(|row| row.status.is_terminal());
        let mut ended: Vec<_> = ended.map(|row| (row.since, row.id.clone())).collect();
        ended.sort_unstable();
        for (_, id) in ended.drain(..ended.len() - ENDED_MAX) {
            self.rows.remove(&id);
        }
        self.ended = ENDED_MAX;
    }
}

impl Row {
    fn new(id: &TaskId, chunk: &Chunk, now: Timestamp) -> Self {
        let payload = &chunk.payload;
        Self {
            id: id.clone(),
            tool: payload.tool_name.clone().unwrap_or_default(),
            agent: payload.agent_id.clone(),
            thread: payload.thread_id.clone(),
            run: payload.run_id.clone(),
            status: Status::Pending,
            attempt: 0,
            started_at: None,
            since: now,
            last: Box::default(),
            number: 0,
            seq: 0,
        }
    }

    fn of(record: &TaskRecord) -> Self {
        Self {
            id: record.id.clone(),
            tool: Arc::clone(&record.tool_name),
            agent: record.agent_id.clone(),
            thread: record.thread_id.clone(),
            run: record.run_id.clone(),
            status: record.status,
            attempt: record.attempt.0,
            started_at: record.started_at,
            since: record.completed_at.unwrap_or(record.updated_at),
            last: last_line(&show::outcome(record)),
            number: 0,
            seq: record.seq.0,
        }
    }

    fn apply(&mut self, chunk: &Chunk, now: Timestamp) {
        let payload = &chunk.payload;
        self.seq = payload.seq.unwrap_or(self.seq);
        self.attempt = payload.attempt.unwrap_or(self.attempt);
        self.started_at = payload.started_at.or(self.started_at);
        let at = payload.completed_at.or(payload.suspended_at);
        let at = at.or(payload.started_at).unwrap_or(now);
        let status = match chunk.chunk_type {
            Some(ChunkType::Output) => {
                if let Some(output) = &payload.payload {
                    self.last = last_line(&show::output(output).text);
                }
                // Only what runs says something; `since` is that of its beginning.
                self.status = Status::Running;
                return;
            }
            Some(ChunkType::Started | ChunkType::Queued | ChunkType::Retrying) => Status::Pending,
            Some(ChunkType::Running | ChunkType::Resumed) => Status::Running,
            Some(ChunkType::Suspended) => Status::Suspended,
            Some(ChunkType::Completed) => Status::Completed,
            Some(ChunkType::Failed) if has_timed_out(chunk) => Status::TimedOut,
            Some(ChunkType::Failed) => Status::Failed,
            Some(ChunkType::Cancelled) => Status::Cancelled,
            Some(ChunkType::StreamReset) | None => return,
        };
        if let Some(asked) = &payload.suspend_payload {
            self.last = last_line(&show::question(asked));
        }
        if let Some(result) = &payload.result {
            self.last = last_line(&show::output(result).text);
        }
        if let Some(error) = &payload.error {
            self.last = last_line(&error.message);
        }
        self.status = status;
        self.since = at;
    }
}

/// A chunk has one type for both: only its words tell them apart.
fn has_timed_out(chunk: &Chunk) -> bool {
    let error = chunk.payload.error.as_ref();
    let rest = error.and_then(|error| error.message.strip_prefix("Task timed out after "));
    let ms = rest.and_then(|rest| rest.strip_suffix("ms"));
    ms.is_some_and(|ms| !ms.is_empty() && ms.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The last line that says something, safe to show.
fn last_line(text: &str) -> Box<str> {
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let end = line.char_indices().nth(LINE_CHARS_MAX);
    let line = &line[..end.map_or(line.len(), |(at, _)| at)];
    safe(line).into()
}

fn place(status: Status) -> usize {
    let place = Status::ALL.iter().position(|known| *known == status);
    place.expect("every status is among them all")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chunk(kind: &str, id: &str, mut payload: Value) -> Chunk {
        payload["taskId"] = id.into();
        payload["toolName"] = "tool".into();
        let json = json!({"type": format!("background-task-{kind}"), "payload": payload});
        Chunk::from_json(json.to_string()).expect("it is a chunk")
    }

    fn reset() -> Chunk {
        Chunk::from_json(r#"{"type":"stream-reset","payload":{}}"#).expect("it is a chunk")
    }

    fn now() -> Timestamp {
        Timestamp::from_ms(1_000_000)
    }

    fn board(chunks: &[Chunk]) -> Board {
        let mut board = Board::default();
        for chunk in chunks {
            board.apply(chunk, now());
        }
        board
    }

    fn row<'a>(board: &'a Board, id: &str) -> &'a Row {
        board.get(&id.parse().expect("an id")).expect("it is known")
    }

    #[test]
    fn a_task_stands_as_its_events_say() {
        let at = "2026-11-21T00:00:01.000Z";
        let steps = [
            ("started", json!({}), Status::Pending, ""),
            (
                "running",
                json!({"startedAt": at, "attempt": 1}),
                Status::Running,
                "",
            ),
            (
                "output",
                json!({"payload": "one\ntwo\n\n"}),
                Status::Running,
                "two",
            ),
            (
                "retrying",
                json!({"error": {"message": "oh"}}),
                Status::Pending,
                "oh",
            ),
            (
                "running",
                json!({"startedAt": at, "attempt": 2}),
                Status::Running,
                "oh",
            ),
            (
                "suspended",
                json!({"suspendPayload": "may I?", "suspendedAt": at}),
                Status::Suspended,
                "may I?",
            ),
            ("queued", json!({}), Status::Pending, "may I?"),
            (
                "resumed",
                json!({"startedAt": at, "attempt": 3}),
                Status::Running,
                "may I?",
            ),
            (
                "completed",
                json!({"result": {"n": 1}, "completedAt": at}),
                Status::Completed,
                "{\"n\":1}",
            ),
        ];
        let mut board = Board::default();
        for (at, (kind, mut payload, status, last)) in steps.into_iter().enumerate() {
            payload["seq"] = json!(at + 10);
            let has_ended = board.apply(&chunk(kind, "t", payload), now());
            let row = row(&board, "t");
            assert_eq!((row.status, &*row.last), (status, last), "{kind}");
            assert_eq!(has_ended, status.is_terminal());
            let total: usize = Status::ALL.iter().map(|s| board.count(*s)).sum();
            assert_eq!((total, board.count(status)), (1, 1), "{kind}");
        }
        assert_eq!(row(&board, "t").attempt, 3);
    }

    #[test]
    fn an_event_that_is_known_changes_nothing() {
        let mut board = board(&[
            chunk("running", "t", json!({"seq": 5, "attempt": 2})),
            chunk("running", "t", json!({"seq": 4, "attempt": 1})),
        ]);
        assert_eq!(row(&board, "t").attempt, 2);
        assert!(board.apply(&chunk("completed", "t", json!({"seq": 6})), now()));
        assert!(!board.apply(&chunk("completed", "t", json!({"seq": 6})), now()));
        assert!(!board.apply(
            &chunk("output", "t", json!({"seq": 5, "payload": "late"})),
            now()
        ));
        assert_eq!(row(&board, "t").status, Status::Completed);
        assert_eq!(board.count(Status::Completed), 1);
    }

    #[test]
    fn a_timeout_is_told_from_a_failure_by_its_words() {
        for (message, status) in [
            ("Task timed out after 200ms", Status::TimedOut),
            ("Task timed out after ms", Status::Failed),
            ("Task timed out after lunch", Status::Failed),
        ] {
            let failed = chunk("failed", "t", json!({"error": {"message": message}}));
            assert_eq!(row(&board(&[failed]), "t").status, status, "{message}");
        }
    }

    /// What is shown stays until the fresh snapshot is whole; then nothing of it is left.
    #[test]
    fn a_fresh_snapshot_takes_the_place_of_what_was_known() {
        let mut board = board(&[chunk("running", "old", json!({"seq": 5}))]);
        assert!(!board.is_complete());
        assert!(board.complete() && board.is_complete());
        assert!(!board.complete(), "the cursor only moved");
        board.apply(&reset(), now());
        board.apply(&chunk("running", "new", json!({})), now());
        assert!(!board.is_complete());
        assert_eq!(row(&board, "old").status, Status::Running);
        assert!(board.complete() && board.is_complete());
        assert!(board.get(&"old".parse().expect("an id")).is_none());
        assert_eq!(board.count(Status::Running), 1);
        row(&board, "new");
    }

    fn record(id: &str, seq: u64) -> TaskRecord {
        let at = "2026-11-21T00:00:01.000Z";
        let json = json!({
            "id": id, "status": "failed", "toolName": "tool", "args": {}, "createdAt": at, "updatedAt": at,
            "completedAt": at, "error": {"message": "oh"}, "retryCount": 0, "maxRetries": 0, "timeoutMs": 1,
            "priority": 0, "attempt": 1, "namespace": "default", "seq": seq,
        });
        serde_json::from_value(json).expect("it is a record")
    }

    #[test]
    fn the_later_of_a_record_and_an_event_counts() {
        let mut board = board(&[
            chunk("running", "snapshot", json!({})),
            chunk("running", "again", json!({"seq": 9})),
            chunk("running", "before", json!({"seq": 3})),
        ]);
        let records = ["snapshot", "again", "before", "unknown"].map(|id| record(id, 5));
        board.take_ended(&records);
        let status = |id| row(&board, id).status;
        assert_eq!(status("snapshot"), Status::Failed);
        assert_eq!(status("again"), Status::Running);
        assert_eq!(status("before"), Status::Failed);
        assert_eq!(status("unknown"), Status::Failed);
        assert_eq!(
            (board.count(Status::Running), board.count(Status::Failed)),
            (1, 3)
        );
        let late = chunk("output", "unknown", json!({"seq": 4, "payload": "late"}));
        board.apply(&late, now());
        assert_eq!(row(&board, "unknown").status, Status::Failed);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut board = Board::default();
        let ends = 3 * ENDED_MAX;
        for n in 0..ends {
            let at = Timestamp::from_ms(i64::try_from(n).expect("it is small"));
            let payload = json!({"seq": n + 1, "completedAt": at.to_string()});
            board.apply(&chunk("completed", &format!("t{n}"), payload), now());
        }
        let kept = board.rows().count();
        assert!(
            (ENDED_MAX..=ENDED_MAX + ENDED_MAX / 2).contains(&kept),
            "{kept}"
        );
        assert_eq!(board.count(Status::Completed), ends, "all that were seen");
        row(&board, &format!("t{}", ends - 1));
        assert!(board.get(&"t0".parse().expect("an id")).is_none());
        let long = chunk("output", "long", json!({"payload": "é".repeat(100_000)}));
        board.apply(&long, now());
        assert_eq!(row(&board, "long").last.chars().count(), LINE_CHARS_MAX);
    }

    #[test]
    fn beyond_its_bound_the_board_says_that_it_is_full() {
        let mut board = Board::default();
        let mut tasks = Tasks::default();
        let running = chunk("running", "t", json!({}));
        for n in 0..ROWS_MAX {
            let mut row = Row::new(&format!("t{n}").parse().expect("an id"), &running, now());
            row.status = Status::Running;
            tasks.put(row, None);
        }
        board.shown = tasks;
        assert!(!board.is_full());
        board.apply(&chunk("running", "more", json!({"seq": 1})), now());
        assert!(board.is_full());
        board.apply(
            &chunk("output", "t0", json!({"seq": 2, "payload": "x"})),
            now(),
        );
        assert_eq!(&*row(&board, "t0").last, "x");
        assert_eq!(board.rows().count(), ROWS_MAX);
    }
}
