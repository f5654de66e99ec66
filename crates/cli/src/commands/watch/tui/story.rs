//! One task's story: the fold of its chunks from the first to the latest into a timeline and its outputs.
//!
//! Both are bounded. Of outputs the latest are kept, and how many are missing is known.

use std::collections::VecDeque;

use sidestream::{Status, Timestamp};
use sidestream_client::{Chunk, ChunkType};

use super::text::{bounded, safe};
use crate::console::Style;
use crate::show;

/// So many lines of output are kept.
const LINES_MAX: usize = 20_000;
/// So many bytes of output are kept.
const BYTES_MAX: usize = 8 << 20;
/// A line is cut after so many bytes.
const LINE_BYTES_MAX: usize = 8_192;
/// So many moments are kept.
const MOMENTS_MAX: usize = 2_000;

/// Something that happened to the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    /// Not every event tells its time.
    pub(super) at: Option<Timestamp>,
    pub(super) mark: &'static str,
    pub(super) style: Style,
    pub(super) text: String,
    /// So many outputs, if that is what it is.
    pub(super) outputs: u64,
}

/// A line that the task emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// A command wrote it to its standard error.
    pub(super) is_error: bool,
}

/// What is known of a task's story.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) moments: VecDeque<Moment>,
    pub(super) lines: VecDeque<Line>,
    bytes: usize,
    /// So many lines were let go, from the beginning.
    pub(super) lines_gone: u64,
    /// How the task stands by its latest event.
    pub(super) status: Option<Status>,
    seq: u64,
}

impl Story {
    /// What a chunk says.
    pub(super) fn apply(&mut self, chunk: &Chunk) {
        let payload = &chunk.payload;
        if chunk.chunk_type == Some(ChunkType::StreamReset) {
            *self = Self::default();
            return;
        }
        if let Some(seq) = payload.seq {
            if seq <= self.seq {
                return;
            }
            self.seq = seq;
        }
        self.status = status_after(chunk).or(self.status);
        if chunk.chunk_type == Some(ChunkType::Output) {
            self.take_output(chunk);
            return;
        }
        let told = show::told(chunk);
        let at = payload.completed_at.or(payload.suspended_at);
        self.push(Moment {
            at: at.or(payload.started_at),
            mark: told.mark,
            style: told.style,
            text: line_of(&told.text),
            outputs: 0,
        });
    }

    fn take_output(&mut self, chunk: &Chunk) {
        match self.moments.back_mut() {
            Some(last) if last.outputs > 0 => last.outputs += 1,
            _ => self.push(Moment {
                at: None,
                mark: "│",
                style: Style::Plain,
                text: String::new(),
                outputs: 1,
            }),
        }
        let Some(output) = chunk.payload.payload.as_ref().map(show::output) else {
            return;
        };
        for line in output.text.lines() {
            let line = Line {
                text: line_of(line),
                is_error: output.is_error,
            };
            self.bytes += line.text.len();
            self.lines.push_back(line);
        }
        while self.lines.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let gone = self.lines.pop_front();
            self.bytes -= gone.map_or(0, |line| line.text.len());
            self.lines_gone += 1;
        }
    }

    fn push(&mut self, moment: Moment) {
        if self.moments.len() == MOMENTS_MAX {
            self.moments.pop_front();
        }
        self.moments.push_back(moment);
    }
}

fn status_after(chunk: &Chunk) -> Option<Status> {
    Some(match chunk.chunk_type? {
        ChunkType::Started | ChunkType::Queued | ChunkType::Retrying => Status::Pending,
        ChunkType::Running | ChunkType::Resumed | ChunkType::Output => Status::Running,
        ChunkType::Suspended => Status::Suspended,
        ChunkType::Completed => Status::Completed,
        ChunkType::Failed => Status::Failed,
        ChunkType::Cancelled => Status::Cancelled,
        ChunkType::StreamReset => return None,
    })
}

fn line_of(text: &str) -> String {
    safe(&bounded(text, LINE_BYTES_MAX)).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn chunk(kind: &str, mut payload: Value) -> Chunk {
        payload["taskId"] = "t".into();
        let json = json!({"type": format!("background-task-{kind}"), "payload": payload});
        Chunk::from_json(json.to_string()).expect("it is a chunk")
    }

    fn story(chunks: &[(&str, Value)]) -> Story {
        let mut story = Story::default();
        for (kind, payload) in chunks {
            story.apply(&chunk(kind, payload.clone()));
        }
        story
    }

    #[test]
    fn a_story_is_its_moments_and_its_outputs() {
        let at = "2026-11-21T00:00:01.000Z";
        let story = story(&[
            ("started", json!({"seq": 1})),
            ("running", json!({"seq": 2, "startedAt": at, "attempt": 1})),
            ("output", json!({"seq": 3, "payload": "a\nb\u{1b}[2J"})),
            (
                "output",
                json!({"seq": 4, "payload": {"stream": "stderr", "text": "oh"}}),
            ),
            ("output", json!({"seq": 4, "payload": "again"})),
            (
                "failed",
                json!({"seq": 5, "completedAt": at, "error": {"message": "why\u{7}"}}),
            ),
        ]);
        let told: Vec<_> = story
            .moments
            .iter()
            .map(|it| (it.text.as_str(), it.outputs))
            .collect();
        let expected = [
            ("dispatched", 0),
            ("started", 0),
            ("", 2),
            ("failed: why␇", 0),
        ];
        assert_eq!(told, expected);
        assert_eq!(story.moments[1].at, Some(at.parse().expect("a time")));
        let lines: Vec<_> = story
            .lines
            .iter()
            .map(|it| (it.text.as_str(), it.is_error))
            .collect();
        assert_eq!(lines, [("a", false), ("b␛[2J", false), ("oh", true)]);
        assert_eq!(story.status, Some(Status::Failed));
    }

    #[test]
    fn the_latest_output_is_kept() {
        let many = "x\n".repeat(LINES_MAX / 2 + 1);
        let first = story(&[("output", json!({"seq": 1, "payload": many}))]);
        assert_eq!(
            (first.lines.len(), first.lines_gone),
            (LINES_MAX / 2 + 1, 0)
        );
        let both = story(&[
            ("output", json!({"seq": 1, "payload": many})),
            ("output", json!({"seq": 2, "payload": many})),
        ]);
        assert_eq!((both.lines.len(), both.lines_gone), (LINES_MAX, 2));
        let long = format!("{}\n", "y".repeat(1 << 20)).repeat(3);
        let large = story(&[("output", json!({"seq": 1, "payload": long}))]);
        assert_eq!(large.lines.len(), 3);
        assert!(large.lines[0].text.ends_with("bytes more)") && large.bytes < 30_000);
    }

    #[test]
    fn a_reset_begins_the_story_anew() {
        let mut story = story(&[("output", json!({"seq": 7, "payload": "old"}))]);
        let reset = Chunk::from_json(r#"{"type":"stream-reset","payload":{}}"#);
        story.apply(&reset.expect("it is a chunk"));
        story.apply(&chunk("output", json!({"seq": 3, "payload": "new"})));
        let lines: Vec<_> = story.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(lines, ["new"]);
    }
}
