//! What these tests share beside the work: databases, and the check of what a reader has seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use sidestream::core::Seq;
use sidestream::store::{LogQuery, PostgresOptions, PostgresStore, Store};
use sidestream_test_postgres::Cluster;

use crate::faults::Network;
use crate::work::without;

/// Opens the database of a URL.
pub(crate) async fn open(url: &str) -> PostgresStore {
    let opened = PostgresStore::open(url, PostgresOptions::default()).await;
    opened.expect("the store opens")
}

/// What makes the tables as the first migration left them.
pub(crate) fn back_to_the_first_schema() -> String {
    let first = include_str!("../../src/store/postgres/migrations/0001_tasks_and_log.sql");
    let second = include_str!("../../src/store/postgres/migrations/0002_fewer_index_entries.sql");
    let indexes = without(second, first);
    format!(
        "BEGIN; SET LOCAL search_path = sidestream; {indexes}
         DELETE FROM migrations WHERE version = 2; COMMIT"
    )
}

/// A store on a new database.
pub(crate) async fn fresh(cluster: &Cluster) -> (String, Arc<PostgresStore>) {
    let url = cluster.url(&cluster.database());
    let store = Arc::new(open(&url).await);
    (url, store)
}

/// The same URL through a network.
pub(crate) fn through(network: &Network, url: &str, server_port: u16) -> String {
    let server = format!(":{server_port}/");
    url.replace(&server, &format!(":{}/", network.port()))
}

/// Runs something that blocks, such as the cluster's own methods.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it ends")
}

/// What a reader has seen, in the order in which it saw it.
#[derive(Debug, Default)]
pub(crate) struct Seen(Vec<u64>);

/// What is wrong with what a reader has seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// These were committed, and it never saw them.
    Lost(BTreeSet<u64>),
    /// It saw this after a later one, or twice.
    OutOfOrder(u64),
    /// It saw this, and it was never committed.
    Invented(u64),
}

impl Seen {
    pub(crate) fn last(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    pub(crate) fn see(&mut self, places: impl IntoIterator<Item = u64>) {
        self.0.extend(places);
    }

    /// Has it seen every place that was committed, once, and in order?
    pub(crate) fn check(&self, committed: &BTreeSet<u64>) -> Result<(), Fault> {
        let mut left = committed.clone();
        let mut last = 0;
        for &place in &self.0 {
            if place <= last {
                return Err(Fault::OutOfOrder(place));
            }
            last = place;
            if !left.remove(&place) {
                return Err(Fault::Invented(place));
            }
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(Fault::Lost(left)),
        }
    }
}

/// Every place of the log, read when nobody writes any more.
pub(crate) async fn places(store: &dyn Store) -> BTreeSet<u64> {
    let mut places = BTreeSet::new();
    let mut after = Seq(0);
    loop {
        let query = LogQuery {
            after,
            limit: 5_000,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let page = store.log(&query).await.expect("the log is read");
        places.extend(page.entries.iter().map(|entry| entry.event.seq.0));
        if page.through >= page.head.seq {
            return places;
        }
        after = page.through;
    }
}
