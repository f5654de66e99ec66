//! What an examination finds.

use std::sync::Arc;

use sidestream::clock::{Clock, ManualClock, SystemClock};
use sidestream::store::finding::Verdict;
use sidestream::store::{PostgresOptions, PostgresStore};
use sidestream_test_postgres::{Cluster, Options};

use crate::support::fresh;
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
