//! Time is the database's.

use std::time::Duration;

use sidestream::core::Timestamp;
use sidestream::store::{PostgresStore, Store};
use sidestream_test_postgres::Cluster;

use crate::support::fresh;
use crate::work::dispatch;

async fn commit_at(store: &PostgresStore, id: &str) -> Timestamp {
    let made = vec![dispatch(id, serde_json::json!({}))];
    let committed = store.commit(made).await.expect("it is committed");
    committed.entries[0].event.at
}

fn shown(cluster: &Cluster) -> Timestamp {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    Timestamp::from_ms(cluster.sql("postgres", sql).parse().expect("a time"))
}

fn set_last(cluster: &Cluster, ahead_ms: i64) -> Timestamp {
    let at = shown(cluster).plus_ms(ahead_ms);
    let sql = format!("UPDATE sidestream.head SET last_at_ms = {}", at.ms());
    cluster.sql("postgres", &sql);
    at
}

/// By what the database's clock shows; and in between, roughly.
#[tokio::test]
async fn it_goes_by_the_databases_clock() {
    let cluster = Cluster::start();
    let (_, store) = fresh(&cluster).await;
    let before = shown(&cluster);
    let at = commit_at(&store, "t").await;
    let after = shown(&cluster);
    assert!(before <= at && at <= after, "{before} {at} {after}");
    let now = store.now();
    let second = Duration::from_secs(1);
    assert!(now >= at && now.since(after) < second, "{after} {now}");
}

/// Another process, or the clock before it was set back a little, was ahead: time does not go back.
#[tokio::test]
async fn it_does_not_go_back_a_little() {
    let cluster = Cluster::start();
    let (_, store) = fresh(&cluster).await;
    commit_at(&store, "one").await;
    let last = set_last(&cluster, 30_000);
    let at = commit_at(&store, "two").await;
    assert!(at >= last, "{at} is not before {last}");
    assert!(store.now() >= last);
    let next = commit_at(&store, "three").await;
    assert!(next >= at);
    // It does not stand still, either.
    assert!(shown(&cluster).plus_ms(60_000) > next);
}

/// A clock that was wrong by an hour is not followed for an hour.
#[tokio::test]
async fn it_goes_back_if_it_was_wrong() {
    let cluster = Cluster::start();
    let (_, store) = fresh(&cluster).await;
    commit_at(&store, "one").await;
    let wrong = set_last(&cluster, 3_600_000);
    for id in ["two", "three"] {
        let at = commit_at(&store, id).await;
        assert!(wrong.since(at) > Duration::from_secs(3_000), "{at} {wrong}");
    }
    let last = cluster.sql("postgres", "SELECT last_at_ms FROM sidestream.head");
    assert!(Timestamp::from_ms(last.parse().expect("a time")) < wrong);
}
