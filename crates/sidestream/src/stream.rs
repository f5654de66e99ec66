//! A watcher's view of the log: how things stand at one moment, then what happens, in order (S1–S8).
//!
//! A stream is a place in the log and a filter. It *pulls*: from the snapshot, then from the ring of
//! recent chunks, or from the log itself where the ring no longer reaches. Nothing is pushed at it, so
//! history and news take one path, nothing is seen twice, and a slow reader loses nothing and costs
//! nobody else anything.
//!
//! Read [`Reader::read_on`] first: with [`Reader::read_ring`] it is the whole story.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use sidestream_core::{Chunk, ChunkType, Cursor, Epoch, Filter, Namespace, Seq, Status};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::StoreError;
use crate::store::{Head, LogQuery, Pins, SnapshotQuery, Store};
use crate::stream::ring::{Found, Look, Ring, Watcher};
use crate::stream::waiting::{Waiting, Woken};

mod feed;
pub(crate) mod ring;
pub(crate) mod tail;
mod waiting;

pub use feed::{ChunkStream, Sink};
pub use ring::RingLimits;

/// So many chunks at most come at a time.
const BATCH: usize = 512;
/// A page of the log that a stream reads ends with the event that brings it to so many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// So many tasks of a snapshot are read at a time, at first and at most: twice as many as before when they
/// were small, half as many when they were large.
const SNAPSHOT_PAGE: usize = 8;
const SNAPSHOT_PAGE_MAX: usize = 128;

/// How often a stream that ends with its task looks whether a record is still there: its owner may delete
/// one that has not ended, which no event tells.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// What to stream, and from where.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// Which tasks and chunks.
    pub filter: Filter,
    /// Where it begins.
    pub start: Start,
    /// Which tasks a snapshot shows, at the beginning or after a reset.
    pub snapshot: SnapshotKind,
    /// Ends the stream when cancelled.
    pub cancel: Option<CancellationToken>,
    /// Ends the stream when the one task that the filter names has ended, or is deleted, and all is told: at
    /// once, but for a record that its owner deletes before it has ended, which takes some seconds.
    pub ends_with_task: bool,
    /// After so long without an item, an item that is only a cursor: where the log has got to, so that
    /// resuming after a quiet hour does not fall out of retention (S7).
    pub keep_alive: Option<Duration>,
}

/// Where a stream begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Start {
    /// With a snapshot of how things stand now.
    #[default]
    Now,
    /// With what followed this place.
    After(Cursor),
}

/// Which tasks a snapshot shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SnapshotKind {
    /// The running ones.
    #[default]
    Running,
    /// The pending, running and suspended ones.
    Active,
    /// None: only news.
    None,
}

impl SnapshotKind {
    fn statuses(self) -> &'static [Status] {
        match self {
            Self::Running => &[Status::Running],
            Self::Active => &[Status::Pending, Status::Running, Status::Suspended],
            Self::None => &[],
        }
    }
}

/// One thing that a stream brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamItem {
    /// What happened, or how a task stands; `None` at the end of a snapshot and in a keep-alive, which
    /// only move the cursor.
    pub chunk: Option<Arc<Chunk>>,
    /// Where to resume after this item; `None` within a snapshot, which cannot be resumed.
    pub cursor: Option<Cursor>,
}

/// What streams of one process share.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) shutdown: CancellationToken,
    /// How many streams are open.
    pub(crate) open: Arc<AtomicUsize>,
}

/// A stream that counts as open as long as this exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Source {
    /// Opens a stream: its moment, or its place, is fixed when this returns.
    pub(crate) async fn open(
        &self,
        namespace: Namespace,
        options: StreamOptions,
    ) -> Result<ChunkStream, StoreError> {
        // Registered before anything is read: what happens from now on is noted under the key.
        let watcher = self.ring.watch(&namespace, options.filter.clone());
        let cancel = options.cancel.clone().unwrap_or_default();
        let mut reader = Reader {
            waiting: Waiting::new(watcher.bell(), cancel.clone(), self.shutdown.clone()),
            sees_ends: sees_ends(&options.filter),
            source: self.clone(),
            namespace,
            cancel,
            options,
            watcher,
            _counted: Counted::among(&self.open),
            phase: Phase::Opening,
            is_end_possible: true,
            look_again_at: None,
            snapshot_page: SNAPSHOT_PAGE,
            last_item_at: Instant::now(),
        };
        let ready = reader.open().await?;
        let cursor = match &reader.phase {
            Phase::News(place) => Some(place.cursor()),
            Phase::Opening | Phase::Snapshot { .. } | Phase::BrokenSnapshot => None,
        };
        Ok(ChunkStream::of(Box::new(reader), ready, cursor))
    }
}

/// What one reading came to: items, perhaps none; or the end.
type Step = Result<Option<Vec<StreamItem>>, StoreError>;

/// Who reads, and how far it has come.
struct Reader {
    source: Source,
    namespace: Namespace,
    options: StreamOptions,
    cancel: CancellationToken,
    watcher: Watcher,
    waiting: Waiting,
    _counted: Counted,
    phase: Phase,
    /// May the one task have ended, so that it is worth a look? Only for a stream that ends with it.
    is_end_possible: bool,
    /// When that is worth another look though no event came: only for a record.
    look_again_at: Option<Instant>,
    /// How many tasks of the snapshot are read next.
    snapshot_page: usize,
    /// Is the chunk that says so among those that are wanted? Else any event may be the end.
    sees_ends: bool,
    last_item_at: Instant,
}

/// Where in its story a stream is.
enum Phase {
    /// Nothing is read yet.
    Opening,
    /// Shows how things stood at `at`: all but those tasks have been shown.
    Snapshot { at: Place, left: Pins },
    /// A snapshot was not found to its end: what was shown of it is worth nothing.
    BrokenSnapshot,
    /// Everything up to here has been seen.
    News(Place),
}

/// A place in a named log.
#[derive(Debug, Clone)]
struct Place {
    epoch: Epoch,
    seq: Seq,
}

impl Place {
    fn at_end_of(head: Head) -> Self {
        Self {
            epoch: head.epoch,
            seq: head.seq,
        }
    }

    fn cursor(&self) -> Cursor {
        Cursor::new(self.epoch.clone(), self.seq)
    }
}

impl Reader {
    /// Gives a sink what the ring has, as far as that is at hand; says how far the sink has come, if it was
    /// given anything.
    fn read_ring(&mut self, sink: &mut dyn Sink) -> Option<Cursor> {
        let Phase::News(place) = &mut self.phase else {
            return None;
        };
        let (mut given, mut has_end) = (None, false);
        let epoch = &place.epoch;
        let found = self.watcher.read(place.seq, &mut |seq, chunk| {
            sink.chunk(chunk, Some((epoch, seq)));
            given = Some(seq);
            has_end |= chunk.chunk_type.is_terminal();
            match sink.is_full() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let Found::Through(through) = found else {
            return None;
        };
        if through > place.seq {
            place.seq = through;
            self.is_end_possible |= !self.sees_ends || has_end;
        }
        let given = Cursor::new(place.epoch.clone(), given?);
        self.last_item_at = Instant::now();
        Some(given)
    }

    /// Waits for news where there is nothing else to do: ready when they may be there, or with a keep-alive.
    /// `None` when the store must be asked.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Option<Poll<Option<StreamItem>>> {
        let Phase::News(place) = &self.phase else {
            return None;
        };
        match self.watcher.look(place.seq) {
            // A walk of bounded length found nothing, and there is more to walk.
            Look::News => {
                cx.waker().wake_by_ref();
                return Some(Poll::Pending);
            }
            Look::Nothing if !self.options.ends_with_task => {}
            Look::Behind | Look::Nothing => return None,
        }
        let alarm_at = self
            .options
            .keep_alive
            .map(|pause| self.last_item_at + pause);
        Some(
            self.waiting
                .poll_news(cx, place.seq, alarm_at)
                .map(|woken| match woken {
                    Woken::News => None,
                    Woken::Alarm => {
                        let item = self.keep_alive_due();
                        self.last_item_at = Instant::now();
                        item
                    }
                }),
        )
    }

    fn read(mut self: Box<Self>) -> BoxFuture<'static, (Box<Self>, Step)> {
        Box::pin(async move {
            let (cancel, shutdown) = (self.cancel.clone(), self.source.shutdown.clone());
            let step = tokio::select! {
                biased;
                () = cancel.cancelled() => Ok(None),
                () = shutdown.cancelled() => Ok(None),
                step = self.step() => step,
            };
            if !matches!(&step, Ok(Some(items)) if items.is_empty()) {
                self.last_item_at = Instant::now();
            }
            (self, step)
        })
    }

    /// One step of the story, beside what the ring has: items, perhaps none yet; `None` at the end.
    async fn step(&mut self) -> Step {
        // A walk through thousands of chunks that do not match must let others have their turn.
        tokio::task::consume_budget().await;
        let items = self.read_on().await?;
        if items.as_ref().is_some_and(Vec::is_empty)
            && let Some(item) = self.keep_alive_due()
        {
            return Ok(Some(vec![item]));
        }
        Ok(items)
    }

    /// What comes next where the ring does not bring it.
    async fn read_on(&mut self) -> Step {
        let place = match &mut self.phase {
            Phase::Opening => return Ok(Some(self.open().await?)),
            Phase::Snapshot { .. } => return self.show_snapshot().await,
            Phase::BrokenSnapshot => return self.show_another_snapshot().await,
            Phase::News(place) => place.clone(),
        };
        match self.watcher.look(place.seq) {
            Look::Behind => self.read_log(place).await,
            Look::News => Ok(Some(Vec::new())),
            Look::Nothing => self.wait(place).await,
        }
    }

    async fn open(&mut self) -> Result<Vec<StreamItem>, StoreError> {
        let Start::After(cursor) = &self.options.start else {
            self.take_snapshot().await?;
            return Ok(Vec::new());
        };
        let head = self.source.store.head().await?;
        if let Some(reason) = why_not(cursor, &head) {
            return self.reset(reason, &head).await;
        }
        self.phase = Phase::News(Place {
            epoch: head.epoch,
            seq: cursor.seq,
        });
        Ok(Vec::new())
    }

    /// One moment: the rows that match, and the place in the log that they are the state after (S1).
    async fn take_snapshot(&mut self) -> Result<(), StoreError> {
        // After a reset the end may be among what has been pruned.
        self.is_end_possible = true;
        if self.options.snapshot == SnapshotKind::None {
            let head = self.source.store.head().await?;
            self.phase = Phase::Snapshot {
                at: Place::at_end_of(head),
                left: Vec::new().into(),
            };
            return Ok(());
        }
        let query = SnapshotQuery {
            namespace: self.namespace.clone(),
            filter: self.watcher.filter().clone(),
            statuses: self.options.snapshot.statuses().to_vec(),
        };
        let snapshot = self.source.store.snapshot(&query).await?;
        self.phase = Phase::Snapshot {
            at: Place::at_end_of(snapshot.head),
            left: snapshot.pins,
        };
        Ok(())
    }

    async fn show_snapshot(&mut self) -> Step {
        let Phase::Snapshot { at, left } = &mut self.phase else {
            return Ok(Some(Vec::new()));
        };
        let page = match left.next(self.snapshot_page).await {
            Ok(page) => page,
            Err(error) => {
                self.phase = Phase::BrokenSnapshot;
                return Err(error);
            }
        };
        let tasks = self.source.store.resolve(page).await?;
        let shown = page.len();
        left.take(shown);
        let end = left.is_empty().then(|| at.clone());
        let wanted = |chunk: &Chunk| self.watcher.filter().matches_type(chunk.chunk_type);
        let chunks = tasks.iter().filter_map(Chunk::of_snapshot).filter(wanted);
        let mut items: Vec<_> = chunks
            .map(|chunk| StreamItem {
                chunk: Some(Arc::new(chunk)),
                cursor: None,
            })
            .collect();
        let length = |item: &StreamItem| item.chunk.as_ref().map_or(0, |it| it.json().len());
        let bytes: usize = items.iter().map(length).sum();
        self.snapshot_page = match bytes {
            ..BATCH_BYTES => SNAPSHOT_PAGE_MAX.min(self.snapshot_page * 2),
            _ => (self.snapshot_page / 2).max(1),
        };
        if let Some(at) = end {
            items.push(StreamItem {
                chunk: None,
                cursor: Some(at.cursor()),
            });
            self.phase = Phase::News(at);
        }
        Ok(Some(items))
    }

    /// Who was shown a part of a snapshot must forget it.
    async fn show_another_snapshot(&mut self) -> Step {
        let head = self.source.store.head().await?;
        let reason = "the snapshot could not be read to its end";
        self.reset(reason, &head).await.map(Some)
    }

    /// The ring no longer reaches back to here: the log does, or else the stream begins anew (S3).
    async fn read_log(&mut self, place: Place) -> Step {
        let filter = self.watcher.filter();
        let task = filter.task_id.clone();
        let query = LogQuery {
            after: place.seq,
            limit: BATCH,
            bytes_max: BATCH_BYTES,
            task: task.map(|id| (self.namespace.clone(), id)),
        };
        let page = self.source.store.log(&query).await?;
        if let Some(reason) = why_not(&place.cursor(), &page.head) {
            return self.reset(reason, &page.head).await.map(Some);
        }
        let chunks = page.entries.iter().map(Chunk::of_entry).map(Arc::new);
        let chunks = chunks.filter(|chunk| self.watcher.wants(chunk)).collect();
        Ok(Some(self.hand_out(&place.epoch, chunks, page.through)))
    }

    /// Says that the cursor cannot be honoured, and begins anew.
    async fn reset(&mut self, reason: &str, head: &Head) -> Result<Vec<StreamItem>, StoreError> {
        let oldest = Cursor::new(head.epoch.clone(), head.floor).to_string();
        self.take_snapshot().await?;
        Ok(vec![StreamItem {
            chunk: Some(Arc::new(Chunk::stream_reset(reason, &oldest))),
            cursor: None,
        }])
    }

    fn hand_out(
        &mut self,
        epoch: &Epoch,
        chunks: Vec<Arc<Chunk>>,
        through: Seq,
    ) -> Vec<StreamItem> {
        let has_end = |chunk: &Arc<Chunk>| chunk.chunk_type.is_terminal();
        self.is_end_possible |= !self.sees_ends || chunks.iter().any(has_end);
        let seq = through;
        let epoch = epoch.clone();
        let items = chunks.into_iter().map(|chunk| {
            let seq = chunk.seq.expect("a chunk of the log has its place");
            StreamItem {
                chunk: Some(chunk),
                cursor: Some(Cursor::new(epoch.clone(), seq)),
            }
        });
        let items = items.collect();
        self.phase = Phase::News(Place { epoch, seq });
        items
    }

    /// Nothing is new: waits for the bell, for the keep-alive, or sees that all is told.
    async fn wait(&mut self, place: Place) -> Step {
        if self.options.ends_with_task && self.is_end_possible {
            let is_told = self.is_all_told(&place).await?;
            // Not before the store has answered: a reading that fails must be made again.
            self.is_end_possible = false;
            return Ok((!is_told).then(Vec::new));
        }
        let keep_alive = self.options.keep_alive.map(|d| self.last_item_at + d);
        tokio::select! {
            biased;
            () = self.watcher.wait(place.seq) => {}
            () = until(keep_alive) => {}
            () = until(self.look_again_at) => self.is_end_possible = true,
        }
        Ok(Some(Vec::new()))
    }

    /// Has the one task ended, or is it gone, and every event of it been told?
    async fn is_all_told(&mut self, place: &Place) -> Result<bool, StoreError> {
        let Some(id) = self.watcher.filter().task_id.clone() else {
            return Ok(false);
        };
        let store = &self.source.store;
        if let Some(task) = store.get(&self.namespace, &id).await? {
            let looks_again = task.is_external() && !task.status.is_terminal();
            self.look_again_at = looks_again.then(|| Instant::now() + LOOK_AGAIN_EVERY);
            return Ok(task.status.is_terminal() && task.seq <= place.seq);
        }
        // Gone: but it may have ended and been deleted since the ring was last read.
        let query = LogQuery {
            after: place.seq,
            limit: 1,
            bytes_max: LogQuery::BYTES_MAX,
            task: Some((self.namespace.clone(), id)),
        };
        Ok(store.log(&query).await?.entries.is_empty())
    }

    fn keep_alive_due(&mut self) -> Option<StreamItem> {
        let Phase::News(place) = &self.phase else {
            return None;
        };
        let due = self.last_item_at + self.options.keep_alive?;
        (Instant::now() >= due).then(|| StreamItem {
            chunk: None,
            cursor: Some(place.cursor()),
        })
    }
}

/// Waits until then; for ever, if there is no such time.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Is the end of the filter's task among the chunks that it lets through, whatever that task is?
fn sees_ends(filter: &Filter) -> bool {
    let of_task_alone = Filter {
        task_id: filter.task_id.clone(),
        types: filter.types.clone(),
        ..Filter::default()
    };
    let mut ends = ChunkType::ALL.into_iter().filter(|ty| ty.is_terminal());
    *filter == of_task_alone && ends.all(|ty| filter.matches_type(ty))
}

/// Why a cursor cannot be honoured, if it cannot.
fn why_not(cursor: &Cursor, head: &Head) -> Option<&'static str> {
    let is_other = |epoch: &Epoch| *epoch != head.epoch;
    if cursor.epoch.as_ref().is_some_and(is_other) {
        return Some("the cursor belongs to another log");
    }
    if cursor.seq > head.seq {
        return Some("the cursor is ahead of the log");
    }
    if cursor.seq < head.floor {
        return Some("the log has been pruned past the cursor");
    }
    None
}
