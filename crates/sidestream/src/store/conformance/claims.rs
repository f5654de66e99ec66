//! Claiming: the right task, to one worker, within the limits (R1, R4).

use super::*;
use sidestream_core::EventKind;

/// Highest priority first, then the longest due, then the first dispatched; across tools, agents and
/// namespaces alike.
pub(super) async fn the_first_in_line_is_claimed_first(world: &mut World) {
    let now = world.now();
    let due = |ms: i64| NewTask::new("a").run_at(now.plus_ms(ms));
    let specs = [
        spec("6", due(-1)),
        spec("7", NewTask::new("a")),
        spec("5", due(-50).agent("x")),
        spec("1", due(-1).priority(i16::MAX)),
        spec("9", NewTask::new("b").priority(-1_i16)),
        spec("8", NewTask::new("b")),
        spec_in(&room("elsewhere"), "2", due(-9).priority(7_i16)),
        spec("3", due(-8).priority(7_i16).agent("y")),
        spec("4", due(-8).priority(7_i16).agent("x")),
        spec("10", NewTask::new("a").priority(i16::MIN)),
    ];
    world.dispatch_all(specs).await;
    let some = |limit| Claim {
        limit,
        ..claim(&["b", "a", "b", "none"])
    };
    assert!(world.claim(some(0)).await.is_empty());
    assert_eq!(ids(&world.claim(some(1)).await), ["1"]);
    assert_eq!(ids(&world.claim(some(3)).await), ["2", "3", "4"]);
    let rest = world.claim(some(100)).await;
    assert_eq!(ids(&rest), ["5", "6", "7", "8", "9", "10"]);
    assert!(world.claim(some(100)).await.is_empty());
}

/// A claim takes what its own batch dispatches, in line with what waited already; within the limits, and as
/// the rest of the batch has left it.
pub(super) async fn a_batch_claims_what_it_dispatches(world: &mut World) {
    for is_one_cancelled in [false, true] {
        let now = world.now();
        let id = |id: &str| format!("{id} {is_one_cancelled}");
        let new = |name: &str, priority: i16| {
            spec(&id(name), NewTask::new("a").agent("y").priority(priority))
        };
        let of_x = |name: &str, priority: i16| {
            spec(&id(name), NewTask::new("a").agent("x").priority(priority))
        };
        let waiting = [of_x("4", 3), new("2", 5), new("cancelled", 6)];
        let waiting = world.dispatch_all(waiting).await;
        let mut batch = vec![
            dispatch(&of_x("1", 9)),
            dispatch(&new("3", 4)),
            dispatch(&spec(
                &id("later"),
                NewTask::new("a").run_at(now.plus_ms(70)),
            )),
            dispatch(&spec(&id("other"), NewTask::new("b").priority(9_i16))),
            dispatch(&new("5", 2)),
        ];
        if is_one_cancelled {
            batch.push(asked(&waiting[2], Command::Cancel));
        }
        batch.push(Request::Claim(Claim {
            limit: if is_one_cancelled { 3 } else { 4 },
            limits: Arc::new(Limits {
                total: None,
                per_agent: Some(3),
                per_tool: per_tool(&[("a", 4)]).per_tool.clone(),
            }),
            ..claim(&["a"])
        }));
        let claimed = match world.commit(batch).await.pop() {
            Some(Ok(Answer::Claimed(claimed))) => claimed,
            other => panic!("{other:?}"),
        };
        let expected: &[&str] = match is_one_cancelled {
            false => &["1", "cancelled", "2", "3"],
            true => &["1", "2", "3"],
        };
        let expected: Vec<String> = expected.iter().map(|it| id(it)).collect();
        assert_eq!(ids(&claimed.tasks), expected);
        assert_eq!(claimed.next_due, Some(now.plus_ms(70)));
        let starts = claimed.tasks.iter().map(|task| task.seq.0);
        assert!(starts.clone().is_sorted(), "begun in order");
        for task in &claimed.tasks {
            assert_eq!(world.row(task).await.as_ref(), Some(task));
        }
        // Their agents, and the tool, have no slot left.
        let limits = Arc::new(Limits {
            per_agent: Some(1),
            ..Limits::default()
        });
        let more = Claim {
            limits,
            ..claim(&["a"])
        };
        assert!(world.claim(more).await.is_empty());
        for task in world
            .claim(claim(&["a", "b"]))
            .await
            .iter()
            .chain(&claimed.tasks)
        {
            world.must(task, complete(task.attempt, "1")).await;
        }
        world.clock.advance_ms(70);
        for task in world.claim(claim(&["a"])).await {
            world.must(&task, complete(task.attempt, "1")).await;
        }
    }
}

/// A task that is dispatched for later, or waits between two attempts, is left until it is due, and
/// the worker is told when that is.
pub(super) async fn nothing_is_claimed_before_its_time(world: &mut World) {
    let now = world.now();
    let due = |tool: &str, ms: i64| NewTask::new(tool).run_at(now.plus_ms(ms));
    world.dispatch(spec("later", due("a", 100))).await;
    world.dispatch(spec("latest", due("a", 300))).await;
    world.dispatch(spec("other", due("b", 50))).await;
    let elsewhere = spec_in(&room("elsewhere"), "elsewhere", due("a", 20));
    world.dispatch(elsewhere).await;
    let here = || Claim {
        namespace: Some(room("default")),
        ..claim(&["a"])
    };
    let claimed = world.try_claim(here()).await;
    assert!(claimed.tasks.is_empty());
    assert_eq!(claimed.next_due, Some(now.plus_ms(100)));
    let anywhere = world.try_claim(claim(&["a", "b"])).await;
    assert_eq!(anywhere.next_due, Some(now.plus_ms(20)));
    assert_eq!(world.try_claim(claim(&["c"])).await.next_due, None);
    world.clock.advance_ms(99);
    assert!(world.claim(here()).await.is_empty());
    world.clock.advance_ms(1);
    let claimed = world.try_claim(here()).await;
    assert_eq!(ids(&claimed.tasks), ["later"], "due is due");
    assert_eq!(claimed.next_due, Some(now.plus_ms(300)));
    assert_eq!(claimed.tasks[0].run_at, None);
    world.clock.advance_ms(1_000);
    let claimed = world.try_claim(here()).await;
    assert_eq!(
        (ids(&claimed.tasks), claimed.next_due),
        (vec!["latest"], None)
    );
    let mut rest = world.claim(claim(&["a", "b"])).await;
    for task in rest.drain(..) {
        world.must(&task, Command::Cancel).await;
    }
    let task = world
        .running("again", NewTask::new("r").max_retries(1_u32))
        .await;
    let failure = Command::Fail {
        attempt: Attempt(1),
        report: ReportNumber::NONE,
        error: TaskError::new("no luck"),
        is_retryable: true,
        jitter: Jitter(1 << 31),
    };
    let waiting = world.must(&task, failure).await;
    assert_eq!(waiting.run_at, Some(world.now().plus_ms(500)));
    world.clock.advance_ms(499);
    let claimed = world.try_claim(claim(&["r"])).await;
    assert!(claimed.tasks.is_empty());
    assert_eq!(claimed.next_due, waiting.run_at);
    world.clock.advance_ms(1);
    assert_eq!(ids(&world.claim(claim(&["r"])).await), ["again"]);
}

/// Only of the tools, and only of the namespace, that were asked for.
pub(super) async fn only_what_was_asked_for_is_claimed(world: &mut World) {
    let specs = [
        spec("a", NewTask::new("a")),
        spec("b", NewTask::new("b")),
        spec("A", NewTask::new("A")),
        spec_in(&room(""), "nowhere", NewTask::new("a")),
        spec_in(&room("default-2"), "elsewhere", NewTask::new("a")),
    ];
    world.dispatch_all(specs).await;
    let of = |namespace: &str, tools: &[&str]| Claim {
        namespace: Some(room(namespace)),
        ..claim(tools)
    };
    assert!(world.claim(claim(&[])).await.is_empty());
    assert!(world.claim(claim(&["c"])).await.is_empty());
    assert!(world.claim(of("other", &["a"])).await.is_empty());
    assert_eq!(ids(&world.claim(of("", &["a", "b"])).await), ["nowhere"]);
    assert_eq!(ids(&world.claim(of("default", &["a"])).await), ["a"]);
    assert_eq!(ids(&world.claim(claim(&["A"])).await), ["A"]);
    let rest = world.claim(claim(&["b", "a"])).await;
    assert_eq!(ids(&rest), ["b", "elsewhere"]);
}

/// What a worker gets is enough to work: the arguments, its attempt, how long it may hold it, and
/// what the task was resumed with.
pub(super) async fn a_claimed_task_has_all_that_its_worker_needs(world: &mut World) {
    let new = NewTask::new("a")
        .args(json(r#"{"q": "x1"}"#))
        .agent("agent")
        .thread("thread");
    let asked_for = spec("t", new);
    world.dispatch(Arc::clone(&asked_for)).await;
    world.clock.advance_ms(7);
    let one = Claim {
        worker: worker("worker-1"),
        lease_ms: 1_234,
        ..claim(&["a"])
    };
    let task = world.claim(one).await.remove(0);
    assert_eq!(task.spec, asked_for);
    assert_eq!((task.status, task.attempt), (Status::Running, Attempt(1)));
    assert_eq!(task.worker_id, Some(worker("worker-1")));
    assert_eq!(task.started_at, Some(world.now()));
    let lease = task.lease.clone().expect("it is held");
    assert_eq!(lease.worker, worker("worker-1"));
    assert_eq!(lease.until, world.now().plus_ms(1_234));
    world.must(&task, suspend(Attempt(1), "1")).await;
    let resumed = world.must(&task, resume(r#"{"yes": 1}"#)).await;
    assert!(resumed.is_resuming);
    world.clock.advance_ms(7);
    let two = Claim {
        worker: worker("worker-2"),
        ..claim(&["a"])
    };
    let task = world.claim(two).await.remove(0);
    assert_eq!(task.attempt, Attempt(2));
    assert_eq!(task.resume_data, Some(json(r#"{"yes": 1}"#)));
    assert_eq!(task.worker_id, Some(worker("worker-2")));
    assert_eq!(task.started_at, Some(world.now()));
    let log = world.log_after(Seq(0), Some(&task)).await;
    let is_resumed = log.iter().filter_map(|entry| match &entry.event.kind {
        EventKind::Started { is_resumed, .. } => Some(*is_resumed),
        _ => None,
    });
    assert_eq!(is_resumed.collect::<Vec<_>>(), [false, true]);
}

/// R4: an agent's limit is that of its namespace, a tool's is that of all; what ends frees its slot,
/// however it ends; no agent, no agent's limit.
pub(super) async fn the_limits_hold(world: &mut World) {
    let new = |agent: &str| NewTask::new("a").agent(agent);
    let mut specs: Vec<_> = (0..6).map(|n| spec(&format!("x{n}"), new("x"))).collect();
    specs.extend((0..3).map(|n| spec(&format!("y{n}"), new("y"))));
    specs.extend((0..3).map(|n| spec(&format!("none{n}"), NewTask::new("a"))));
    specs.push(spec_in(&room("elsewhere"), "x", new("x")));
    world.dispatch_all(specs).await;
    let two = || Claim {
        limits: per_agent(2),
        ..claim(&["a"])
    };
    let first = world.claim(two()).await;
    let expected = ["x0", "x1", "y0", "y1", "none0", "none1", "none2", "x"];
    assert_eq!(ids(&first), expected);
    assert!(world.claim(two()).await.is_empty());
    world.must(&first[0], complete(Attempt(1), "1")).await;
    assert_eq!(ids(&world.claim(two()).await), ["x2"]);
    world.must(&first[1], Command::Cancel).await;
    world.must(&first[2], fail(Attempt(1), "no luck")).await;
    world.must(&first[3], time_out(Attempt(1))).await;
    assert_eq!(ids(&world.claim(two()).await), ["x3", "y2"]);
    let none = Claim {
        limits: per_agent(0),
        ..claim(&["a"])
    };
    assert!(world.claim(none).await.is_empty());

    let specs = (0..6).map(|n| spec_in(&room(&format!("room-{n}")), "t", NewTask::new("b")));
    world.dispatch_all(specs).await;
    world.dispatch(spec("c", NewTask::new("c"))).await;
    let three = || Claim {
        limits: per_tool(&[("b", 3), ("a", 0)]),
        ..claim(&["a", "b", "c"])
    };
    let claimed = world.claim(three()).await;
    assert_eq!(ids(&claimed), ["t", "t", "t", "c"]);
    let elsewhere = Claim {
        namespace: Some(room("room-5")),
        ..three()
    };
    assert!(
        world.claim(elsewhere).await.is_empty(),
        "over all namespaces"
    );
    world.must(&claimed[0], complete(Attempt(1), "1")).await;
    world.clock.advance_ms(60_000);
    world.rescue(rescue()).await;
    assert_eq!(
        world.claim(three()).await.len(),
        3,
        "rescue frees slots too"
    );
}

/// R4: at no event of the log do more run than may, whoever claims and reports at once.
pub(super) async fn the_limits_hold_whoever_claims_at_once(world: &mut World) {
    let agents = ["x", "y", "z"];
    let tools = ["a", "b"];
    let specs = (0..120).map(|n| {
        let new = NewTask::new(tools[n % 2]).agent(agents[n % 3]);
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
                let claimed = world
                    .claim(Claim {
                        worker: worker(&format!("w{n}")),
                        limit: 1 + u32::try_from(random.below(4)).expect("small"),
                        limits: Arc::clone(&limits),
                        ..claim(&["a", "b"])
                    })
                    .await;
                tokio::task::yield_now().await;
                for task in &claimed {
                    tokio::task::yield_now().await;
                    world.must(task, complete(Attempt(1), "1")).await;
                }
                let counts = world.store().counts().await.expect("the store works");
                if counts.get(&Status::Completed) == Some(&120) {
                    return;
                }
            }
        }
    };
    together((0..8).map(|n| worker(world.clone(), n))).await;
    let mut running: BTreeMap<String, u64> = BTreeMap::new();
    for entry in world.log_after(Seq(0), None).await {
        let agent = entry.task.agent_id.clone().expect("each has an agent");
        let slots = [format!("agent {agent}"), entry.task.tool_name.to_string()];
        for slot in slots {
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
            assert!(
                *taken <= of,
                "{slot} has {taken} of {of} at {}",
                entry.event.seq
            );
        }
    }
}

/// R1: of all who ask at once, one gets it.
pub(super) async fn a_task_is_given_to_one_worker(world: &mut World) {
    let specs = (0..200).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    world.dispatch_all(specs).await;
    let worker = |world: World, n: u32| async move {
        let name = worker(&format!("w{n}"));
        let mut mine = Vec::new();
        loop {
            let some = Claim {
                worker: name.clone(),
                limit: 3,
                ..claim(&["a"])
            };
            let claimed = world.claim(some).await;
            if claimed.is_empty() {
                return mine;
            }
            assert!(claimed.iter().all(|t| t.worker_id.as_ref() == Some(&name)));
            mine.extend(claimed.iter().map(|task| task.id().clone()));
        }
    };
    let given = together((0..8).map(|n| worker(world.clone(), n))).await;
    let all: Vec<TaskId> = given.into_iter().flatten().collect();
    let once: BTreeSet<&TaskId> = all.iter().collect();
    assert_eq!((all.len(), once.len()), (200, 200));
    assert_eq!(world.seq().await, Seq(400), "each was begun once");
}

/// R4: who waits for an answer leaves room for others, and waits in line again once it has it.
pub(super) async fn a_suspended_task_holds_no_slot(world: &mut World) {
    let new = || NewTask::new("a").agent("x");
    let limits = Arc::new(Limits {
        total: None,
        per_agent: Some(1),
        per_tool: [(tool("a"), 1)].into_iter().collect(),
    });
    let one = || Claim {
        limits: Arc::clone(&limits),
        ..claim(&["a"])
    };
    world.dispatch(spec("first", new())).await;
    world.dispatch(spec("second", new())).await;
    let first = world.claim(one()).await.remove(0);
    assert!(world.claim(one()).await.is_empty());
    world.must(&first, suspend(Attempt(1), "1")).await;
    let second = world.claim(one()).await;
    assert_eq!(ids(&second), ["second"]);
    world.must(&first, resume("1")).await;
    assert!(world.claim(one()).await.is_empty(), "the slot is taken");
    world.must(&second[0], complete(Attempt(1), "1")).await;
    assert_eq!(ids(&world.claim(one()).await), ["first"]);
}

/// However many tasks wait for an agent or a tool that is at its limit, and however important they
/// are, the others are found behind them.
pub(super) async fn a_full_lane_does_not_hold_up_the_others(world: &mut World) {
    let first = |tool: &str| NewTask::new(tool).priority(9_i16);
    let mut specs: Vec<_> = (0..1_500)
        .map(|n| spec(&format!("crowd-{n}"), first("a").agent("crowd")))
        .collect();
    specs.extend((0..500).map(|n| {
        let agent = format!("agent-{n}");
        spec(&format!("lane-{n}"), first("full").agent(agent))
    }));
    specs.extend((0..3).map(|n| spec(&format!("x{n}"), NewTask::new("a").agent("x"))));
    specs.push(spec("y", NewTask::new("b").agent("y").priority(-9_i16)));
    world.dispatch_all(specs).await;
    let limits = Arc::new(Limits {
        total: None,
        per_agent: Some(2),
        per_tool: [(tool("full"), 1)].into_iter().collect(),
    });
    let some = |limit| Claim {
        limit,
        limits: Arc::clone(&limits),
        ..claim(&["a", "b", "full"])
    };
    let claimed = world.claim(some(4)).await;
    assert_eq!(ids(&claimed), ["crowd-0", "crowd-1", "lane-0", "x0"]);
    let claimed = world.claim(some(1)).await;
    assert_eq!(ids(&claimed), ["x1"]);
    let claimed = world.claim(some(4)).await;
    assert_eq!(ids(&claimed), ["y"]);
    assert!(world.claim(some(4)).await.is_empty());
}

/// Nor does it hold up what the claim's own batch dispatches; and what was taken before the full lane was met
/// is not taken again.
pub(super) async fn a_batch_claims_past_a_full_lane(world: &mut World) {
    let new = |agent: &str, priority: i16| NewTask::new("a").agent(agent).priority(priority);
    let mut specs = vec![spec("first", new("x", 9))];
    specs.extend((0..1_500).map(|n| spec(&format!("crowd-{n}"), new("crowd", 8))));
    specs.push(spec("behind", new("x", 1)));
    world.dispatch_all(specs).await;
    let limits = Arc::new(Limits {
        per_agent: Some(2),
        ..Limits::default()
    });
    let some = Claim {
        limit: 7,
        limits,
        ..claim(&["a"])
    };
    let own = dispatch(&spec("own", new("y", 0)));
    let batch = vec![own, Request::Claim(some)];
    let claimed = match world.commit(batch).await.pop() {
        Some(Ok(Answer::Claimed(claimed))) => claimed.tasks,
        other => panic!("{other:?}"),
    };
    let expected = ["first", "crowd-0", "crowd-1", "behind", "own"];
    assert_eq!(ids(&claimed), expected);
    for task in &claimed {
        assert_eq!(world.row(task).await.as_ref(), Some(task));
    }
}
