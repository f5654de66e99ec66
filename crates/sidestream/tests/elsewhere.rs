//! Workers elsewhere, as a manager serves them: what the server's own tests do not count.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use sidestream::core::WorkerId;
use sidestream::manager::WorkerClaim;
use sidestream::{MemoryStore, NewTask, TaskManager, Tool, ToolName};
use tokio::task::JoinSet;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 50;

async fn manager() -> TaskManager {
    let here = Tool::new("here", |_, (): ()| async {
        Ok::<_, sidestream::HandlerError>(())
    });
    let builder = TaskManager::builder(MemoryStore::new());
    let builder = builder.tools([here, Tool::remote("afar")]);
    builder.start().await.unwrap()
}

/// Claims that wait, each of a worker of its own.
fn claims(manager: &TaskManager) -> JoinSet<usize> {
    let tools: Arc<[ToolName]> = Arc::from([ToolName::new("afar").unwrap()]);
    let claim = |n: usize| {
        let (manager, tools) = (manager.clone(), Arc::clone(&tools));
        async move {
            let claim = WorkerClaim {
                worker: WorkerId::new(format!("w-{n}")).unwrap(),
                tools,
                limit: 1,
                lease_ms: None,
                wait: PATIENCE,
            };
            let claimed = manager.claim(&claim, std::future::pending()).await;
            claimed.unwrap().tasks.len()
        }
    };
    (0..WORKERS).map(claim).collect()
}

/// The idle do not slow down the busy: while nothing comes for them, they cost an event one look.
#[tokio::test]
async fn claims_that_wait_for_the_same_look_once() {
    let manager = manager().await;
    let mut waiting = claims(&manager);
    let before = manager.stats();
    for _ in 0..100 {
        let task = NewTask::new("here").args(serde_json::json!(null));
        let task = manager.dispatch(task).await.unwrap();
        timeout(PATIENCE, manager.wait(task.id().unwrap()))
            .await
            .unwrap()
            .unwrap();
    }
    let stats = manager.stats();
    let events = stats.head.0 - before.head.0;
    let requests = stats.requests - before.requests;
    // Its own dispatches, claims and reports, and one look of those that wait for each event.
    assert!(
        requests < 3 * events + WORKERS as u64,
        "{requests} requests, {events} events"
    );
    assert!(waiting.try_join_next().is_none());
}

/// And each of them gets its task, once there are enough.
#[tokio::test]
async fn claims_that_wait_for_the_same_are_all_answered() {
    let manager = manager().await;
    let mut waiting = claims(&manager);
    tokio::task::yield_now().await;
    for at_once in [1, 9, WORKERS - 10] {
        let tasks = (0..at_once).map(|_| NewTask::new("afar"));
        assert!(manager.dispatch_all(tasks).await.iter().all(Result::is_ok));
        for _ in 0..at_once {
            let claimed = timeout(PATIENCE, waiting.join_next()).await;
            assert_eq!(claimed.expect("one waits on").unwrap().unwrap(), 1);
        }
    }
    assert!(waiting.is_empty());
}
