//! The one way to a prepared statement, so that a test can look at every one of them.

use rusqlite::{CachedStatement, Connection};

/// Prepares a statement, or finds it prepared.
///
/// Its plan is made once, whatever values are bound later: see `SQLITE_DBCONFIG_ENABLE_QPSG` in `open`.
pub(super) fn prepare<'c>(
    connection: &'c Connection,
    sql: &str,
) -> rusqlite::Result<CachedStatement<'c>> {
    let statement = connection.prepare_cached(sql)?;
    #[cfg(test)]
    seen::note(sql, &statement);
    Ok(statement)
}

/// Every statement that this test process has prepared.
#[cfg(test)]
pub(super) mod seen {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;
    use rusqlite::{CachedStatement, StatementStatus};

    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    static REPLANNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    pub(super) fn note(sql: &str, statement: &CachedStatement<'_>) {
        note_in(&SEEN, sql);
        if statement.get_status(StatementStatus::RePrepare) > 0 {
            note_in(&REPLANNED, sql);
        }
    }

    fn note_in(texts: &Mutex<BTreeSet<String>>, sql: &str) {
        let mut texts = texts.lock();
        if !texts.contains(sql) {
            texts.insert(sql.to_owned());
        }
    }

    /// All of them.
    pub(crate) fn all() -> BTreeSet<String> {
        SEEN.lock().clone()
    }

    /// Those that SQLite has planned more than once.
    pub(crate) fn replanned() -> BTreeSet<String> {
        REPLANNED.lock().clone()
    }
}
