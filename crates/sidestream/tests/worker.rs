//! What a worker does when its store fails, hangs or dies under it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;
use sidestream::clock::ManualClock;
use sidestream::core::EventKind;
use sidestream::store::LogQuery;
use sidestream::testing::{Faults, FaultyStore, RuntimeClock, SeededChance};
use sidestream::{
    Config, Context, HandlerError, MemoryStore, NewTask, Seq, Status, Store, Task, TaskId,
    TaskManager, Timestamp, Tool,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const LEASE: Duration = Duration::from_secs(6);

/// A store that goes by the runtime's clock, which the tests turn.
fn faulty_store() -> Arc<FaultyStore> {
    let clock = RuntimeClock::starting_at(Timestamp::from_ms(0));
    let memory = MemoryStore::with_clock(Arc::new(clock));
    Arc::new(FaultyStore::new(
        Arc::new(memory),
        Arc::new(SeededChance::new(1)),
    ))
}

async fn manager(store: &Arc<FaultyStore>, tool: Tool) -> TaskManager {
    let config = Config {
        lease_ms: LEASE.as_millis() as u64,
        grace: Duration::from_millis(500),
        ..Config::default()
    };
    let builder = TaskManager::builder_on(Arc::clone(store) as Arc<dyn Store>);
    builder.tool(tool).config(config).start().await.unwrap()
}

async fn dispatch(manager: &TaskManager, task: NewTask) -> TaskId {
    let task = task.args(json!(null));
    manager.dispatch(task).await.unwrap().id().unwrap().clone()
}

async fn end_of(manager: &TaskManager, id: &TaskId) -> Task {
    let hour = Duration::from_secs(3_600);
    timeout(hour, manager.wait(id))
        .await
        .expect("it does not end")
        .unwrap()
}

/// The outputs of a task, as the log has them.
async fn outputs(store: &Arc<FaultyStore>) -> Vec<String> {
    let query = LogQuery {
        after: Seq(0),
        limit: 1_000,
        bytes_max: LogQuery::BYTES_MAX,
        task: None,
    };
    let entries = store.log(&query).await.unwrap().entries;
    let payloads = entries
        .into_iter()
        .filter_map(|entry| match entry.event.kind {
            EventKind::Output { payload, .. } => Some(payload.to_string()),
            _ => None,
        });
    payloads.collect()
}

/// S8, R1: when nobody can say whether an output was kept it is told again, and kept once: the attempt
/// goes on, whenever the first telling lands.
#[tokio::test(start_paused = true)]
async fn an_output_in_doubt_is_told_again_and_kept_once() {
    let fails_after = Faults {
        fails_after: 1_000,
        ..Faults::NONE
    };
    let lands_later = Faults {
        lands_later: 1_000,
        delay_max: LEASE,
        ..Faults::NONE
    };
    for fault in [fails_after, lands_later] {
        let store = faulty_store();
        let told = Arc::clone(&store);
        let tool = Tool::new("tells", move |context: Context, (): ()| {
            let store = Arc::clone(&told);
            async move {
                store.set_faults(fault);
                context.output(&1).await?;
                // The second is written when the first has been.
                sleep(Duration::from_millis(1)).await;
                context.output(&2).await?;
                Ok::<_, HandlerError>(())
            }
        });
        let manager = manager(&store, tool).await;
        let id = dispatch(&manager, NewTask::new("tells").max_retries(1u32)).await;
        sleep(Duration::from_millis(100)).await;
        store.set_faults(Faults::NONE);
        let task = end_of(&manager, &id).await;
        assert_eq!((task.status, task.attempt.0), (Status::Completed, 1));
        // All that was to land later has.
        sleep(LEASE).await;
        assert_eq!(outputs(&store).await, ["1", "2"]);
        assert_eq!(manager.get(&id).await.unwrap(), Some(task));
    }
}

/// S8: what a handler emitted in time is kept, though its attempt was too slow.
#[tokio::test(start_paused = true)]
async fn outputs_emitted_before_the_time_is_up_are_kept() {
    for max_retries in [0u32, 1] {
        let store = faulty_store();
        let own = Arc::clone(&store);
        let tool = Tool::new("slow", move |context: Context, (): ()| {
            let store = Arc::clone(&own);
            async move {
                if context.attempt().0 > 1 {
                    return Ok::<_, HandlerError>(());
                }
                // While the first is being written, for longer than the attempt may take, others follow.
                store.set_faults(Faults {
                    delays: 1_000,
                    delay_max: Duration::from_secs(1),
                    ..Faults::NONE
                });
                context.output(&0).await?;
                sleep(Duration::from_millis(10)).await;
                for n in 1..5 {
                    context.output(&n).await?;
                }
                context.cancelled().cancelled().await;
                store.set_faults(Faults::NONE);
                Ok(())
            }
        });
        let manager = manager(&store, tool).await;
        let task = NewTask::new("slow").timeout(Duration::from_millis(100));
        let id = dispatch(&manager, task.max_retries(max_retries)).await;
        let expected = [Status::TimedOut, Status::Completed][max_retries as usize];
        assert_eq!(end_of(&manager, &id).await.status, expected);
        assert_eq!(outputs(&store).await, ["0", "1", "2", "3", "4"]);
    }
}

/// R1: a worker that cannot renew its lease, because the store fails or because it never answers, stops
/// its handler before another may have the task.
#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_renew_its_lease_stops_in_time() {
    let hangs = Faults {
        delays: 1_000,
        delay_max: Duration::from_secs(86_400),
        ..Faults::NONE
    };
    for fault in [Faults::OUTAGE, hangs] {
        let store = faulty_store();
        let (tell, mut told) = mpsc::unbounded_channel();
        let tool = Tool::new("works", move |context: Context, (): ()| {
            let tell = tell.clone();
            async move {
                tell.send(Instant::now()).unwrap();
                context.cancelled().cancelled().await;
                tell.send(Instant::now()).unwrap();
                Ok::<_, HandlerError>(())
            }
        });
        let manager = manager(&store, tool).await;
        dispatch(&manager, NewTask::new("works")).await;
        let began = told.recv().await.unwrap();
        // Renewed twice or thrice before.
        sleep(LEASE).await;
        store.set_faults(fault);
        let stopped = told.recv().await.unwrap();
        let lease_began_by = began + LEASE;
        assert!(stopped < lease_began_by + LEASE, "{:?}", stopped - began);
        assert!(stopped > began + LEASE, "{:?}", stopped - began);
    }
}

/// R1, R7: an attempt whose claim is answered when its time, or its lease, is over is not begun.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_over_before_it_begins_is_not_begun() {
    for timeout_ms in [100, 100_000] {
        let store = faulty_store();
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        let tool = Tool::new("counts", move |_, (): ()| {
            count.fetch_add(1, SeqCst);
            async { Ok::<_, HandlerError>(()) }
        });
        let manager = manager(&store, tool).await;
        let at = store.now().plus_ms(100);
        let task = NewTask::new("counts").timeout(Duration::from_millis(timeout_ms));
        let id = dispatch(&manager, task.run_at(at)).await;
        // By these dice the claim is committed, and answered long after.
        store.set_faults(Faults {
            delays: 1_000,
            delay_max: Duration::from_secs(60),
            ..Faults::NONE
        });
        sleep(Duration::from_secs(180)).await;
        store.set_faults(Faults::NONE);
        let task = end_of(&manager, &id).await;
        assert_ne!(task.status, Status::Completed);
        assert_eq!(begun.load(SeqCst), 0);
    }
}

/// R2: a process that is killed says nothing more of its attempts: it is not there to say it.
#[tokio::test(start_paused = true)]
async fn a_killed_process_reports_nothing() {
    let store = faulty_store();
    let tool = || {
        Tool::new("works", |context: Context, (): ()| async move {
            context.output("begun").await?;
            sleep(Duration::from_secs(3_600)).await;
            Ok::<_, HandlerError>(())
        })
    };
    let killed = manager(&store, tool()).await;
    let id = dispatch(&killed, NewTask::new("works")).await;
    sleep(Duration::from_secs(1)).await;
    killed.kill();
    sleep(Duration::from_secs(1)).await;
    let task = killed.get(&id).await.unwrap().unwrap();
    assert_eq!(task.status, Status::Running);

    let other = manager(&store, tool()).await;
    let error = end_of(&other, &id).await.error.unwrap().message;
    let reason = format!("worker {} was lost during attempt 1", killed.worker_id());
    assert!(error.starts_with(&reason), "{error}");
}

/// R1: a machine that wakes up from sleep finds all leases ended, and its own worker at work.
#[tokio::test(start_paused = true)]
async fn a_jump_of_the_clock_ends_no_attempt_that_runs_here() {
    let clock = ManualClock::starting_at(Timestamp::from_ms(0));
    let memory = MemoryStore::with_clock(Arc::new(clock.clone()));
    let chance = Arc::new(SeededChance::new(1));
    let store = Arc::new(FaultyStore::new(Arc::new(memory), chance));
    let tool = Tool::new("works", async move |_: Context, (): ()| {
        sleep(LEASE * 3).await;
        Ok::<_, HandlerError>("done")
    });
    let manager = manager(&store, tool).await;
    let id = dispatch(&manager, NewTask::new("works")).await;
    sleep(Duration::from_millis(100)).await;
    clock.advance_ms(8 * 3_600_000);
    let task = end_of(&manager, &id).await;
    assert_eq!((task.status, task.attempt.0), (Status::Completed, 1));
}

/// S4: a handler that emits much waits for the log, and no report is larger than an output may be.
#[tokio::test(start_paused = true)]
async fn outputs_wait_by_their_bytes_and_are_told_in_small_reports() {
    const HALF_MIB: usize = 1 << 19;
    let (store, emitted) = (faulty_store(), Arc::new(AtomicU32::new(0)));
    let own = (Arc::clone(&store), Arc::clone(&emitted));
    let tool = Tool::new("loud", move |context: Context, (): ()| {
        let (store, count) = own.clone();
        async move {
            store.set_faults(Faults {
                delays: 1_000,
                delay_max: Duration::from_secs(4),
                ..Faults::NONE
            });
            for _ in 0..40 {
                context.output(&"x".repeat(HALF_MIB - 2)).await?;
                count.fetch_add(1, SeqCst);
            }
            Ok::<_, HandlerError>(())
        }
    });
    let manager = manager(&store, tool).await;
    let id = dispatch(&manager, NewTask::new("loud")).await;
    sleep(Duration::from_millis(2)).await;
    // Eight wait, and those that the first reports have told.
    let count = emitted.load(SeqCst);
    assert!((8..=12).contains(&count), "{count}");
    store.set_faults(Faults::NONE);
    assert_eq!(end_of(&manager, &id).await.status, Status::Completed);
    let query = LogQuery {
        after: Seq(0),
        limit: 1_000,
        bytes_max: usize::MAX,
        task: None,
    };
    let entries = store.log(&query).await.unwrap().entries;
    let mut bytes_of = std::collections::BTreeMap::new();
    for entry in entries {
        if let EventKind::Output { payload, .. } = entry.event.kind {
            *bytes_of.entry(entry.event.report.0).or_insert(0) += payload.bytes();
        }
    }
    assert_eq!(bytes_of.values().sum::<usize>(), 40 * HALF_MIB);
    assert!(bytes_of.values().all(|bytes| *bytes <= 1 << 20));
}

/// Reports are numbered in the order in which they are made, and the end is the last: an output that came
/// through while the end is repeated would make that one a repetition, and the task would run for ever.
#[tokio::test(start_paused = true)]
async fn nothing_is_emitted_behind_the_end() {
    let store = faulty_store();
    let (keep, mut kept) = mpsc::unbounded_channel();
    let own = Arc::clone(&store);
    let tool = Tool::new("leaky", move |context: Context, (): ()| {
        own.set_faults(Faults::OUTAGE);
        let kept = keep.send(context);
        async move {
            kept.expect("the test listens");
            Ok::<_, HandlerError>("done")
        }
    });
    let manager = manager(&store, tool).await;
    let id = dispatch(&manager, NewTask::new("leaky")).await;
    let context: Context = kept.recv().await.expect("it runs");
    sleep(Duration::from_millis(1)).await;
    assert!(manager.get(&id).await.is_err(), "there is no outage");
    assert!(context.output("late").await.is_err());
    store.set_faults(Faults::NONE);
    let task = end_of(&manager, &id).await;
    assert_eq!(task.status, Status::Completed);
    assert_eq!(outputs(&store).await, [] as [String; 0]);
}
