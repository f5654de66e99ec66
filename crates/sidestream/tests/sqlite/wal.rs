//! The log ahead (the file `-wal`) with a torn end.

use std::path::Path;
use tempfile::TempDir;

use crate::support::{audit, copy, dispatch_some, open};

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
