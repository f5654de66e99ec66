//! The log ahead (the file `-wal`): a torn end, and that it does not grow without bound.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sidestream::core::Seq;
use sidestream::store::{LogQuery, Store};
use tempfile::TempDir;

use crate::support::{audit, copy, dispatch, dispatch_some, open};

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn wal(directory: &Path) -> std::path::PathBuf {
    directory.join("sidestream.db-wal")
}

/// However much of its end is lost or garbled, what is left is the state after some commit.
#[tokio::test]
async fn a_torn_end_loses_whole_commits_only() {
    let live = directory();
    let store = open(live.path()).expect("it opens");
    for batch in 0..20 {
        dispatch_some(&store, (0..5).map(|n| format!("t{batch}-{n}"))).await;
    }
    let bytes = std::fs::read(wal(live.path())).expect("the log ahead is there");
    let mut losses = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 37) {
        for is_garbled in [false, true] {
            let crashed = directory();
            copy(live.path(), crashed.path());
            let _ = std::fs::remove_file(crashed.path().join("sidestream.db-shm"));
            let mut torn = bytes.clone();
            if is_garbled {
                torn[at..].fill(0x5a);
            } else {
                torn.truncate(at);
            }
            std::fs::write(wal(crashed.path()), &torn).expect("it is torn");
            let reopened = open(crashed.path()).expect("it opens");
            let rows = audit(&reopened).await;
            assert_eq!(rows.len() % 5, 0, "a batch is there whole or not at all");
            losses += usize::from(rows.len() < 100);
            dispatch_some(&reopened, ["after".to_owned()]).await;
            assert_eq!(audit(&reopened).await.len(), rows.len() + 1);
        }
    }
    assert!(losses > 30, "the test tears what matters");
}

/// Readers come and go all the time, none stays long: the writer finds its moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn it_does_not_grow_without_bound() {
    let directory = directory();
    let options = sidestream::store::SqliteOptions {
        synchronous: sidestream::store::Synchronous::Normal,
        ..Default::default()
    };
    let store = sidestream::store::SqliteStore::open(directory.path(), options);
    let store = Arc::new(store.expect("it opens"));
    let is_done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, is_done) = (Arc::clone(&store), Arc::clone(&is_done));
            tokio::spawn(async move {
                while !is_done.load(Ordering::Relaxed) {
                    let query = LogQuery {
                        after: Seq(0),
                        limit: 200,
                        task: None,
                    };
                    store.log(&query).await.expect("the log is read");
                }
            })
        })
        .collect();
    let payload = "x".repeat(30_000);
    let largest = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let (store, payload) = (Arc::clone(&store), payload.clone());
            let batch = move |n| {
                let args = serde_json::json!({"payload": payload});
                let request = |i| dispatch(&format!("t{writer}-{n}-{i}"), args.clone());
                (0..100).map(request).collect::<Vec<_>>()
            };
            let batches: Vec<_> = (0..9).map(batch).collect();
            let (wal, largest) = (wal(directory.path()), Arc::clone(&largest));
            tokio::spawn(async move {
                for batch in batches {
                    store.commit(batch).await.expect("it is committed");
                    let bytes = std::fs::metadata(&wal).expect("it is there").len();
                    largest.fetch_max(bytes, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer does not fail");
    }
    is_done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("a reader does not fail");
    }
    let largest = largest.load(Ordering::Relaxed);
    // 160 MB were written.
    assert!(largest < 80_000_000, "it grew to {largest} bytes");
}
