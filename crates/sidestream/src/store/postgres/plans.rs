//! Every statement finds its rows through an index: shown for all that the store sends while it keeps every
//! promise of the conformance suite.
//!
//! The statements that go by keys are planned once, so they are explained as they would be planned at the
//! worst moment: when every table is empty, and any way looks as good as any other.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use sidestream_test_postgres::Cluster;

use super::connection::{Connection, answer};
use super::{PostgresOptions, PostgresStore};
use crate::clock::Clock;
use crate::store::Store;
use crate::store::conformance::{Backend, check};

/// Every statement that this test process has sent.
pub(super) mod seen {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;
    use tokio_postgres::types::Type;

    /// A statement without its schema, the types of its parameters, and whether it goes by keys.
    pub(in super::super) type Statement = (String, Vec<String>, bool);

    static SEEN: Mutex<BTreeSet<Statement>> = Mutex::new(BTreeSet::new());

    pub(in super::super) fn note(schema: &str, sql: &str, types: &[Type], is_by_key: bool) {
        let types = types.iter().map(|kind| kind.name().to_owned()).collect();
        SEEN.lock()
            .insert((sql.replace(schema, "@"), types, is_by_key));
    }

    pub(super) fn all() -> BTreeSet<Statement> {
        SEEN.lock().clone()
    }
}

struct Explained {
    cluster: Arc<Cluster>,
    schema: String,
}

#[async_trait]
impl Backend for Explained {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let options = PostgresOptions {
            clock: Some(clock),
            schema: self.schema.clone(),
            connections_max: 4,
            ..PostgresOptions::default()
        };
        let opened = PostgresStore::open(&self.cluster.url("postgres"), options).await;
        Arc::new(opened.expect("the store opens"))
    }
}

macro_rules! names {
    (() $($area:ident: $promise:ident,)*) => {
        const PROMISES: &[&str] = &[$(stringify!($promise)),*];
    };
}

crate::store::conformance::for_each_promise!(names);

/// Those that take more time than they send statements of their own.
const LEFT_OUT: [&str; 4] = [
    "large_payloads_are_kept",
    "too_large_payloads_change_nothing",
    "several_who_commit_leave_no_hole",
    "many_committers_leave_no_hole",
];

/// Conditions that no index answers, on what an index has found: few rows, or all of them wanted.
const FILTERS: [&str; 10] = [
    // What the index is limited to, looked at again when the row is locked.
    "Filter: (queue = 'delayed'::text)",
    "Filter: (NOT is_external)",
    "Filter: is_untold",
    // Whether a row that was found by its key is still what it was.
    "(queue IS DISTINCT FROM 'ready'",
    "(lease_until_ms <= $1) OR (deadline_ms <= $2)",
    "starts_with(worker_id",
    // Of the untold ends of a thread, those up to a place.
    "(seq <= ",
    // Whether what was foretold is so.
    "(base <> $4)",
    "(revoked_at_ms IS NULL)",
    "(lane IS NOT NULL)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_statement_finds_its_rows_through_an_index() {
    let cluster = Arc::new(Cluster::start());
    for (n, promise) in PROMISES.iter().enumerate() {
        if LEFT_OUT.contains(promise) {
            continue;
        }
        let backend = Explained {
            cluster: Arc::clone(&cluster),
            schema: format!("promise_{n}"),
        };
        check(promise, backend).await;
    }
    let statements = seen::all();
    assert!(statements.len() > 100, "only {}", statements.len());
    let url = cluster.url("postgres");
    let empty = PostgresStore::open(&url, PostgresOptions::default()).await;
    let empty = empty.expect("the store opens");
    let connection = empty.connections.get().await.expect("a connection");
    let mut bad = BTreeSet::new();
    for (sql, types, is_by_key) in &statements {
        if is_of_the_schema(sql) {
            continue;
        }
        let to_write = connection.beginning_to_write(None);
        let begin = match is_by_key {
            true => connection.send_plain(&to_write),
            false => connection.begin_to_search(),
        };
        answer(begin).await.expect("a transaction");
        let plan = explain(&connection, sql, types).await;
        answer(connection.send_plain("ROLLBACK; DEALLOCATE ALL"))
            .await
            .expect("it ends");
        bad.extend(scans(&plan, *is_by_key).map(|step| format!("{step}: {sql}")));
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

/// What is asked when a store is opened is asked once.
fn is_of_the_schema(sql: &str) -> bool {
    [
        "migrations",
        "pg_catalog",
        "current_setting",
        "@head (",
        "pg_advisory",
        "nextval",
        "pg_xact",
    ]
    .iter()
    .any(|word| sql.contains(word))
}

async fn explain(connection: &Connection, sql: &str, types: &[String]) -> Vec<String> {
    if !sql.contains('@') {
        return Vec::new();
    }
    let declared = match types.is_empty() {
        true => String::new(),
        false => format!("({})", types.join(", ")),
    };
    let given = match types.is_empty() {
        true => String::new(),
        false => format!("({})", vec!["NULL"; types.len()].join(", ")),
    };
    let prepare = connection.sql(&format!("PREPARE explained{declared} AS {sql}"));
    let settings =
        "SET LOCAL enable_seqscan = off; SET LOCAL plan_cache_mode = force_generic_plan;";
    for statement in [settings, &prepare] {
        let prepared = answer(connection.send_plain(statement)).await;
        prepared.unwrap_or_else(|failure| panic!("{failure:?}: {statement}"));
    }
    let explain = format!("EXPLAIN EXECUTE explained{given}");
    let rows = connection.query_planned(&explain, &[]).await;
    let rows = rows.expect("it is explained");
    rows.iter().map(|row| row.get(0)).collect()
}

/// The steps of a plan that walk a whole table or index, of those that grow, or look at more than they
/// need.
fn scans(plan: &[String], is_by_key: bool) -> impl Iterator<Item = String> {
    let lines: Vec<&str> = plan.iter().map(|line| line.trim()).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let node = line.trim_start_matches("->").trim();
        let is_scan = node.starts_with("Seq Scan on ") || node.starts_with("Index");
        // One row; as many as an operator has made keys; and counters, of which there are few.
        let is_small = ["on head", "on api_keys", "on counters"]
            .iter()
            .any(|table| node.contains(table));
        if !is_scan || !node.contains("(cost=") || is_small {
            continue;
        }
        let details = lines[at + 1..].iter();
        let details: Vec<_> = details
            .take_while(|line| !line.contains("(cost="))
            .collect();
        // The first of an index is found at its end.
        let is_first = at > 0 && lines[at - 1].contains("Limit  (cost=");
        let is_found = details.iter().any(|line| line.starts_with("Index Cond:"));
        let node = node.split("  (cost=").next().unwrap_or(node);
        if node.starts_with("Seq Scan") || (is_by_key && !is_first && !is_found) {
            found.push(node.to_owned());
        }
        let filters = details.iter().filter(|line| line.starts_with("Filter:"));
        for filter in filters.filter(|_| is_by_key) {
            if !FILTERS.iter().any(|known| filter.contains(known)) {
                found.push(format!("{node} {filter}"));
            }
        }
    }
    found.into_iter()
}
