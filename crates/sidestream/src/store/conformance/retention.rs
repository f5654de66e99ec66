//! Retention: what goes, and what stays (R7).

use super::*;
use crate::store::{Cleanup, Prune, Told};

/// What is still to be done cannot be deleted.
pub(super) async fn only_an_ended_task_can_be_deleted(world: &mut World) {
    let task = world.dispatch(spec("t", NewTask::new("a"))).await;
    let refused = |status| Err(Rejection::NotEnded(status));
    assert_eq!(world.delete(&task).await, refused(Status::Pending));
    world.claim(claim(&["a"])).await;
    assert_eq!(world.delete(&task).await, refused(Status::Running));
    world.must(&task, suspend(Attempt(1), "1")).await;
    assert_eq!(world.delete(&task).await, refused(Status::Suspended));
    assert!(world.row(&task).await.is_some());
    world.must(&task, Command::Cancel).await;
    assert_eq!(world.delete(&task).await, Ok(1));
    assert_eq!(world.row(&task).await, None);
    let gone = Err(Rejection::NotFound(task.id().clone()));
    assert_eq!(world.delete(&task).await, gone);
    for (n, end) in [
        complete(Attempt(1), "1"),
        fail(Attempt(1), "no luck"),
        time_out(Attempt(1)),
    ]
    .into_iter()
    .enumerate()
    {
        let task = world.running(&format!("t{n}"), NewTask::new("a")).await;
        world.must(&task, end).await;
        assert_eq!(world.delete(&task).await, Ok(1));
    }
}

/// A deleted task is in no listing, and its name is free; its events stay.
pub(super) async fn a_deleted_task_leaves_nothing_but_its_events(world: &mut World) {
    let new = || NewTask::new("a").thread("thread").idempotency_key("key");
    let stays = world.dispatch(spec("stays", NewTask::new("a"))).await;
    let task = world.dispatch(spec("t", new())).await;
    let task = world.must(&task, Command::Cancel).await;
    let head = world.head().await;
    world.delete(&task).await.expect("it has ended");
    assert_eq!(world.head().await, head, "a deletion is no event");
    let page = world.list(&ListQuery::new(room("default"), 10)).await;
    assert_eq!((page.tasks, page.total), (vec![stays], 1));
    let mut query = ListQuery::new(room("default"), 10);
    query.thread_id = Some("thread".parse().expect("an id"));
    assert_eq!(world.list(&query).await.total, 0);
    assert_eq!(world.log_after(Seq(0), None).await.len(), 3);
    assert_eq!(world.log_after(Seq(0), Some(&task)).await.len(), 2);
    let counts = world.store().counts().await.expect("the store works");
    assert_eq!(counts.get(&Status::Cancelled).copied().unwrap_or(0), 0);

    let anew = world.dispatch(spec("t", new().args(json("[1]")))).await;
    assert_eq!((anew.status, anew.seq), (Status::Pending, Seq(4)));
    assert_eq!(world.row(&anew).await.as_ref(), Some(&anew));
    let all = world.log_after(Seq(0), None).await;
    assert_eq!(
        all[1].task,
        *task.identity(),
        "old events show the old task"
    );
    assert_eq!(all[3].task, *anew.identity());
}

/// Requests of one batch follow each other, also when they are about one task.
pub(super) async fn a_batch_deletes_what_it_ends(world: &mut World) {
    let task = world.running("t", NewTask::new("a")).await;
    let (namespace, id) = (task.identity().namespace.clone(), task.id().clone());
    let batch = vec![
        asked(&task, complete(Attempt(1), "1")),
        Request::Delete { namespace, id },
        dispatch(&spec("t", NewTask::new("b"))),
    ];
    let answers = world.commit(batch).await;
    assert!(matches!(&answers[1], Ok(Answer::Removed(1))), "{answers:?}");
    let anew = match &answers[2] {
        Ok(Answer::Dispatched { task, is_new: true }) => task,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.row(anew).await.as_ref(), Some(anew));
    assert_eq!(names(world).await, ["t"]);
    assert_eq!(world.log_after(Seq(0), None).await.len(), 4);
}

fn cleanup(world: &World, completed_ms: i64, failed_ms: i64, untold_ms: i64) -> Request {
    Request::Cleanup(Cleanup {
        completed_before: world.now().plus_ms(-completed_ms),
        failed_before: world.now().plus_ms(-failed_ms),
        untold_before: world.now().plus_ms(-untold_ms),
        limit: 1_000,
    })
}

async fn names(world: &World) -> Vec<String> {
    let page = world.list(&ListQuery::new(room("default"), 1_000)).await;
    page.tasks
        .iter()
        .map(|task| task.id().to_string())
        .collect()
}

/// R7: completed ones by their time, the other ends by theirs, and never what has not ended.
pub(super) async fn cleanup_removes_what_is_strictly_older(world: &mut World) {
    let new = || NewTask::new("a");
    let asking = world.running("asking", new()).await;
    world.must(&asking, suspend(Attempt(1), "1")).await;
    let later = new().run_at(world.now().plus_ms(1_000_000_000));
    world.dispatch(spec("pending", later)).await;
    let long = Claim {
        lease_ms: 1_000_000_000,
        ..claim(&["a"])
    };
    world.dispatch(spec("running", new())).await;
    world.claim(long).await;
    for (id, end) in [
        ("completed", complete(Attempt(1), "1")),
        ("failed", fail(Attempt(1), "no luck")),
        ("timed-out", time_out(Attempt(1))),
        ("cancelled", Command::Cancel),
    ] {
        let task = world.running(id, new()).await;
        world.must(&task, end).await;
    }
    let elsewhere = spec_in(&room("elsewhere"), "cancelled", new());
    let elsewhere = world.dispatch(elsewhere).await;
    world.must(&elsewhere, Command::Cancel).await;
    world.clock.advance_ms(100);
    let nothing = cleanup(world, 100, 100, 100);
    assert_eq!(world.removed(nothing).await, 0, "strictly older");
    let completed = cleanup(world, 99, 100, 100);
    assert_eq!(world.removed(completed).await, 1);
    let left = [
        "asking",
        "pending",
        "running",
        "failed",
        "timed-out",
        "cancelled",
    ];
    assert_eq!(names(world).await, left);
    let the_others = cleanup(world, 1_000, 99, 1_000);
    assert_eq!(world.removed(the_others).await, 4, "in every namespace");
    assert_eq!(names(world).await, ["asking", "pending", "running"]);
    world.clock.advance_ms(1_000_000);
    assert_eq!(world.removed(cleanup(world, 0, 0, 0)).await, 0);
    // One that ended, and was tried again, is not old.
    let task = world.dispatch(spec("again", new())).await;
    world.must(&task, Command::Cancel).await;
    world.must(&task, Command::Retry).await;
    world.clock.advance_ms(1_000_000);
    assert_eq!(world.removed(cleanup(world, 0, 0, 0)).await, 0);
}

/// R6: what an agent has not been told is kept for it, but not for ever.
pub(super) async fn an_untold_end_is_kept_longer(world: &mut World) {
    for id in ["told", "untold"] {
        for end in ["completed", "failed"] {
            let new = NewTask::new("a").thread(id);
            let task = world.running(&format!("{id}-{end}"), new).await;
            let command = match end {
                "completed" => complete(Attempt(1), "1"),
                _ => fail(Attempt(1), "no luck"),
            };
            world.must(&task, command).await;
        }
    }
    let acknowledge = Request::Acknowledge {
        namespace: room("default"),
        thread: ThreadId::new("told").expect("a thread's id"),
        told: Told::UpTo(world.seq().await),
    };
    assert_eq!(world.removed(acknowledge).await, 2);
    world.clock.advance_ms(1_000);
    assert_eq!(world.removed(cleanup(world, 10, 10, 1_000)).await, 2);
    assert_eq!(names(world).await, ["untold-completed", "untold-failed"]);
    assert_eq!(world.untold(&room("default"), "untold").await.len(), 2);
    // It is never removed *earlier* for being untold.
    assert_eq!(world.removed(cleanup(world, 2_000, 10, 10)).await, 1);
    assert_eq!(names(world).await, ["untold-completed"]);
    assert_eq!(world.removed(cleanup(world, 10, 10, 999)).await, 1);
    assert!(names(world).await.is_empty());
    assert!(world.untold(&room("default"), "untold").await.is_empty());
}

/// One transaction removes no more than it was allowed, and the next goes on.
pub(super) async fn a_cleanup_takes_no_more_than_it_may(world: &mut World) {
    let specs = (0..25).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    let tasks = world.dispatch_all(specs).await;
    for task in &tasks {
        world.must(task, Command::Cancel).await;
    }
    world.clock.advance_ms(10);
    let ten = || {
        Request::Cleanup(Cleanup {
            completed_before: world.now(),
            failed_before: world.now(),
            untold_before: world.now(),
            limit: 10,
        })
    };
    let mut left = Vec::new();
    for _ in 0..4 {
        let removed = world.removed(ten()).await;
        left.push((removed, names(world).await.len()));
    }
    assert_eq!(left, [(10, 15), (10, 5), (5, 0), (0, 0)]);
    assert_eq!(world.seq().await, Seq(50), "no event says so");
}

/// R7, S3: what is too old goes, and what is too much; the floor says how far.
pub(super) async fn prune_forgets_the_oldest(world: &mut World) {
    let prune = |before: Timestamp, events_max: u64, limit: u32| {
        Request::Prune(Prune {
            before,
            events_max,
            limit,
        })
    };
    let start = world.now();
    assert_eq!(world.removed(prune(start.plus_ms(1), 0, 100)).await, 0);
    for n in 0..20 {
        world
            .dispatch(spec(&format!("t{n}"), NewTask::new("a")))
            .await;
        world.clock.advance_ms(10);
    }
    assert_eq!(world.removed(prune(start, 100, 100)).await, 0);
    assert_eq!(
        world.removed(prune(start.plus_ms(10), 100, 100)).await,
        1,
        "strictly"
    );
    assert_eq!(world.head().await.floor, Seq(1));
    assert_eq!(world.removed(prune(start.plus_ms(60), 100, 3)).await, 3);
    assert_eq!(world.removed(prune(start.plus_ms(60), 100, 3)).await, 2);
    assert_eq!(world.head().await.floor, Seq(6));
    assert_eq!(world.removed(prune(start, 14, 100)).await, 0);
    assert_eq!(world.removed(prune(start, 10, 100)).await, 4);
    assert_eq!(world.removed(prune(start, 10, 100)).await, 0);
    assert_eq!(world.head().await.floor, Seq(10));
    let places: Vec<_> = world
        .log_after(Seq(10), None)
        .await
        .iter()
        .map(|entry| entry.event.seq.0)
        .collect();
    assert_eq!(places, (11..=20).collect::<Vec<_>>());
    assert_eq!(world.removed(prune(world.now(), 100, 100)).await, 10);
    assert_eq!(world.removed(prune(world.now(), 0, 100)).await, 0);
    let head = world.head().await;
    assert_eq!((head.seq, head.floor), (Seq(20), Seq(20)));
    assert_eq!(names(world).await.len(), 20, "the rows stay");
}
