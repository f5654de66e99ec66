//! The log as it is usually built, with numbers from a sequence: it loses events. Kept to show that the
//! check of the order would notice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sidestream_test_postgres::Cluster;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::support::{Fault, Seen};

async fn connect(url: &str, driving: &mut JoinSet<()>) -> Client {
    let connected = tokio_postgres::connect(url, NoTls).await;
    let (client, connection) = connected.expect("the server is there");
    driving.spawn(async move {
        // It ends with its client.
        let _ = connection.await;
    });
    client
}

async fn write(client: Client, is_done: Arc<AtomicBool>, slowness: Duration) {
    let append = "INSERT INTO naive (body) VALUES ('x'), ('y')";
    while !is_done.load(Ordering::SeqCst) {
        client.batch_execute("BEGIN").await.expect("it works");
        client.batch_execute(append).await.expect("it works");
        tokio::time::sleep(slowness).await;
        client.batch_execute("COMMIT").await.expect("it works");
    }
}

async fn read(client: &Client, seen: &mut Seen) {
    let sql = "SELECT seq FROM naive WHERE seq > $1 ORDER BY seq";
    let after = i64::try_from(seen.last()).expect("a small number");
    let rows = client.query(sql, &[&after]).await.expect("it works");
    let places = rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned());
    seen.see(places);
}

/// A slow writer's number is given out before it commits, and read past before it can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_notices_what_a_sequence_loses() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let mut driving = JoinSet::new();
    let client = connect(&url, &mut driving).await;
    let table = "CREATE TABLE naive (seq BIGSERIAL PRIMARY KEY, body TEXT)";
    client.batch_execute(table).await.expect("it works");
    let is_done = Arc::new(AtomicBool::new(false));
    let mut writing = JoinSet::new();
    for n in 0..4 {
        let writer = connect(&url, &mut driving).await;
        let slowness = Duration::from_millis(n * 7);
        writing.spawn(write(writer, Arc::clone(&is_done), slowness));
    }
    let mut seen = Seen::default();
    while seen.last() < 400 {
        read(&client, &mut seen).await;
    }
    is_done.store(true, Ordering::SeqCst);
    while let Some(ended) = writing.join_next().await {
        ended.expect("it writes to the end");
    }
    read(&client, &mut seen).await;
    let rows = client.query("SELECT seq FROM naive", &[]).await;
    let rows = rows.expect("it works");
    let committed = rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned());
    let fault = seen.check(&committed.collect::<BTreeSet<u64>>());
    match fault {
        Err(Fault::Lost(lost)) => assert!(!lost.is_empty()),
        other => panic!("a sequence lost nothing: {other:?}"),
    }
}

#[test]
fn the_check_notices_every_fault() {
    let committed = BTreeSet::from([1, 2, 3]);
    let check = |places: &[u64]| {
        let mut seen = Seen::default();
        seen.see(places.iter().copied());
        seen.check(&committed)
    };
    assert_eq!(check(&[1, 2, 3]), Ok(()));
    assert_eq!(check(&[1, 3]), Err(Fault::Lost(BTreeSet::from([2]))));
    assert_eq!(check(&[1, 3, 2]), Err(Fault::OutOfOrder(2)));
    assert_eq!(check(&[1, 2, 2, 3]), Err(Fault::OutOfOrder(2)));
    assert_eq!(check(&[1, 2, 3, 4]), Err(Fault::Invented(4)));
}
