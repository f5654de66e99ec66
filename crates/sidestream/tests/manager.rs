//! The manager, end to end on the memory store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sidestream::clock::RuntimeClock;
use sidestream::core::{Record, Rejection};
use sidestream::testing::{Faults, FaultyStore, SeededChance};
use sidestream::{
    Backpressure, ChunkStream, ChunkType, Config, Context, Dispatched, Error, Filter, HandlerError,
    MemoryStore, NewTask, Retention, Start, Status, StreamOptions, Task, TaskId, TaskManager, Tool,
};

/// A store whose time is the runtime's, which the tests pause.
fn store() -> MemoryStore {
    let start = "2026-11-21T00:00:00Z".parse().unwrap();
    MemoryStore::with_clock(Arc::new(RuntimeClock::starting_at(start)))
}

fn tools() -> Vec<Tool> {
    let echo = Tool::new(
        "echo",
        |context: Context, args: serde_json::Value| async move {
            context.output(&json!({"saw": args})).await?;
            Ok::<_, HandlerError>(args)
        },
    );
    let flaky = Tool::new("flaky", |context: Context, (): ()| async move {
        match context.attempt().0 {
            0..3 => Err(HandlerError::retryable("not yet")),
            _ => Ok(()),
        }
    });
    let stuck = Tool::new("stuck", |context: Context, (): ()| async move {
        context.cancelled().cancelled().await;
        Ok::<_, HandlerError>("too late")
    });
    let ask = Tool::new("ask", |context: Context, (): ()| async move {
        match context.resume_data::<bool>()? {
            Some(answer) => Ok(answer),
            None => Err(context.suspend("may I?")),
        }
    });
    let panics = Tool::new("panics", |context: Context, (): ()| async move {
        assert!(context.attempt().0 > 1, "oh no");
        Ok::<(), HandlerError>(())
    });
    vec![echo, flaky, stuck, ask, panics]
}

async fn manager() -> TaskManager {
    let builder = TaskManager::builder(store()).tools(tools());
    builder.start().await.unwrap()
}

async fn dispatch(manager: &TaskManager, task: NewTask) -> TaskId {
    manager.dispatch(task).await.unwrap().id().unwrap().clone()
}

fn call(tool: &str) -> NewTask {
    NewTask::new(tool).args(json!(null))
}

async fn until(stream: &mut ChunkStream, wanted: ChunkType) {
    loop {
        let item = stream.next().await.unwrap().unwrap();
        if item.chunk.is_some_and(|chunk| chunk.chunk_type == wanted) {
            return;
        }
    }
}

#[tokio::test]
async fn a_task_runs_to_its_result_and_its_story_can_be_replayed() {
    let manager = manager().await;
    let id = dispatch(&manager, NewTask::new("echo").args(json!({"q": 1}))).await;
    let task = manager.wait(&id).await.unwrap();
    assert_eq!(task.status, Status::Completed);
    assert_eq!(task.result.unwrap().as_str(), r#"{"q":1}"#);

    let options = StreamOptions {
        filter: Filter::default().task(id).types(ChunkType::ALL),
        start: Start::After("0".parse().unwrap()),
        ends_with_task: true,
        ..StreamOptions::default()
    };
    let mut story = manager.stream(options).await.unwrap();
    let mut types = Vec::new();
    while let Some(item) = story.next().await {
        types.push(item.unwrap().chunk.unwrap().chunk_type);
    }
    let expected = [
        ChunkType::Started,
        ChunkType::Running,
        ChunkType::Output,
        ChunkType::Completed,
    ];
    assert_eq!(types, expected);
}

/// Two commits for each task, not three; and when nothing is left to do, none more.
#[tokio::test(start_paused = true)]
async fn a_task_is_dispatched_and_begun_by_one_commit() {
    let manager = manager().await;
    let mut committed = Vec::new();
    for _ in 0..3 {
        let before = manager.stats().commits;
        let id = dispatch(&manager, call("panics")).await;
        manager.wait(&id).await.unwrap();
        committed.push(manager.stats().commits - before);
    }
    // The first met the claim of a worker that has just begun to look.
    assert_eq!(committed[1..], [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_retryable_failure_is_tried_again_until_it_succeeds() {
    let manager = manager().await;
    let id = dispatch(&manager, call("flaky").max_retries(2u32)).await;
    let task = manager.wait(&id).await.unwrap();
    let seen = (task.status, task.attempt.0, task.retry_count);
    assert_eq!(seen, (Status::Completed, 3, 2));
}

#[tokio::test(start_paused = true)]
async fn without_retries_the_first_failure_is_final() {
    let manager = manager().await;
    let id = dispatch(&manager, call("flaky")).await;
    let task = manager.wait(&id).await.unwrap();
    assert_eq!(task.status, Status::Failed);
    assert_eq!(&*task.error.unwrap().message, "not yet");
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_attempt_and_nothing_else() {
    let manager = manager().await;
    let bad = dispatch(&manager, call("panics")).await;
    let good = dispatch(&manager, call("echo")).await;
    let bad = manager.wait(&bad).await.unwrap();
    assert_eq!(&*bad.error.unwrap().message, "the handler panicked: oh no");
    assert_eq!(manager.wait(&good).await.unwrap().status, Status::Completed);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_times_out_and_its_late_result_is_discarded() {
    let manager = manager().await;
    let task = call("stuck").timeout(Duration::from_millis(200));
    let id = dispatch(&manager, task).await;
    let task = manager.wait(&id).await.unwrap();
    assert_eq!((task.status, task.result), (Status::TimedOut, None));
    assert_eq!(&*task.error.unwrap().message, "Task timed out after 200ms");
}

#[tokio::test(start_paused = true)]
async fn cancelling_wins_at_once_and_stops_the_handler() {
    let (stopped, mut told) = tokio::sync::mpsc::channel(1);
    let tool = Tool::new("waits", move |context: Context, (): ()| {
        let stopped = stopped.clone();
        async move {
            context.output("ready").await?;
            context.cancelled().cancelled().await;
            let _ = stopped.send(()).await;
            Ok::<_, HandlerError>("too late")
        }
    });
    let builder = TaskManager::builder(store()).tool(tool);
    let manager = builder.start().await.unwrap();
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    let id = dispatch(&manager, call("waits")).await;
    until(&mut stream, ChunkType::Output).await;
    let task = manager.cancel(&id).await.unwrap();
    assert_eq!(task.status, Status::Cancelled);
    told.recv().await.unwrap();
    assert_eq!(manager.get(&id).await.unwrap().unwrap().result, None);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_task_holds_no_slot_and_goes_on_when_resumed() {
    let config = Config {
        concurrency: 1,
        ..Config::default()
    };
    let builder = TaskManager::builder(store()).tools(tools());
    let manager = builder.config(config).start().await.unwrap();
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    let id = dispatch(&manager, call("ask")).await;
    until(&mut stream, ChunkType::Suspended).await;
    let other = dispatch(&manager, call("echo")).await;
    assert_eq!(
        manager.wait(&other).await.unwrap().status,
        Status::Completed
    );
    manager.resume(&id, json!(true)).await.unwrap();
    until(&mut stream, ChunkType::Resumed).await;
    let task = manager.wait(&id).await.unwrap();
    assert_eq!(task.result.unwrap().as_str(), "true");
}

/// A task without arguments has `{}`, which a handler that wants none must not refuse.
#[tokio::test(start_paused = true)]
async fn a_handler_without_arguments_runs_a_task_without_arguments() {
    let manager = manager().await;
    let without = [NewTask::new("flaky"), NewTask::new("flaky").args(json!({}))];
    for task in without {
        let id = dispatch(&manager, task.max_retries(3_u32)).await;
        let task = manager.wait(&id).await.unwrap();
        assert_eq!(task.status, Status::Completed, "{:?}", task.error);
    }
    let id = dispatch(&manager, NewTask::new("flaky").args(json!({"a": 1}))).await;
    let error = manager.wait(&id).await.unwrap().error.unwrap();
    assert!(error.message.contains("args do not fit"), "{error:?}");
}

/// E1: limits that nothing passes, and a cleanup without a pause.
#[tokio::test(start_paused = true)]
async fn a_setting_with_which_nothing_could_run_is_refused() {
    let never = Retention {
        every: Duration::ZERO,
        ..Retention::default()
    };
    let no_slot = Config {
        concurrency_per_agent: Some(0),
        ..Config::default()
    };
    let no_pause = Config {
        retention: never,
        ..Config::default()
    };
    let idle = Tool::new("idle", |_: Context, (): ()| async move {
        Ok::<_, HandlerError>(())
    });
    let builder = || TaskManager::builder(store());
    for (builder, field) in [
        (builder().config(no_slot), "concurrencyPerAgent"),
        (builder().config(no_pause), "retention.every"),
        (builder().tool(idle.concurrency(0)), "concurrency"),
    ] {
        let Err(Error::Invalid(invalid)) = builder.start().await else {
            panic!("{field} is accepted");
        };
        assert_eq!(invalid.field, field, "{invalid}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_tool_is_refused_by_name() {
    let manager = manager().await;
    let Err(Error::Invalid(invalid)) = manager.dispatch(call("reserch")).await else {
        panic!("accepted");
    };
    assert_eq!(invalid.field, "toolName");
    assert!(invalid.problem.contains("\"reserch\""), "{invalid}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_the_grace_then_lets_the_retries_decide() {
    let builder = TaskManager::builder_on(Arc::new(store())).tools(tools());
    let manager = builder.start().await.unwrap();
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    let id = dispatch(&manager, call("stuck")).await;
    until(&mut stream, ChunkType::Running).await;
    manager.shutdown().await;
    let task = manager.get(&id).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Failed);
    let message = task.error.unwrap().message;
    let reason = "was shut down before attempt 1 ended";
    assert!(message.contains(reason), "{message}");
    while let Some(item) = stream.next().await {
        item.unwrap();
    }
}

/// R7: a handler that blocks its thread cannot be stopped, and no shutdown waits for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn shutdown_does_not_wait_for_a_handler_that_blocks_its_thread() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Arc::new(parking_lot::Mutex::new(released));
    let blocks = Tool::new("blocks", move |_: Context, (): ()| {
        let released = Arc::clone(&released);
        async move {
            let _ = released.lock().recv();
            Ok::<_, HandlerError>(())
        }
    });
    let config = Config {
        grace: Duration::from_millis(20),
        ..Config::default()
    };
    let builder = TaskManager::builder(MemoryStore::new()).tool(blocks);
    let manager = builder.config(config).start().await.unwrap();
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    dispatch(&manager, call("blocks")).await;
    until(&mut stream, ChunkType::Running).await;
    let bound = Duration::from_secs(20);
    let shut_down = tokio::time::timeout(bound, manager.shutdown()).await;
    drop(release);
    shut_down.expect("it hangs");
}

/// Who dispatched before the shutdown hears what came of it, and it is so.
#[tokio::test(start_paused = true)]
async fn shutdown_answers_those_who_wait_first() {
    let manager = manager().await;
    let dispatching: Vec<_> = (0..100)
        .map(|_| {
            let manager = manager.clone();
            Box::pin(async move { manager.dispatch(call("ask")).await })
        })
        .collect();
    let all = futures::future::join_all(dispatching);
    let (answers, ()) = tokio::join!(all, manager.shutdown());
    for answer in answers {
        let id = answer.unwrap().id().unwrap().clone();
        assert!(manager.get(&id).await.unwrap().is_some());
    }
    let late = manager.dispatch(call("ask")).await;
    assert!(matches!(late, Err(Error::ShutDown)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_waits_for_its_time_and_no_longer() {
    let manager = manager().await;
    let hour = Duration::from_secs(3_600);
    let id = dispatch(&manager, call("echo").delay(hour)).await;
    let task = manager.wait(&id).await.unwrap();
    let waited = task.started_at.unwrap().since(task.created_at);
    assert!(
        waited >= hour && waited < hour + Duration::from_millis(50),
        "{waited:?}"
    );
}

/// The policy decides what a dispatch gets while the one slot is taken.
#[tokio::test(start_paused = true)]
async fn without_a_slot_a_dispatch_gets_what_the_policy_says() {
    for backpressure in [Backpressure::Reject, Backpressure::FallbackToSync] {
        let config = Config {
            concurrency: 1,
            backpressure,
            ..Config::default()
        };
        let builder = TaskManager::builder(store()).tools(tools());
        let manager = builder.config(config).start().await.unwrap();
        let first = dispatch(&manager, call("stuck")).await;
        match (backpressure, manager.dispatch(call("echo")).await) {
            (Backpressure::Reject, Err(Error::Rejected(Rejection::AtCapacity { limit, .. }))) => {
                assert_eq!(limit, 1);
            }
            (Backpressure::FallbackToSync, Ok(Dispatched::FallbackToSync)) => {}
            (policy, answer) => panic!("{policy:?}: {answer:?}"),
        }
        manager.cancel(&first).await.unwrap();
        let second = manager.dispatch(call("echo")).await.unwrap();
        let second = manager.wait(second.id().unwrap()).await.unwrap();
        assert_eq!(second.status, Status::Completed);
    }
}

/// R3: a handler that does not listen loses its slot after the grace, and its result.
#[tokio::test(start_paused = true)]
async fn a_handler_that_ignores_cancellation_loses_its_slot() {
    let deaf = Tool::new("deaf", |_: Context, (): ()| async move {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        Ok::<_, HandlerError>("too late")
    });
    let config = Config {
        concurrency: 1,
        ..Config::default()
    };
    let builder = TaskManager::builder(store()).tools(tools()).tool(deaf);
    let manager = builder.config(config).start().await.unwrap();
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    let deaf = dispatch(&manager, call("deaf")).await;
    until(&mut stream, ChunkType::Running).await;
    let next = dispatch(&manager, call("echo")).await;
    let cancelled = manager.cancel(&deaf).await.unwrap().completed_at.unwrap();
    let next = manager.wait(&next).await.unwrap();
    let waited = next.started_at.unwrap().since(cancelled);
    assert!(
        waited >= Duration::from_secs(5) && waited < Duration::from_secs(6),
        "{waited:?}"
    );
    assert_eq!(manager.get(&deaf).await.unwrap().unwrap().result, None);
}

/// A callback that panics harms nobody, and each end is told to its own.
#[tokio::test(start_paused = true)]
async fn callbacks_hear_of_each_end_and_may_panic() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |what: &'static str| {
        let told = told.clone();
        move |task: Task| {
            let told = told.clone();
            async move {
                told.send((what, task.identity().tool_name.to_string()))
                    .unwrap();
                panic!("a callback of bad manners");
            }
        }
    };
    let builder = TaskManager::builder(store()).tools(tools());
    let builder = builder
        .on_completed(tell("completed"))
        .on_failed(tell("failed"));
    let manager = builder
        .on_cancelled(tell("cancelled"))
        .start()
        .await
        .unwrap();
    for tool in ["echo", "flaky", "stuck"] {
        let id = dispatch(&manager, call(tool)).await;
        if tool == "stuck" {
            manager.cancel(&id).await.unwrap();
        }
        let (what, of) = heard.recv().await.unwrap();
        let expected = match tool {
            "echo" => "completed",
            "flaky" => "failed",
            _ => "cancelled",
        };
        assert_eq!((what, of.as_str()), (expected, tool));
    }
}

/// What an owner elsewhere reports is seen by whoever watches, like any task of ours.
#[tokio::test(start_paused = true)]
async fn a_record_is_streamed_like_any_task() {
    let manager = manager().await;
    let mut stream = manager.stream(StreamOptions::default()).await.unwrap();
    let document = json!({
        "id": "a/b", "subagentType": "researcher", "description": "looks up", "status": "running",
        "createdAt": "2026-11-21T10:00:00Z", "updatedAt": "2026-11-21T10:00:00Z",
    });
    let record = Record::from_document(document.into()).unwrap();
    manager.records(None).save(record).await.unwrap();
    until(&mut stream, ChunkType::Running).await;
    let cancelled = manager.cancel(&TaskId::new("a/b").unwrap()).await;
    assert!(matches!(
        cancelled,
        Err(Error::Rejected(Rejection::OwnedElsewhere))
    ));
}

/// R1: a manager on a store that others share leaves alone what they run; what a former process left is
/// ended at once (R2).
#[tokio::test(start_paused = true)]
async fn a_second_manager_ends_only_what_former_processes_left() {
    let store: Arc<dyn sidestream::Store> = Arc::new(store().exclusive(true));
    let start = |process: Option<u64>| {
        let builder = TaskManager::builder_on(Arc::clone(&store)).tools(tools());
        let builder = process.into_iter().fold(builder, |b, it| b.process(it));
        async { builder.start().await.unwrap() }
    };
    let former = start(Some(1)).await;
    let mut stream = former.stream(StreamOptions::default()).await.unwrap();
    let lost = dispatch(&former, call("stuck")).await;
    until(&mut stream, ChunkType::Running).await;
    former.kill();

    let first = start(None).await;
    let task = first.get(&lost).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Failed);
    let mut stream = first.stream(StreamOptions::default()).await.unwrap();
    let kept = dispatch(&first, call("stuck")).await;
    until(&mut stream, ChunkType::Running).await;
    let second = start(None).await;
    let task = second.get(&kept).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Running);
}

/// E1: what waits for a slow store is bounded by its bytes, too; who asked is told.
#[tokio::test(start_paused = true)]
async fn too_many_bytes_that_wait_are_an_overload() {
    let store = FaultyStore::new(Arc::new(store()), Arc::new(SeededChance::new(1)));
    let store = Arc::new(store);
    let builder = TaskManager::builder_on(Arc::clone(&store) as Arc<dyn sidestream::Store>);
    let manager = builder.tools(tools()).start().await.unwrap();
    store.set_faults(Faults {
        delays: 1_000,
        delay_max: Duration::from_secs(1),
        ..Faults::NONE
    });
    let large = || call("echo").args(json!("x".repeat(1_000_000)));
    let dispatches = (0..100).map(|_| manager.dispatch(large()));
    let answers = futures::future::join_all(dispatches).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!((60..70).contains(&done.len()), "{}", done.len());
    for refusal in refused {
        assert!(matches!(refusal, Err(Error::Overloaded { waiting: 60.. })));
    }
    // Who has many waits for room instead.
    let answers = manager.dispatch_all((0..100).map(|_| large())).await;
    assert!(answers.iter().all(Result::is_ok));
}
