//! Rescue: attempts that nobody will end are ended (R2).

use std::collections::HashSet;

use super::*;
use crate::store::Gone;
use sidestream_core::EventKind;

/// R2: a lease that has ended ends the attempt, by the rule its retries say, with a reason that names
/// the worker. A lease that ends now has ended.
pub(super) async fn an_attempt_whose_lease_ended_is_ended(world: &mut World) {
    let new = NewTask::new("a").max_retries(1_u32);
    let task = world.running("t", new).await;
    world.clock.advance_ms(59_999);
    let rescued = world.rescue(rescue()).await;
    assert_eq!(rescued.ended, 0);
    assert_eq!(rescued.next, Some(world.now().plus_ms(1)));
    assert_eq!(world.row(&task).await.as_ref(), Some(&task));
    world.clock.advance_ms(1);
    let rescued = world.rescue(rescue()).await;
    assert_eq!((rescued.ended, rescued.next), (1, None));
    let waiting = world.row(&task).await.expect("it is there");
    assert_eq!((waiting.status, waiting.retry_count), (Status::Pending, 1));
    assert_eq!(waiting.lease, None);
    let error = waiting.error.expect("why");
    assert!(error.message.contains("worker w was lost"), "{error:?}");
    assert_eq!(world.rescue(rescue()).await.ended, 0);

    world.clock.advance_ms(30_000);
    let claimed = world.claim(claim(&["a"])).await;
    assert_eq!(claimed[0].attempt, Attempt(2));
    world.clock.advance_ms(60_000);
    assert_eq!(world.rescue(rescue()).await.ended, 1);
    let ended = world.row(&task).await.expect("it is there");
    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ended.completed_at, Some(world.now()));
    assert_eq!(world.rescue(rescue()).await.ended, 0);
}

/// R2: a worker that renews in time keeps its task; only it is spared.
pub(super) async fn a_renewed_lease_is_left_alone(world: &mut World) {
    world.dispatch(spec("renewed", NewTask::new("a"))).await;
    world.dispatch(spec("lost", NewTask::new("a"))).await;
    let claimed = world.claim(claim(&["a"])).await;
    world.clock.advance_ms(50_000);
    let renew = Command::Renew {
        attempt: Attempt(1),
        lease_ms: 60_000,
    };
    let renewed = world.must(&claimed[0], renew).await;
    world.clock.advance_ms(10_000);
    let rescued = world.rescue(rescue()).await;
    assert_eq!(rescued.ended, 1);
    assert_eq!(rescued.next, Some(world.now().plus_ms(50_000)));
    assert_eq!(world.row(&renewed).await.as_ref(), Some(&renewed));
    let lost = world.row(&claimed[1]).await.expect("it is there");
    assert_eq!(lost.status, Status::Failed);
    world.must(&renewed, complete(Attempt(1), "1")).await;
}

/// R7: a worker that renews for ever, but forgets the time, is helped out.
pub(super) async fn an_attempt_over_its_time_is_timed_out(world: &mut World) {
    let mut new = NewTask::new("a").max_retries(1_u32);
    new.timeout_ms = Some(5_000);
    let task = world.running("t", new).await;
    world.clock.advance_ms(14_999);
    let rescued = world.rescue(rescue()).await;
    assert_eq!(rescued.ended, 0);
    assert_eq!(rescued.next, Some(world.now().plus_ms(1)), "with overtime");
    let strict = Rescue {
        overtime_ms: 100_000,
        ..rescue()
    };
    world.clock.advance_ms(1);
    assert_eq!(world.rescue(strict).await.ended, 0);
    assert_eq!(world.rescue(rescue()).await.ended, 1);
    let waiting = world.row(&task).await.expect("it is there");
    assert_eq!(waiting.status, Status::Pending);
    let error = waiting.error.expect("why");
    assert_eq!(&*error.message, "Task timed out after 5000ms");
    world.clock.advance_ms(30_000);
    world.claim(claim(&["a"])).await;
    world.clock.advance_ms(15_000);
    assert_eq!(world.rescue(rescue()).await.ended, 1);
    let ended = world.row(&task).await.expect("it is there");
    assert_eq!(ended.status, Status::TimedOut);
}

/// R2: who knows that its predecessor is gone need not wait for the leases; others' tasks are left
/// alone, and names that only look alike are others.
pub(super) async fn the_tasks_of_workers_that_are_gone_are_ended_at_once(world: &mut World) {
    let names = [
        "local_1%/a",
        "local_1%/b",
        "local_1%/",
        "local_1%",
        "localx1%/a",
        "LOCAL_1%/a",
        "my-local_1%/a",
        "local_1%/me",
        "local_1%/me-2",
        "local_1%/ME",
        "remote",
        "local_1xx/a",
    ];
    let mut tasks = Vec::new();
    for name in names {
        world.dispatch(spec(name, NewTask::new("a"))).await;
        let one = Claim {
            worker: worker(name),
            ..claim(&["a"])
        };
        tasks.extend(world.claim(one).await);
    }
    let dead = Rescue {
        gone: Some(Gone {
            prefix: "local_1%/".into(),
            except: "local_1%/me".into(),
        }),
        ..rescue()
    };
    let rescued = world.rescue(dead.clone()).await;
    assert_eq!(rescued.ended, 4);
    assert_eq!(rescued.next, Some(world.now().plus_ms(60_000)));
    for (name, task) in names.iter().zip(&tasks) {
        let row = world.row(task).await.expect("it is there");
        let gone = ["local_1%/a", "local_1%/b", "local_1%/", "local_1%/ME"];
        let is_gone = gone.contains(name);
        let expected = if is_gone {
            Status::Failed
        } else {
            Status::Running
        };
        assert_eq!(row.status, expected, "{name}");
    }
    assert_eq!(world.rescue(dead.clone()).await.ended, 0);
    // The lease of another has ended: that is another rescue's business.
    world.clock.advance_ms(60_000);
    assert_eq!(world.rescue(dead).await.ended, 0);
    assert_eq!(world.rescue(rescue()).await.ended, 8);
}

/// One transaction takes no more than it was allowed, in the order of dispatch, and says that there
/// is more at once.
pub(super) async fn a_rescue_takes_no_more_than_it_may(world: &mut World) {
    let external = record("external", "running", &serde_json::json!({}));
    let kept = world.record(&room("default"), &external).await;
    kept.expect("it is kept");
    let specs = (0..10).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    world.dispatch_all(specs).await;
    world.claim(claim(&["a"])).await;
    world.clock.advance_ms(61_000);
    let four = Rescue {
        limit: 4,
        ..rescue()
    };
    let mut ended = Vec::new();
    for _ in 0..4 {
        let rescued = world.rescue(four.clone()).await;
        ended.push(rescued.ended);
        let is_more = rescued.next.is_some_and(|next| next <= world.now());
        assert_eq!(is_more, ended.len() < 3);
    }
    assert_eq!(ended, [4, 4, 2, 0]);
    let log = world.log_after(Seq(0), None).await;
    let failed = log.iter().filter_map(|entry| match entry.event.kind {
        EventKind::Failed { .. } => Some(entry.task.id.to_string()),
        _ => None,
    });
    let expected: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    assert_eq!(failed.collect::<Vec<_>>(), expected);
}

/// R1: what the asking process runs itself is its own business, and does not hide the others.
pub(super) async fn a_rescue_leaves_alone_what_it_is_told_to(world: &mut World) {
    let specs = (0..6).map(|n| spec(&format!("t{n}"), NewTask::new("a").max_retries(1_u32)));
    world.dispatch_all(specs).await;
    let tasks = world.claim(claim(&["a"])).await;
    let name = |task: &Task| {
        let identity = task.identity();
        let (namespace, id) = (identity.namespace.clone(), identity.id.clone());
        (namespace, id, task.attempt)
    };
    let mut spared: HashSet<_> = tasks[..4].iter().map(name).collect();
    // Not its attempt any more, or yet.
    let (namespace, id, _) = name(&tasks[4]);
    spared.insert((namespace, id, Attempt(2)));
    world.clock.advance_ms(400_000);
    let sparing = Rescue {
        limit: 1,
        spared: Arc::new(spared),
        ..rescue()
    };
    for _ in 0..2 {
        assert_eq!(world.rescue(sparing.clone()).await.ended, 1);
    }
    assert_eq!(world.rescue(sparing).await.ended, 0);
    for (n, task) in tasks.iter().enumerate() {
        let row = world.row(task).await.expect("it is there");
        assert_eq!(row.status == Status::Running, n < 4, "{}", task.id());
    }
}
