//! What a watcher knows from chunks alone, and what it must never see.

use std::collections::BTreeMap;

use serde::Deserialize;
use sidestream_core::{Attempt, Chunk, ChunkType, Cursor, Seq, TaskId};

use crate::stream::StreamItem;

/// What a watcher knows of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The last chunk that said where its latest attempt stands: not an output. `None` when only outputs
    /// of that attempt were seen.
    pub chunk_type: Option<ChunkType>,
    /// The latest attempt that a chunk named; 0 before.
    pub attempt: Attempt,
    /// How many outputs were seen.
    pub outputs: u64,
    /// The last event of it; 0 when it is known from a snapshot only.
    pub seq: Seq,
}

impl Known {
    pub(super) fn in_snapshot(chunk_type: ChunkType, attempt: Attempt) -> Self {
        Self {
            chunk_type: Some(chunk_type),
            attempt,
            ..Self::default()
        }
    }

    pub(super) fn see(&mut self, chunk_type: ChunkType, attempt: Option<Attempt>, seq: Seq) {
        if chunk_type != ChunkType::Output {
            self.chunk_type = Some(chunk_type);
        } else {
            self.outputs += 1;
            // Of an attempt whose beginning was not asked for: what was known is over.
            if attempt > Some(self.attempt) {
                self.chunk_type = None;
            }
        }
        self.attempt = attempt.unwrap_or(self.attempt);
        self.seq = seq;
    }
}

/// A watcher's memory, rebuilt from what a stream brings and nothing else.
///
/// It notices what can be seen without knowing the log: an event out of order or twice, a task that
/// runs after its end, an attempt that goes back, a snapshot that is told in the midst of news.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    tasks: BTreeMap<TaskId, Known>,
    place: Option<Cursor>,
    /// Where it began to know: the snapshot's moment, or the cursor that it resumed from.
    from: Option<Seq>,
    /// The events it saw since then.
    seqs: Vec<Seq>,
    is_in_snapshot: bool,
    resets: u64,
}

/// What is read of a chunk's payload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    seq: Option<u64>,
    attempt: Option<u32>,
}

#[derive(Deserialize)]
struct Object {
    payload: Payload,
}

impl Mirror {
    /// Of a stream that begins with a snapshot.
    #[must_use]
    pub fn of_snapshot() -> Self {
        Self {
            is_in_snapshot: true,
            ..Self::default()
        }
    }

    /// Of a stream that goes on after a place, with nothing in mind.
    #[must_use]
    pub fn resumed(after: Cursor) -> Self {
        Self {
            from: Some(after.seq),
            place: Some(after),
            ..Self::default()
        }
    }

    /// Of a stream that goes on where another broke off.
    #[must_use]
    pub fn resume(&self) -> Self {
        let mut mirror = self.clone();
        // A snapshot that was not read to its end is worth nothing.
        if mirror.is_in_snapshot {
            mirror.tasks.clear();
            mirror.seqs.clear();
            mirror.is_in_snapshot = mirror.place.is_none();
        }
        mirror
    }

    /// What is known of each task.
    #[must_use]
    pub fn tasks(&self) -> &BTreeMap<TaskId, Known> {
        &self.tasks
    }

    /// Up to where all is known, and from where it could be resumed; `None` until a snapshot is complete.
    #[must_use]
    pub fn place(&self) -> Option<&Cursor> {
        self.place.as_ref().filter(|_| !self.is_in_snapshot)
    }

    /// Since when all is known: the moment of the snapshot, or the place that was resumed from.
    #[must_use]
    pub fn from(&self) -> Option<Seq> {
        self.from.filter(|_| !self.is_in_snapshot)
    }

    /// The events it saw since then.
    #[must_use]
    pub fn seqs(&self) -> &[Seq] {
        &self.seqs
    }

    /// How often it was told to begin anew.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Takes in what the stream brought.
    ///
    /// # Errors
    /// Says what no watcher must ever see.
    pub fn take(&mut self, item: &StreamItem) -> Result<(), String> {
        let at = item.cursor.as_ref();
        match (&item.chunk, at) {
            (Some(chunk), _) if chunk.chunk_type == ChunkType::StreamReset => {
                self.tasks.clear();
                self.seqs.clear();
                self.from = None;
                self.is_in_snapshot = true;
                self.resets += 1;
                Ok(())
            }
            (Some(chunk), None) => self.take_snapshot(chunk),
            (Some(chunk), Some(at)) => self.take_news(chunk, at),
            (None, Some(at)) if self.is_in_snapshot => {
                self.is_in_snapshot = false;
                self.from = Some(at.seq);
                self.place = Some(at.clone());
                Ok(())
            }
            (None, Some(at)) => self.move_to(at),
            (None, None) => Err("an item without a chunk and without a cursor".into()),
        }
    }

    fn take_snapshot(&mut self, chunk: &Chunk) -> Result<(), String> {
        if !self.is_in_snapshot {
            return Err(format!(
                "told of a snapshot in the midst of news: {}",
                chunk.json()
            ));
        }
        let (id, payload) = read(chunk)?;
        if payload.seq.is_some() {
            return Err(format!("an event within a snapshot: {}", chunk.json()));
        }
        let attempt = Attempt(payload.attempt.unwrap_or_default());
        let known = Known::in_snapshot(chunk.chunk_type, attempt);
        match self.tasks.insert(id, known) {
            None => Ok(()),
            Some(_) => Err(format!("twice in one snapshot: {}", chunk.json())),
        }
    }

    fn take_news(&mut self, chunk: &Chunk, at: &Cursor) -> Result<(), String> {
        let (id, payload) = read(chunk)?;
        if payload.seq != Some(at.seq.0) || chunk.seq != Some(at.seq) {
            return Err(format!(
                "cursor {at} does not name the event {}",
                chunk.json()
            ));
        }
        if self.place().is_some_and(|place| place.seq >= at.seq) {
            return Err(format!("out of order or twice: {}", chunk.json()));
        }
        self.move_to(at)?;
        let attempt = payload.attempt.map(Attempt);
        let known = self.tasks.entry(id).or_default();
        if attempt.is_some_and(|attempt| attempt < known.attempt) {
            return Err(format!(
                "an earlier attempt after a later one: {}",
                chunk.json()
            ));
        }
        let has_ended = known.chunk_type.is_some_and(ChunkType::is_terminal);
        let is_same = attempt.is_none_or(|attempt| attempt == known.attempt);
        // A task that was retried by hand runs again, as a later attempt, or is cancelled before: the retry
        // itself is seen only by who asks for it.
        let goes_on = match chunk.chunk_type {
            ChunkType::Started | ChunkType::Retrying => false,
            ChunkType::Cancelled => known.chunk_type == Some(ChunkType::Completed),
            _ => true,
        };
        if has_ended && is_same && goes_on {
            return Err(format!("after its end: {}", chunk.json()));
        }
        if matches!(chunk.chunk_type, ChunkType::Running | ChunkType::Resumed) {
            let is_new = attempt.is_some_and(|attempt| attempt > known.attempt);
            // An attempt known from outputs only may be told to have begun by nobody else.
            if known.chunk_type.is_some() && !is_new {
                return Err(format!("an attempt that begins twice: {}", chunk.json()));
            }
        }
        known.see(chunk.chunk_type, attempt, at.seq);
        self.seqs.push(at.seq);
        Ok(())
    }

    fn move_to(&mut self, at: &Cursor) -> Result<(), String> {
        if self.is_in_snapshot {
            return Err(format!("news at {at} within a snapshot"));
        }
        if let Some(place) = &self.place {
            let is_same_log = place.epoch.is_none() || place.epoch == at.epoch;
            if !is_same_log || place.seq > at.seq {
                return Err(format!("the cursor goes back from {place} to {at}"));
            }
        }
        self.place = Some(at.clone());
        Ok(())
    }
}

fn read(chunk: &Chunk) -> Result<(TaskId, Payload), String> {
    let object: Object =
        serde_json::from_str(chunk.json()).map_err(|e| format!("{e}: {}", chunk.json()))?;
    let id = chunk
        .task_id()
        .ok_or_else(|| format!("of no task: {}", chunk.json()))?;
    Ok((id.clone(), object.payload))
}
