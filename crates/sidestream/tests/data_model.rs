//! `docs/data-model.md` says what the database holds: it must not go stale. `UPDATE_DOCS=1` rewrites it.
#![cfg(feature = "sqlite")]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sidestream_core::task::TaskDefaults;
use sidestream_core::{
    Attempt, EventKind, Json, Namespace, NewTask, Record, TaskError, TaskId, Timestamp, WorkerId,
};

const HEAD: &str = "# Data model

Nothing but Sidestream should write to its database; reading it while a server runs is harmless.

One transaction changes a task's row, appends its events, and counts: all or nothing (L1). `seq` is one
sequence for the whole database, without a hole (L2). A row of `tasks` is the fold of its events, its lease
aside (L3): `core/src/lifecycle.rs` makes it, whatever the store.

This page is made from the code: `UPDATE_DOCS=1 cargo nextest run -p sidestream --test data_model`.

## Events

| `code` | what happened | `body` |
|---|---|---|
";

const SQLITE: &str = "
## SQLite

The database of a data directory is `sidestream.db`, in write-ahead mode (`sqlite3 -readonly`).
";

const POSTGRES: &str = "
## PostgreSQL

Everything is in one schema, `sidestream` unless another is chosen. What differs from SQLite, and why:

- What never changes (`specs`, with the indexes for lists by whose a task is) is apart from what does
  (`tasks`), since an update writes a row anew, and an entry into every index of its table.
- No index has `tasks.seq`: it is known only when the head is locked, as the last step of a commit, and is
  then put right without touching an index ([decision 10](decisions/0010-the-log-on-postgresql.md)).
- A task is found by a hash of its namespace and id: an entry of an index has room for 2,704 bytes, and
  no other index must offer itself for it.
- Texts that may hold a NUL are kept as bytes.

Migrations are rows of `migrations`: `version`, `checksum`, and `compatible_from`, the oldest version of
Sidestream's schema whose servers can go on working with the database. A server accepts a database that
is newer than itself if `compatible_from` of its last migration is not newer: so servers of two versions
can run while one replaces the other. A migration that takes something away but an index without which older ones
only list more slowly, changes what something means, or lets servers write what older ones cannot read, raises `compatible_from`. Then old servers refuse the database
when they start, and nothing is touched; and it renames the table `head`, so that those that run can write
nothing any more.
";

/// One event of each kind, with what its body holds.
fn kinds() -> Vec<(EventKind, &'static str, &'static str)> {
    let attempt = Attempt(1);
    let error = TaskError::new("no");
    let spec = NewTask::new("tool").into_spec(
        Namespace::default(),
        TaskId::new("id").expect("a fit id"),
        TaskDefaults::default(),
    );
    let document = r#"{"id":"i","subagentType":"s","description":"d","status":"pending",
        "createdAt":"2026-11-21T00:10:24.219Z","updatedAt":"2026-11-21T00:10:24.219Z"}"#;
    let record = Record::from_document(Json::from_text(document).expect("JSON"));
    let started = EventKind::Started {
        attempt,
        worker: WorkerId::new("w").expect("a fit id"),
        is_resumed: false,
    };
    let retrying = EventKind::Retrying {
        attempt,
        error: error.clone(),
        next_attempt_at: Timestamp::from_ms(0),
    };
    let payload = Json::string("p");
    let suspended = EventKind::Suspended {
        attempt,
        payload: payload.clone(),
    };
    let completed = EventKind::Completed {
        attempt,
        result: None,
    };
    let resumed = EventKind::Resumed {
        data: payload.clone(),
    };
    let failed = EventKind::Failed {
        attempt,
        error: error.clone(),
    };
    let output = EventKind::Output { attempt, payload };
    let dispatched = EventKind::Dispatched(Arc::new(spec.expect("a fit task")));
    let recorded = EventKind::Recorded(Arc::new(record.expect("a fit record")));
    vec![
        (dispatched, "dispatched", "none: the row of `specs` says it"),
        (
            started,
            "started",
            "`worker`; `resumed`, if the first attempt since",
        ),
        (output, "output", "what the tool emitted"),
        (suspended, "suspended", "what it waits for"),
        (resumed, "resumed", "what it was resumed with"),
        (completed, "completed", "the result; none without one"),
        (
            retrying,
            "failed, and will be tried again",
            "`error`; `next_attempt_at`, in milliseconds since 1970",
        ),
        (failed, "failed", "`message`; `stack`"),
        (
            EventKind::TimedOut { attempt, error },
            "timed out",
            "`message`",
        ),
        (EventKind::Cancelled, "cancelled", "none"),
        (EventKind::Retried, "retried by hand", "none"),
        (recorded, "recorded by its owner elsewhere", "the document"),
    ]
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (kind, what, body) in kinds() {
        let code = kind.to_stored().code;
        writeln!(page, "| {code} | {what} | {body} |").expect("a text takes text");
    }
    page.push_str(SQLITE);
    add_migrations(&mut page, "sqlite");
    page.push_str(POSTGRES);
    add_migrations(&mut page, "postgres");
    page
}

fn add_migrations(page: &mut String, store: &str) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let migrations = sources.join(store).join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(migrations)
        .expect("the migrations are there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    for file in files {
        let name = file
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let sql = std::fs::read_to_string(&file).expect("readable");
        write!(page, "\n`{name}`\n\n```sql\n{sql}```\n").expect("a text takes text");
    }
}

#[test]
fn the_page_on_the_data_model_is_true() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/data-model.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).expect("writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/data-model.md is stale: run this test with UPDATE_DOCS=1"
    );
}
