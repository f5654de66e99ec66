//! The schema's versions: numbered, embedded, each applied once, all that are missing in one
//! transaction.
//!
//! Servers of two versions may use one database, while one replaces the other. So a migration says from
//! which version on a server can work with what it leaves: a server accepts a database that is newer than
//! itself as long as it is *compatible from* the server's own version or an earlier one. A migration that
//! adds a table, an index, or a column that may be null or has a default, is compatible with what was before;
//! so is one that takes away an index without which older servers only list more slowly.
//! One that takes anything else away or changes what it means is not; nor is one after which servers write what
//! older ones cannot read, such as a new kind of event.
//!
//! Old servers refuse an incompatible database when they start. Those that run at that moment are kept from
//! it by the migration itself: it renames the table `head`, without which nothing can be written, and no
//! stream read. They then say why.
//!
//! Those that run while a migration comes use its tables, one after the other, as it does. So that neither
//! waits for what the other has until the server ends one of them, a migration waits for a table for a
//! moment only, then undoes what it did and begins anew. What it does once it has the tables takes as long as it
//! takes; who wants them waits, as long as `lock_timeout` lets it, and then fails and tries again.

use std::collections::BTreeSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::address::Place;
use super::connection::{Connection, answer, quoted};
use super::failure::{Failure, Result};
use crate::chance::{self, SystemChance};
use crate::error::StoreErrorKind;

/// A step from one version of the schema to the next.
#[derive(Debug)]
struct Migration {
    sql: &'static str,
    /// The oldest version whose servers can work with the database after it.
    compatible_from: i64,
}

/// In order; the first is version 1. One that has been released is never edited: its checksum is kept
/// with the database.
const MIGRATIONS: [Migration; 2] = [
    Migration {
        sql: include_str!("migrations/0001_tasks_and_log.sql"),
        compatible_from: 1,
    },
    Migration {
        sql: include_str!("migrations/0002_fewer_index_entries.sql"),
        compatible_from: 1,
    },
];

/// The newest version that this code knows.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// The oldest server that has all that is used here.
const SERVER_VERSION_MIN: i64 = 14;

/// A migration that older servers cannot work with gives this table another name, `head_2` if it is the
/// second, by which the code knows it from then on.
#[cfg(test)]
const FENCE: &str = "ALTER TABLE head";

/// Only one process migrates at a time: the others wait, then find nothing to do.
const TURN: i64 = 0x5364_5374_0000_0001;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS migrations (
    version          BIGINT PRIMARY KEY, -- 1, 2, …
    compatible_from  BIGINT NOT NULL,    -- the oldest version whose servers can work with the database
    checksum         TEXT   NOT NULL,    -- SHA-256 of its SQL, in hexadecimal
    applied_at_ms    BIGINT NOT NULL     -- when it was applied
)";

/// How long a migration waits for a table that others use. Shorter than the second after which the server
/// looks for transactions that wait for each other (`deadlock_timeout`), and ends any one of them.
const TABLE_TIMEOUT: &str = "SET LOCAL lock_timeout = '300ms'";
/// How long it leaves them alone before it begins anew…
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// …and how often it does.
const ATTEMPTS_MAX: u32 = 120;

/// A migration that the database has had.
#[derive(Debug)]
struct Applied {
    version: i64,
    compatible_from: i64,
    checksum: String,
}

/// Looks at the server and at the database, and brings the schema to [`VERSION`] if it is older.
pub(super) async fn prepare(connection: &Connection, schema: &str, place: &Place) -> Result<()> {
    check_server(connection, place).await?;
    let applied = applied(connection, schema).await?;
    check(&applied, place)?;
    if is_current(&applied) {
        return Ok(());
    }
    migrate(connection, schema, place, &MIGRATIONS).await
}

/// The version of a database that is ours already, without changing it.
pub(super) async fn known(connection: &Connection, schema: &str, place: &Place) -> Result<i64> {
    check_server(connection, place).await?;
    let applied = applied(connection, schema).await?;
    check(&applied, place)?;
    applied.last().map(|last| last.version).ok_or_else(|| {
        let message = format!("{place} has no tables of Sidestream in the schema {schema}");
        Failure::Refused(StoreErrorKind::WrongPlace, message)
    })
}

/// The names of the indexes that a database of some version has, but for those that belong to a key; of a newer
/// one that we know of.
pub(super) fn index_names(version: i64) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    let lines = MIGRATIONS
        .iter()
        .take(usize::try_from(version).unwrap_or(0))
        .flat_map(|migration| migration.sql.lines());
    for line in lines {
        let words: Vec<&str> = line.split([' ', ';']).collect();
        match words.as_slice() {
            ["CREATE", "INDEX", name, ..] | ["CREATE", "UNIQUE", "INDEX", name, ..] => {
                names.insert(*name);
            }
            ["DROP", "INDEX", name, ..] => {
                names.remove(name);
            }
            _ => {}
        }
    }
    names
}

async fn check_server(connection: &Connection, place: &Place) -> Result<()> {
    let sql = "SELECT current_setting('server_version_num')::bigint / 10000,
        current_setting('server_version'), current_setting('server_encoding')";
    let rows = connection.query(sql, &[]).await?;
    let row = rows.first();
    let row = row.ok_or_else(|| Failure::Bug("the server has no version".into()))?;
    let (version, name): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    if version < SERVER_VERSION_MIN {
        let message = format!(
            "{place} is on PostgreSQL {name}: Sidestream needs {SERVER_VERSION_MIN} or newer"
        );
        return Err(Failure::Refused(StoreErrorKind::Unavailable, message));
    }
    let encoding: &str = row.try_get(2)?;
    if encoding != "UTF8" {
        let message = format!(
            "{place} has the encoding {encoding}: make one for Sidestream with the encoding UTF8"
        );
        return Err(Failure::Refused(StoreErrorKind::Unavailable, message));
    }
    Ok(())
}

/// The migrations that the database has had; none, if it is not ours yet.
async fn applied(connection: &Connection, schema: &str) -> Result<Vec<Applied>> {
    // Asked of the catalogue itself: what a session remembers of a name that was not there it may go on
    // believing until its transaction ends.
    let sql = "SELECT 1 FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1::text AND c.relname = 'migrations'";
    if connection.query(sql, &[schema.into()]).await?.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT version, compatible_from, checksum FROM @migrations ORDER BY version";
    let rows = connection.query(sql, &[]).await?;
    let applied = rows.iter().map(|row| {
        Ok(Applied {
            version: row.try_get(0)?,
            compatible_from: row.try_get(1)?,
            checksum: row.try_get(2)?,
        })
    });
    applied.collect()
}

/// Can we work with it?
fn check(applied: &[Applied], place: &Place) -> Result<()> {
    if let Some(last) = applied.last()
        && last.compatible_from > VERSION
    {
        let message = format!(
            "{place} was written by a newer version of Sidestream: its schema is version {}, for which \
             version {} must be known, and the newest known here is {VERSION}",
            last.version, last.compatible_from
        );
        return Err(Failure::Refused(StoreErrorKind::NewerVersion, message));
    }
    for (applied, ours) in applied.iter().zip(&MIGRATIONS) {
        if applied.checksum != sum(ours.sql) {
            let version = applied.version;
            let problem = format!("its migration {version} is not the one that this version knows");
            return Err(Failure::Unreadable(problem));
        }
    }
    Ok(())
}

fn is_current(applied: &[Applied]) -> bool {
    applied.last().is_some_and(|last| last.version >= VERSION)
}

/// Applies those of our migrations that are missing; again, as long as others are in the way.
async fn migrate(
    connection: &Connection,
    schema: &str,
    place: &Place,
    ours: &[Migration],
) -> Result<()> {
    let mut attempt = 1;
    loop {
        match try_to_migrate(connection, schema, place, ours).await {
            Err(failure) if failure.is_in_the_way() && attempt < ATTEMPTS_MAX => {
                answer(connection.send_plain("ROLLBACK")).await?;
                tracing::debug!(?failure, "others use what is to be migrated");
                tokio::time::sleep(AGAIN_AFTER).await;
                attempt += 1;
            }
            ended => return ended,
        }
    }
}

/// The same, once. If it fails, its transaction is left for the caller to undo.
async fn try_to_migrate(
    connection: &Connection,
    schema: &str,
    place: &Place,
    ours: &[Migration],
) -> Result<()> {
    answer(connection.send_plain("BEGIN")).await?;
    let turn = format!("SELECT pg_advisory_xact_lock({TURN})");
    connection.run_for_long(&turn).await?;
    apply(connection, schema, place, ours).await?;
    answer(connection.send_plain("COMMIT")).await
}

async fn apply(
    connection: &Connection,
    schema: &str,
    place: &Place,
    ours: &[Migration],
) -> Result<()> {
    // Somebody may have been quicker.
    let known = applied(connection, schema).await?;
    check(&known, place)?;
    if known.len() >= ours.len() {
        return Ok(());
    }
    answer(connection.send_plain(TABLE_TIMEOUT)).await?;
    let name = quoted(schema);
    let sql = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::text";
    let is_there = !connection.query(sql, &[schema.into()]).await?.is_empty();
    // Whoever may not make a schema can have one made for it.
    if !is_there {
        let create = format!("CREATE SCHEMA {name}");
        answer(connection.send_plain(&create)).await?;
    }
    let begin = format!("SET LOCAL search_path = {name}; {TABLE};");
    answer(connection.send_plain(&begin)).await?;
    for (migration, version) in ours.iter().zip(1_i64..).skip(known.len()) {
        tracing::info!(version, "migrating the tables");
        connection.run_for_long(migration.sql).await?;
        let sql = "INSERT INTO @migrations (version, compatible_from, checksum, applied_at_ms)
            VALUES ($1, $2, $3, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)";
        let values = [
            version.into(),
            migration.compatible_from.into(),
            sum(migration.sql).into(),
        ];
        connection.query(sql, &values).await?;
    }
    let sql = "INSERT INTO @head (single, epoch, seq, floor, last_at_ms)
        VALUES (1, $1, 0, 0, $2) ON CONFLICT DO NOTHING";
    let epoch = chance::epoch(&SystemChance);
    let values = [epoch.as_str().into(), i64::MIN.into()];
    connection.query(sql, &values).await?;
    Ok(())
}

fn sum(sql: &str) -> String {
    let digest = Sha256::digest(sql.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use sidestream_test_postgres::Cluster;

    use super::*;
    use crate::store::postgres::{PostgresOptions, PostgresStore};

    /// It wants first what a later transaction of a server wants last.
    const AGAINST_THE_ORDER: Migration = Migration {
        sql: "ALTER TABLE tasks ADD COLUMN later TEXT; ALTER TABLE specs ADD COLUMN later TEXT",
        compatible_from: 1,
    };

    /// Whoever is in the middle of something when a migration comes is not ended for it.
    #[tokio::test]
    async fn a_migration_gives_way_to_who_is_at_work() {
        let cluster = Cluster::start();
        let opened =
            PostgresStore::open(&cluster.url("postgres"), PostgresOptions::default()).await;
        let store = opened.expect("the store opens");
        let worker = store.connections.get().await.expect("a connection");
        let look_at = async |table| {
            let sql = format!("SELECT count(*) FROM @{table}");
            let rows = worker.query(&sql, &[]).await;
            rows.expect("it is not ended for the migration");
        };
        // Sooner than the migration's own: of two that waited for each other, the server would end this one.
        let begin = worker.send_plain("BEGIN; SET LOCAL deadlock_timeout = '600ms'");
        answer(begin).await.expect("a transaction");
        look_at("specs").await;
        let connection = store.connections.get().await.expect("a connection");
        let ours: Vec<Migration> = MIGRATIONS.into_iter().chain([AGAINST_THE_ORDER]).collect();
        let migrating = migrate(&connection, &store.schema, &store.place, &ours);
        let working = async {
            // The migration has the tasks and waits for the specs, or will: this waits for the migration.
            let sql = "SELECT 1 FROM pg_catalog.pg_locks WHERE NOT granted
                AND mode = 'AccessExclusiveLock'";
            while worker.query(sql, &[]).await.expect("the locks").is_empty() {
                tokio::task::yield_now().await;
            }
            look_at("tasks").await;
            answer(worker.send_plain("COMMIT")).await.expect("it ends");
        };
        let (migrated, ()) = tokio::join!(migrating, working);
        migrated.expect("it is migrated");
        let known = applied(&connection, &store.schema)
            .await
            .expect("they are known");
        assert_eq!(known.last().map(|last| last.version), Some(VERSION + 1));
    }

    #[test]
    fn who_cannot_work_with_a_migration_is_kept_from_it() {
        let mut before = 1;
        for (migration, version) in MIGRATIONS.iter().zip(1_i64..) {
            let from = migration.compatible_from;
            assert!(before <= from && from <= version, "migration {version}");
            let is_fenced = migration.sql.contains(FENCE);
            assert_eq!(from > before, is_fenced, "migration {version}");
            before = from;
        }
    }
}
