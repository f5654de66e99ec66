//! A connection that breaks at the worst moment: everything is done once, or not at all, and the caller is
//! told which.

use std::sync::Arc;
use std::time::Duration;

use sidestream::core::{Command, Seq, Status, Task};
use sidestream::error::StoreErrorKind;
use sidestream::store::{Committed, LogQuery, PostgresOptions, PostgresStore, Request, Store};
use sidestream_test_postgres::{Cluster, Stop};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::faults::{AtCommit, Network, Odds};
use crate::support::{blocking, fresh, open, through};
use crate::work::{claim, complete, dispatch};

/// A running task, a store on a network that does as it is told, and one with a network of its own.
struct Scene {
    network: Network,
    store: PostgresStore,
    other: Arc<PostgresStore>,
    task: Task,
    url: String,
    cluster: Cluster,
}

impl Scene {
    async fn set() -> Self {
        let cluster = Cluster::start();
        let (url, other) = fresh(&cluster).await;
        let network = Network::to(cluster.port(), Odds::NONE, 1).await;
        let store = open(&through(&network, &url, cluster.port())).await;
        let made = vec![dispatch("t", serde_json::json!({}))];
        other.commit(made).await.expect("it is committed");
        let task = claim(&*other, 1).await.expect("it is claimed").remove(0);
        Self {
            network,
            store,
            other,
            task,
            url,
            cluster,
        }
    }

    /// What, carried out twice, would be there twice.
    fn output(&self) -> Vec<Request> {
        vec![Request::Command {
            namespace: self.task.identity().namespace.clone(),
            id: self.task.id().clone(),
            command: Command::Output {
                attempt: self.task.attempt,
                report: sidestream::core::ReportNumber::NONE,
                payloads: vec![serde_json::json!({"step": 1}).into()],
            },
        }]
    }

    async fn is_third_and_last(&self, committed: &Committed) {
        let query = LogQuery {
            after: Seq(2),
            limit: 10,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = self.other.log(&query).await.expect("the log is read");
        assert_eq!(page.entries, committed.entries);
        assert_eq!(page.entries.len(), 1, "it is there once");
        assert_eq!(page.head.seq, Seq(3));
    }
}

/// The answer to the commit is lost: another connection says that it was committed, and where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_out() {
    let scene = Scene::set().await;
    scene.network.at_next_commit(AtCommit::LoseAnswer);
    let committed = scene.store.commit(scene.output()).await;
    assert!(scene.network.has_happened());
    scene
        .is_third_and_last(&committed.expect("it was committed"))
        .await;
}

/// The commit itself is lost: the server undoes the transaction, and it is carried out anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_does_not_arrive_is_made_anew() {
    let scene = Scene::set().await;
    scene.network.at_next_commit(AtCommit::LoseIt);
    let committed = scene.store.commit(scene.output()).await;
    assert!(scene.network.has_happened());
    scene
        .is_third_and_last(&committed.expect("it is committed"))
        .await;
}

/// Who stops between its last statement and its commit holds the head's lock for a second, no longer;
/// and its batch is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_before_its_commit_holds_nobody_up() {
    let Scene {
        network,
        store,
        other,
        task,
        ..
    } = &Scene::set().await;
    let output = || {
        vec![Request::Command {
            namespace: task.identity().namespace.clone(),
            id: task.id().clone(),
            command: Command::Output {
                attempt: task.attempt,
                report: sidestream::core::ReportNumber::NONE,
                payloads: vec![serde_json::json!({"step": 1}).into()],
            },
        }]
    };
    network.at_next_commit(AtCommit::HoldBack(Duration::from_secs(4)));
    let begun = Instant::now();
    let stopped = store.commit(output());
    let meanwhile = async {
        while !network.has_happened() {
            tokio::task::yield_now().await;
        }
        let made = vec![dispatch("another", serde_json::json!({}))];
        other.commit(made).await.expect("it is committed");
        begun.elapsed()
    };
    let (stopped, waited) = tokio::join!(stopped, meanwhile);
    assert!(waited < Duration::from_secs(3), "it waited for {waited:?}");
    let stopped = stopped.expect("it is committed in the end");
    assert_eq!(stopped.entries.len(), 1);
    let head = other.head().await.expect("the store works").seq;
    assert_eq!(head, Seq(4), "each is there once");
}

/// Whoever waited for another's lock decides on what that one left, not on what was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waited_for_a_lock_decides_on_what_is_there_then() {
    let Scene {
        network,
        store,
        other,
        task,
        ..
    } = &Scene::set().await;
    network.at_next_commit(AtCommit::HoldBack(Duration::from_millis(500)));
    let completed = store.commit(vec![complete(task)]);
    let meanwhile = async {
        // Its writes are there, and its commit is not.
        while !network.has_happened() {
            tokio::task::yield_now().await;
        }
        let cancel = Request::Command {
            namespace: task.identity().namespace.clone(),
            id: task.id().clone(),
            command: Command::Cancel,
        };
        other.commit(vec![cancel]).await
    };
    let (completed, cancelled) = tokio::join!(completed, meanwhile);
    assert_eq!(completed.expect("it is committed").entries.len(), 1);
    let cancelled = cancelled.expect("it is decided");
    assert!(cancelled.entries.is_empty(), "{cancelled:?}");
    let found = other.get(&task.identity().namespace, task.id()).await;
    let found = found.expect("the store works").expect("it is there");
    assert_eq!(found.status, Status::Completed);
}

/// Nobody can be asked: the caller is told that it is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_found_out_is_unknown() {
    let scene = Scene::set().await;
    scene.network.at_next_commit(AtCommit::Vanish);
    let error = scene.store.commit(scene.output()).await;
    let error = error.expect_err("nobody knows");
    assert!(error.is_outcome_unknown(), "{error:?}");
    let head = scene.other.head().await.expect("the store works").seq;
    assert_eq!(head, Seq(3), "it was committed");
}

/// A server that is away is named, without the password; when it is back, so is the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_named() {
    let scene = Scene::set().await;
    let secret = scene.url.replace("sidestream@", "sidestream:s3cret@");
    let store = open(&secret).await;
    let mut cluster = blocking(move || {
        let mut cluster = scene.cluster;
        cluster.stop(Stop::Immediate);
        cluster
    })
    .await;
    let made = || vec![dispatch("more", serde_json::json!({}))];
    let port = cluster.port();
    for error in [
        store.commit(made()).await.expect_err("it is away"),
        store.head().await.expect_err("it is away"),
        PostgresStore::open(&secret, PostgresOptions::default())
            .await
            .expect_err("it is away"),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error:?}");
        let said = error.to_string();
        assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
        assert!(!format!("{error:?} {error}").contains("s3cret"), "{said}");
    }
    cluster = blocking(move || {
        cluster.start_again();
        cluster
    })
    .await;
    let committed = store.commit(made()).await.expect("it is back");
    assert_eq!(committed.entries[0].event.seq, Seq(3));
    drop(cluster);
}

/// Sessions that are ended at any moment cost no more than a delay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_cost_no_more_than_a_delay() {
    let cluster = Arc::new(Cluster::start());
    let (_, store) = fresh(&cluster).await;
    let mut writing = JoinSet::new();
    for name in 0..4 {
        let store = Arc::clone(&store);
        writing.spawn(async move {
            for n in 0..150 {
                let made = vec![dispatch(&format!("{name}-{n}"), serde_json::json!({}))];
                store.commit(made).await.expect("it is committed");
            }
        });
    }
    let mut ended = 0;
    while writing.try_join_next().is_none() {
        let cluster = Arc::clone(&cluster);
        // One at a time: a batch is tried again twice.
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM (
                SELECT pid FROM pg_stat_activity WHERE application_name = 'sidestream'
                    AND backend_xid IS NOT NULL LIMIT 1) AS one";
        ended += blocking(move || cluster.sql("postgres", sql))
            .await
            .parse::<u64>()
            .expect("a number");
    }
    while let Some(done) = writing.join_next().await {
        done.expect("it is committed");
    }
    let head = store.head().await.expect("the store works").seq;
    assert_eq!(
        head,
        Seq(600),
        "each is there once, though {ended} sessions were ended"
    );
}
