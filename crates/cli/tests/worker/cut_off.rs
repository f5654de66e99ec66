//! A worker that can no longer reach its server, while others can.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidestream::core::{Attempt, EventKind};
use sidestream::{Context, HandlerError, NewTask, Tool};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::proxy::Way;
use crate::site::{PATIENCE, Site};

const LEASE: Duration = Duration::from_secs(3);

/// R1, R2: its task is run elsewhere once its lease has ended, and not before its own handler was told to
/// stop; what it reports afterwards is refused, and it is told so.
#[tokio::test]
async fn a_worker_that_is_cut_off_loses_its_task_and_learns_it() {
    let site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let (go, runs) = (Arc::new(Notify::new()), tell.clone());
    let wait = Arc::clone(&go);
    let deaf = Tool::new("work", move |context: Context, _: Value| {
        let (tell, go) = (tell.clone(), Arc::clone(&wait));
        async move {
            tell.send(("begun", Instant::now())).unwrap();
            context.cancelled().cancelled().await;
            tell.send(("told", Instant::now())).unwrap();
            // It does not listen, and comes back long after.
            go.notified().await;
            Ok::<_, HandlerError>(json!("stale"))
        }
    });
    let next = Tool::new("work", move |_: Context, _: Value| {
        let tell = runs.clone();
        async move {
            tell.send(("elsewhere", Instant::now())).unwrap();
            Ok::<_, HandlerError>(json!("fresh"))
        }
    });
    let cut_off = site.worker().tool(deaf).lease(LEASE).grace(PATIENCE);
    let cut_off = cut_off.start().await.unwrap();
    let id = site.dispatch(NewTask::new("work").max_retries(1u32)).await;
    let began = told.recv().await.unwrap();
    // Longer than a lease: it is renewed.
    tokio::time::sleep(LEASE + LEASE / 2).await;
    assert!(told.try_recv().is_err(), "it still holds the task");

    site.proxy.set(Way::Blackhole);
    let neighbour = site
        .neighbour()
        .tool(next)
        .lease(LEASE)
        .start()
        .await
        .unwrap();
    let task = site.completed(&id).await;
    assert_eq!(task.attempt, Attempt(2));
    assert_eq!(task.worker_id.as_ref(), Some(neighbour.id()));
    let (what, stopped) = told.recv().await.unwrap();
    assert_eq!(what, "told", "it is told to stop first");
    let (what, elsewhere) = told.recv().await.unwrap();
    assert_eq!(what, "elsewhere");
    assert!(began.1 < stopped && stopped < elsewhere);
    let lost = format!("worker {} was lost during attempt 1", cut_off.id());
    let events = site.events(&id).await;
    let is_lost = |kind: &EventKind| matches!(kind, EventKind::Retrying { error, .. } if error.message.starts_with(&lost));
    assert!(events.iter().any(is_lost), "{events:?}");

    assert!(!site.proxy.to_worker().contains("stale-attempt"));
    site.proxy.set(Way::Open);
    go.notify_one();
    let refused = async {
        while !site.proxy.to_worker().contains("stale-attempt") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused)
        .await
        .expect("its report is not refused");
    assert_eq!(site.manager.get(&id).await.unwrap(), Some(task));

    // It is there again, and works.
    timeout(PATIENCE, neighbour.shutdown())
        .await
        .expect("it does not stop");
    let id = site.dispatch(NewTask::new("work")).await;
    let (what, _) = timeout(PATIENCE, told.recv())
        .await
        .expect("it claims no more")
        .unwrap();
    assert_eq!(what, "begun");
    site.manager.cancel(&id).await.unwrap();
    let (what, _) = timeout(PATIENCE, told.recv())
        .await
        .expect("it is not told")
        .unwrap();
    assert_eq!(what, "told");
    go.notify_one();
}
