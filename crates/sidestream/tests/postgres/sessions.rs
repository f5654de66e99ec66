//! What rests on a session, and what must not: behind a proxy that pools connections by transaction,
//! each transaction may meet another.

use std::sync::Arc;
use std::time::Duration;

use sidestream::clock::Clock;
use sidestream::core::Seq;
use sidestream::store::conformance::{Backend, check};
use sidestream::store::{PostgresOptions, PostgresStore, Store};
use sidestream_test_postgres::{Cluster, Options};

use crate::support::{blocking, fresh};
use crate::work::dispatch_some;

struct Unprepared(Arc<Cluster>);

#[async_trait::async_trait]
impl Backend for Unprepared {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let options = PostgresOptions {
            clock: Some(clock),
            prepared: false,
            ..PostgresOptions::default()
        };
        let opened = PostgresStore::open(&self.0.url("postgres"), options).await;
        Arc::new(opened.expect("the store opens"))
    }
}

/// Without prepared statements everything works alike, and the server is never asked to keep one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_in_a_session_if_so_told() {
    let settings = vec!["log_statement=all".to_owned()];
    let cluster = Arc::new(Cluster::start_with(Options {
        settings,
        ..Options::default()
    }));
    let backend = Unprepared(Arc::clone(&cluster));
    check("it_answers_as_the_reference_does", backend).await;
    let log = cluster.log();
    assert!(log.contains("execute <unnamed>:"), "statements are logged");
    let kept = log.lines().find(|line| line.contains("execute s"));
    assert_eq!(kept, None);
    let for_the_session = |line: &&str| {
        let statement = line.split_once("statement: ").map_or("", |(_, it)| it);
        let is_set = statement.starts_with("SET ") && !statement.starts_with("SET LOCAL ");
        is_set || statement.starts_with("PREPARE ")
    };
    assert_eq!(log.lines().find(for_the_session), None);
    // Nor is the server bothered with the end of what has ended.
    let in_vain = |line: &&str| line.contains("there is no transaction in progress");
    assert_eq!(log.lines().find(in_vain), None);
}

/// The session that listens can end: what others commit is noticed meanwhile, and it listens again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_no_longer_listens_looks_and_listens_again() {
    let cluster = Arc::new(Cluster::start());
    let (url, writer) = fresh(&cluster).await;
    let slow = PostgresOptions {
        look_every: Duration::from_secs(3_600),
        ..PostgresOptions::default()
    };
    let hearing = PostgresStore::open(&url, slow.clone()).await;
    let hearing = hearing.expect("it opens");
    let deaf = PostgresOptions {
        listen_url: Some("postgresql://127.0.0.1:1/nobody".into()),
        look_every: Duration::from_millis(50),
        ..slow
    };
    let looking = PostgresStore::open(&url, deaf).await.expect("it opens");
    let (mut heard, mut looked) = (hearing.doorbell(), looking.doorbell());
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'sidestream listens'";
    let ended = {
        let cluster = Arc::clone(&cluster);
        blocking(move || cluster.sql("postgres", end)).await
    };
    assert_ne!(ended, "0", "somebody listened");
    // What is committed while nobody listens is noticed when somebody does again.
    dispatch_some(&*writer, ["one".to_owned()]).await;
    for bell in [&mut heard, &mut looked] {
        let rung = bell.wait_for(|head| *head == Seq(1)).await;
        rung.expect("the store is there");
    }
    dispatch_some(&*writer, ["two".to_owned()]).await;
    for bell in [&mut heard, &mut looked] {
        let rung = bell.wait_for(|head| *head == Seq(2)).await;
        rung.expect("the store is there");
    }
}
