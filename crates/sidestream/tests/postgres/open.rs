//! Opening a database: what is made, what is refused, and that a refusal changes nothing.

use sidestream::core::{Namespace, TaskId};
use sidestream::error::{StoreError, StoreErrorKind};
use sidestream::store::{PostgresOptions, PostgresStore, Store};
use sidestream_test_postgres::Cluster;
use tokio::task::JoinSet;

use crate::support::{back_to_the_first_schema, fresh, open};
use crate::work::{audit, claim, complete, dispatch, dispatch_some, every_order_has};

async fn refused(url: &str) -> StoreError {
    let opened = PostgresStore::open(url, PostgresOptions::default()).await;
    opened.expect_err("it is refused")
}

/// Servers that start together make the schema once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_can_be_the_first() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let mut opening = JoinSet::new();
    for _ in 0..8 {
        let url = url.clone();
        opening.spawn(async move { open(&url).await });
    }
    let mut epochs = Vec::new();
    while let Some(store) = opening.join_next().await {
        let store = store.expect("it opens");
        epochs.push(store.head().await.expect("the store works").epoch);
    }
    epochs.dedup();
    assert_eq!(epochs.len(), 1, "it is one log");
}

#[tokio::test]
async fn a_migration_that_was_changed_is_noticed() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let url = cluster.url(&database);
    drop(open(&url).await);
    cluster.sql(&database, "UPDATE sidestream.migrations SET checksum = 'x'");
    assert_eq!(refused(&url).await.kind(), StoreErrorKind::Damaged);
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let url = cluster.url(&database);
    let before = {
        let store = open(&url).await;
        dispatch_some(&store, (0..4).map(|n| format!("t{n}"))).await;
        let claimed = claim(&store, 2).await.expect("they are claimed");
        let done = store.commit(vec![complete(&claimed[0])]).await;
        done.expect("it is completed");
        audit(&store).await
    };
    cluster.sql(&database, &back_to_the_first_schema());
    let names = "SELECT string_agg(indexname, ' ') FROM pg_indexes WHERE schemaname = 'sidestream'";
    assert!(cluster.sql(&database, names).contains("specs_by_created"));

    let store = open(&url).await;
    assert_eq!(audit(&store).await, before);
    every_order_has(&store, 4).await;
    let names = cluster.sql(&database, names);
    assert!(names.contains("tasks_by_completed"), "{names}");
    assert!(!names.contains("specs_by_created"), "{names}");
}

#[tokio::test]
async fn two_schemas_in_a_database_are_apart() {
    let cluster = Cluster::start();
    let (url, store) = fresh(&cluster).await;
    let options = PostgresOptions {
        schema: "other_1".into(),
        ..PostgresOptions::default()
    };
    let other = PostgresStore::open(&url, options).await;
    let other = other.expect("it opens");
    dispatch_some(&*store, ["t".to_owned()]).await;
    let id = TaskId::new("t").expect("a plain id");
    let found = other.get(&Namespace::default(), &id).await;
    assert_eq!(found.expect("the store works"), None);
    assert_ne!(
        store.head().await.expect("the store works").epoch,
        other.head().await.expect("the store works").epoch
    );
    let options = PostgresOptions {
        schema: "no\"; DROP".into(),
        ..PostgresOptions::default()
    };
    let error = PostgresStore::open(&url, options).await;
    let error = error.expect_err("it is refused");
    assert!(error.to_string().contains("1 to 40"), "{error}");
}

/// A schema that was made for it is enough.
#[tokio::test]
async fn it_needs_no_right_to_make_a_schema() {
    let cluster = Cluster::start();
    let database = cluster.database();
    cluster.sql(
        &database,
        "CREATE ROLE guest LOGIN; CREATE SCHEMA sidestream AUTHORIZATION guest",
    );
    let url = cluster.url(&database).replace("sidestream@", "guest@");
    let store = open(&url).await;
    let made = vec![dispatch("t", serde_json::json!({}))];
    store.commit(made).await.expect("it is committed");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_name() {
    let cluster = Cluster::start();
    let refusals = [
        (cluster.url("nowhere"), "\"nowhere\" does not exist"),
        (
            cluster.url("postgres").replace("sidestream@", "nobody@"),
            "\"nobody\" does not exist",
        ),
        ("postgresql://me:s3cret@/tasks".into(), "names no host"),
    ];
    for (url, why) in refusals {
        let error = refused(&url).await;
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    cluster.sql(
        "postgres",
        "CREATE DATABASE ascii ENCODING SQL_ASCII LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0",
    );
    let error = refused(&cluster.url("ascii")).await;
    assert!(error.to_string().contains("SQL_ASCII"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_will_do() {
    let cluster = Cluster::start();
    let store = open(&cluster.socket_url(&cluster.database())).await;
    dispatch_some(&store, ["t".to_owned()]).await;
    assert_eq!(audit(&store).await.len(), 1);
}
