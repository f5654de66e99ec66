//! Opening a data directory: what is made, what is refused, and that a refusal changes nothing.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use sidestream::clock::ManualClock;
use sidestream::core::{Command, Namespace, Seq, Status, TaskId, Timestamp};
use sidestream::error::{StoreError, StoreErrorKind};
use sidestream::store::{Answer, Request, SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

use crate::support::{
    audit, claim, complete, dispatch, dispatch_some, every_order_has, files, open, without,
};

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

/// A data directory with three tasks, closed.
async fn closed_store() -> TempDir {
    let directory = directory();
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, (0..3).map(|n| format!("t{n}"))).await;
    directory
}

fn database(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("sidestream.db")
}

fn refused(directory: &Path, kind: StoreErrorKind) -> StoreError {
    let before = files(directory);
    let refused = open(directory).expect_err("it is refused");
    assert_eq!(refused.kind(), kind, "{refused}");
    let mut after = files(directory);
    if !before.contains_key("sidestream.lock") {
        after.remove("sidestream.lock");
    }
    let names = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        files.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(names(&before), names(&after), "no file comes or goes");
    for (name, bytes) in &before {
        // The holder's name is in it.
        let is_lock = name == "sidestream.lock";
        assert!(is_lock || after[name] == *bytes, "{name} is left alone");
    }
    refused
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let directory = closed_store().await;
    assert_eq!(
        files(directory.path()).into_keys().collect::<Vec<_>>(),
        ["sidestream.db", "sidestream.lock"],
        "a closed store leaves nothing beside it"
    );
    let epoch = {
        let store = open(directory.path()).expect("it opens again");
        assert_eq!(audit(&store).await.len(), 3);
        store.head().await.expect("a head").epoch
    };
    let store = open(directory.path()).expect("and again");
    assert_eq!(store.head().await.expect("a head").epoch, epoch);
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory();
    let inner = directory.path().join("a/b");
    let _store = open(&inner).expect("it opens");
    let mode = std::fs::metadata(&inner)
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_second_one_is_refused_and_learns_who_was_first() {
    let directory = directory();
    let clock = ManualClock::starting_at(Timestamp::from_ms(1_795_219_824_219));
    let options = SqliteOptions {
        clock: Arc::new(clock),
        ..SqliteOptions::default()
    };
    let first = SqliteStore::open(directory.path(), options).expect("it opens");
    let refused = open(directory.path()).expect_err("it is refused");
    assert_eq!(refused.kind(), StoreErrorKind::Locked);
    let message = refused.to_string();
    let holder = format!("in use by process {} on ", std::process::id());
    assert!(message.contains(&holder), "{message}");
    assert!(
        message.ends_with(", since 2026-11-21T00:10:24.219Z"),
        "{message}"
    );
    drop(first);
    open(directory.path()).expect("it opens once the first is closed");
}

#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    let directory = closed_store().await;
    let before = {
        let store = open(directory.path()).expect("it opens");
        dispatch_some(&store, ["done".to_owned()]).await;
        let claimed = claim(&store, 2).await.expect("they are claimed");
        let done = store.commit(vec![complete(&claimed[0])]).await;
        done.expect("it is completed");
        audit(&store).await
    };
    let older = rusqlite::Connection::open(database(&directory)).expect("a connection");
    let first = include_str!("../../src/store/sqlite/migrations/0001_tasks_and_log.sql");
    let second = include_str!("../../src/store/sqlite/migrations/0002_fewer_index_entries.sql");
    let undo = without(second, first)
        + "DELETE FROM migrations WHERE version = 2; PRAGMA user_version = 1";
    older.execute_batch(&undo).expect("it is as it was");
    let indexes = |connection: &rusqlite::Connection| -> Vec<String> {
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'tasks%'";
        let mut statement = connection.prepare(sql).expect("it is valid");
        let names = statement
            .query_map([], |row| row.get(0))
            .expect("they are read");
        names.map(|name| name.expect("a name")).collect()
    };
    assert!(indexes(&older).contains(&"tasks_by_deadline".to_owned()));
    drop(older);

    let store = open(directory.path()).expect("it opens");
    assert_eq!(audit(&store).await, before);
    every_order_has(&store, 4).await;
    let newer = rusqlite::Connection::open(database(&directory)).expect("a connection");
    let names = indexes(&newer);
    assert!(names.contains(&"tasks_held".to_owned()), "{names:?}");
    assert!(
        !names.contains(&"tasks_by_deadline".to_owned()),
        "{names:?}"
    );
    let whole: String = newer
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("it is checked");
    assert_eq!(whole, "ok");
}

#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let directory = closed_store().await;
    let newer = 99_u32.to_be_bytes();
    write_at(&database(&directory), 60, &newer);
    let refused = refused(directory.path(), StoreErrorKind::NewerVersion);
    assert!(
        refused.to_string().contains("schema is version 99"),
        "{refused}"
    );
}

/// Its version may stand in the log ahead only, when the newer process was killed.
#[tokio::test]
async fn a_newer_database_that_was_not_closed_is_left_alone() {
    let (live, killed) = (directory(), directory());
    let store = open(live.path()).expect("it opens");
    dispatch_some(&store, ["t".to_owned()]).await;
    let newer = rusqlite::Connection::open(database(&live)).expect("a connection");
    newer
        .pragma_update(None, "user_version", 99)
        .expect("it is set");
    crate::support::copy(live.path(), killed.path());
    std::fs::remove_file(killed.path().join("sidestream.db-shm")).expect("it was there");
    refused(killed.path(), StoreErrorKind::NewerVersion);
}

#[tokio::test]
async fn what_is_no_database_is_left_alone() {
    for bytes in [b"not a database".as_slice(), &[7; 20_000]] {
        let directory = directory();
        std::fs::write(database(&directory), bytes).expect("a file");
        let refused = refused(directory.path(), StoreErrorKind::Damaged);
        assert!(
            refused.to_string().contains("not a SQLite database"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_database_of_somebody_else_is_left_alone() {
    let directory = directory();
    let other = rusqlite::Connection::open(database(&directory)).expect("a database");
    other
        .execute_batch("CREATE TABLE theirs (a)")
        .expect("a table");
    drop(other);
    let refused = refused(directory.path(), StoreErrorKind::Damaged);
    assert!(
        refused.to_string().contains("not made by Sidestream"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_damaged_database_is_left_alone() {
    // A page in the middle overwritten; the end cut off; the schema overwritten.
    let damages: [fn(&Path); 3] = [
        |file| write_at(file, 5 * 4_096, &[0xa5; 8_192]),
        |file| {
            let file = std::fs::OpenOptions::new().write(true).open(file);
            file.and_then(|file| file.set_len(3 * 4_096))
                .expect("it is cut");
        },
        |file| write_at(file, 100, &[0xa5; 3_000]),
    ];
    for damage in damages {
        let directory = closed_store().await;
        damage(&database(&directory));
        refused(directory.path(), StoreErrorKind::Damaged);
    }
}

#[tokio::test]
async fn a_log_that_does_not_end_where_it_should_is_refused() {
    let directory = closed_store().await;
    let tampered = rusqlite::Connection::open(database(&directory)).expect("a connection");
    let gone = tampered.execute("DELETE FROM events WHERE seq = 3", []);
    assert_eq!(gone.expect("it is deleted"), 1);
    drop(tampered);
    let refused = open(directory.path()).expect_err("it is refused");
    assert_eq!(refused.kind(), StoreErrorKind::Damaged, "{refused}");
}

/// What cannot be read fails the batch that meets it, all of it, and nothing else.
#[tokio::test]
async fn an_unreadable_row_spoils_its_batch_only() {
    let directory = closed_store().await;
    let tampered = rusqlite::Connection::open(database(&directory)).expect("a connection");
    let sql = "UPDATE tasks SET resume_data = '{' WHERE id = 't1'";
    assert_eq!(tampered.execute(sql, []).expect("it is changed"), 1);
    drop(tampered);
    let store = open(directory.path()).expect("it opens");
    let cancel = |id: &str| Request::Command {
        namespace: Namespace::default(),
        id: TaskId::new(id).expect("a plain id"),
        command: Command::Cancel,
    };
    let fresh = || dispatch("fresh", serde_json::json!({}));
    let batch = vec![fresh(), cancel("t0"), cancel("t1"), cancel("t2")];
    let error = store.commit(batch).await.expect_err("t1 cannot be read");
    assert_eq!(error.kind(), StoreErrorKind::Damaged, "{error}");
    let committed = store.commit(vec![cancel("t2"), fresh()]).await;
    let committed = committed.expect("the next one is fine");
    assert_eq!(
        committed.entries[0].event.seq,
        Seq(4),
        "nothing of the first is left"
    );
    assert!(matches!(
        committed.answers[1],
        Ok(Answer::Dispatched { is_new: true, .. })
    ));
    let counts = store.counts().await.expect("the counts are read");
    assert_eq!(counts[&Status::Pending], 3);
    assert_eq!(counts[&Status::Cancelled], 1);
}

#[tokio::test]
async fn a_creation_that_was_cut_short_begins_anew() {
    let directory = directory();
    std::fs::write(database(&directory), b"").expect("an empty file");
    let store = open(directory.path()).expect("it opens");
    dispatch_some(&store, ["t".to_owned()]).await;
    assert_eq!(audit(&store).await.len(), 1);
}

fn write_at(file: &Path, at: u64, bytes: &[u8]) {
    let file = std::fs::OpenOptions::new().write(true).open(file);
    let mut file = file.expect("it is there");
    file.seek(SeekFrom::Start(at)).expect("a place");
    file.write_all(bytes).expect("it is written");
}
