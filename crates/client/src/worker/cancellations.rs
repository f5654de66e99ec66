//! How a worker hears that a task was cancelled: it follows the server's stream of cancellations.
//!
//! The stream resumes where it was, so none is missed while the server can be reached within retention.
//! Where the stream has to begin anew, every attempt asks at once whether it still holds its task.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sidestream::core::{ChunkType, Cursor, Epoch, Filter, Namespace, Seq, TaskId};
use sidestream::worker::running::RunningTasks;

use crate::client::Client;
use crate::error::Error;
use crate::stream::{Backoff, Item, SnapshotKind, Stream, StreamRequest};

/// How soon the stream is opened again.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(200),
    max: Duration::from_secs(1),
};
/// So many cancellations at most are kept until the first task says whose they are.
const EARLY_MAX: usize = 4_096;

/// The stream of cancellations, and who is told.
#[derive(Debug)]
pub(super) struct Cancellations {
    stream: Stream,
    room: Arc<Room>,
}

/// The tenant's room that the worker works in: known once a task of it has come.
#[derive(Debug)]
pub(super) struct Room {
    running: Arc<RunningTasks>,
    known: Mutex<Known>,
}

#[derive(Debug)]
enum Known {
    /// Not yet: what was cancelled meanwhile.
    Early(Vec<(TaskId, Seq)>),
    Room(Namespace),
}

impl Room {
    /// A task came, of this room. To be said before it is begun.
    pub(super) fn is(&self, namespace: &Namespace) {
        let mut known = self.known.lock();
        if let Known::Early(early) = &mut *known {
            for (id, seq) in early.drain(..) {
                self.running.cancelled(namespace, &id, seq);
            }
            *known = Known::Room(namespace.clone());
        }
    }

    fn cancelled(&self, id: TaskId, seq: Seq) {
        match &mut *self.known.lock() {
            Known::Room(namespace) => self.running.cancelled(namespace, &id, seq),
            Known::Early(early) => {
                if early.len() == EARLY_MAX {
                    early.remove(0);
                }
                early.push((id, seq));
            }
        }
    }
}

impl Cancellations {
    /// Opens the stream; returns when it stands, or the server refuses.
    pub(super) async fn follow(client: &Client, running: Arc<RunningTasks>) -> Result<Self, Error> {
        let client = Client {
            backoff: BACKOFF,
            ..client.clone()
        };
        let filter = Filter::default().types([ChunkType::Cancelled]);
        let request = StreamRequest::watch(filter).snapshot(SnapshotKind::None);
        let known = Mutex::new(Known::Early(Vec::new()));
        let mut cancellations = Self {
            stream: client.stream(request),
            room: Arc::new(Room { running, known }),
        };
        while cancellations.stream.cursor().is_none() {
            cancellations.take_next().await?;
        }
        Ok(cancellations)
    }

    pub(super) fn room(&self) -> Arc<Room> {
        Arc::clone(&self.room)
    }

    /// The name of the server's log.
    pub(super) fn log(&self) -> Result<Epoch, Error> {
        let cursor = self.stream.cursor().unwrap_or_default();
        let epoch = cursor
            .parse::<Cursor>()
            .ok()
            .and_then(|cursor| cursor.epoch);
        epoch.ok_or_else(|| Error::Configuration(format!("the cursor {cursor:?} names no log")))
    }

    /// Tells what is cancelled, until dropped.
    ///
    /// # Errors
    /// When the server refuses for good.
    pub(super) async fn listen(mut self) -> Result<(), Error> {
        loop {
            self.take_next().await?;
        }
    }

    async fn take_next(&mut self) -> Result<(), Error> {
        let item = self.stream.next().await;
        match item.expect("it ends only with an error")? {
            Item::Chunk(chunk) if chunk.chunk_type == Some(ChunkType::StreamReset) => {
                self.room.running.doubt();
            }
            Item::Chunk(chunk) => {
                if let (Some(id), Some(seq)) = (&chunk.payload.task_id, chunk.payload.seq) {
                    self.room.cancelled(id.clone(), Seq(seq));
                }
            }
            Item::Lost { error, .. } => {
                tracing::warn!(%error, "the stream of cancellations is opened again");
            }
            Item::Moved | Item::Connected => {}
        }
        Ok(())
    }
}
