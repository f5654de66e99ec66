//! The server crashes under load, again and again: what was answered is there, and log and rows agree.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sidestream::core::TaskId;
use sidestream::store::{PostgresStore, Store};
use sidestream_test_postgres::{Cluster, Stop};
use tokio::task::JoinSet;

use crate::support::{blocking, fresh, places};
use crate::work::{audit, claim, complete, dispatch};

const ROUNDS: u64 = 6;
const WRITERS: u64 = 12;

async fn write(
    store: Arc<PostgresStore>,
    name: u64,
    answered: Arc<Mutex<BTreeSet<String>>>,
    is_done: Arc<AtomicBool>,
) {
    for n in 0.. {
        if is_done.load(Ordering::SeqCst) {
            return;
        }
        let ids: Vec<String> = (0..3).map(|i| format!("{name}-{n}-{i}")).collect();
        let batch = ids.iter().map(|id| dispatch(id, serde_json::json!({})));
        match store.commit(batch.collect()).await {
            Ok(_) => answered.lock().extend(ids),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        if let Ok(tasks) = claim(&*store, 2).await {
            // It may be lost: the audit says whether half of it was kept.
            let _ = store.commit(tasks.iter().map(complete).collect()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_crashes_of_the_server() {
    let mut cluster = Cluster::start();
    let (_, store) = fresh(&cluster).await;
    let answered = Arc::<Mutex<BTreeSet<String>>>::default();
    let is_done = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    for name in 0..WRITERS {
        let (answered, is_done) = (Arc::clone(&answered), Arc::clone(&is_done));
        writing.spawn(write(Arc::clone(&store), name, answered, is_done));
    }
    let mut bell = store.doorbell();
    for round in 0..ROUNDS {
        // Under load: at another moment each time.
        let enough = bell.borrow().0 + 150 + round * 37;
        let rung = bell.wait_for(|head| head.0 >= enough).await;
        rung.expect("the store is there");
        cluster = blocking(move || {
            cluster.stop(Stop::Immediate);
            cluster.start_again();
            cluster
        })
        .await;
    }
    let enough = bell.borrow().0 + 100;
    let rung = bell.wait_for(|head| head.0 >= enough).await;
    rung.expect("the store is there");
    is_done.store(true, Ordering::SeqCst);
    while let Some(ended) = writing.join_next().await {
        ended.expect("it writes to the end");
    }
    let rows = audit(&*store).await;
    let committed = places(&*store).await;
    let head = store.head().await.expect("the store works").seq.0;
    assert!(committed == (1..=head).collect(), "the log has no hole");
    let answered = answered.lock();
    for id in &*answered {
        let id = TaskId::new(id.as_str()).expect("a plain id");
        assert!(rows.contains_key(&id), "{id} was answered and is lost");
    }
    assert!(answered.len() > 100, "only {} tasks", answered.len());
    drop(cluster);
}
