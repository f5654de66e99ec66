//! Dispatching: once, whatever is repeated (R5), and only where there is room.

use super::*;

/// The task of a dispatch, and whether it is new.
async fn dispatched(world: &World, spec: &Arc<Spec>) -> (Task, bool) {
    match world.commit_one(dispatch(spec)).await {
        Ok(Answer::Dispatched { task, is_new }) => (task, is_new),
        other => panic!("expected a task, got {other:?}"),
    }
}

async fn admitted(world: &World, spec: &Arc<Spec>, admission: Admission) -> Outcome {
    let spec = Arc::clone(spec);
    let request = Request::Dispatch { spec, admission };
    world.commit_one(request).await
}

/// R5: an idempotency key is one task, whatever else the dispatch says, for as long as that task is
/// kept.
pub(super) async fn one_key_is_one_task(world: &mut World) {
    let keyed = |id: &str, tool: &str| spec(id, NewTask::new(tool).idempotency_key("key"));
    let task = world.dispatch(keyed("one", "a")).await;
    let head = world.head().await;
    assert_eq!(dispatched(world, &keyed("two", "b")).await, (task, false));
    assert_eq!(world.head().await, head, "a repetition leaves no event");
    assert_eq!(world.get(&room("default"), &task_id("two")).await, None);
    let running = world.claim(claim(&["a"])).await.remove(0);
    let again = dispatched(world, &keyed("three", "a")).await;
    assert_eq!(again, (running.clone(), false), "as it stands now");
    let ended = world.must(&running, complete(Attempt(1), "1")).await;
    let again = dispatched(world, &keyed("four", "a")).await;
    assert_eq!(again, (ended.clone(), false));

    let other = NewTask::new("a").idempotency_key("KEY");
    assert!(dispatched(world, &spec("other", other)).await.1);
    let elsewhere = NewTask::new("a").idempotency_key("key");
    let elsewhere = spec_in(&room("elsewhere"), "one", elsewhere);
    assert!(
        dispatched(world, &elsewhere).await.1,
        "each room has its own"
    );
    let in_one_batch = |id: &str| {
        let new = NewTask::new("a").idempotency_key("new key");
        dispatch(&spec(id, new))
    };
    let answers = world
        .commit(vec![in_one_batch("x"), in_one_batch("y")])
        .await;
    let made: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Answer::Dispatched { task, is_new }) => (task.id().as_str(), *is_new),
            other => panic!("expected a task, got {other:?}"),
        })
        .collect();
    assert_eq!(made, [("x", true), ("x", false)]);

    world.delete(&ended).await.expect("it has ended");
    assert!(dispatched(world, &keyed("five", "a")).await.1, "it is free");
}

/// R5: an agent that repeats a tool call after a crash gets its first task. Any other agent, run,
/// call or tool is another task; and without both a run and a call nothing is a repetition.
pub(super) async fn one_tool_call_of_a_run_is_one_task(world: &mut World) {
    let call = |agent: &str, run: &str, call: &str, tool: &str| {
        NewTask::new(tool).agent(agent).run(run).tool_call(call)
    };
    let task = world.dispatch(spec("one", call("a", "r", "c", "t"))).await;
    let repeated = spec("two", call("a", "r", "c", "t").args(json("[1]")));
    assert_eq!(dispatched(world, &repeated).await, (task, false));
    let others = [
        call("b", "r", "c", "t"),
        call("a", "s", "c", "t"),
        call("a", "r", "d", "t"),
        call("a", "r", "c", "u"),
        NewTask::new("t").run("r").tool_call("c"),
        NewTask::new("t").agent("a").tool_call("c"),
        NewTask::new("t").agent("a").tool_call("c"),
        NewTask::new("t").agent("a").run("r"),
        NewTask::new("t").agent("a").run("r"),
        call("a", "r", "c", "t").idempotency_key("another key"),
        NewTask::new("t").idempotency_key(r#"call:["a","r","c","t"]"#),
    ];
    for (n, other) in others.into_iter().enumerate() {
        let other = spec(&format!("other-{n}"), other);
        assert!(dispatched(world, &other).await.1, "{n} is another task");
    }
    let elsewhere = spec_in(&room("elsewhere"), "x", call("a", "r", "c", "t"));
    assert!(dispatched(world, &elsewhere).await.1);
}

/// A dispatch whose answer was lost may be sent again; another task cannot take its name.
pub(super) async fn one_id_is_one_task(world: &mut World) {
    let first = spec("t", NewTask::new("a").args(json("[1]")));
    world.dispatch(Arc::clone(&first)).await;
    let task = world.claim(claim(&["a"])).await.remove(0);
    let head = world.head().await;
    let equal = spec("t", NewTask::new("a").args(json("[1]")));
    assert_eq!(dispatched(world, &equal).await, (task.clone(), false));
    let others = [
        NewTask::new("a").args(json("[2]")),
        NewTask::new("b").args(json("[1]")),
        NewTask::new("a").args(json("[1]")).priority(1_i16),
        NewTask::new("a").args(json("[1]")).description("more"),
        NewTask::new("a").args(json("[1]")).idempotency_key("key"),
    ];
    for other in others {
        let answer = world.commit_one(dispatch(&spec("t", other))).await;
        assert_eq!(answer.err(), Some(Rejection::AlreadyExists));
    }
    assert_eq!(world.head().await, head);
    assert_eq!(world.row(&task).await, Some(task));
    let freed = spec("u", NewTask::new("a").idempotency_key("key"));
    assert!(dispatched(world, &freed).await.1, "a refused key is free");
}

/// R5, when the repetitions come at once.
pub(super) async fn racing_repetitions_make_one_task(world: &mut World) {
    let racer = |world: World, round: u32, n: u32| async move {
        let new = NewTask::new("a").idempotency_key(format!("key-{round}"));
        dispatched(&world, &spec(&format!("{round}-{n}"), new)).await
    };
    for round in 0..10 {
        let racers = (0..16).map(|n| racer(world.clone(), round, n));
        let results = together(racers).await;
        let new: Vec<_> = results.iter().filter(|(_, is_new)| *is_new).collect();
        assert_eq!(new.len(), 1, "one of them made it");
        assert!(results.iter().all(|(task, _)| task.id() == new[0].0.id()));
    }
    assert_eq!(world.seq().await, Seq(10));
}

/// R4: where the caller would not wait, nothing is created and the answer says why; who repeats a
/// dispatch that was admitted gets its task all the same.
pub(super) async fn without_a_slot_nothing_is_created(world: &mut World) {
    let limits = Limits {
        total: Some(4),
        per_agent: Some(2),
        per_tool: [(tool("narrow"), 1)].into_iter().collect(),
    };
    let reject = || Admission::Reject(limits.clone());
    let fall_back = || Admission::FallbackToSync(limits.clone());
    let of_agent = |id: &str, agent: &str| spec(id, NewTask::new("wide").agent(agent));
    for id in ["a1", "a2"] {
        let answer = admitted(world, &of_agent(id, "a"), reject()).await;
        assert!(matches!(
            answer,
            Ok(Answer::Dispatched { is_new: true, .. })
        ));
    }
    let refused = admitted(world, &of_agent("a3", "a"), reject()).await;
    assert_at_capacity(refused, 2, 2, "a");
    let refused = admitted(world, &of_agent("a3", "a"), fall_back()).await;
    assert!(matches!(refused, Ok(Answer::FallbackToSync)));
    assert_eq!(world.get(&room("default"), &task_id("a3")).await, None);
    let repeated = admitted(world, &of_agent("a1", "a"), reject()).await;
    assert!(matches!(
        repeated,
        Ok(Answer::Dispatched { is_new: false, .. })
    ));
    let elsewhere = spec_in(&room("b"), "b1", NewTask::new("narrow").agent("a"));
    let answer = admitted(world, &elsewhere, reject()).await;
    assert!(matches!(
        answer,
        Ok(Answer::Dispatched { is_new: true, .. })
    ));
    let refused = admitted(world, &spec("n", NewTask::new("narrow")), reject()).await;
    assert_at_capacity(refused, 1, 1, "narrow");
    world.dispatch(spec("queued", NewTask::new("narrow"))).await;
    let refused = admitted(world, &of_agent("c", "c"), reject()).await;
    assert_at_capacity(refused, 4, 4, "");
    let refused = admitted(world, &of_agent("c", "c"), fall_back()).await;
    assert!(matches!(refused, Ok(Answer::FallbackToSync)));
    assert_eq!(world.seq().await, Seq(4));
    world.claim(claim(&["wide"])).await;
    let refused = admitted(world, &of_agent("a3", "a"), reject()).await;
    assert!(refused.is_err(), "what runs counts as what waits does");
}

fn assert_at_capacity(answer: Outcome, taken: u64, of: u64, whose: &str) {
    match answer {
        Err(Rejection::AtCapacity {
            scope,
            running,
            limit,
        }) => {
            assert_eq!((running, limit), (taken, of));
            assert!(scope.contains(whose), "{scope} names {whose}");
        }
        other => panic!("expected no room, got {other:?}"),
    }
}

/// R4: who waits for an answer, has ended, or runs elsewhere takes no slot.
pub(super) async fn what_holds_no_slot_is_not_counted(world: &mut World) {
    let limits = Limits {
        total: Some(1),
        per_agent: Some(1),
        per_tool: [(tool("a"), 1)].into_iter().collect(),
    };
    let reject = || Admission::Reject(limits.clone());
    let new = || NewTask::new("a").agent("a");
    for n in 0..5 {
        let external = record(&format!("x{n}"), "running", &serde_json::json!({}));
        let kept = world.record(&room("default"), &external).await;
        kept.expect("it is kept");
    }
    let asking = world.running("asking", new()).await;
    world.must(&asking, suspend(Attempt(1), "1")).await;
    let cancelled = spec("cancelled", new());
    let answer = admitted(world, &cancelled, reject()).await;
    let Ok(Answer::Dispatched { task, is_new: true }) = answer else {
        panic!("expected a new task, got {answer:?}");
    };
    assert!(admitted(world, &spec("no", new()), reject()).await.is_err());
    world.must(&task, Command::Cancel).await;
    let answer = admitted(world, &spec("yes", new()), reject()).await;
    assert!(matches!(
        answer,
        Ok(Answer::Dispatched { is_new: true, .. })
    ));
    let answer = admitted(world, &spec("no", new()), reject()).await;
    assert_at_capacity(answer, 1, 1, "");
    let none = Admission::Reject(Limits::default());
    let answer = admitted(world, &spec("unlimited", new()), none).await;
    assert!(matches!(
        answer,
        Ok(Answer::Dispatched { is_new: true, .. })
    ));
}

/// R4: exactly as many as there is room for, however many ask at once.
pub(super) async fn racing_dispatches_do_not_exceed_the_limit(world: &mut World) {
    let limits = Limits {
        total: None,
        per_agent: Some(5),
        per_tool: HashMap::new(),
    };
    let racer = |world: World, n: u32| {
        let admission = Admission::Reject(limits.clone());
        async move {
            let new = spec(&format!("t{n}"), NewTask::new("a").agent("a"));
            admitted(&world, &new, admission).await.is_ok()
        }
    };
    let racers = (0..24).map(|n| racer(world.clone(), n));
    let admitted = together(racers).await;
    assert_eq!(admitted.iter().filter(|is_in| **is_in).count(), 5);
    assert_eq!(world.seq().await, Seq(5));
}
