//! What an examination finds.

use std::sync::Arc;

use rusqlite::Connection;
use sidestream::clock::{Clock, ManualClock, SystemClock};
use sidestream::store::finding::{Finding, Verdict};
use sidestream::store::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

use crate::support::{dispatch_some, open};
use crate::work::{is_told_of_the_line, line_up};

fn about<'a>(findings: &'a [Finding], topic: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.topic == topic);
    found.unwrap_or_else(|| panic!("nothing about {topic}: {findings:?}"))
}

#[tokio::test]
async fn a_healthy_database_is_good_in_every_respect() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, (0..10).map(|n| n.to_string())).await;
    let findings = SqliteStore::examine(directory.path()).expect("it is examined");
    // How full this machine's disk is, is not ours to say.
    let others = findings.iter().filter(|finding| finding.topic != "room");
    for finding in others {
        assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
    }
    assert_eq!(findings.len(), 7);
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_to_do() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, (0..10).map(|n| n.to_string())).await;
    // The machine's clock was set back by a day; and an index lacks a row.
    let other = Connection::open(directory.path().join("sidestream.db")).expect("it opens");
    let sabotage = "UPDATE head SET last_at_ms = last_at_ms + 86400000;
        PRAGMA writable_schema = 1;
        UPDATE sqlite_schema SET sql = 'CREATE INDEX tasks_by_started ON tasks (namespace, created_at_ms)'
            WHERE name = 'tasks_by_started';
        PRAGMA schema_version = 1000;";
    other.execute_batch(sabotage).expect("it is done");
    drop(other);
    let findings = SqliteStore::examine(directory.path()).expect("it is examined");
    let clock = about(&findings, "clock");
    assert_eq!(clock.verdict, Verdict::Bad, "{clock:?}");
    assert!(clock.advice.contains("clock"), "{clock:?}");
    let integrity = about(&findings, "integrity");
    assert_eq!(integrity.verdict, Verdict::Bad, "{integrity:?}");
    assert!(integrity.seen.contains("tasks_by_started"), "{integrity:?}");
    assert!(integrity.advice.contains("restore"), "{integrity:?}");
}

#[tokio::test]
async fn tasks_of_tools_that_nobody_has_are_named() {
    let directory = TempDir::new().expect("a directory");
    let two_hours_ago = SystemClock.now().plus_ms(-7_200_000);
    let clock = ManualClock::starting_at(two_hours_ago);
    let options = SqliteOptions {
        clock: Arc::new(clock.clone()),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(directory.path(), options).expect("it opens");
    line_up(&store, &clock).await;
    is_told_of_the_line(&SqliteStore::examine(directory.path()).expect("it is examined"));
}
