//! The room that a database takes, and giving back what is free of it.
//!
//! What retention removes leaves free pages, which are used again: so the file is as large as it once had to
//! be, and no larger. SQLite could shrink it as it goes (`auto_vacuum`), but each write would cost a
//! twenty-fifth more for it, for ever. So it is written anew when it is opened, if that takes no longer than
//! opening may: when most of it is free, and what is not is little
//! (`docs/decisions/0016-room-is-given-back-at-the-start.md`).

use std::path::Path;

use rusqlite::Connection;

use super::failure::Result;
use super::open;
use crate::store::finding::bytes_in_words;

/// A database is written anew only if more than this share of it is free…
const FREE_SHARE_MAX: f64 = 0.5;
/// …which is more than this, in bytes…
const FREE_BYTES_MIN: u64 = 16 * 1_048_576;
/// …and if what is to be written is no more than this, in bytes: that takes some 0.2 s.
const USED_BYTES_MAX: u64 = 32 * 1_048_576;

/// The room that a database takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// All of it, in bytes.
    pub(super) bytes: u64,
    /// What is free of that, in bytes.
    pub(super) free_bytes: u64,
}

impl Room {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let number = |pragma: &str| -> rusqlite::Result<u64> {
            let sql = format!("PRAGMA {pragma}");
            connection.query_row(&sql, [], |row| row.get(0).map(i64::cast_unsigned))
        };
        let page_bytes = number("page_size")?;
        Ok(Self {
            bytes: number("page_count")? * page_bytes,
            free_bytes: number("freelist_count")? * page_bytes,
        })
    }

    /// Is more of it free than a database needs that is in use?
    pub(super) fn is_mostly_free(self) -> bool {
        self.free_bytes as f64 > self.bytes as f64 * FREE_SHARE_MAX
    }

    /// Will it be given back when the database is opened next?
    pub(super) fn is_given_back(self) -> bool {
        let used_bytes = self.bytes - self.free_bytes;
        self.is_mostly_free() && self.free_bytes > FREE_BYTES_MIN && used_bytes <= USED_BYTES_MAX
    }
}

/// Writes a database anew that is mostly free, if that is soon done. Where it cannot be, as on a full disk,
/// it stays as it is.
pub(super) fn give_back(connection: &Connection, file: &Path) {
    match write_anew(connection) {
        Ok(None) => {}
        Ok(Some((before, after))) => tracing::info!(
            file = %file.display(),
            before = bytes_in_words(before.bytes),
            after = bytes_in_words(after.bytes),
            "room given back"
        ),
        Err(error) => {
            tracing::warn!(file = %file.display(), ?error, "room not given back");
        }
    }
}

/// Says how large it was, and is now, if there was anything to do.
fn write_anew(connection: &Connection) -> Result<Option<(Room, Room)>> {
    let before = Room::of(connection)?;
    if !before.is_given_back() {
        return Ok(None);
    }
    connection.execute_batch("VACUUM")?;
    // The file becomes shorter only with this.
    open::checkpoint(connection, "TRUNCATE")?;
    Ok(Some((before, Room::of(connection)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1_048_576;

    #[test]
    fn it_is_given_back_where_that_is_worth_it_and_soon_done() {
        let is_given_back = |mib, free_mib| {
            let (bytes, free_bytes) = (mib * MIB, free_mib * MIB);
            Room { bytes, free_bytes }.is_given_back()
        };
        assert!(is_given_back(20, 17));
        assert!(is_given_back(10_000, 9_968));
        assert!(!is_given_back(16, 16), "too little to be worth it");
        assert!(!is_given_back(60, 30), "half of it is in use");
        assert!(!is_given_back(10_000, 9_967), "it would take too long");
    }
}
