//! Servers of two versions on one database, while one replaces the other. The newer ones are our own, on a
//! database that has been changed as a later migration may change it.

use std::sync::Arc;

use sidestream::error::{StoreError, StoreErrorKind};
use sidestream::store::{LogQuery, PostgresOptions, PostgresStore, Store};
use sidestream_test_postgres::Cluster;
use tokio::task::JoinSet;

use crate::support::{back_to_the_first_schema, blocking, fresh, open};
use crate::work::{audit, claim, complete, dispatch, dispatch_some, every_order_has};

/// All that a compatible migration may do, to the tables that are used most. As ours do, it waits for a
/// table for a moment only.
const COMPATIBLE: &str = "BEGIN; SET LOCAL lock_timeout = '300ms';
    ALTER TABLE sidestream.tasks ADD COLUMN later TEXT;
    ALTER TABLE sidestream.events ADD COLUMN later BIGINT NOT NULL DEFAULT 7;
    ALTER TABLE sidestream.specs ADD COLUMN later TEXT;
    ALTER TABLE sidestream.head ADD COLUMN later TEXT;
    ALTER TABLE sidestream.counters ADD COLUMN later BIGINT NOT NULL DEFAULT 0;
    CREATE INDEX tasks_later ON sidestream.tasks (later);
    CREATE TABLE sidestream.later (n BIGINT);
    INSERT INTO sidestream.migrations VALUES (3, 1, 'sum', 0);
    COMMIT";

/// What one that is not must do beside whatever it does.
const INCOMPATIBLE: &str = "BEGIN;
    ALTER TABLE sidestream.head RENAME TO head_4;
    INSERT INTO sidestream.migrations VALUES (4, 4, 'sum', 0);
    COMMIT";

/// What the schema holds.
fn contents(cluster: &Cluster) -> String {
    cluster.sql(
        "postgres",
        "SELECT version, compatible_from, checksum FROM sidestream.migrations ORDER BY version;
         SELECT * FROM sidestream.head_4; SELECT count(*) FROM pg_class",
    )
}

/// Begins anew while others have what it wants, as our migrations do.
fn migrate_beside_others(cluster: &Cluster) {
    while let Err(said) = cluster.try_sql("postgres", COMPATIBLE) {
        assert!(said.contains("lock timeout"), "{said}");
    }
}

fn is_refused(error: &StoreError) {
    assert_eq!(error.kind(), StoreErrorKind::NewerVersion, "{error}");
    assert!(error.to_string().contains("version 4"), "{error}");
}

/// Whole lives, in many small batches.
async fn live(store: Arc<PostgresStore>, name: String) {
    for n in 0..40 {
        let made = vec![dispatch(&format!("{name}-{n}"), serde_json::json!({}))];
        store.commit(made).await.expect("it is dispatched");
        let claimed = claim(&*store, 2).await.expect("it is claimed");
        let ends = claimed.iter().map(complete).collect();
        store.commit(ends).await.expect("it is completed");
    }
}

/// The older ones were there before, with statements that they have prepared, and are in the middle of their
/// work when the newer one migrates; nobody misses anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_and_newer_work_side_by_side_if_they_are_compatible() {
    let cluster = Arc::new(Cluster::start());
    let (url, older) = fresh(&cluster).await;
    live(Arc::clone(&older), "before".to_owned()).await;
    let mut working = JoinSet::new();
    working.spawn(live(Arc::clone(&older), "during".to_owned()));
    let migrated = Arc::clone(&cluster);
    blocking(move || migrate_beside_others(&migrated)).await;
    let newer = Arc::new(open(&url).await);
    for (name, store) in [("older", &older), ("newer", &newer)] {
        working.spawn(live(Arc::clone(store), name.to_owned()));
    }
    while let Some(ended) = working.join_next().await {
        ended.expect("it works to the end");
    }
    let (seen_by_older, seen_by_newer) = (audit(&*older).await, audit(&*newer).await);
    assert_eq!(seen_by_older.len(), 4 * 40);
    assert_eq!(seen_by_older, seen_by_newer);
    let heads = (older.head().await, newer.head().await);
    assert_eq!(heads.0.expect("it works"), heads.1.expect("it works"));
}

/// The same, with the migration that a newer one brings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_one_migrates_while_older_ones_work() {
    let cluster = Arc::new(Cluster::start());
    let (url, older) = fresh(&cluster).await;
    cluster.sql("postgres", &back_to_the_first_schema());
    live(Arc::clone(&older), "before".to_owned()).await;
    let mut working = JoinSet::new();
    for name in ["a", "b"] {
        working.spawn(live(Arc::clone(&older), name.to_owned()));
    }
    let newer = Arc::new(open(&url).await);
    working.spawn(live(Arc::clone(&newer), "newer".to_owned()));
    while let Some(ended) = working.join_next().await {
        ended.expect("it works to the end");
    }
    assert_eq!(audit(&*older).await.len(), 4 * 40);
    every_order_has(&*newer, 4 * 40).await;
    let version = "SELECT max(version) FROM sidestream.migrations";
    assert_eq!(cluster.sql("postgres", version).trim(), "2");
}

/// One that runs when an incompatible migration comes can write nothing and stream nothing any more, and
/// says why; one that starts is refused; and neither changes anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_ones_are_kept_from_what_they_cannot_work_with() {
    let cluster = Cluster::start();
    let (url, older) = fresh(&cluster).await;
    dispatch_some(&*older, ["t".to_owned()]).await;
    cluster.sql("postgres", COMPATIBLE);
    cluster.sql("postgres", INCOMPATIBLE);
    let before = contents(&cluster);
    let query = LogQuery {
        after: sidestream::core::Seq(0),
        limit: 10,
        bytes_max: LogQuery::BYTES_MAX,
        task: None,
    };
    let made = vec![dispatch("u", serde_json::json!({}))];
    is_refused(&older.commit(made).await.expect_err("it is refused"));
    is_refused(&older.head().await.expect_err("it is refused"));
    is_refused(&older.log(&query).await.expect_err("it is refused"));
    let claimed = claim(&*older, 1).await;
    is_refused(&claimed.expect_err("it is refused"));
    let opened = PostgresStore::open(&url, PostgresOptions::default()).await;
    is_refused(&opened.expect_err("it is refused"));
    assert_eq!(contents(&cluster), before);
}
