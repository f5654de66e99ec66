//! Places that cannot be written, and disks that are full: a clear error, nothing lost, and on it goes
//! when there is room again.

use std::path::Path;

use sidestream::core::{Command, Namespace, TaskId, Timestamp};
use sidestream::error::StoreErrorKind;
use sidestream::store::{Prune, Request, SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

use crate::support::{audit, dispatch, dispatch_some, open, rows};

/// Commits until nothing more fits. Returns how many tasks are there.
async fn fill(store: &SqliteStore, place: &Path) -> usize {
    let payload = "x".repeat(10_000);
    for n in 0..10_000 {
        let batch = (0..4).map(|i| dispatch(&format!("t{n}-{i}"), serde_json::json!([payload])));
        if let Err(error) = store.commit(batch.collect()).await {
            assert_eq!(error.kind(), StoreErrorKind::Full, "{error}");
            let place = place.display().to_string();
            assert!(
                error.to_string().contains(&place),
                "it names the place: {error}"
            );
            return n * 4;
        }
    }
    panic!("it is never full");
}

#[tokio::test]
async fn a_store_of_limited_size_fills_up_and_loses_nothing() {
    let directory = TempDir::new().expect("a directory");
    let options = SqliteOptions {
        size_bytes_max: Some(2_000_000),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(directory.path(), options.clone()).expect("it opens");
    let tasks = fill(&store, directory.path()).await;
    assert!(tasks > 40, "there was room for {tasks}");
    assert_eq!(audit(&store).await.len(), tasks);
    drop(store);
    let larger = SqliteOptions {
        size_bytes_max: None,
        ..options
    };
    let store = SqliteStore::open(directory.path(), larger).expect("it opens");
    dispatch_some(&store, ["after".to_owned()]).await;
    assert_eq!(audit(&store).await.len(), tasks + 1);
}

/// A flood that has passed does not take the disk for ever.
#[tokio::test]
async fn room_that_is_free_is_given_back_at_the_next_start() {
    let directory = TempDir::new().expect("a directory");
    let store = open(directory.path()).expect("it opens");
    let payload = "x".repeat(1_000_000);
    let ids: Vec<String> = (0..24).map(|n| format!("flood-{n}")).collect();
    for id in &ids {
        let batch = vec![dispatch(id, serde_json::json!([payload]))];
        store.commit(batch).await.expect("it is committed");
    }
    dispatch_some(&store, ["stays".to_owned()]).await;
    for id in &ids {
        remove(&store, id).await;
    }
    let before = store.head().await.expect("it is read");
    drop(store);
    let file = directory.path().join("sidestream.db");
    let bytes = || std::fs::metadata(&file).expect("it is there").len();
    assert!(bytes() > 24_000_000, "it takes {} bytes", bytes());
    let store = open(directory.path()).expect("it opens again");
    assert!(bytes() < 2_000_000, "it takes {} bytes", bytes());
    assert_eq!(store.head().await.expect("it is read"), before);
    dispatch_some(&store, ["after".to_owned()]).await;
    assert_eq!(rows(&store).await.len(), 2);
}

/// Cancels a task, removes it, and forgets its events.
async fn remove(store: &SqliteStore, id: &str) {
    let (namespace, id) = (Namespace::default(), TaskId::new(id).expect("an id"));
    let (of, named) = (namespace.clone(), id.clone());
    let command = Command::Cancel;
    for request in [
        Request::Command {
            namespace: of,
            id: named,
            command,
        },
        Request::Delete { namespace, id },
        Request::Prune(Prune {
            before: Timestamp::from_ms(0),
            events_max: 1,
            limit: 100,
        }),
    ] {
        let committed = store.commit(vec![request]).await.expect("it is committed");
        assert!(committed.answers[0].is_ok(), "{:?}", committed.answers);
    }
}

/// Needs the right to mount: elsewhere the test above must do.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_loses_nothing_and_can_be_freed() {
    let Some(disk) = Disk::mount("size=4m") else {
        return;
    };
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1_500_000]).expect("it fits");
    let place = disk.path().join("data");
    let store = SqliteStore::open(&place, SqliteOptions::default()).expect("it opens");
    let tasks = fill(&store, &place).await;
    assert!(tasks > 10, "there was room for {tasks}");
    assert_eq!(
        audit(&store).await.len(),
        tasks,
        "what is there can be read"
    );
    std::fs::remove_file(ballast).expect("there is room again");
    dispatch_some(&store, ["after".to_owned()]).await;
    drop(store);
    let store = SqliteStore::open(&place, SqliteOptions::default()).expect("it opens again");
    assert_eq!(audit(&store).await.len(), tasks + 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let Some(disk) = Disk::mount("size=1m") else {
        return;
    };
    disk.make_read_only();
    for place in [disk.path().to_owned(), disk.path().join("data")] {
        let refused = SqliteStore::open(&place, SqliteOptions::default());
        let refused = refused.expect_err("it is refused");
        assert_eq!(refused.kind(), StoreErrorKind::Full, "{refused}");
        assert!(
            refused.to_string().contains(&place.display().to_string()),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_file_in_the_way_is_named() {
    let directory = TempDir::new().expect("a directory");
    let place = directory.path().join("file");
    std::fs::write(&place, b"in the way").expect("a file");
    let refused = SqliteStore::open(&place, SqliteOptions::default());
    let refused = refused.expect_err("it is refused");
    assert!(
        refused.to_string().contains(&place.display().to_string()),
        "{refused}"
    );
}

/// A small disk in memory, unmounted when dropped.
#[cfg(target_os = "linux")]
struct Disk(TempDir);

#[cfg(target_os = "linux")]
impl Disk {
    fn mount(options: &str) -> Option<Self> {
        let disk = Self(TempDir::new().expect("a directory"));
        let is_mounted = run(
            "mount",
            &["-t", "tmpfs", "-o", options, "tmpfs"],
            disk.path(),
        );
        is_mounted.then_some(disk)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        assert!(run("mount", &["-o", "remount,ro"], self.path()));
    }
}

#[cfg(target_os = "linux")]
impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l"], self.path());
    }
}

#[cfg(target_os = "linux")]
fn run(program: &str, args: &[&str], path: &Path) -> bool {
    let command = std::process::Command::new(program)
        .args(args)
        .arg(path)
        .output();
    command.is_ok_and(|output| output.status.success())
}
