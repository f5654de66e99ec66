//! Several processes at once: whatever is promised holds whoever of them is asked.
//!
//! A store that no other process can open is asked twice itself, which must make no difference either.

use super::*;
use crate::store::Prune;
use sidestream_core::EventKind;

/// What one commits, the others read at once.
pub(super) async fn what_one_commits_another_reads(world: &mut World) {
    let other = world.beside().await;
    assert_eq!(world.head().await, other.head().await, "it is one log");
    let task = world.dispatch(spec("t", NewTask::new("a"))).await;
    assert_eq!(other.row(&task).await.as_ref(), Some(&task));
    let claimed = other.claim(claim(&["a"])).await;
    assert_eq!(ids(&claimed), ["t"]);
    let ended = world.must(&task, complete(Attempt(1), "1")).await;
    assert_eq!(other.row(&task).await, Some(ended));
    assert_eq!(other.log_after(Seq(0), None).await.len(), 3);
    assert_eq!(world.head().await, other.head().await);
    let all = Prune {
        before: world.now(),
        events_max: 0,
        limit: 100,
    };
    assert_eq!(other.removed(Request::Prune(all)).await, 3);
    assert_eq!(world.head().await.floor, Seq(3));
}

/// Whoever waits for the bell need not poll.
pub(super) async fn the_bell_rings_for_what_others_commit(world: &mut World) {
    let other = world.beside().await;
    let mut bell = other.store().doorbell();
    for n in 1..=5 {
        world
            .dispatch(spec(&format!("t{n}"), NewTask::new("a")))
            .await;
        let rung = bell.wait_for(|head| *head >= Seq(n)).await;
        assert_eq!(*rung.expect("the store is there"), Seq(n));
    }
}

/// L2: two who commit at once leave no hole, and no reader of either ever sees one.
pub(super) async fn several_who_commit_leave_no_hole(world: &mut World) {
    const EACH: u64 = 40;
    const WRITERS: u64 = 8;
    let expected = WRITERS * EACH * 3;
    let other = world.beside().await;
    let writer = |world: World, name: u64| async move {
        let mut mine: Option<Task> = None;
        for n in 0..EACH {
            let spec = spec(&format!("{name}-{n}"), NewTask::new("a"));
            let mut batch = vec![dispatch(&spec)];
            if let Some(task) = mine.take() {
                batch.push(asked(&task, Command::Cancel));
            }
            for answer in world.commit(batch).await {
                match answer {
                    Ok(Answer::Dispatched { task, is_new: true }) => mine = Some(task),
                    Ok(Answer::Applied(task)) => {
                        assert_eq!(task.status, Status::Cancelled);
                        world.must(&task, Command::Retry).await;
                    }
                    other => panic!("expected a task, got {other:?}"),
                }
            }
        }
        let last = mine.expect("it made some");
        world.must(&last, Command::Cancel).await;
        world.must(&last, Command::Retry).await;
    };
    let reader = |world: World| async move {
        let mut last = Seq(0);
        while last.0 < expected {
            for entry in world.log_after(last, None).await {
                assert_eq!(entry.event.seq, last.next(), "no hole is ever seen");
                last = entry.event.seq;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut all: Vec<Pinned<Box<dyn Future<Output = ()> + Send>>> = Vec::new();
    for name in 0..WRITERS {
        let world = if name % 2 == 0 { &*world } else { &other };
        all.push(Box::pin(writer(world.clone(), name)));
    }
    for world in [&*world, &other] {
        all.push(Box::pin(reader(world.clone())));
    }
    together(all).await;
    assert_eq!(world.seq().await, Seq(expected));
}

/// Batches that name the same tasks, in whatever order, do not wait for each other for ever, and none
/// is lost.
pub(super) async fn batches_that_cross_are_both_carried_out(world: &mut World) {
    const ROUNDS: usize = 30;
    let tasks = world
        .dispatch_all((0..20).map(|n| spec(&format!("t{n}"), NewTask::new("a"))))
        .await;
    let tasks = {
        let claimed = world.claim(claim(&["a"])).await;
        assert_eq!(claimed.len(), tasks.len());
        Arc::new(claimed)
    };
    let other = world.beside().await;
    let writer = |world: World, seed: u64| {
        let tasks = Arc::clone(&tasks);
        async move {
            let mut random = Random(seed);
            for _ in 0..ROUNDS {
                let mut batch: Vec<Request> = tasks
                    .iter()
                    .map(|task| asked(task, output(Attempt(1), &["1"])))
                    .collect();
                for n in (1..batch.len()).rev() {
                    let to = usize::try_from(random.below(n as u64 + 1)).expect("an index");
                    batch.swap(n, to);
                }
                batch.truncate(12);
                for answer in world.commit(batch).await {
                    answer.expect("it is running");
                }
            }
        }
    };
    let worlds = [world.clone(), other.clone(), world.clone(), other];
    together((0..).zip(worlds).map(|(seed, world)| writer(world, seed))).await;
    let expected = 40 + 4 * ROUNDS as u64 * 12;
    assert_eq!(world.seq().await, Seq(expected));
}

/// R5: the same dispatched through several at once is one task, and each is told which.
pub(super) async fn repetitions_through_several_make_one_task(world: &mut World) {
    let other = world.beside().await;
    let worlds = [world.clone(), other];
    for round in 0..12 {
        let key = format!("key-{round}");
        let dispatches = (0..8).map(|n: usize| {
            let world = worlds[n % 2].clone();
            let new = NewTask::new("a").idempotency_key(key.clone());
            let by_key = spec(&format!("{round}-{n}"), new);
            let by_id = spec(&format!("id-{round}"), NewTask::new("a"));
            async move {
                let mut batch = vec![dispatch(&by_key), dispatch(&by_id)];
                if n >= 4 {
                    batch.reverse();
                }
                let answers = world.commit(batch).await.into_iter();
                let made = answers.map(|answer| match answer {
                    Ok(Answer::Dispatched { task, is_new }) => (task.id().clone(), is_new),
                    other => panic!("expected a task, got {other:?}"),
                });
                let made: Vec<_> = made.collect();
                made
            }
        });
        let all: Vec<_> = together(dispatches).await.into_iter().flatten().collect();
        let new = all.iter().filter(|(_, is_new)| *is_new).count();
        assert_eq!(new, 2, "one by its key and one by its id");
        let ids: BTreeSet<_> = all.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), 2, "everyone was told the same: {ids:?}");
    }
    assert_eq!(world.seq().await, Seq(24));
}

/// R1 and R4: at no event of the log do more run than may, and each task is given to one worker, whoever
/// is asked.
pub(super) async fn the_limits_hold_across_all(world: &mut World) {
    let other = world.beside().await;
    let specs = (0..90).map(|n| {
        let new = NewTask::new(["a", "b"][n % 2]).agent(["x", "y", "z"][n % 3]);
        spec(&format!("t{n}"), new)
    });
    world.dispatch_all(specs).await;
    let limits = Arc::new(Limits {
        total: None,
        per_agent: Some(3),
        per_tool: [(tool("a"), 4), (tool("b"), 2)].into_iter().collect(),
    });
    let worker = |world: World, n: u64| {
        let limits = Arc::clone(&limits);
        async move {
            let mut random = Random(n);
            loop {
                let some = Claim {
                    worker: worker(&format!("w{n}")),
                    limit: 1 + u32::try_from(random.below(4)).expect("small"),
                    limits: Arc::clone(&limits),
                    ..claim(&["a", "b"])
                };
                let claimed = world.claim(some).await;
                // A store that never waits would let nobody else have its turn.
                tokio::task::yield_now().await;
                for task in claimed {
                    world.must(&task, complete(Attempt(1), "1")).await;
                }
                let counts = world.store().counts().await.expect("the store works");
                if counts.get(&Status::Completed) == Some(&90) {
                    return;
                }
            }
        }
    };
    let worlds = [world.clone(), other.clone(), world.clone(), other];
    together((0..).zip(worlds).map(|(n, world)| worker(world, n))).await;
    let mut running: BTreeMap<String, u64> = BTreeMap::new();
    for entry in world.log_after(Seq(0), None).await {
        let agent = entry.task.agent_id.clone().expect("each has an agent");
        for slot in [format!("agent {agent}"), entry.task.tool_name.to_string()] {
            let of = match slot.as_str() {
                "a" => 4,
                "b" => 2,
                _ => 3,
            };
            let taken = running.entry(slot.clone()).or_default();
            match &entry.event.kind {
                EventKind::Started { .. } => *taken += 1,
                EventKind::Completed { .. } => *taken -= 1,
                _ => {}
            }
            let seq = entry.event.seq;
            assert!(*taken <= of, "{slot} has {taken} of {of} at {seq}");
        }
    }
}
