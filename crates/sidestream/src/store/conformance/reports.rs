//! Reports of workers and wishes of users (R1, R2).

use super::*;

/// Everything that a worker may say about an attempt.
fn reports(attempt: Attempt) -> Vec<Command> {
    let expire = Command::ExpireLease {
        attempt,
        loss: sidestream_core::command::Loss::ProcessGone,
        jitter: Jitter(0),
    };
    let renew = Command::Renew {
        attempt,
        lease_ms: 1_000,
    };
    vec![
        output(attempt, &["1"]),
        suspend(attempt, "1"),
        complete(attempt, "1"),
        fail(attempt, "no luck"),
        time_out(attempt),
        expire,
        renew,
    ]
}

/// R1: a worker that lost its task learns it, whatever it tries.
pub(super) async fn a_stale_report_changes_nothing(world: &mut World) {
    let new = NewTask::new("a").max_retries(5_u32);
    let task = world.running("t", new).await;
    world.clock.advance_ms(60_000);
    assert_eq!(world.rescue(rescue()).await.ended, 1);
    let stale = |current: u32, status: Status| Rejection::StaleAttempt {
        reported: Attempt(1),
        current: Attempt(current),
        status,
    };
    for command in reports(Attempt(1)) {
        let rejection = world.refused(&task, command).await;
        assert_eq!(rejection, stale(1, Status::Pending));
    }
    world.clock.advance_ms(30_000);
    world.claim(claim(&["a"])).await;
    for command in reports(Attempt(1)) {
        let rejection = world.refused(&task, command).await;
        assert_eq!(rejection, stale(2, Status::Running));
    }
    world.must(&task, Command::Cancel).await;
    for attempt in [0, 1, 2, 3] {
        for command in reports(Attempt(attempt)) {
            world.refused(&task, command).await;
        }
    }
}

/// A report whose answer was lost may be sent again.
pub(super) async fn a_repeated_report_changes_nothing(world: &mut World) {
    let ways = [
        suspend(Attempt(1), r#"{"ask":1}"#),
        complete(Attempt(1), r#"{"r":1}"#),
        Command::Complete {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            result: None,
        },
        fail(Attempt(1), "no luck"),
        time_out(Attempt(1)),
        Command::Cancel,
    ];
    for (n, command) in ways.into_iter().enumerate() {
        let task = world.running(&format!("t{n}"), NewTask::new("a")).await;
        let after = world.must(&task, command.clone()).await;
        let head = world.head().await;
        assert_eq!(world.must(&task, command).await, after);
        assert_eq!(world.head().await, head, "said once, it is news once");
    }
    let task = world.running("last", NewTask::new("a")).await;
    world.must(&task, complete(Attempt(1), "1")).await;
    let other = world.refused(&task, complete(Attempt(1), "2")).await;
    assert!(matches!(other, Rejection::StaleAttempt { .. }));
}

/// R1: a report that is repeated because its answer was lost is known by its number, whatever has become
/// of the task since, and also by a store that was opened anew.
pub(super) async fn a_numbered_report_is_accepted_once(world: &mut World) {
    let first = |command: Command| command.numbered(ReportNumber(1));
    let told = first(output(Attempt(1), &["1", "1"]));
    let new = NewTask::new("a").max_retries(1_u32);
    let task = world.running("t", new).await;
    let once = world.must(&task, told.clone()).await;
    let head = world.head().await;
    assert_eq!(world.must(&task, told.clone()).await, once);
    assert_eq!(world.head().await, head, "outputs said once are news once");
    assert_eq!(once.reported, ReportNumber(1));

    // Numbers may be left out, and reports without one go between.
    world.must(&task, output(Attempt(1), &["2"])).await;
    let ends = fail(Attempt(1), "no luck").numbered(ReportNumber(7));
    let waiting = world.must(&task, ends.clone()).await;
    assert_eq!(waiting.status, Status::Pending);
    assert_eq!(waiting.reported, ReportNumber(7));
    world.reopen().await;
    for again in [&told, &ends] {
        assert_eq!(world.must(&task, again.clone()).await, waiting);
    }
    let cancelled = world.must(&task, Command::Cancel).await;
    for again in [&told, &ends] {
        assert_eq!(world.must(&task, again.clone()).await, cancelled);
    }
    world.must(&task, Command::Retry).await;
    world.must(&task, ends.clone()).await;

    // What is known by its number alone may say anything; what is new is refused as ever.
    let other = complete(Attempt(1), "1");
    world
        .must(&task, other.clone().numbered(ReportNumber(6)))
        .await;
    let late = world.refused(&task, other.numbered(ReportNumber(8))).await;
    assert!(matches!(late, Rejection::StaleAttempt { .. }), "{late}");

    let asking = world.running("asking", NewTask::new("b")).await;
    let asks = first(suspend(Attempt(1), "1"));
    world.must(&asking, asks.clone()).await;
    let resumed = world.must(&asking, resume("2")).await;
    assert_eq!(world.must(&asking, asks).await, resumed);
}

/// R1: what an attempt reports is counted from its own beginning, and what others say about it is not
/// counted.
pub(super) async fn an_attempt_numbers_its_own_reports(world: &mut World) {
    let new = NewTask::new("a").max_retries(5_u32);
    let task = world.running("t", new).await;
    let nth = |n: u32, command: Command| command.numbered(ReportNumber(n));
    world.must(&task, nth(9, output(Attempt(1), &["1"]))).await;
    world.clock.advance_ms(60_000);
    assert_eq!(world.rescue(rescue()).await.ended, 1);
    // The rescue was no report: the tenth is new, and comes too late.
    let late = nth(10, complete(Attempt(1), "1"));
    let rejection = world.refused(&task, late).await;
    assert!(matches!(rejection, Rejection::StaleAttempt { .. }));

    world.clock.advance_ms(30_000);
    let again = world.claim(claim(&["a"])).await;
    assert_eq!(again[0].reported, ReportNumber::NONE);
    let stale = nth(9, output(Attempt(1), &["1"]));
    let rejection = world.refused(&task, stale).await;
    assert!(matches!(rejection, Rejection::StaleAttempt { .. }));
    let head = world.seq().await;
    world.must(&task, nth(1, output(Attempt(2), &["1"]))).await;
    assert_eq!(world.seq().await, head.next());
    let ended = world.must(&task, nth(2, complete(Attempt(2), "1"))).await;
    assert_eq!(ended.reported, ReportNumber(2));
}

/// A lease is nobody's news: prolonging it leaves no event and moves nothing else.
pub(super) async fn a_renewal_moves_only_the_lease(world: &mut World) {
    let task = world.running("t", NewTask::new("a")).await;
    let head = world.head().await;
    world.clock.advance_ms(50_000);
    let renew = Command::Renew {
        attempt: Attempt(1),
        lease_ms: 30_000,
    };
    let renewed = world.must(&task, renew).await;
    assert_eq!(world.head().await, head);
    let lease = renewed.lease.clone().expect("it is held");
    assert_eq!(lease.until, world.now().plus_ms(30_000));
    assert_eq!(lease.worker, worker("w"));
    let lease = task.lease.clone();
    assert_eq!(Task { lease, ..renewed }, task);
}

/// No command makes a task up.
pub(super) async fn an_unknown_task_is_not_found(world: &mut World) {
    let elsewhere = spec_in(&room("elsewhere"), "nobody", NewTask::new("a"));
    world.dispatch(elsewhere).await;
    let head = world.head().await;
    let (namespace, id) = (room("default"), task_id("nobody"));
    let mut commands = reports(Attempt(1));
    commands.extend([Command::Cancel, Command::Retry, resume("1")]);
    let mut batch: Vec<Request> = Vec::new();
    for command in commands {
        batch.push(Request::Command {
            namespace: namespace.clone(),
            id: id.clone(),
            command,
        });
    }
    batch.push(Request::Delete {
        namespace: namespace.clone(),
        id: id.clone(),
    });
    for request in batch {
        let answer = world.commit_one(request).await;
        assert_eq!(answer.err(), Some(Rejection::NotFound(id.clone())));
    }
    assert_eq!(world.head().await, head);
    assert_eq!(world.get(&namespace, &id).await, None);
}

/// R2: again as long as attempts remain and another can help, then the end; a retry by hand begins
/// anew, and the attempts go on counting.
pub(super) async fn retries_follow_their_rule(world: &mut World) {
    let task = world
        .running("t", NewTask::new("a").max_retries(2_u32))
        .await;
    for (attempt, report) in [(1, fail(Attempt(1), "first")), (2, time_out(Attempt(2)))] {
        let waiting = world.must(&task, report).await;
        assert_eq!(waiting.status, Status::Pending);
        assert_eq!(waiting.retry_count, attempt);
        assert!(waiting.error.is_some() && waiting.lease.is_none());
        let claimed = world.claim(claim(&["a"])).await;
        assert_eq!(claimed[0].attempt, Attempt(attempt + 1));
    }
    let ended = world.must(&task, fail(Attempt(3), "third")).await;
    assert_eq!(ended.status, Status::Failed);
    assert_eq!(ended.error, Some(TaskError::new("third")));
    assert_eq!(ended.completed_at, Some(world.now()));

    let again = world.must(&task, Command::Retry).await;
    assert_eq!((again.status, again.retry_count), (Status::Pending, 0));
    assert_eq!((again.attempt, again.completed_at), (Attempt(3), None));
    assert_eq!(world.claim(claim(&["a"])).await[0].attempt, Attempt(4));
    let hopeless = Command::Fail {
        attempt: Attempt(4),
        report: ReportNumber::NONE,
        error: TaskError::new("hopeless"),
        is_retryable: false,
        jitter: Jitter(0),
    };
    assert_eq!(world.must(&task, hopeless).await.status, Status::Failed);
    world.must(&task, Command::Retry).await;
    let cancelled = world.must(&task, Command::Cancel).await;
    assert_eq!(cancelled.status, Status::Cancelled);
    world.must(&task, Command::Retry).await;
    world.claim(claim(&["a"])).await;
    world.must(&task, complete(Attempt(5), "1")).await;
    let refused = world.refused(&task, Command::Retry).await;
    assert_eq!(refused, Rejection::NotRetryable(Status::Completed));
}

/// R2: a task ends once.
pub(super) async fn an_ended_task_stays_ended(world: &mut World) {
    let ends = [
        complete(Attempt(1), "1"),
        fail(Attempt(1), "no luck"),
        time_out(Attempt(1)),
        Command::Cancel,
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let task = world.running(&format!("t{n}"), NewTask::new("a")).await;
        let ended = world.must(&task, end).await;
        assert!(ended.status.is_terminal() && ended.lease.is_none());
        world.refused(&task, output(Attempt(1), &["1"])).await;
        world
            .refused(&task, complete(Attempt(1), r#""late""#))
            .await;
        world.refused(&task, fail(Attempt(1), "late")).await;
        world.refused(&task, suspend(Attempt(1), "1")).await;
        let refused = world.refused(&task, resume("1")).await;
        assert_eq!(refused, Rejection::AlreadyEnded(ended.status));
        assert!(world.claim(claim(&["a"])).await.is_empty());
        world.clock.advance_ms(86_400_000);
        assert_eq!(world.rescue(rescue()).await.ended, 0);
        assert_eq!(world.row(&task).await, Some(ended));
    }
}
