//! A server that knows that nobody waits does not look, and never overlooks who comes.

use std::sync::Arc;

use sidestream::clock::ManualClock;
use sidestream::core::{Namespace, NewTask, Task, Timestamp, ToolName, WorkerId};
use sidestream::store::{
    Answer, Claim, Claimed, Limits, PostgresOptions, PostgresStore, Request, Store,
};
use sidestream_test_postgres::Cluster;

use crate::support::open;
use crate::work::{complete, dispatch, dispatched};

fn claim(tools: &[&str], limits: Limits) -> Request {
    let tools = tools.iter().map(|tool| ToolName::new(*tool));
    Request::Claim(Claim {
        worker: WorkerId::new("worker").expect("a plain id"),
        tools: tools.collect::<Result<_, _>>().expect("plain names"),
        namespace: None,
        limit: 10,
        lease_ms: 30_000,
        limits: Arc::new(limits),
    })
}

/// Carries out some requests, of which the last is a claim, and says what that one brought.
async fn claimed(store: &PostgresStore, batch: impl IntoIterator<Item = Request>) -> Claimed {
    let committed = store.commit(batch.into_iter().collect()).await;
    let mut answers = committed.expect("the store works").answers;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    match answers.pop() {
        Some(Ok(Answer::Claimed(claimed))) => claimed,
        other => panic!("expected a claim, got {other:?}"),
    }
}

fn ids(claimed: &Claimed) -> Vec<&str> {
    let tasks = claimed.tasks.iter();
    tasks.map(|task| task.id().as_str()).collect()
}

fn any() -> Request {
    claim(&["tool"], Limits::default())
}

async fn end(store: &PostgresStore, tasks: &[Task]) {
    let batch = tasks.iter().map(complete).collect();
    store.commit(batch).await.expect("the store works");
}

fn make(id: &str) -> Request {
    dispatch(id, serde_json::json!({}))
}

/// The table in which those who wait would be found is away, and is not missed; only by those who do not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_that_nobody_waits_does_not_look() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let store = open(&cluster.url(&database)).await;
    let other = open(&cluster.url(&database)).await;
    let found = claimed(&store, [make("one"), any()]).await;
    assert_eq!(ids(&found), ["one"]);
    end(&store, &found.tasks).await;

    cluster.sql(&database, "ALTER TABLE sidestream.tasks RENAME TO away");
    assert!(claimed(&store, [any()]).await.tasks.is_empty());
    let unknown = [
        (&other, any()),
        (&store, claim(&["tool", "another"], Limits::default())),
    ];
    for (store, claim) in unknown {
        let error = store.commit(vec![claim]).await;
        error.expect_err("it looks where there is nothing");
    }
    cluster.sql(&database, "ALTER TABLE sidestream.away RENAME TO tasks");
    assert!(claimed(&store, [any()]).await.tasks.is_empty());
}

/// Whoever comes after nobody waited is found: sent by another server, left by this one, or passed over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_after_nobody_waited_is_found() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let (store, other) = (open(&url).await, open(&url).await);
    assert!(claimed(&store, [any()]).await.tasks.is_empty());

    other.commit(vec![make("theirs")]).await.expect("it works");
    let found = claimed(&store, [any()]).await;
    assert_eq!(ids(&found), ["theirs"]);
    // What they add to the log between two of ours is seen, too.
    other.commit(vec![make("between")]).await.expect("it works");
    end(&store, &found.tasks).await;
    let found = claimed(&store, [any()]).await;
    assert_eq!(ids(&found), ["between"]);
    end(&store, &found.tasks).await;

    // This server itself leaves one behind,
    assert!(claimed(&store, [any()]).await.tasks.is_empty());
    store.commit(vec![make("ours")]).await.expect("it works");
    let found = claimed(&store, [any()]).await;
    assert_eq!(ids(&found), ["ours"]);
    end(&store, &found.tasks).await;

    // one that came along with a claim of another namespace,
    assert!(claimed(&store, [any()]).await.tasks.is_empty());
    let elsewhere = || match any() {
        Request::Claim(claim) => Request::Claim(Claim {
            namespace: Some(Namespace::new("elsewhere").expect("a plain name")),
            ..claim
        }),
        other => panic!("expected a claim, made {other:?}"),
    };
    assert!(claimed(&store, [elsewhere()]).await.tasks.is_empty());
    assert!(
        claimed(&store, [make("passed"), elsewhere()])
            .await
            .tasks
            .is_empty()
    );
    let found = claimed(&store, [any()]).await;
    assert_eq!(ids(&found), ["passed"]);
    end(&store, &found.tasks).await;

    // and one for which there is no slot.
    assert!(claimed(&store, [any()]).await.tasks.is_empty());
    let one_at_a_time = || {
        let limits = Limits {
            per_tool: [(ToolName::new("tool").expect("a plain name"), 1)].into(),
            ..Limits::default()
        };
        claim(&["tool"], limits)
    };
    let found = claimed(&store, [make("first"), make("second"), one_at_a_time()]).await;
    assert_eq!(ids(&found), ["first"]);
    let found = claimed(&store, [complete(&found.tasks[0]), one_at_a_time()]).await;
    assert_eq!(ids(&found), ["second"]);
}

/// Whose time comes waits from then on, though no event says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_time_comes_is_found() {
    let cluster = Cluster::start();
    let clock = ManualClock::starting_at(Timestamp::from_ms(1_800_000_000_000));
    let options = PostgresOptions {
        clock: Some(Arc::new(clock.clone())),
        ..PostgresOptions::default()
    };
    let url = cluster.url(&cluster.database());
    let store = PostgresStore::open(&url, options).await;
    let store = store.expect("the store opens");
    let due = |id: &str, in_ms: i64| {
        let at = Timestamp::from_ms(1_800_000_000_000).plus_ms(in_ms);
        dispatched(id, NewTask::new("tool").run_at(at))
    };
    let found = claimed(&store, [due("late", 2_000), any()]).await;
    assert_eq!(ids(&found), [""; 0]);
    let found = claimed(&store, [due("early", 1_000), any()]).await;
    assert_eq!(ids(&found), [""; 0]);
    for (id, next) in [("early", Some(2_000)), ("late", None)] {
        assert!(claimed(&store, [any()]).await.tasks.is_empty());
        clock.advance_ms(1_000);
        let found = claimed(&store, [any()]).await;
        assert_eq!(ids(&found), [id]);
        let next = next.map(|ms| Timestamp::from_ms(1_800_000_000_000).plus_ms(ms));
        assert_eq!(found.next_due, next);
        end(&store, &found.tasks).await;
    }
}
