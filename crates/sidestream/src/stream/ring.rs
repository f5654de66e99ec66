//! The recent end of the log, in memory: a cache that all watchers of the process read.
//!
//! A watcher holds a place and pulls: there is no queue per watcher, so nothing to overflow, to drop
//! or to deduplicate. One that falls behind the ring reads the log instead.
//!
//! A watcher of everything walks the ring. Ten thousand watchers of a thread each must not all do
//! that: such a watcher registers its [`Key`], and from then on the ring notes, as it fills, where
//! that key's events are, and rings that key's bell alone.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLock;
use sidestream_core::{
    Chunk, Filter, Namespace, ResourceId, RunId, Seq, TaskId, TaskIdentity, ThreadId,
};
use tokio::sync::watch;

/// What the ring holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingLimits {
    /// So many chunks.
    pub chunks: usize,
    /// So many bytes of them.
    pub bytes: usize,
}

impl Default for RingLimits {
    /// 65,536 chunks or 8 MiB of them, whichever is reached first.
    fn default() -> Self {
        Self {
            chunks: 65_536,
            bytes: 8 << 20,
        }
    }
}

/// What a chunk takes besides its text, roughly.
const CHUNK_OVERHEAD_BYTES: usize = 160;

/// What a narrow watcher can register for: each is a field that few events share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Task(Namespace, TaskId),
    Thread(Namespace, ThreadId),
    Run(Namespace, RunId),
    Resource(Namespace, ResourceId),
}

impl Key {
    /// The narrowest key of a filter, if it has one.
    pub(crate) fn of_filter(namespace: &Namespace, filter: &Filter) -> Option<Self> {
        let ns = || namespace.clone();
        let task = filter.task_id.clone().map(|id| Self::Task(ns(), id));
        let run = || filter.run_id.clone().map(|id| Self::Run(ns(), id));
        let thread = || filter.thread_id.clone().map(|id| Self::Thread(ns(), id));
        let resource = || {
            let id = filter.resource_id.clone();
            id.map(|id| Self::Resource(ns(), id))
        };
        task.or_else(run).or_else(thread).or_else(resource)
    }

    /// The keys under which an event of a task may be looked for.
    fn of_task(task: &TaskIdentity) -> impl Iterator<Item = Self> {
        let ns = || task.namespace.clone();
        let id = Some(Self::Task(ns(), task.id.clone()));
        let thread = task.thread_id.clone().map(|id| Self::Thread(ns(), id));
        let run = task.run_id.clone().map(|id| Self::Run(ns(), id));
        let resource = task.resource_id.clone();
        let resource = resource.map(|id| Self::Resource(ns(), id));
        [id, thread, run, resource].into_iter().flatten()
    }
}

/// The recent end of the log.
#[derive(Debug)]
pub(crate) struct Ring {
    limits: RingLimits,
    inner: RwLock<Inner>,
    /// Rings for everyone who walks the whole ring. Carries the ring's end.
    bell: watch::Sender<Seq>,
}

#[derive(Debug)]
struct Inner {
    /// Dense: the chunk of `Seq(n)` is at `n - first`.
    chunks: VecDeque<Arc<Chunk>>,
    bytes: usize,
    /// The place of the front chunk; one past the end when the ring is empty.
    first: Seq,
    keys: HashMap<Key, Slot>,
}

/// Where one key's events are in the ring.
#[derive(Debug)]
struct Slot {
    /// Complete for everything after `since`.
    seqs: VecDeque<Seq>,
    since: Seq,
    bell: watch::Sender<Seq>,
    /// Up to where the bell has rung, or is about to: one batch rings it once.
    rung: Seq,
    watchers: usize,
}

/// What a watcher found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The watcher has now seen everything up to here, which is where it was if there is nothing new.
    Through(Seq),
    /// The ring no longer reaches back to the watcher's place: it must read the log.
    Behind,
}

/// What a watcher would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It has seen everything.
    Nothing,
    /// Something, perhaps not its own.
    News,
    /// As [`Found::Behind`].
    Behind,
}

impl Slot {
    /// The key's first event after a place.
    fn after(&self, position: Seq) -> Option<Seq> {
        let next = self.seqs.partition_point(|&seq| seq <= position);
        self.seqs.get(next).copied()
    }
}

impl Inner {
    fn head(&self) -> Seq {
        Seq(self.first.0 + self.chunks.len() as u64 - 1)
    }

    fn at(&self, seq: Seq) -> &Arc<Chunk> {
        &self.chunks[(seq.0 - self.first.0) as usize]
    }

    /// Is the next event after `position` here? Where a key's events are known, the ring reaches back to the
    /// watcher's next one, however many others have come and gone: a quiet watcher does not fall behind.
    fn reaches(&self, slot: Option<&Slot>, position: Seq) -> bool {
        let next = slot.map_or(Some(position.next()), |slot| slot.after(position));
        next.is_none_or(|next| next >= self.first)
    }
}

impl Ring {
    /// An empty ring that goes on after `head`.
    pub(crate) fn new(head: Seq, limits: RingLimits) -> Self {
        Self {
            limits,
            inner: RwLock::new(Inner {
                chunks: VecDeque::new(),
                bytes: 0,
                first: head.next(),
                keys: HashMap::new(),
            }),
            bell: watch::Sender::new(head),
        }
    }

    /// The last event that the ring has been given.
    pub(crate) fn head(&self) -> Seq {
        self.inner.read().head()
    }

    /// Adds the next chunks, which must follow the ring's end without a hole, and wakes those they
    /// concern.
    pub(crate) fn publish(&self, chunks: Vec<Arc<Chunk>>) {
        let Some(last) = chunks.last().and_then(|chunk| chunk.seq) else {
            return;
        };
        let mut bells = Vec::new();
        {
            let mut inner = self.inner.write();
            for chunk in chunks {
                let seq = chunk.seq.expect("a chunk of the log has its place");
                assert_eq!(seq, inner.head().next(), "the ring has no holes");
                note_keys(&mut inner, &chunk, seq, last, &mut bells);
                inner.bytes += chunk.json().len() + CHUNK_OVERHEAD_BYTES;
                inner.chunks.push_back(chunk);
                // One by one: a large batch does not stay in memory beside all that was there before.
                self.evict(&mut inner);
            }
        }
        // The bells ring after the chunks are there and the lock is free: who wakes finds them.
        self.bell.send_replace(last);
        for bell in bells {
            bell.send_replace(last);
        }
    }

    /// Goes on after `floor`, without what comes before: it can no longer be read. Who waits for it is
    /// woken, and finds itself behind.
    pub(crate) fn skip_to(&self, floor: Seq) {
        let bells: Vec<_> = {
            let mut inner = self.inner.write();
            if floor <= inner.head() {
                return;
            }
            inner.chunks.clear();
            inner.bytes = 0;
            inner.first = floor.next();
            let slots = inner.keys.values_mut().map(|slot| {
                slot.seqs.clear();
                slot.since = floor;
                slot.bell.clone()
            });
            slots.collect()
        };
        self.bell.send_replace(floor);
        for bell in bells {
            bell.send_replace(floor);
        }
    }

    fn evict(&self, inner: &mut Inner) {
        while inner.chunks.len() > self.limits.chunks || inner.bytes > self.limits.bytes {
            let Some(chunk) = inner.chunks.pop_front() else {
                return;
            };
            inner.bytes -= chunk.json().len() + CHUNK_OVERHEAD_BYTES;
            inner.first = inner.first.next();
        }
    }

    /// Registers a watcher of a filter.
    pub(crate) fn watch(self: &Arc<Self>, namespace: &Namespace, filter: Filter) -> Watcher {
        let key = Key::of_filter(namespace, &filter);
        let bell = match &key {
            None => self.bell.subscribe(),
            Some(key) => {
                let mut inner = self.inner.write();
                let since = inner.head();
                let slot = inner.keys.entry(key.clone()).or_insert_with(|| Slot {
                    seqs: VecDeque::new(),
                    since,
                    bell: watch::Sender::new(since),
                    rung: since,
                    watchers: 0,
                });
                slot.watchers += 1;
                slot.bell.subscribe()
            }
        };
        Watcher {
            ring: Arc::clone(self),
            namespace: namespace.clone(),
            filter,
            key,
            bell,
        }
    }

    fn forget(&self, key: &Key) {
        let mut inner = self.inner.write();
        if let Some(slot) = inner.keys.get_mut(key) {
            slot.watchers -= 1;
            if slot.watchers == 0 {
                inner.keys.remove(key);
            }
        }
    }

    /// How many keys are registered: nought when no narrow watcher is left.
    #[cfg(test)]
    fn keys(&self) -> usize {
        self.inner.read().keys.len()
    }
}

/// Notes an event under its keys, and gathers the bells that are to ring for its batch, which ends at `last`.
fn note_keys(
    inner: &mut Inner,
    chunk: &Chunk,
    seq: Seq,
    last: Seq,
    bells: &mut Vec<watch::Sender<Seq>>,
) {
    if inner.keys.is_empty() {
        return;
    }
    let first = inner.first;
    let task = chunk.task.as_ref().expect("a chunk of the log has a task");
    for key in Key::of_task(task) {
        let Some(slot) = inner.keys.get_mut(&key) else {
            continue;
        };
        while let Some(gone) = slot.seqs.pop_front_if(|seq| *seq < first) {
            slot.since = gone;
        }
        slot.seqs.push_back(seq);
        if slot.rung < last {
            slot.rung = last;
            bells.push(slot.bell.clone());
        }
    }
}

/// Someone who reads the ring. Dropping it forgets it at once (S5).
#[derive(Debug)]
pub(crate) struct Watcher {
    ring: Arc<Ring>,
    namespace: Namespace,
    filter: Filter,
    key: Option<Key>,
    bell: watch::Receiver<Seq>,
}

impl Watcher {
    /// What the watcher wants to see.
    pub(crate) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Is this one of the watcher's?
    pub(crate) fn wants(&self, chunk: &Chunk) -> bool {
        let task = chunk.task.as_ref();
        self.filter.matches_type(chunk.chunk_type)
            && task.is_some_and(|task| {
                task.namespace == self.namespace && self.filter.matches_task(task)
            })
    }

    /// What there is after `position`.
    pub(crate) fn look(&self, position: Seq) -> Look {
        let inner = self.ring.inner.read();
        if position >= inner.head() {
            return Look::Nothing;
        }
        let slot = self.slot(&inner, position);
        match inner.reaches(slot, position) {
            true => Look::News,
            false => Look::Behind,
        }
    }

    /// Where the watcher's own events are, if that is known for all after `position`.
    fn slot<'i>(&self, inner: &'i Inner, position: Seq) -> Option<&'i Slot> {
        let slot = self.key.as_ref().and_then(|key| inner.keys.get(key));
        slot.filter(|slot| slot.since <= position)
    }

    /// Reads on after `position`: takes what the watcher wants until `take` says that it is enough, and never
    /// walks more than so far. What is taken is looked at in its place: no chunk's count of owners is touched,
    /// which a thousand watchers on several processors would otherwise fight for.
    pub(crate) fn read(
        &self,
        position: Seq,
        take: &mut dyn FnMut(Seq, &Arc<Chunk>) -> ControlFlow<()>,
    ) -> Found {
        /// So many chunks are looked at under one hold of the lock.
        const WALK_MAX: u64 = 4_096;
        let inner = self.ring.inner.read();
        let head = inner.head();
        if position >= head {
            return Found::Through(position);
        }
        let slot = self.slot(&inner, position);
        if !inner.reaches(slot, position) {
            return Found::Behind;
        }
        let mut is_last = |seq: &Seq| {
            let chunk = inner.at(*seq);
            self.wants(chunk) && take(*seq, chunk).is_break()
        };
        Found::Through(if let Some(slot) = slot {
            let start = slot.seqs.partition_point(|&seq| seq <= position);
            let mut found = slot.seqs.range(start..).copied();
            found.find(|seq| is_last(seq)).unwrap_or(head)
        } else {
            let end = Seq(head.0.min(position.0 + WALK_MAX));
            let mut walked = (position.0 + 1..=end.0).map(Seq);
            walked.find(|seq| is_last(seq)).unwrap_or(end)
        })
    }

    /// What rings when there may be something.
    pub(crate) fn bell(&self) -> watch::Receiver<Seq> {
        self.bell.clone()
    }

    /// Waits until there may be something after `position`. Returns at once when there is already.
    pub(crate) async fn wait(&mut self, position: Seq) {
        // The sender lives in the ring, which this watcher keeps alive.
        let _ = self.bell.wait_for(|&rung| rung > position).await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.ring.forget(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidestream_core::{Event, EventKind, LogEntry, NewTask, ReportNumber, Timestamp};

    fn chunk(seq: u64, thread: &str) -> Arc<Chunk> {
        let task = NewTask::new("tool").thread(thread);
        let id = TaskId::new(format!("task-{thread}")).expect("a fit id");
        let spec = task.into_spec(Namespace::default(), id, Default::default());
        let entry = LogEntry {
            task: Arc::clone(&spec.expect("a fit task").identity),
            event: Event {
                seq: Seq(seq),
                at: Timestamp::from_ms(0),
                report: ReportNumber::NONE,
                kind: EventKind::Cancelled,
            },
        };
        Arc::new(Chunk::of_entry(&entry))
    }

    fn ring(limit: usize) -> Arc<Ring> {
        let limits = RingLimits {
            chunks: limit,
            bytes: usize::MAX,
        };
        Arc::new(Ring::new(Seq(0), limits))
    }

    /// What a watcher reads, at most so many, and how far it has come.
    fn read(watcher: &Watcher, position: u64, limit: usize) -> (Vec<u64>, u64) {
        let mut seqs = Vec::new();
        let found = watcher.read(Seq(position), &mut |seq, chunk| {
            assert_eq!(chunk.seq, Some(seq));
            seqs.push(seq.0);
            match seqs.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        match found {
            Found::Through(through) => (seqs, through.0),
            Found::Behind => panic!("behind"),
        }
    }

    fn is_behind(watcher: &Watcher, position: u64) -> bool {
        let found = watcher.read(Seq(position), &mut |_, _| ControlFlow::Continue(()));
        found == Found::Behind
    }

    fn thread(name: &str) -> Filter {
        Filter::default().thread(ThreadId::new(name).expect("a fit id"))
    }

    /// S6: the events of one thread, whether they came before or after the watcher registered.
    #[test]
    fn a_narrow_watcher_finds_its_events_before_and_after_it_registered() {
        let ring = ring(100);
        ring.publish(vec![chunk(1, "a"), chunk(2, "b"), chunk(3, "a")]);
        let watcher = ring.watch(&Namespace::default(), thread("a"));
        ring.publish(vec![chunk(4, "b"), chunk(5, "a"), chunk(6, "b")]);
        assert_eq!(read(&watcher, 0, 10), (vec![1, 3, 5], 6));
        assert_eq!(read(&watcher, 3, 10), (vec![5], 6));
        assert_eq!(read(&watcher, 0, 1), (vec![1], 1));
        ring.publish(vec![chunk(7, "b"), chunk(8, "a"), chunk(9, "a")]);
        assert_eq!(read(&watcher, 6, 1), (vec![8], 8));
        assert_eq!(read(&watcher, 8, 1), (vec![9], 9));
        assert_eq!(read(&watcher, 9, 1), (vec![], 9));
    }

    /// S4: past the ring there is the log; never a silent gap.
    #[test]
    fn who_is_behind_the_ring_is_told() {
        let ring = ring(2);
        let watchers = [
            ring.watch(&Namespace::default(), Filter::default()),
            ring.watch(&Namespace::default(), thread("a")),
        ];
        ring.publish((1..=5).map(|seq| chunk(seq, "a")).collect());
        for watcher in watchers {
            assert!(is_behind(&watcher, 2));
            assert_eq!(read(&watcher, 3, 10), (vec![4, 5], 5));
        }
    }

    /// S3: a thread on which nothing happens for long is not told to begin anew when something does.
    #[test]
    fn a_quiet_watcher_does_not_fall_behind() {
        let ring = ring(3);
        let watcher = ring.watch(&Namespace::default(), thread("quiet"));
        ring.publish((1..=9).map(|seq| chunk(seq, "loud")).collect());
        ring.publish(vec![chunk(10, "quiet")]);
        assert_eq!(read(&watcher, 0, 10), (vec![10], 10));
        ring.publish((11..=19).map(|seq| chunk(seq, "loud")).collect());
        assert_eq!(read(&watcher, 10, 10), (vec![], 19));
        assert!(is_behind(&watcher, 0));
        ring.publish(vec![chunk(20, "quiet")]);
        assert_eq!(read(&watcher, 10, 10), (vec![20], 20));
        assert!(is_behind(&watcher, 0));
    }

    /// S3: what was pruned before the ring had it is no silent gap.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_what_was_skipped_is_woken_and_behind() {
        let ring = ring(100);
        ring.publish(vec![chunk(1, "a")]);
        for filter in [Filter::default(), thread("a")] {
            let mut watcher = ring.watch(&Namespace::default(), filter);
            let head = ring.head();
            ring.skip_to(Seq(head.0 + 10));
            watcher.wait(head).await;
            assert!(is_behind(&watcher, head.0));
            ring.publish(vec![chunk(head.0 + 11, "a")]);
            let found = read(&watcher, head.0 + 10, 10);
            assert_eq!(found, (vec![head.0 + 11], head.0 + 11));
        }
    }

    /// S6: an event wakes only those who asked for it.
    #[tokio::test(start_paused = true)]
    async fn a_bell_rings_only_for_its_own_key() {
        let ring = ring(100);
        let mut a = ring.watch(&Namespace::default(), thread("a"));
        let mut b = ring.watch(&Namespace::default(), thread("b"));
        ring.publish(vec![chunk(1, "b")]);
        b.wait(Seq(0)).await;
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, a.wait(Seq(0))).await.is_err());
        ring.publish(vec![chunk(2, "b")]);
        let rung = tokio::time::timeout(second, b.wait(Seq(1))).await;
        assert!(rung.is_ok(), "it rings for each batch");
    }

    /// S5: nothing stays behind of a watcher that is gone.
    #[test]
    fn a_dropped_watcher_is_forgotten() {
        let ring = ring(100);
        let one = ring.watch(&Namespace::default(), thread("a"));
        let other = ring.watch(&Namespace::default(), thread("a"));
        drop(one);
        assert_eq!(ring.keys(), 1);
        drop(other);
        assert_eq!(ring.keys(), 0);
    }

    /// E2: a tenant's watcher never sees another's events.
    #[test]
    fn another_namespace_is_invisible() {
        let ring = ring(100);
        ring.publish(vec![chunk(1, "a")]);
        let other = Namespace::new("default-2").expect("a fit name");
        for filter in [Filter::default(), thread("a")] {
            let watcher = ring.watch(&other, filter);
            assert_eq!(read(&watcher, 0, 10), (vec![], 1));
        }
    }
}
