//! Every statement finds its rows through an index: shown for all that the store prepares while it keeps
//! every promise of the conformance suite.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::prepare::seen;
use super::{SqliteOptions, SqliteStore, open};
use crate::clock::Clock;
use crate::store::Store;
use crate::store::conformance::{Backend, check};

struct Sqlite(TempDir);

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let options = SqliteOptions {
            clock,
            ..SqliteOptions::default()
        };
        Arc::new(SqliteStore::open(self.0.path(), options).expect("the store opens"))
    }
}

macro_rules! names {
    (() $($area:ident: $promise:ident,)*) => {
        const PROMISES: &[&str] = &[$(stringify!($promise)),*];
    };
}

crate::store::conformance::for_each_promise!(names);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_statement_finds_its_rows_through_an_index() {
    let mut promises = JoinSet::new();
    for promise in PROMISES {
        let backend = Sqlite(TempDir::new().expect("a directory"));
        promises.spawn(check(promise, backend));
    }
    while let Some(kept) = promises.join_next().await {
        kept.expect("the promise is kept");
    }
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("sidestream.db");
    drop(SqliteStore::open(directory.path(), SqliteOptions::default()).expect("it opens"));
    let connection = open::connect(&file, &SqliteOptions::default()).expect("a connection");
    let statements = seen::all();
    assert!(
        statements.len() > 100,
        "only {} were seen",
        statements.len()
    );
    let scans: BTreeSet<String> = statements
        .iter()
        .flat_map(|sql| {
            let steps = plan(&connection, sql).into_iter();
            steps
                .filter(|step| is_scan(step))
                .map(move |step| format!("{step}: {sql}"))
        })
        .collect();
    assert!(scans.is_empty(), "{scans:#?}");
    // What is sorted is narrow: a list that another index finds, overdue attempts, the API keys.
    let may_sort = |sql: &str| {
        [
            "_at_ms, key FROM tasks",
            "ORDER BY key LIMIT ?3",
            " FROM api_keys ",
        ]
        .iter()
        .any(|part| sql.contains(part))
    };
    let sorts: BTreeSet<&String> = statements
        .iter()
        .filter(|sql| {
            let is_sorted = |step: &String| step.contains("TEMP B-TREE");
            !may_sort(sql) && plan(&connection, sql).iter().any(is_sorted)
        })
        .collect();
    assert!(sorts.is_empty(), "{sorts:#?}");
    assert_eq!(seen::replanned(), BTreeSet::new(), "a plan is made once");
}

fn plan(connection: &Connection, sql: &str) -> Vec<String> {
    let explained = format!("EXPLAIN QUERY PLAN {sql}");
    let mut statement = connection.prepare(&explained).expect("it is valid");
    let steps = statement.raw_query();
    steps
        .mapped(|row| row.get("detail"))
        .map(|step| step.expect("a step"))
        .collect()
}

/// Does a step of a plan walk a whole table or index, of those that grow?
fn is_scan(step: &str) -> bool {
    let Some(what) = step.strip_prefix("SCAN ") else {
        return false;
    };
    let what = what.split(' ').next();
    // One row; and as many as an operator has made keys.
    !matches!(what, Some("head" | "api_keys"))
}
