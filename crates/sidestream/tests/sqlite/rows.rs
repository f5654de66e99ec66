//! What is in the file, seen through another connection.

use std::time::Duration;

use rusqlite::Connection;
use sidestream::core::{Attempt, Command, Json, Namespace, ReportNumber, Seq, TaskId, Timestamp};
use sidestream::error::StoreErrorKind;
use sidestream::store::{LogQuery, Prune, Request, Store};
use tempfile::TempDir;

use crate::support::{claim, complete, dispatch, dispatch_some, open};

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn look(directory: &TempDir) -> Connection {
    let file = directory.path().join("sidestream.db");
    Connection::open(file).expect("a connection")
}

fn count(connection: &Connection, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    connection
        .query_row(&sql, [], |row| row.get(0))
        .expect("it is counted")
}

#[tokio::test]
async fn what_is_deleted_and_pruned_leaves_nothing() {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, (0..7).map(|n| format!("t{n}"))).await;
    let tasks = claim(&store, 7).await.expect("they are claimed");
    let batch = tasks.iter().map(complete).collect();
    store.commit(batch).await.expect("they are completed");
    let delete = |n| Request::Delete {
        namespace: Namespace::default(),
        id: TaskId::new(format!("t{n}")).expect("a plain id"),
    };
    let prune = |events_max| {
        Request::Prune(Prune {
            before: Timestamp::from_ms(0),
            events_max,
            limit: 1_000,
        })
    };
    store
        .commit((0..3).map(delete).collect())
        .await
        .expect("done");
    store.commit(vec![prune(0)]).await.expect("done");
    let file = look(&directory);
    assert_eq!(count(&file, "events"), 0);
    assert_eq!((count(&file, "specs"), count(&file, "tasks")), (4, 4));
    store
        .commit((3..7).map(delete).collect())
        .await
        .expect("done");
    for table in ["specs", "tasks", "counters"] {
        assert_eq!(count(&file, table), 0, "{table}");
    }
    assert_eq!(store.head().await.expect("a head").floor, Seq(21));
}

/// A page of outputs of a megabyte each would take gigabytes.
#[tokio::test]
async fn a_page_of_the_log_is_of_limited_size() {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, ["t".to_owned()]).await;
    claim(&store, 1).await.expect("it is claimed");
    let payload = Json::string(&"x".repeat(1_000_000));
    for _ in 0..4 {
        let output = Request::Command {
            namespace: Namespace::default(),
            id: TaskId::new("t").expect("a plain id"),
            command: Command::Output {
                attempt: Attempt(1),
                report: ReportNumber::NONE,
                payloads: vec![payload.clone(); 5],
            },
        };
        let committed = store.commit(vec![output]).await.expect("it is committed");
        assert!(committed.answers[0].is_ok());
    }
    for task in [
        None,
        Some((Namespace::default(), TaskId::new("t").expect("an id"))),
    ] {
        let mut query = LogQuery {
            after: Seq(0),
            limit: 1_000,
            bytes_max: LogQuery::BYTES_MAX,
            task,
        };
        let mut pages = 0;
        while query.after < Seq(22) {
            let page = store.log(&query).await.expect("the log is read");
            assert!(page.entries.len() <= 7);
            let last = page.entries.last().expect("there is more").event.seq;
            assert_eq!(
                page.through, last,
                "a page that is full says how far it goes"
            );
            query.after = page.through;
            pages += 1;
        }
        assert_eq!(pages, 4);
    }
}

/// S4: so would a page of tasks whose arguments are of a megabyte each.
#[tokio::test]
async fn a_page_of_the_log_is_of_limited_size_with_its_arguments() {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    let args = serde_json::Value::from("x".repeat(1_000_000));
    for n in 0..12 {
        let request = dispatch(&format!("t{n}"), args.clone());
        store.commit(vec![request]).await.expect("it is committed");
    }
    claim(&store, 12).await.expect("they are claimed");
    let mut query = LogQuery {
        after: Seq(0),
        limit: 1_000,
        bytes_max: LogQuery::BYTES_MAX,
        task: None,
    };
    let mut seen = 0;
    while query.after < Seq(24) {
        let page = store.log(&query).await.expect("the log is read");
        assert!(page.entries.len() <= 5, "{} events", page.entries.len());
        seen += page.entries.len();
        query.after = page.through;
    }
    assert_eq!(seen, 24);
}

#[tokio::test]
async fn a_schema_that_is_not_ours_is_refused() {
    let directory = directory();
    drop(open(directory.path()).expect("it opens"));
    let file = look(&directory);
    let sql = "UPDATE migrations SET checksum = 'other' WHERE version = 1";
    assert_eq!(file.execute(sql, []).expect("it is changed"), 1);
    drop(file);
    let refused = open(directory.path()).expect_err("it is refused");
    assert_eq!(refused.kind(), StoreErrorKind::Damaged);
    assert!(refused.to_string().contains("migration 1"), "{refused}");
}

/// A read that nobody waits for any more still holds a connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_store_can_be_opened_again_at_once() {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    let args = serde_json::json!({"large": "x".repeat(1_000_000)});
    let batch = (0..5).map(|n| dispatch(&format!("t{n}"), args.clone()));
    store
        .commit(batch.collect())
        .await
        .expect("it is committed");
    drop(store);
    for _ in 0..10 {
        let store = open(directory.path()).expect("the last one has let go");
        let query = LogQuery {
            after: Seq(0),
            limit: 5,
            bytes_max: LogQuery::BYTES_MAX,
            task: None,
        };
        let abandoned = tokio::time::timeout(Duration::from_millis(1), store.log(&query));
        let _ = abandoned.await;
    }
}

/// What the writer has in memory of a batch is bounded: what it forgets it finds again, as the batch left it.
#[tokio::test]
async fn a_batch_that_is_larger_than_memory_finds_its_own_tasks() {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, (0..50).map(|n| format!("t{n}"))).await;
    let tasks = claim(&store, 50).await.expect("they are claimed");
    let command = |id: &TaskId, command| Request::Command {
        namespace: Namespace::default(),
        id: id.clone(),
        command,
    };
    let suspend = |task: &sidestream::core::Task| {
        let suspend = Command::Suspend {
            attempt: task.attempt,
            report: ReportNumber::NONE,
            payload: serde_json::json!(1).into(),
        };
        command(task.id(), suspend)
    };
    let suspended = tasks.iter().map(suspend).collect();
    store.commit(suspended).await.expect("they are suspended");
    let first = TaskId::new("first").expect("a plain id");
    let data: Json = serde_json::json!("x".repeat(1_000_000)).into();
    let resume = |task: &sidestream::core::Task| {
        let data = data.clone();
        command(task.id(), Command::Resume { data })
    };
    let mut batch = vec![dispatch("first", serde_json::json!({}))];
    batch.extend(tasks.iter().map(resume));
    batch.push(command(&first, Command::Cancel));
    let committed = store.commit(batch).await.expect("it is committed");
    let refused = committed.answers.iter().filter(|answer| answer.is_err());
    assert_eq!(refused.count(), 0, "{:?}", committed.answers.last());
}
