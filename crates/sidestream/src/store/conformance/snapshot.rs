//! Snapshots: how things stood at one moment of the log (S1).

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::{Pin, Prune, Snapshot, SnapshotQuery};
use sidestream_core::Filter;
use sidestream_core::wire::SnapshotTask;

const STANDING: [Status; 3] = [Status::Pending, Status::Running, Status::Suspended];

/// A snapshot, once all its tasks are found.
struct Found {
    head: Head,
    pins: Vec<Pin>,
}

async fn snapshot(world: &World, filter: Filter, statuses: &[Status]) -> Found {
    let query = SnapshotQuery {
        namespace: room("default"),
        filter,
        statuses: statuses.to_vec(),
    };
    let snapshot = world.store().snapshot(&query).await;
    let Snapshot { head, pins } = snapshot.expect("the store works");
    let pins = pins.all().await.expect("the store works");
    Found { head, pins }
}

async fn resolve(world: &World, pins: &[Pin]) -> Vec<SnapshotTask> {
    let tasks = world.store().resolve(pins).await;
    tasks.expect("the store works")
}

fn names(tasks: &[SnapshotTask]) -> Vec<&str> {
    let ids = tasks.iter().map(|task| task.identity.id.as_str());
    ids.collect()
}

/// S1, S6: the statuses and every field of the filter, the oldest first, and only of the namespace.
pub(super) async fn a_snapshot_holds_what_matches(world: &mut World) {
    let new = |tool: &str| {
        NewTask::new(tool)
            .agent("agent")
            .run("run")
            .thread("thread")
            .resource("resource")
    };
    let specs = [
        spec("plain", NewTask::new("a")),
        spec("full", new("a")),
        spec("agent", new("a").agent("agent-2")),
        spec("run", new("a").run("run-2")),
        spec("thread", new("a").thread("thread-2")),
        spec("resource", new("a").resource("resource-2")),
        spec("tool", new("b")),
        spec_in(&room("default-2"), "elsewhere", new("a")),
    ];
    world.dispatch_all(specs).await;
    let all = [
        "plain", "full", "agent", "run", "thread", "resource", "tool",
    ];
    let full = Filter::default();
    let found = snapshot(world, full.clone(), &STANDING).await;
    assert_eq!(found.head, world.head().await);
    assert_eq!(names(&resolve(world, &found.pins).await), all);
    let narrowed = [
        (full.clone().agent(agent("agent-2")), "agent"),
        (full.clone().run("run-2".parse().expect("an id")), "run"),
        (
            full.clone().thread("thread-2".parse().expect("an id")),
            "thread",
        ),
        (
            full.clone().resource("resource-2".parse().expect("an id")),
            "resource",
        ),
        (full.clone().tool(tool("b")), "tool"),
        (full.clone().task(task_id("full")), "full"),
    ];
    for (filter, expected) in narrowed {
        let found = snapshot(world, filter, &STANDING).await;
        assert_eq!(names(&resolve(world, &found.pins).await), [expected]);
    }
    let both = full.clone().agent(agent("agent")).tool(tool("a"));
    let found = snapshot(world, both, &STANDING).await;
    let expected = ["full", "run", "thread", "resource"];
    assert_eq!(names(&resolve(world, &found.pins).await), expected);
    let nobody = full.clone().agent(agent("agent")).tool(tool("c"));
    assert!(snapshot(world, nobody, &STANDING).await.pins.is_empty());

    let namespace = Some(room("default"));
    let some = Claim {
        limit: 3,
        namespace,
        ..claim(&["a"])
    };
    let claimed = world.claim(some).await;
    assert_eq!(ids(&claimed), ["plain", "full", "agent"]);
    world.must(&claimed[0], suspend(Attempt(1), "1")).await;
    world.must(&claimed[1], complete(Attempt(1), "1")).await;
    let standing = [
        (vec![Status::Suspended], vec!["plain"]),
        (vec![Status::Running], vec!["agent"]),
        (
            vec![Status::Pending],
            vec!["run", "thread", "resource", "tool"],
        ),
        (
            vec![Status::Suspended, Status::Running],
            vec!["plain", "agent"],
        ),
        (vec![], vec![]),
    ];
    for (statuses, expected) in standing {
        let found = snapshot(world, full.clone(), &statuses).await;
        let tasks = resolve(world, &found.pins).await;
        assert_eq!(names(&tasks), expected, "{statuses:?}");
        let at = found.pins.iter().map(|pin| pin.status);
        assert!(at.zip(&tasks).all(|(status, task)| status == task.status));
    }
}

/// S1: the head and the rows are one moment, whatever is written meanwhile: the events up to the
/// head amount to exactly what the snapshot shows, at once or looked up later.
pub(super) async fn a_snapshot_is_one_moment(world: &mut World) {
    const WATCHERS: usize = 3;
    const LOOKS: usize = 150;
    let watching = Arc::new(AtomicUsize::new(WATCHERS));
    let writer = |world: World, seed: u64| {
        let watching = Arc::clone(&watching);
        async move {
            let mut random = Random(seed);
            for n in 0..1_000 {
                if watching.load(Ordering::SeqCst) == 0 {
                    return;
                }
                live_a_life(&world, &format!("{seed}-{n}"), &mut random).await;
            }
        }
    };
    let watcher = |world: World| {
        let watching = Arc::clone(&watching);
        async move {
            let mut seen = Vec::new();
            for _ in 0..LOOKS {
                let found = snapshot(&world, Filter::default(), &STANDING).await;
                let shown = resolve(&world, &found.pins).await;
                seen.push((found, shown));
                tokio::task::yield_now().await;
            }
            watching.fetch_sub(1, Ordering::SeqCst);
            seen
        }
    };
    let writers: Vec<_> = (0..8).map(|seed| writer(world.clone(), seed)).collect();
    let watchers: Vec<_> = (0..WATCHERS).map(|_| watcher(world.clone())).collect();
    let (seen, _) = futures::join!(together(watchers), together(writers));

    let mut seen: Vec<_> = seen.into_iter().flatten().collect();
    seen.sort_by_key(|(found, _)| found.head.seq);
    let log = world.log_after(Seq(0), None).await;
    let mut log = log.iter().peekable();
    let mut standing = Standing::default();
    for (found, shown) in seen {
        while let Some(entry) = log.next_if(|entry| entry.event.seq <= found.head.seq) {
            standing.apply(entry);
        }
        // Those of one millisecond may be in any order.
        let by_id = |mut shown: Vec<SnapshotTask>| {
            shown.sort_by(|one, other| one.identity.id.cmp(&other.identity.id));
            shown
        };
        let expected = by_id(standing.shown());
        assert_eq!(by_id(shown), expected, "at {}", found.head.seq);
        let later = by_id(resolve(world, &found.pins).await);
        assert_eq!(later, expected, "looked up later, at {}", found.head.seq);
    }
}

/// A task that is begun, waits, goes on, and ends; some are deleted at once.
async fn live_a_life(world: &World, id: &str, random: &mut Random) {
    let task = world.dispatch(spec(id, NewTask::new(id))).await;
    for _ in 0..=random.below(2) {
        let task = world.claim(claim(&[id])).await.remove(0);
        world.must(&task, output(task.attempt, &["1"])).await;
        let ask = format!("[{}]", random.below(1_000));
        world.must(&task, suspend(task.attempt, &ask)).await;
        world.must(&task, resume("1")).await;
    }
    if random.one_in(2) {
        world.must(&task, Command::Cancel).await;
        world.delete(&task).await.expect("it has ended");
    } else {
        let task = world.claim(claim(&[id])).await.remove(0);
        world.must(&task, complete(task.attempt, "1")).await;
    }
}

/// What has not ended after some events.
#[derive(Default)]
struct Standing(Vec<Task>);

impl Standing {
    fn apply(&mut self, entry: &LogEntry) {
        let place = self.0.iter().position(|task| *task.id() == entry.task.id);
        let mut task = place.map(|place| self.0[place].clone());
        lifecycle::apply(&mut task, &entry.task.namespace, &entry.event);
        let task = task.filter(|task| STANDING.contains(&task.status));
        match (place, task) {
            (Some(place), Some(task)) => self.0[place] = task,
            (None, Some(task)) => self.0.push(task),
            (Some(place), None) => drop(self.0.remove(place)),
            (None, None) => {}
        }
    }

    /// What a snapshot shows of it.
    fn shown(&self) -> Vec<SnapshotTask> {
        let shown = self.0.iter().map(|task| SnapshotTask {
            identity: Arc::clone(task.identity()),
            status: task.status,
            attempt: task.attempt,
            since: since(task),
            suspend_payload: task.suspend_payload.clone(),
        });
        shown.collect()
    }
}

fn since(task: &Task) -> Timestamp {
    let since = match task.status {
        Status::Running => task.started_at,
        Status::Suspended => task.suspended_at,
        _ => Some(task.updated_at),
    };
    since.expect("the time of its status")
}

/// S1: a snapshot read slowly shows the moment it is of, not the time of reading.
pub(super) async fn a_pinned_task_is_shown_as_it_stood(world: &mut World) {
    world.dispatch(spec("pending", NewTask::new("p"))).await;
    let running = world.running("running", NewTask::new("a")).await;
    world.must(&running, output(Attempt(1), &["1"])).await;
    world.clock.advance_ms(10);
    let asking = world.running("asking", NewTask::new("b")).await;
    world.clock.advance_ms(10);
    let first = world
        .must(&asking, suspend(Attempt(1), r#"{"ask": 1}"#))
        .await;
    let found = snapshot(world, Filter::default(), &STANDING).await;
    let as_it_stood = resolve(world, &found.pins).await;
    assert_eq!(names(&as_it_stood), ["pending", "running", "asking"]);
    let [pending, was_running, was_asking] = as_it_stood.as_slice() else {
        panic!("three tasks");
    };
    assert_eq!(pending.since, at("2026-11-21T00:00:00Z"));
    assert_eq!(Some(was_running.since), running.started_at);
    assert_eq!(was_running.attempt, Attempt(1));
    assert_eq!(Some(was_asking.since), first.suspended_at);
    assert_eq!(was_asking.suspend_payload, Some(json(r#"{"ask": 1}"#)));
    assert_eq!(was_asking.identity.args, json("{}"));

    world.clock.advance_ms(10);
    world.claim(claim(&["p"])).await;
    world.must(&running, complete(Attempt(1), "1")).await;
    world.delete(&running).await.expect("it has ended");
    world.must(&asking, resume("1")).await;
    assert_eq!(resolve(world, &found.pins).await, as_it_stood);
    world.claim(claim(&["b"])).await;
    world
        .must(&asking, suspend(Attempt(2), r#"{"ask": 2}"#))
        .await;
    assert_eq!(resolve(world, &found.pins).await, as_it_stood);
    let reversed: Vec<Pin> = found.pins.iter().rev().copied().collect();
    let shown = resolve(world, &reversed).await;
    assert_eq!(names(&shown), ["asking", "running", "pending"], "as given");
    world.reopen().await;
    assert_eq!(resolve(world, &found.pins).await, as_it_stood);
}

/// S1: a snapshot of more tasks than are found at once is of one moment all the same, whatever happens before the
/// others are asked for.
pub(super) async fn a_snapshot_of_many_is_one_moment(world: &mut World) {
    const EACH: usize = 300;
    // Those that run, those that wait for an answer and those that are pending take turns.
    for n in 0..EACH {
        let specs = ["r", "s", "p"].map(|tool| spec(&format!("{tool}-{n}"), NewTask::new(tool)));
        world.dispatch_all(specs).await;
        world.clock.advance_ms(1);
    }
    let many = |tool| Claim {
        limit: EACH as u32,
        ..claim(&[tool])
    };
    let running = world.claim(many("r")).await;
    let asking = world.claim(many("s")).await;
    for task in &asking {
        world.must(task, suspend(Attempt(1), "1")).await;
    }
    for statuses in [STANDING.as_slice(), &[Status::Running]] {
        let query = SnapshotQuery {
            namespace: room("default"),
            filter: Filter::default(),
            statuses: statuses.to_vec(),
        };
        let found = world.store().snapshot(&query).await;
        let mut pins = found.expect("the store works").pins;
        let first = pins.next(1).await.expect("the store works").to_vec();
        assert_eq!(first.len(), 1);
        // What has been shown but not taken is shown again.
        assert_eq!(pins.next(1).await.expect("the store works"), first);
        let cancelled = &running[statuses.len()];
        world.must(cancelled, Command::Cancel).await;
        world
            .dispatch(spec(&format!("late-{}", statuses.len()), NewTask::new("r")))
            .await;

        let found = pins.all().await.expect("the store works");
        let shown = resolve(world, &found).await;
        let names: Vec<_> = names(&shown).into_iter().map(str::to_owned).collect();
        let status = |tool| match tool {
            "r" => Status::Running,
            "s" => Status::Suspended,
            _ => Status::Pending,
        };
        let all = (0..EACH).flat_map(|n| ["r", "s", "p"].map(|tool| (tool, n)));
        // The first round's cancelled one is gone in the second.
        let gone = |n: usize| statuses.len() == 1 && n == STANDING.len();
        let expected =
            all.filter(|(tool, n)| statuses.contains(&status(tool)) && !(*tool == "r" && gone(*n)));
        let expected: Vec<_> = expected.map(|(tool, n)| format!("{tool}-{n}")).collect();
        assert_eq!(names, expected);
        assert!(shown.iter().all(|task| statuses.contains(&task.status)));
    }
}

/// A task that is deleted while a snapshot is read is still shown; once its events are pruned too,
/// there is nothing left to show.
pub(super) async fn a_deleted_task_is_shown_while_its_events_last(world: &mut World) {
    world.dispatch(spec("stays", NewTask::new("b"))).await;
    let running = world.running("running", NewTask::new("a")).await;
    let asking = world.running("asking", NewTask::new("a")).await;
    world
        .must(&asking, suspend(Attempt(1), r#"{"ask":1}"#))
        .await;
    let found = snapshot(world, Filter::default(), &STANDING).await;
    let as_it_stood = resolve(world, &found.pins).await;
    assert_eq!(names(&as_it_stood), ["stays", "running", "asking"]);
    for task in [&running, &asking] {
        world.must(task, Command::Cancel).await;
        world.delete(task).await.expect("it has ended");
    }
    assert_eq!(resolve(world, &found.pins).await, as_it_stood);
    // Another task under the old name is another task, even if the old one was the latest.
    world.dispatch(spec("running", NewTask::new("z"))).await;
    assert_eq!(resolve(world, &found.pins).await, as_it_stood);
    let prune = Prune {
        before: world.now(),
        events_max: 0,
        limit: 100,
    };
    world.removed(Request::Prune(prune)).await;
    let left = resolve(world, &found.pins).await;
    assert_eq!(names(&left), ["stays"]);
}
