//! The log: what is committed, together and in order (L1, L2).

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::{ApiKey, Prune};

/// L1: the caller of a batch finds its own answer at its own place.
pub(super) async fn answers_come_in_the_order_of_the_batch(world: &mut World) {
    assert!(world.commit(Vec::new()).await.is_empty());
    let specs: Vec<_> = (0..40)
        .map(|n| spec(&format!("t{n}"), NewTask::new("a")))
        .collect();
    let answers = world.commit(specs.iter().map(dispatch).collect()).await;
    for (spec, answer) in specs.iter().zip(&answers) {
        match answer {
            Ok(Answer::Dispatched { task, is_new: true }) => {
                assert_eq!(task.id(), &spec.identity.id);
            }
            other => panic!("expected a new task, got {other:?}"),
        }
    }
    let first = world.get(&room("default"), &task_id("t0")).await;
    let first = first.expect("it was dispatched");
    let id = task_id("t1");
    let key = ApiKey {
        id: "k".into(),
        name: "key".into(),
        hash: [7; 32],
        role: "admin".into(),
        namespace: room("default"),
        created_at: world.now(),
        revoked_at: None,
    };
    let namespace = room("default");
    let answers = world
        .commit(vec![
            Request::AddKey(key),
            asked(&first, Command::Cancel),
            Request::Delete { namespace, id },
            dispatch(&spec("t40", NewTask::new("a"))),
            Request::Claim(Claim {
                limit: 2,
                ..claim(&["a"])
            }),
            Request::Rescue(rescue()),
        ])
        .await;
    let mut answers = answers.into_iter();
    assert!(matches!(answers.next(), Some(Ok(Answer::KeyAdded))));
    match answers.next() {
        Some(Ok(Answer::Applied(task))) => assert_eq!(task.status, Status::Cancelled),
        other => panic!("expected a cancelled task, got {other:?}"),
    }
    let refused = answers.next().and_then(Result::err);
    assert_eq!(refused, Some(Rejection::NotEnded(Status::Pending)));
    assert!(matches!(
        answers.next(),
        Some(Ok(Answer::Dispatched { is_new: true, .. }))
    ));
    match answers.next() {
        Some(Ok(Answer::Claimed(claimed))) => assert_eq!(ids(&claimed.tasks), ["t1", "t2"]),
        other => panic!("expected a claim, got {other:?}"),
    }
    assert!(matches!(answers.next(), Some(Ok(Answer::Rescued(_)))));
}

/// L1: one caller's mistake is not another's.
pub(super) async fn a_rejected_request_spoils_nothing(world: &mut World) {
    let taken = world.dispatch(spec("taken", NewTask::new("a"))).await;
    let running = world.running("running", NewTask::new("b")).await;
    let before = world.seq().await;
    let namespace = room("default");
    let (nobody, id) = (task_id("nobody"), task_id("running"));
    let answers = world
        .commit(vec![
            dispatch(&spec("one", NewTask::new("a"))),
            dispatch(&spec("taken", NewTask::new("another tool"))),
            asked(&running, complete(Attempt(2), "1")),
            dispatch(&spec("two", NewTask::new("a"))),
            Request::Command {
                namespace: namespace.clone(),
                id: nobody.clone(),
                command: Command::Cancel,
            },
            dispatch(&spec("three", NewTask::new("a"))),
        ])
        .await;
    let rejections: Vec<_> = answers.into_iter().map(|answer| answer.err()).collect();
    let stale = Rejection::StaleAttempt {
        reported: Attempt(2),
        current: Attempt(1),
        status: Status::Running,
    };
    assert_eq!(
        rejections,
        [
            None,
            Some(Rejection::AlreadyExists),
            Some(stale),
            None,
            Some(Rejection::NotFound(nobody.clone())),
            None
        ]
    );
    assert_eq!(world.seq().await, Seq(before.0 + 3), "three events");
    assert_eq!(world.row(&taken).await.as_ref(), Some(&taken));
    assert_eq!(world.get(&namespace, &id).await, Some(running));
    assert_eq!(world.get(&namespace, &nobody).await, None);
    for made in ["one", "two", "three"] {
        assert!(world.get(&namespace, &task_id(made)).await.is_some());
    }
}

/// L1: no reader sees half a batch: not in the log, not in the rows, not in the head.
pub(super) async fn a_batch_is_seen_whole_or_not_at_all(world: &mut World) {
    const SIZE: u64 = 5;
    let is_done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (world, is_done) = (world.clone(), Arc::clone(&is_done));
        async move {
            for batch in 0..60 {
                let specs = (0..SIZE).map(|n| spec(&format!("{batch}-{n}"), NewTask::new("a")));
                world
                    .commit(specs.map(|spec| dispatch(&spec)).collect())
                    .await;
            }
            is_done.store(true, Ordering::SeqCst);
            0
        }
    };
    let reader = |world: World, is_done: Arc<AtomicBool>| async move {
        let mut reads = 0;
        while !is_done.load(Ordering::SeqCst) || reads == 0 {
            let page = world.list(&ListQuery::new(room("default"), 1)).await;
            assert_eq!(page.total % SIZE, 0, "the rows of whole batches");
            let query = LogQuery {
                after: Seq(0),
                limit: 10_000,
                bytes_max: LogQuery::BYTES_MAX,
                task: None,
            };
            let page = world.store().log(&query).await.expect("the store works");
            assert_eq!(page.head.seq.0 % SIZE, 0, "the head after whole batches");
            assert_eq!(page.entries.len() as u64, page.head.seq.0);
            let counts = world.store().counts().await.expect("the store works");
            let count = counts.get(&Status::Pending).copied().unwrap_or(0);
            assert_eq!(count % SIZE, 0, "the counts of whole batches");
            reads += 1;
            tokio::task::yield_now().await;
        }
        reads
    };
    let readers = (0..3).map(|_| reader(world.clone(), Arc::clone(&is_done)));
    let mut all: Vec<Pinned<Box<dyn Future<Output = u64> + Send>>> = vec![Box::pin(writer)];
    for reader in readers {
        all.push(Box::pin(reader));
    }
    together(all).await;
}

/// L2: 1, 2, 3, … in the order of the batches and within them.
pub(super) async fn places_are_dense_and_in_commit_order(world: &mut World) {
    assert_eq!(world.seq().await, Seq(0));
    assert_eq!(world.head().await.floor, Seq(0));
    for batch in 0..4 {
        let specs: Vec<_> = (0..3)
            .map(|n| spec(&format!("{batch}-{n}"), NewTask::new("a")))
            .collect();
        let committed = world
            .store()
            .commit(specs.iter().map(dispatch).collect())
            .await
            .expect("the store works");
        let places: Vec<_> = committed
            .entries
            .iter()
            .map(|entry| (entry.event.seq.0, entry.task.id.clone()))
            .collect();
        let expected: Vec<_> = (batch * 3 + 1..)
            .zip(specs.iter().map(|spec| spec.identity.id.clone()))
            .collect();
        assert_eq!(places, expected);
        let mut seen = world.seen.lock();
        let entries = committed.entries.into_iter();
        seen.entries
            .extend(entries.map(|entry| (entry.event.seq, entry)));
    }
    assert_eq!(world.seq().await, Seq(12));
}

/// L2: a reader that has seen `n` has seen everything up to `n`, whatever the number of writers.
pub(super) async fn many_committers_leave_no_hole(world: &mut World) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 12;
    let expected = WRITERS * EACH * 4;
    let writer = |world: World, name: u64| async move {
        for n in 0..EACH {
            let name = format!("{name}-{n}");
            let task = world.dispatch(spec(&name, NewTask::new(&*name))).await;
            let claimed = world.claim(claim(&[&name])).await;
            assert_eq!(ids(&claimed), [task.id().as_str()]);
            world.must(&task, output(Attempt(1), &["1"])).await;
            world.must(&task, complete(Attempt(1), "2")).await;
        }
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
        all.push(Box::pin(writer(world.clone(), name)));
    }
    for _ in 0..3 {
        all.push(Box::pin(reader(world.clone())));
    }
    together(all).await;
    assert_eq!(world.seq().await, Seq(expected));
}

/// L2: not even when the log has been pruned to nothing, the tasks deleted, and the store reopened.
pub(super) async fn a_place_is_never_used_again(world: &mut World) {
    let task = world.dispatch(spec("t", NewTask::new("a"))).await;
    world.must(&task, Command::Cancel).await;
    let all = Prune {
        before: world.now(),
        events_max: 0,
        limit: 100,
    };
    assert_eq!(world.removed(Request::Prune(all.clone())).await, 2);
    world.delete(&task).await.expect("it has ended");
    let head = world.head().await;
    assert_eq!((head.seq, head.floor), (Seq(2), Seq(2)));
    let task = world.dispatch(spec("t", NewTask::new("a"))).await;
    assert_eq!(task.seq, Seq(3));
    assert_eq!(world.removed(Request::Prune(all)).await, 1);
    world.reopen().await;
    let head = world.head().await;
    assert_eq!((head.seq, head.floor), (Seq(3), Seq(3)));
    assert_eq!(world.must(&task, Command::Cancel).await.seq, Seq(4));
}

/// What a batch gave out as its events is what every later reader gets, for every kind of event and
/// after reopening. (The audit compares them.)
pub(super) async fn every_kind_of_event_is_read_as_it_was_committed(world: &mut World) {
    let new = || {
        NewTask::new("a")
            .args(json(r#"{"q": "x1"}"#))
            .tool_call("call-1")
            .agent("agent-1")
            .run("run-1")
            .thread("thread-1")
            .resource("resource-1")
            .description("a description")
            .subagent_type("researcher")
            .metadata(json(r#"{"m": [1, 2]}"#))
            .priority(-7_i16)
            .run_at(world.now().plus_ms(-1))
            .idempotency_key("key-1")
            .max_retries(1_u32)
    };
    let task = world.running("t", new()).await;
    world
        .must(&task, output(Attempt(1), &[r#"{"step": 1}"#, "null", "[]"]))
        .await;
    world
        .must(&task, suspend(Attempt(1), r#"{"ask": "may I?"}"#))
        .await;
    world.must(&task, resume(r#"{"yes": true}"#)).await;
    world.claim(claim(&["a"])).await;
    let error = TaskError::new("no luck").with_stack("at line 1\nat line 2");
    let failure = Command::Fail {
        attempt: Attempt(2),
        report: ReportNumber::NONE,
        error,
        is_retryable: true,
        jitter: Jitter(u32::MAX),
    };
    world.must(&task, failure).await;
    world.clock.advance_ms(60_000);
    world.claim(claim(&["a"])).await;
    world.must(&task, time_out(Attempt(3))).await;
    world.must(&task, Command::Retry).await;
    world.claim(claim(&["a"])).await;
    world
        .must(
            &task,
            Command::Complete {
                attempt: Attempt(4),
                report: ReportNumber::NONE,
                result: None,
            },
        )
        .await;
    let task = world.running("u", NewTask::new("a")).await;
    world.must(&task, fail(Attempt(1), "final")).await;
    let task = world.running("v", NewTask::new("a")).await;
    world.must(&task, complete(Attempt(1), r#"{"r":1}"#)).await;
    let task = world.dispatch(spec("w", NewTask::new("a"))).await;
    world.must(&task, Command::Cancel).await;
    for status in ["pending", "running", "completed", "failed", "killed"] {
        let more = serde_json::json!({"result": "r", "error": "e", "metadata": {"k": 1}});
        let record = record("x", status, &more);
        world
            .record(&room("default"), &record)
            .await
            .expect("it is kept");
    }
    world.audit().await;
    world.reopen().await;
}

/// A page holds no more than was asked for, says how far it looked, and the pages together hold
/// everything once.
pub(super) async fn the_log_is_read_in_pages(world: &mut World) {
    let page = |after: u64, limit: usize| LogQuery {
        after: Seq(after),
        limit,
        bytes_max: LogQuery::BYTES_MAX,
        task: None,
    };
    let read = async |query: LogQuery| {
        let page = world.store().log(&query).await.expect("the store works");
        let places: Vec<_> = page.entries.iter().map(|entry| entry.event.seq.0).collect();
        (places, page.through.0, page.head)
    };
    let (places, through, head) = read(page(0, 10)).await;
    assert_eq!((places, through, head.seq), (vec![], 0, Seq(0)));
    let specs = (0..10).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    world.dispatch_all(specs).await;
    let (places, through, head) = read(page(0, 4)).await;
    assert_eq!((places, through), (vec![1, 2, 3, 4], 4));
    assert_eq!(head, world.head().await);
    assert_eq!(read(page(4, 6)).await.0, [5, 6, 7, 8, 9, 10]);
    assert_eq!(read(page(4, 6)).await.1, 10);
    let (places, through, _) = read(page(8, 100)).await;
    assert_eq!((places, through), (vec![9, 10], 10));
    let (places, through, _) = read(page(10, 5)).await;
    assert_eq!((places, through), (vec![], 10));
    assert!(read(page(u64::MAX, 5)).await.0.is_empty());
    assert!(read(page(1_000, 5)).await.0.is_empty());
}

/// S3: a page says from where the log can still be read, in the same moment.
pub(super) async fn a_cursor_before_the_floor_is_told_apart(world: &mut World) {
    let specs = (0..10).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    world.dispatch_all(specs).await;
    let prune = Prune {
        before: world.now(),
        events_max: 4,
        limit: 100,
    };
    assert_eq!(world.removed(Request::Prune(prune)).await, 6);
    assert_eq!(world.head().await.floor, Seq(6));
    let page = async |after: u64| {
        let query = LogQuery {
            after: Seq(after),
            limit: 100,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        world.store().log(&query).await.expect("the store works")
    };
    assert!(page(5).await.head.floor > Seq(5), "an event is missing");
    let whole = page(6).await;
    assert_eq!(whole.head, world.head().await);
    let places: Vec<_> = whole.entries.iter().map(|e| e.event.seq.0).collect();
    assert_eq!(places, [7, 8, 9, 10]);
    let one = LogQuery {
        after: Seq(0),
        limit: 100,
        bytes_max: LogQuery::BYTES_MAX,
        task: Some((room("default"), task_id("t2"))),
    };
    let of_task = world.store().log(&one).await.expect("the store works");
    assert_eq!(of_task.head.floor, Seq(6));
    assert!(of_task.entries.is_empty(), "its only event is gone");
}

/// S8: all that happened to a task, from the start, page by page, without what happened to others.
pub(super) async fn a_tasks_own_log_is_whole_and_paged(world: &mut World) {
    let task = world.running("t", NewTask::new("a")).await;
    let other = world.running("u", NewTask::new("a")).await;
    for n in 0..150 {
        let number = n.to_string();
        world.must(&task, output(Attempt(1), &[&number])).await;
        world.must(&other, output(Attempt(1), &["0", "0"])).await;
    }
    let task = world.must(&task, complete(Attempt(1), "1")).await;
    world.must(&other, complete(Attempt(1), "1")).await;
    let whole = world.log_after(Seq(0), Some(&task)).await;
    assert_eq!(whole.len(), 153);
    assert!(whole.iter().all(|entry| entry.task == *task.identity()));
    let mut query = LogQuery {
        after: Seq(0),
        limit: 7,
        bytes_max: LogQuery::BYTES_MAX,
        task: Some((room("default"), task_id("t"))),
    };
    let mut pages = Vec::new();
    loop {
        let page = world.store().log(&query).await.expect("the store works");
        assert!(page.entries.len() <= 7);
        let is_full = page.entries.len() == 7;
        query.after = page.through;
        pages.extend(page.entries);
        if !is_full {
            assert_eq!(page.through, page.head.seq);
            break;
        }
    }
    assert_eq!(pages, whole);
    let all = world.log_after(Seq(0), None).await;
    let of_task: Vec<_> = all
        .into_iter()
        .filter(|e| e.task.id == *task.id())
        .collect();
    assert_eq!(of_task, whole);
    let mut folded = None;
    for entry in &whole {
        lifecycle::apply(&mut folded, &entry.task.namespace, &entry.event);
    }
    assert_eq!(folded, world.row(&task).await);
    world.delete(&task).await.expect("it has ended");
    let afterwards = world.log_after(Seq(0), Some(&task)).await;
    assert_eq!(afterwards, whole, "its story stays until it is pruned");
}

/// Who hears the bell finds in the log what it rang for. What adds nothing to the log is silent:
/// otherwise an idle worker's empty claims would wake it for ever.
pub(super) async fn the_doorbell_rings_for_what_was_added(world: &mut World) {
    let mut bell = world.store().doorbell();
    bell.mark_unchanged();
    let task = world.dispatch(spec("t", NewTask::new("a"))).await;
    bell.changed().await.expect("the store is open");
    assert_eq!(*bell.borrow_and_update(), Seq(1));
    assert_eq!(world.log_after(Seq(0), None).await.len(), 1);
    let twin = world.store().doorbell();
    assert_eq!(*twin.borrow(), Seq(1));
    assert!(world.claim(claim(&["b"])).await.is_empty());
    world.rescue(rescue()).await;
    world.refused(&task, resume("1")).await;
    assert!(!bell.has_changed().expect("the store is open"));
    let (writer, hearer) = (world.clone(), bell);
    let writing = async move {
        for n in 0..50 {
            writer.must(&task, Command::Cancel).await;
            writer
                .dispatch(spec(&format!("t{n}"), NewTask::new("a")))
                .await;
        }
    };
    let reading = {
        let (world, mut bell) = (world.clone(), hearer);
        async move {
            let mut last = Seq(1);
            while last < Seq(52) {
                bell.changed().await.expect("the store is open");
                let heard = *bell.borrow_and_update();
                assert!(heard > last, "the head only rises");
                assert!(world.seq().await >= heard, "rung after the commit");
                last = heard;
            }
        }
    };
    let all: Vec<Pinned<Box<dyn Future<Output = ()> + Send>>> =
        vec![Box::pin(writing), Box::pin(reading)];
    together(all).await;
}

/// R2: what was acknowledged is there after a restart: tasks, log, leases, keys, what was told, and
/// the name of the log.
pub(super) async fn a_reopened_store_is_the_same(world: &mut World) {
    let keyed = NewTask::new("a").idempotency_key("key").thread("thread");
    let running = world.running("running", keyed.clone()).await;
    let told = world
        .running("told", NewTask::new("b").thread("thread"))
        .await;
    let told = world.must(&told, complete(Attempt(1), "1")).await;
    let untold = NewTask::new("b").thread("thread");
    let untold = world.running("untold", untold).await;
    world.must(&untold, complete(Attempt(1), "2")).await;
    let acknowledge = Request::Acknowledge {
        namespace: room("default"),
        thread: ThreadId::new("thread").expect("a thread's id"),
        told: crate::store::Told::UpTo(told.seq),
    };
    assert_eq!(world.removed(acknowledge).await, 1);
    let asking = world.running("asking", NewTask::new("c")).await;
    world
        .must(&asking, suspend(Attempt(1), r#"{"ask":1}"#))
        .await;
    let later = NewTask::new("c").run_at(world.now().plus_ms(3_600_000));
    world.dispatch(spec("later", later)).await;
    let document = record("recorded", "running", &serde_json::json!({"extra": [1]}));
    let recorded = world.record(&room("default"), &document).await;
    recorded.expect("it is kept");
    let (head, page) = (
        world.head().await,
        world.list(&ListQuery::new(room("default"), 100)).await,
    );
    world.audit().await;

    world.reopen().await;

    assert_eq!(world.head().await, head);
    assert_eq!(*world.store().doorbell().borrow(), head.seq);
    let again = world.list(&ListQuery::new(room("default"), 100)).await;
    assert_eq!(again.tasks, page.tasks);
    assert_eq!(world.row(&running).await, Some(running.clone()));
    assert_eq!(
        ids(&world.untold(&room("default"), "thread").await),
        ["untold"]
    );
    let repeated = dispatch(&spec("another", keyed));
    match world.commit_one(repeated).await {
        Ok(Answer::Dispatched { task, is_new }) => {
            assert_eq!((task, is_new), (running.clone(), false));
        }
        other => panic!("expected a repetition, got {other:?}"),
    }
    world.must(&running, output(Attempt(1), &["1"])).await;
    let claimed = world.try_claim(claim(&["a", "b", "c"])).await;
    assert!(claimed.tasks.is_empty());
    assert_eq!(claimed.next_due, Some(world.now().plus_ms(3_600_000)));
    world.clock.advance_ms(60_000);
    assert_eq!(world.rescue(rescue()).await.ended, 1, "the lease is known");
}
