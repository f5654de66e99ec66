//! Copies of a database: made while it is in use, and put back as a log of another name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};
use sidestream_core::{Epoch, Seq};

use super::failure::{Failure, Result, at_path};
use super::lock::{DirectoryLock, Mark};
use super::{SqliteStore, open};
use crate::chance::{self, SystemChance};
use crate::clock::{Clock, SystemClock};
use crate::error::{StoreError, StoreErrorKind};
use crate::store::Head;

impl SqliteStore {
    /// Copies the database of a data directory into a new file, as it stood at one moment. Whoever has
    /// the database open goes on meanwhile, reading and writing. Says where the log of the copy ends.
    ///
    /// The file appears under its name only when it is whole and on the disk. It blocks for as long as
    /// the copying takes.
    ///
    /// # Errors
    /// When there is no database, or the file is there already ([`StoreErrorKind::WrongPlace`]), or it
    /// cannot be written. Nothing is left behind.
    pub fn back_up(
        data_dir: impl AsRef<Path>,
        file: impl AsRef<Path>,
    ) -> std::result::Result<Head, StoreError> {
        let (database, file) = (open::file_in(data_dir.as_ref()), file.as_ref());
        if !open::inspect(&database)? {
            return Err(missing(&database));
        }
        refuse_to_replace(file)?;
        let new = Unfinished::beside(file);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let source = Connection::open_with_flags(&database, flags).map_err(Failure::from);
        let copied = source.and_then(|source| copy(&source, &new.path));
        copied.map_err(|e| e.at(&database))?;
        let head = Connection::open(&new.path).map_err(Failure::from);
        let head = head.and_then(|copy| head_of(&copy));
        let head = head.map_err(|e| e.at(&new.path))?;
        new.finish(file)?;
        Ok(head)
    }

    /// Puts a copy into a data directory that has no database, and names its log anew: what happened
    /// after the copy was made is lost, so a cursor of the old log must be told apart from one of the new.
    /// Says where the log ends, and what it is called.
    ///
    /// # Errors
    /// When the directory is in use ([`StoreErrorKind::Locked`]) or has a database already
    /// ([`StoreErrorKind::WrongPlace`]); when the file is no database of ours, of a newer version, or damaged.
    /// Nothing is changed then.
    pub fn restore(
        file: impl AsRef<Path>,
        data_dir: impl AsRef<Path>,
    ) -> std::result::Result<Head, StoreError> {
        let (file, directory) = (file.as_ref(), data_dir.as_ref());
        if !open::inspect(file)? {
            return Err(missing(file));
        }
        open::create_directory(directory)?;
        let lock = DirectoryLock::take(directory, SystemClock.now())?;
        let database = open::file_in(directory);
        refuse_to_replace(&database)?;
        let new = Unfinished::beside(&database);
        let copied = open::connect_to_copy(file).and_then(|source| {
            check(&source)?;
            copy(&source, &new.path)
        });
        copied.map_err(|e| e.at(file))?;
        let head = name_anew(&new.path).map_err(|e| e.at(&new.path))?;
        new.finish(&database)?;
        lock.set_mark(Mark::of(&head.epoch, head.seq));
        Ok(head)
    }
}

/// A file that is being written; removed when this is dropped before it is finished.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(file: &Path) -> Self {
        let path = open::beside(file, ".new");
        // Of somebody who was stopped in the middle.
        let _ = fs::remove_file(&path);
        Self { path }
    }

    /// Gives it its name, once all of it is on the disk.
    fn finish(self, file: &Path) -> std::result::Result<(), StoreError> {
        let written = File::open(&self.path).and_then(|new| new.sync_all());
        let named = written.and_then(|()| fs::rename(&self.path, file));
        named.map_err(|e| at_path(file, e))?;
        match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => open::sync_directory(parent),
            _ => open::sync_directory(Path::new(".")),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// All of a database at one moment, without the room that is free in it.
fn copy(source: &Connection, to: &Path) -> Result<()> {
    source.busy_timeout(open::BUSY_TIMEOUT)?;
    source.execute("VACUUM INTO ?", params![to.to_string_lossy()])?;
    Ok(())
}

fn check(connection: &Connection) -> Result<()> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(()),
        _ => Err(Failure::Unreadable(found)),
    }
}

fn name_anew(file: &Path) -> Result<Head> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let epoch = chance::epoch(&SystemChance);
    connection.execute("UPDATE head SET epoch = ?", [epoch.as_str()])?;
    head_of(&connection)
}

fn head_of(connection: &Connection) -> Result<Head> {
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let sql = "SELECT epoch, seq, floor FROM head";
    let (epoch, seq, floor): (String, i64, i64) = connection.query_row(sql, [], row)?;
    Ok(Head {
        epoch: Epoch::new(&epoch)?,
        seq: Seq(seq.cast_unsigned()),
        floor: Seq(floor.cast_unsigned()),
    })
}

fn refuse_to_replace(file: &Path) -> std::result::Result<(), StoreError> {
    if !file.exists() {
        return Ok(());
    }
    let message = format!("{} is there already: move it away first", file.display());
    Err(StoreError::new(StoreErrorKind::WrongPlace, message))
}

pub(super) fn missing(file: &Path) -> StoreError {
    let message = format!("there is no database {}", file.display());
    StoreError::new(StoreErrorKind::WrongPlace, message)
}
