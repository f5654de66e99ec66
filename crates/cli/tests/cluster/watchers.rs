//! Watchers: each with a filter of its own, at one server after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use sidestream::chance::{Chance, SeededChance};
use sidestream::{AgentId, ChunkType, Filter, RunId, TaskId, ThreadId, ToolName};
use sidestream_client::{Item, Stream, StreamRequest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::client;

const WATCHERS: u64 = 100;

/// All the watchers, watching.
#[derive(Debug)]
pub(crate) struct Watchers {
    end: watch::Sender<Option<u64>>,
    watching: JoinSet<Notes>,
}

/// What one watcher wrote down.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) filter: Filter,
    /// The tasks that its snapshot showed, and the snapshot's moment.
    pub(crate) shown: BTreeSet<TaskId>,
    pub(crate) since: Option<u64>,
    /// Every event it saw, over all its connections.
    pub(crate) seen: Vec<(u64, ChunkType)>,
    pub(crate) resumed: u64,
    /// Where it has come to, as it gives it back, and as a number.
    cursor: Option<String>,
    reached: Option<u64>,
}

impl Watchers {
    pub(crate) fn start(bases: &[String], chance: &SeededChance) -> Self {
        let (end, told) = watch::channel(None);
        let mut watching = JoinSet::new();
        for number in 0..WATCHERS {
            let (bases, told) = (bases.to_vec(), told.clone());
            let chance = SeededChance::new(chance.next());
            watching.spawn(watch(bases, filter(number), chance, told));
        }
        Self { end, watching }
    }

    /// Everything that each saw, up to the end of the log.
    pub(crate) async fn finish(self, end: u64) -> Vec<Notes> {
        self.end.send_replace(Some(end));
        self.watching.join_all().await
    }
}

fn filter(n: u64) -> Filter {
    let filter = Filter::default();
    match n % 6 {
        0 => filter,
        1 => filter.agent(AgentId::new(format!("agent-{}", n % 8)).unwrap()),
        2 => filter.thread(ThreadId::new(format!("thread-{}", n % 32)).unwrap()),
        3 => filter.run(RunId::new(format!("run-{}", n % 16)).unwrap()),
        4 => filter.tool(ToolName::new("ask").unwrap()),
        _ => filter.types(ChunkType::ALL),
    }
}

async fn watch(
    bases: Vec<String>,
    filter: Filter,
    chance: SeededChance,
    end: watch::Receiver<Option<u64>>,
) -> Notes {
    sleep(Duration::from_millis(chance.next() % 3_000)).await;
    let mut notes = Notes {
        filter: filter.clone(),
        ..Notes::default()
    };
    loop {
        let base = &bases[(chance.next() % bases.len() as u64) as usize];
        let mut request = StreamRequest::watch(filter.clone());
        match &notes.cursor {
            Some(cursor) => {
                request = request.after(cursor.clone());
                notes.resumed += 1;
            }
            // A snapshot that was not seen to its end is worth nothing.
            None => notes.shown.clear(),
        }
        let mut stream = client(base).stream(request);
        let until = Instant::now() + Duration::from_millis(1_000 + chance.next() % 4_000);
        while let Ok(item) = timeout_at(until, stream.next()).await {
            let item = item.expect("a stream that watches never ends");
            notes.take(item.unwrap(), &stream);
        }
        if end.borrow().is_some_and(|end| notes.reached >= Some(end)) {
            return notes;
        }
    }
}

impl Notes {
    fn take(&mut self, item: Item, stream: &Stream) {
        let place = stream.cursor().map(str::to_owned);
        let reached = place.as_deref().map(|cursor| {
            let cursor: sidestream::Cursor = cursor.parse().expect("a cursor");
            cursor.seq.0
        });
        match item {
            Item::Chunk(chunk) if chunk.chunk_type == Some(ChunkType::StreamReset) => {
                assert!(self.since.is_none(), "{}", chunk.json());
                self.shown.clear();
            }
            Item::Chunk(chunk) => {
                let chunk_type = chunk.chunk_type.expect("known");
                let id = chunk.payload.task_id.clone().expect("of a task");
                match chunk.payload.seq {
                    Some(seq) => self.seen.push((seq, chunk_type)),
                    None => assert!(self.shown.insert(id.clone()), "twice in a snapshot: {id}"),
                }
            }
            Item::Moved if self.since.is_none() => self.since = reached,
            _ => {}
        }
        if self.since.is_some() && place.is_some() {
            (self.cursor, self.reached) = (place, reached);
        }
    }
}
