//! Watchers: they open streams with all sorts of filters, read fast or slowly, drop them, and go on by
//! their cursor in another process. What they see is held against the whole history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sidestream::testing::Mirror;
use sidestream::{
    AgentId, Chunk, ChunkStream, ChunkType, Cursor, Filter, Namespace, ResourceId, RunId, Seq,
    SnapshotKind, Start, Status, StreamItem, StreamOptions, TaskId, ThreadId, Timestamp, ToolName,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::referee::short;
use crate::world::{Part, Process, World};

/// So long a watcher waits before it asks itself whether it should have seen something.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

struct Reader {
    world: Arc<World>,
    dice: Dice,
    number: u64,
    namespace: Namespace,
    filter: Filter,
    kind: SnapshotKind,
    /// What it knows, and up to where.
    mirror: Mirror,
    /// It began with a snapshot, or was told to.
    has_snapshot: bool,
    /// The snapshot that it is being shown.
    shown: BTreeMap<TaskId, Arc<Chunk>>,
    /// The head of the log when the snapshot, if one comes, was asked for.
    asked_at: Seq,
    is_pausing: bool,
}

pub(crate) async fn read(world: Arc<World>, dice: Dice, number: u64) {
    let mut reader = Reader::new(world, dice, number);
    while reader.world.part() != Part::Still {
        sleep(reader.dice.ms(0, 1_500)).await;
        if reader.mirror.place().is_none() || reader.dice.is(300) {
            reader.begin_anew();
        }
        reader.session().await;
    }
    // All has ended: it reads to the end, and then knows what the store knows.
    reader.is_pausing = false;
    while reader.session().await != Some(Ending::AllRead) {
        sleep(Duration::from_millis(100)).await;
    }
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Dropped,
    Ended,
    AllRead,
}

impl Reader {
    fn new(world: Arc<World>, dice: Dice, number: u64) -> Self {
        let mut reader = Self {
            world,
            dice,
            number,
            namespace: Namespace::default(),
            filter: Filter::default(),
            kind: SnapshotKind::Running,
            mirror: Mirror::of_snapshot(),
            has_snapshot: true,
            shown: BTreeMap::new(),
            asked_at: Seq(0),
            is_pausing: true,
        };
        reader.begin_anew();
        reader
    }

    /// Another filter, and nothing in mind; or everything from some place on.
    fn begin_anew(&mut self) {
        let dice = &self.dice;
        self.namespace = dice.pick(&World::namespaces()).clone();
        self.filter = some_filter(dice, &self.world, &self.namespace);
        self.kind = *dice.pick(&[
            SnapshotKind::Running,
            SnapshotKind::Active,
            SnapshotKind::None,
        ]);
        self.has_snapshot = !dice.is(250);
        self.mirror = match self.has_snapshot {
            true => Mirror::of_snapshot(),
            false => {
                let head = self.world.referee.head().0;
                let seq = Seq(dice.below(head + 1));
                Mirror::resumed(Cursor { epoch: None, seq })
            }
        };
    }

    fn position(&self) -> Option<Seq> {
        self.mirror.place().map(|place| place.seq)
    }

    async fn session(&mut self) -> Option<Ending> {
        let process = self.world.some_process(&self.dice)?;
        self.mirror = self.mirror.resume();
        self.shown.clear();
        let start = match self.mirror.place() {
            None => Start::Now,
            Some(place) => self.some_cursor(place.clone()),
        };
        let dice = &self.dice;
        let cancel = dice.is(100).then(CancellationToken::new);
        let options = StreamOptions {
            filter: self.filter.clone(),
            start,
            snapshot: self.kind,
            cancel: cancel.clone(),
            ends_with_task: self.filter.task_id.is_some() && dice.is(500),
            keep_alive: dice.is(400).then(|| dice.ms(200, 4_000)),
        };
        let referee = Arc::clone(&self.world.referee);
        let (number, on) = (self.number, process.mark.number);
        let (filter, start) = (Shown(&options.filter), &options.start);
        referee.note(format_args!("s{number} opens on p{on}: {start:?} {filter}"));
        let asked_at = referee.head();
        let manager = process.manager.in_namespace(self.namespace.clone());
        let opening = timeout(Duration::from_secs(20), manager.stream(options.clone())).await;
        let Ok(Ok(mut stream)) = opening else {
            referee.note(format_args!("s{number} is not opened"));
            return None;
        };
        self.asked_at = asked_at;
        let ending = self.read_from(&mut stream, &options, &process).await;
        drop(stream);
        referee.note(format_args!(
            "s{number} {ending:?} at {:?}",
            self.position()
        ));
        self.compare();
        Some(ending)
    }

    /// Mostly the right cursor; sometimes one that cannot be honoured, which must not be passed over.
    fn some_cursor(&self, place: Cursor) -> Start {
        let is_still = self.world.part() == Part::Still;
        let bogus = match self.dice.below(40) {
            0 if !is_still => "other-1".to_owned(),
            1 if !is_still => "sim-99999999".to_owned(),
            // The log need not be named.
            2..10 => place.seq.to_string(),
            _ => place.to_string(),
        };
        Start::After(bogus.parse().expect("a cursor"))
    }

    async fn read_from(
        &mut self,
        stream: &mut ChunkStream,
        options: &StreamOptions,
        process: &Process,
    ) -> Ending {
        let referee = Arc::clone(&self.world.referee);
        let began = referee.now();
        let lasts = self.dice.ms(0, 15_000);
        let (mut quiet_since, mut is_cancelled) = (began, false);
        loop {
            let is_over = referee.now().since(began) >= lasts;
            match self.world.part() {
                Part::Still if self.is_all_read() => return Ending::AllRead,
                Part::Bustle | Part::Ending if is_over && options.cancel.is_none() => {
                    return Ending::Dropped;
                }
                _ => {}
            }
            if let Some(cancel) = options.cancel.as_ref().filter(|_| is_over && !is_cancelled) {
                cancel.cancel();
                is_cancelled = true;
            }
            let Ok(next) = timeout(LOOKS_EVERY, stream.next_batch()).await else {
                self.check_silence(quiet_since, options, process, is_cancelled);
                continue;
            };
            quiet_since = referee.now();
            match next {
                Some(Ok(items)) => {
                    for item in items {
                        if let Err(violation) = self.take(&item, options) {
                            let (number, filter) = (self.number, Shown(&self.filter));
                            referee.accuse(format!("{violation} (s{number}, {filter})"));
                            return Ending::Dropped;
                        }
                    }
                }
                Some(Err(error)) => {
                    referee.note(format_args!("s{}: {error}", self.number));
                    if referee.is_settled(began) {
                        referee.accuse(format!("S: a stream fails though all is well: {error}"));
                    }
                }
                None => {
                    self.check_end(options, process, is_cancelled);
                    return Ending::Ended;
                }
            }
            if self.is_pausing && self.dice.is(200) {
                sleep(self.dice.ms(0, 3_000)).await;
            }
        }
    }

    fn is_all_read(&self) -> bool {
        let head = self.world.referee.head();
        self.position()
            .is_some_and(|position| self.wanted(position, head).is_empty())
    }

    fn wanted(&self, after: Seq, through: Seq) -> Vec<Seq> {
        let history = &self.world.referee.history;
        history.wanted(&self.namespace, &self.filter, after, through)
    }

    fn take(&mut self, item: &StreamItem, options: &StreamOptions) -> Result<(), String> {
        let referee = Arc::clone(&self.world.referee);
        let position = self.position();
        match (&item.chunk, &item.cursor) {
            (Some(chunk), _) if chunk.chunk_type == ChunkType::StreamReset => {
                self.check_reset(chunk, options)?;
                self.has_snapshot = true;
                self.shown.clear();
                self.asked_at = Seq(0);
            }
            (Some(chunk), None) => {
                let id = chunk.task_id().ok_or("S1: a snapshot of no task")?.clone();
                self.shown.insert(id, Arc::clone(chunk));
            }
            (None, Some(at)) if position.is_none() => self.check_snapshot(at.seq)?,
            (Some(chunk), Some(at)) => {
                let after = position.ok_or("S1: news before the snapshot's end")?;
                // The watcher of a reader that resumed knows more than its first cursor says.
                let wanted = self.wanted(after, at.seq);
                if wanted != [at.seq] {
                    return Err(format!("S1: {at} comes after {after}, missing {wanted:?}"));
                }
                let expected = referee.chunk(at.seq).ok_or("S1: an event that never was")?;
                if expected.json() != chunk.json() {
                    return Err(format!(
                        "S1: {} is shown as {}",
                        expected.json(),
                        chunk.json()
                    ));
                }
            }
            (None, Some(at)) => {
                let after = position.unwrap_or_default();
                let missed = self.wanted(after, at.seq);
                if !missed.is_empty() {
                    return Err(format!("S7: a keep-alive at {at} passes over {missed:?}"));
                }
                self.check_keep_alive(at.seq, options)?;
            }
            (None, None) => return Err("an item of nothing".into()),
        }
        self.mirror.take(item)
    }

    /// S1: the snapshot is the state after its own moment, and that moment is not before it was asked for.
    fn check_snapshot(&self, at: Seq) -> Result<(), String> {
        let referee = &self.world.referee;
        if at < self.asked_at {
            return Err(format!(
                "S1: a snapshot of {at}, asked for at {}",
                self.asked_at
            ));
        }
        let expected = referee.snapshot(&self.namespace, &self.filter, statuses(self.kind), at);
        let mut shown = self.shown.clone();
        for (id, variants) in expected {
            let Some(chunk) = shown.remove(&id) else {
                // It may be gone, with every trace of it, before its page was read.
                if referee.is_forgotten(&self.namespace, &id) {
                    continue;
                }
                return Err(format!(
                    "S1: {} is missing in the snapshot of {at}",
                    short(&id)
                ));
            };
            if !variants.iter().any(|json| json == chunk.json()) {
                return Err(format!(
                    "S1: at {at} {} is shown as {}",
                    variants[0],
                    chunk.json()
                ));
            }
        }
        match shown.into_values().next() {
            None => Ok(()),
            Some(chunk) => Err(format!("S1: not so at {at}: {}", chunk.json())),
        }
    }

    /// S3: only who cannot be served is told to begin anew.
    fn check_reset(&self, chunk: &Chunk, options: &StreamOptions) -> Result<(), String> {
        let referee = &self.world.referee;
        let payload = chunk.payload().expect("it is plain");
        let reason = payload["reason"].as_str().unwrap_or_default().to_owned();
        let Start::After(start) = &options.start else {
            // A stream that began with a snapshot can fall behind the log's beginning as well.
            let is_behind = self
                .position()
                .is_none_or(|position| position < referee.floor());
            return match is_behind {
                true => Ok(()),
                false => Err(format!("S3: reset without need: {reason}")),
            };
        };
        let is_other = start
            .epoch
            .as_ref()
            .is_some_and(|epoch| epoch.as_str() != "sim");
        let is_ahead = start.seq > referee.head();
        let behind = self
            .position()
            .is_none_or(|position| position < referee.floor());
        let is_so = match reason.as_str() {
            "the cursor belongs to another log" => is_other,
            "the cursor is ahead of the log" => is_ahead,
            "the log has been pruned past the cursor" => behind,
            "the snapshot could not be read to its end" => self.position().is_none(),
            _ => false,
        };
        match is_so {
            true => Ok(()),
            false => Err(format!("S3: reset without need: {reason}")),
        }
    }

    /// S7: on a quiet stream too the cursor follows the log.
    fn check_keep_alive(&self, at: Seq, options: &StreamOptions) -> Result<(), String> {
        let referee = &self.world.referee;
        let every = options
            .keep_alive
            .ok_or("S7: a keep-alive that nobody asked for")?;
        let long_ago = referee.now().plus_ms(-(2 * every.as_millis() as i64));
        match referee.head_at(long_ago) {
            head if at < head && referee.is_settled(long_ago) => Err(format!(
                "S7: the cursor stays at {at}, the log was at {head} long ago"
            )),
            _ => Ok(()),
        }
    }

    /// It has waited in vain for a while: should it have?
    fn check_silence(
        &self,
        quiet_since: Timestamp,
        options: &StreamOptions,
        process: &Process,
        is_cancelled: bool,
    ) {
        let referee = &self.world.referee;
        if !process.serves() || !referee.is_settled(quiet_since) {
            return;
        }
        let filter = Shown(&self.filter);
        let Some(position) = self.position() else {
            return referee.accuse(format!("S1: no snapshot comes ({filter})"));
        };
        if is_cancelled {
            return referee.accuse(format!("S5: cancelled, and goes on ({filter})"));
        }
        let wanted = self.wanted(position, referee.head());
        if let Some(first) = wanted.first()
            && referee.is_settled(referee.at(*first))
        {
            referee.accuse(format!(
                "S1: event {first} does not come to s{} ({filter})",
                self.number
            ));
        }
        let keep_alive = options.keep_alive;
        let is_late = |every: Duration| referee.now().since(quiet_since) > every + LOOKS_EVERY;
        if keep_alive.is_some_and(is_late) {
            referee.accuse(format!("S7: no keep-alive after {keep_alive:?} ({filter})"));
        }
        if options.ends_with_task
            && let Some(id) = &self.filter.task_id
        {
            let ended = referee.ended_at(&self.namespace, id);
            if ended.is_some_and(|at| referee.is_settled(at.max(quiet_since))) {
                referee.accuse(format!("S: the story of {} does not end", short(id)));
            }
        }
    }

    /// A stream ends when told to, with its process, or with its task when all of that is told.
    fn check_end(&self, options: &StreamOptions, process: &Process, is_cancelled: bool) {
        let referee = &self.world.referee;
        if is_cancelled || !process.serves() {
            return;
        }
        let Some(id) = self
            .filter
            .task_id
            .as_ref()
            .filter(|_| options.ends_with_task)
        else {
            return referee.accuse(format!(
                "S: a stream ends by itself ({})",
                Shown(&self.filter)
            ));
        };
        let Some(position) = self.position() else {
            return;
        };
        let end = referee.told_end(&self.namespace, id, position);
        let untold = end.map(|end| self.wanted(position, end));
        match untold {
            Some(untold) if untold.is_empty() => {}
            _ => referee.accuse(format!(
                "S: the story of {} ends at {position}, and {untold:?} is not told",
                short(id)
            )),
        }
    }

    /// L3 and S6, seen from here: what is known from chunks alone is what the log says.
    fn compare(&self) {
        let (Some(from), Some(to)) = (self.mirror.from(), self.position()) else {
            return;
        };
        let referee = &self.world.referee;
        let statuses = match self.has_snapshot {
            true => statuses(self.kind),
            false => &[],
        };
        let expected = referee
            .history
            .known(&self.namespace, &self.filter, statuses, from, to);
        for (id, known) in &expected {
            let mine = self.mirror.tasks().get(id);
            let is_forgotten = || mine.is_none() && referee.is_forgotten(&self.namespace, id);
            if mine != Some(known) && !is_forgotten() {
                let id = short(id);
                referee.accuse(format!("S1: {id} is {known:?}, and is known as {mine:?}"));
            }
        }
        if let Some(id) = self
            .mirror
            .tasks()
            .keys()
            .find(|id| !expected.contains_key(*id))
        {
            referee.accuse(format!("S6: {} is known, and should not be", short(id)));
        }
    }
}

fn statuses(kind: SnapshotKind) -> &'static [Status] {
    match kind {
        SnapshotKind::Running => &[Status::Running],
        SnapshotKind::Active => &[Status::Pending, Status::Running, Status::Suspended],
        SnapshotKind::None => &[],
    }
}

fn some_filter(dice: &Dice, world: &World, namespace: &Namespace) -> Filter {
    let mut filter = match dice.below(8) {
        0 | 1 => Filter::default(),
        2 => Filter::default().agent(AgentId::new("a0").expect("fit")),
        3 => Filter::default().thread(ThreadId::new("t1").expect("fit")),
        4 => Filter::default().run(RunId::new("r0").expect("fit")),
        5 => Filter::default().resource(ResourceId::new("u1").expect("fit")),
        6 => Filter::default().tool(ToolName::new("many").expect("fit")),
        _ => {
            let tasks = world.referee.tasks_that(|_| true);
            let own: Vec<_> = tasks
                .into_iter()
                .filter(|(ns, _)| ns == namespace)
                .collect();
            match own.as_slice() {
                [] => Filter::default(),
                own => Filter::default().task(dice.pick(own).1.clone()),
            }
        }
    };
    if dice.is(200) {
        filter = filter.tool(ToolName::new("single").expect("fit"));
    }
    match dice.below(6) {
        0..3 => filter,
        3 | 4 => filter.types(ChunkType::ALL),
        _ => filter.types([*dice.pick(&ChunkType::ALL), ChunkType::Output]),
    }
}

/// A filter, as a trace shows it: what is set of it.
struct Shown<'a>(&'a Filter);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = serde_json::to_string(self.0).map_err(|_| std::fmt::Error)?;
        f.write_str(&json)
    }
}
