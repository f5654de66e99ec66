//! What an examination finds.

use std::sync::Arc;

use sidestream::clock::{Clock, ManualClock, SystemClock};
use sidestream::store::finding::Verdict;
use sidestream::store::{PostgresOptions, PostgresStore};
use sidestream_test_postgres::{Cluster, Options};

use crate::support::{back_to_the_first_schema, fresh, open};
use crate::work::{dispatch_some, is_told_of_the_line, line_up};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_database_is_good_in_every_respect() {
    let cluster = Cluster::start_with(Options {
        fsync: true,
        ..Options::default()
    });
    let (url, store) = fresh(&cluster).await;
    dispatch_some(&*store, (0..10).map(|n| n.to_string())).await;
    let findings = PostgresStore::examine(&url, PostgresOptions::default()).await;
    let findings = findings.expect("it is examined");
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
    }
    assert_eq!(findings.len(), 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_tools_that_nobody_has_are_named() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let clock = ManualClock::starting_at(SystemClock.now().plus_ms(-7_200_000));
    let options = PostgresOptions {
        clock: Some(Arc::new(clock.clone())),
        ..PostgresOptions::default()
    };
    let store = PostgresStore::open(&url, options).await;
    line_up(&store.expect("it opens"), &clock).await;
    let findings = PostgresStore::examine(&url, PostgresOptions::default()).await;
    is_told_of_the_line(&findings.expect("it is examined"));
}

/// Before a newer version has migrated it, a database lacks nothing that its own version has.
#[tokio::test]
async fn an_older_schema_has_all_its_indexes() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let url = cluster.url(&database);
    drop(open(&url).await);
    let indexes = async || {
        let findings = PostgresStore::examine(&url, PostgresOptions::default()).await;
        let mut findings = findings.expect("it is examined").into_iter();
        let found = findings.find(|finding| finding.topic == "indexes");
        found.expect("it is looked at")
    };
    cluster.sql(&database, &back_to_the_first_schema());
    let found = indexes().await;
    assert_eq!(found.verdict, Verdict::Good, "{found:?}");
    cluster.sql(&database, "DROP INDEX sidestream.specs_by_created");
    let found = indexes().await;
    assert!(found.seen.contains("specs_by_created"), "{found:?}");
}
