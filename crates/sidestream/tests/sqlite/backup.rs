//! Copies of a database, and what is put back.

use std::fs;
use std::path::Path;

use sidestream::error::StoreErrorKind;
use sidestream::store::{Head, SqliteStore, Store};
use tempfile::TempDir;

use crate::support::{audit, dispatch_some, open, rows};

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is read");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it is read").file_name();
    let mut names: Vec<_> = entries
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_copy_made_in_the_middle_of_work_is_put_back_as_a_log_of_another_name() {
    let (data, other, new) = (directory(), directory(), directory());
    let store = open(data.path()).expect("it opens");
    let backup = other.path().join("backup.db");
    dispatch_some(&store, (0..100).map(|n| format!("before-{n}"))).await;
    let before = store.head().await.expect("it is read");
    let copied = SqliteStore::back_up(data.path(), &backup).expect("it is copied");
    assert_eq!(copied, before);
    dispatch_some(&store, ["after".to_owned()]).await;
    assert_eq!(names_in(other.path()), ["backup.db"]);

    let restored = SqliteStore::restore(&backup, new.path()).expect("it is restored");
    assert_ne!(restored.epoch, before.epoch);
    assert_eq!((restored.seq, restored.floor), (before.seq, before.floor));
    let again = open(new.path()).expect("it opens");
    assert_eq!(again.head().await.expect("it is read"), restored);
    assert_eq!(audit(&again).await.len(), 100);
    dispatch_some(&again, ["after".to_owned()]).await;
    // The one that was copied has not been touched.
    assert_eq!(rows(&store).await.len(), 101);
    let Head { epoch, .. } = store.head().await.expect("it is read");
    assert_eq!(epoch, before.epoch);
}

/// What SQLite has locked of a file in this process.
#[cfg(target_os = "linux")]
fn locks_on(file: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let number = fs::metadata(file).expect("it is there").ino();
    let (number, own) = (format!(":{number} "), format!(" {} ", std::process::id()));
    let locks = fs::read_to_string("/proc/locks").expect("Linux tells of locks");
    let ours =
        |line: &&str| line.contains("POSIX") && line.contains(&own) && line.contains(&number);
    locks.lines().filter(ours).count()
}

/// Without them another process that closes the database would take itself for the last, and remove the log
/// ahead of whoever writes.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_copies_or_examines_what_is_open_here_leaves_its_locks() {
    let (data, other) = (directory(), directory());
    let database = data.path().join("sidestream.db");
    let store = open(data.path()).expect("it opens");
    dispatch_some(&store, ["a".to_owned()]).await;
    assert_ne!(locks_on(&database), 0);
    SqliteStore::back_up(data.path(), other.path().join("backup.db")).expect("it is copied");
    assert_ne!(locks_on(&database), 0, "after a copy");
    SqliteStore::examine(data.path()).expect("it is examined");
    assert_ne!(locks_on(&database), 0, "after a look");
    drop(store);
    assert_eq!(locks_on(&database), 0);
    SqliteStore::examine(data.path()).expect("it is examined");
}

/// Somebody has copied the files as they lay there.
#[tokio::test]
async fn files_copied_by_hand_bring_their_log_ahead_along() {
    let (data, other, new) = (directory(), directory(), directory());
    let store = open(data.path()).expect("it opens");
    dispatch_some(&store, ["a".to_owned(), "b".to_owned()]).await;
    for name in ["sidestream.db", "sidestream.db-wal"] {
        fs::copy(data.path().join(name), other.path().join(name)).expect("it is copied");
    }
    let file = other.path().join("sidestream.db");
    SqliteStore::restore(&file, new.path()).expect("it is restored");
    assert_eq!(audit(&open(new.path()).expect("it opens")).await.len(), 2);
}

#[tokio::test]
async fn what_is_there_is_not_replaced_and_what_is_no_copy_is_refused() {
    let (data, other) = (directory(), directory());
    let nothing = SqliteStore::back_up(data.path(), other.path().join("b")).expect_err("empty");
    assert!(
        nothing.to_string().contains("there is no database"),
        "{nothing}"
    );
    assert!(names_in(data.path()).is_empty());

    let store = open(data.path()).expect("it opens");
    dispatch_some(&store, ["a".to_owned()]).await;
    let backup = other.path().join("backup.db");
    SqliteStore::back_up(data.path(), &backup).expect("it is copied");
    let twice = SqliteStore::back_up(data.path(), &backup).expect_err("it is there");
    assert_eq!(twice.kind(), StoreErrorKind::WrongPlace, "{twice}");

    let in_use = SqliteStore::restore(&backup, data.path()).expect_err("it is in use");
    assert_eq!(in_use.kind(), StoreErrorKind::Locked, "{in_use}");
    drop(store);
    let has_one = SqliteStore::restore(&backup, data.path()).expect_err("it has one");
    assert!(
        has_one.to_string().contains("is there already"),
        "{has_one}"
    );

    let torn = other.path().join("torn.db");
    let bytes = fs::read(&backup).expect("it is read");
    fs::write(&torn, &bytes[..bytes.len() / 2]).expect("it is written");
    let new = directory();
    let damaged = SqliteStore::restore(&torn, new.path()).expect_err("half of it is missing");
    assert_eq!(damaged.kind(), StoreErrorKind::Damaged, "{damaged}");
    fs::write(&torn, "some text").expect("it is written");
    let foreign = SqliteStore::restore(&torn, new.path()).expect_err("it is a text");
    assert_eq!(foreign.kind(), StoreErrorKind::Damaged, "{foreign}");
    assert!(names_in(new.path()).is_empty());
}

/// S3: who puts the file of an older day back by hand gets a log of another name, once.
#[tokio::test]
async fn an_older_copy_put_back_by_hand_is_named_anew() {
    let (data, other) = (directory(), directory());
    let name = "sidestream.db";
    let (file, copy) = (data.path().join(name), other.path().join(name));
    let head = async |count: u32| {
        let store = open(data.path()).expect("it opens");
        dispatch_some(&store, (0..count).map(|n| format!("{count}-{n}"))).await;
        store.head().await.expect("it is read")
    };
    let first = head(3).await;
    fs::copy(&file, &copy).expect("it is copied");
    let second = head(2).await;
    assert_eq!(second.epoch, first.epoch);
    fs::copy(&copy, &file).expect("it is put back");
    let third = head(0).await;
    assert_eq!(third.seq, first.seq);
    assert_ne!(third.epoch, first.epoch);
    // It has a past of its own now, and is known by it.
    assert_eq!(head(4).await.epoch, third.epoch);
    fs::copy(&copy, &file).expect("it is put back");
    assert!(![&first.epoch, &third.epoch].contains(&&head(9).await.epoch));
    assert_eq!(audit(&open(data.path()).expect("it opens")).await.len(), 12);
}
