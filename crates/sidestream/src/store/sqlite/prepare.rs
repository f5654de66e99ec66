//! The one way to a prepared statement, so that a test can look at every one of them.

use rusqlite::{CachedStatement, Connection};

/// Prepares a statement, or finds it prepared.
///
/// Its plan is made once, whatever values are bound later: see `SQLITE_DBCONFIG_ENABLE_QPSG` in `open`.
pub(super) fn prepare<'c>(
    connection: &'c Connection,
    sql: &str,
) -> rusqlite::Result<CachedStatement<'c>> {
    #[cfg(test)]
    seen::note(sql);
    connection.prepare_cached(sql)
}

/// Every statement that this test process has prepared.
#[cfg(test)]
pub(super) mod seen {
    use std::collections::BTreeSet;

    use parking_lot::Mutex;

    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    pub(super) fn note(sql: &str) {
        let mut seen = SEEN.lock();
        if !seen.contains(sql) {
            seen.insert(sql.to_owned());
        }
    }

    pub(crate) fn all() -> BTreeSet<String> {
        SEEN.lock().clone()
    }
}
