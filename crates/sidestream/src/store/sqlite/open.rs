//! Opening a database: first looked at without touching it, then locked, connected, brought up to date.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use sidestream_core::{Epoch, Seq, Timestamp};

use super::failure::{Failure, at_path};
use super::lock::{self, DirectoryLock, Mark};
use super::schema::{self, APPLICATION_ID};
use super::{SqliteOptions, Synchronous, room};
use crate::chance::{self, SystemChance};
use crate::error::{StoreError, StoreErrorKind};

/// Up to this size a database is checked page by page when it is opened, in bytes: that takes some
/// milliseconds. Larger ones are checked where they are read.
const CHECKED_BYTES_MAX: u64 = 4 * 1_048_576;
/// The page cache of the writing connection, in KiB: what is written again and again. Not larger, since at the
/// end of a transaction that has balanced a tree, SQLite looks through all of it.
const WRITER_CACHE_KIB: i64 = 16_384;
/// The page cache of a reading connection, in KiB. Small: it is emptied by every commit of the writer.
const READER_CACHE_KIB: i64 = 8_192;
/// How much of the file readers see as memory, in bytes, since their cache does not last.
const READER_MMAP_BYTES: i64 = 1 << 30;
/// How long a connection waits for another's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What is kept of the log ahead when it begins anew, in bytes.
const WAL_BYTES_KEPT: i64 = 96 * 1_048_576;

/// A database, open for writing and up to date.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) file: PathBuf,
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
    pub(super) floor: Seq,
    pub(super) last_key: i64,
    pub(super) last_at: Timestamp,
}

/// Makes the data directory if it is not there. Nobody but its owner can look into a new one.
pub(super) fn create_directory(directory: &Path) -> Result<(), StoreError> {
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(directory)
        .map_err(|e| at_path(directory, e))?;
    match directory.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// The database of a data directory.
pub(super) fn file_in(directory: &Path) -> PathBuf {
    directory.join("sidestream.db")
}

/// Opens the database of a directory that is locked for us.
pub(super) fn open(
    directory: &Path,
    lock: &DirectoryLock,
    options: &SqliteOptions,
) -> Result<Opened, StoreError> {
    let file = file_in(directory);
    let is_new = !inspect_as_holder(&file)?;
    let connection = connect(&file, options).map_err(|e| e.at(&file))?;
    // In the mode that keeps the file itself current: its header must say what it is even if we
    // stopped right after this.
    let is_migrated = schema::migrate(&connection, options.clock.now()).map_err(|e| e.at(&file))?;
    let known = lock.mark().filter(|_| !is_new);
    let opened = begin(connection, &file, is_migrated, known.as_ref(), options);
    let opened = opened.map_err(|e| e.at(&file))?;
    if is_new {
        sync_directory(directory)?;
    }
    lock.set_mark(options.mark(&opened.epoch, opened.seq));
    Ok(opened)
}

fn begin(
    connection: Connection,
    file: &Path,
    is_migrated: bool,
    known: Option<&Mark>,
    options: &SqliteOptions,
) -> Result<Opened, Failure> {
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::Bug(format!(
            "SQLite keeps its journal in mode {mode}, not WAL"
        )));
    }
    if is_migrated {
        checkpoint(&connection, "TRUNCATE")?;
    }
    room::give_back(&connection, file);
    name_log(&connection, options.clock.now())?;
    name_log_anew_if_it_went_back(&connection, known)?;
    let sql = "SELECT epoch, seq, floor, last_key, last_at_ms FROM head";
    let row = |row: &rusqlite::Row<'_>| {
        Ok((
            row.get(0)?,
            row.get(1)?,
            row.get(2)?,
            row.get(3)?,
            row.get(4)?,
        ))
    };
    let (epoch, seq, floor, last_key, last_at_ms): (String, i64, i64, i64, i64) =
        connection.query_row(sql, [], row)?;
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM events", [], |row| row.get(0))?;
    if last.unwrap_or(floor) != seq {
        let problem = format!("its log ends at {last:?}, though {seq} events were committed");
        return Err(Failure::Unreadable(problem));
    }
    Ok(Opened {
        connection,
        file: file.to_owned(),
        epoch: Epoch::new(&epoch)?,
        seq: Seq(seq.cast_unsigned()),
        floor: Seq(floor.cast_unsigned()),
        last_key,
        last_at: Timestamp::from_ms(last_at_ms),
    })
}

/// Gives a new log its name.
fn name_log(connection: &Connection, now: Timestamp) -> Result<(), Failure> {
    let head = connection
        .query_row("SELECT 1 FROM head", [], |_| Ok(()))
        .optional()?;
    if head.is_some() {
        return Ok(());
    }
    let epoch = chance::epoch(&SystemChance);
    let sql = "INSERT INTO head (only, epoch, seq, floor, last_key, last_at_ms)
        VALUES (1, ?, 0, 0, 0, ?)";
    connection.execute(sql, rusqlite::params![epoch.as_str(), now.ms()])?;
    Ok(())
}

/// A database that is not the one which was here, or lacks events that it had, is given another name for
/// its log: cursors into what is lost must not be taken for places in what comes instead.
fn name_log_anew_if_it_went_back(
    connection: &Connection,
    known: Option<&Mark>,
) -> Result<(), Failure> {
    let sql = "SELECT epoch, seq FROM head";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (epoch, seq): (String, i64) = connection.query_row(sql, [], row)?;
    if known.is_none_or(|known| known.is_continued_by(&epoch, Seq(seq.cast_unsigned()))) {
        return Ok(());
    }
    let new = chance::epoch(&SystemChance);
    connection.execute("UPDATE head SET epoch = ?", [new.as_str()])?;
    tracing::warn!(
        ?known,
        epoch,
        seq,
        %new,
        "the log is not as it was left, as after an older copy was put back: it is named anew"
    );
    Ok(())
}

/// Is there a database already? Refuses one that is not ours, damaged or of a newer version, and
/// leaves it as it is. What this process has open was inspected when it was opened.
pub(super) fn inspect(file: &Path) -> Result<bool, StoreError> {
    let inspected = match file.parent() {
        Some(directory) if file_in(directory) == file => {
            lock::unless_locked_here(directory, || inspect_as_holder(file))
        }
        _ => Some(inspect_as_holder(file)),
    };
    inspected.unwrap_or(Ok(file.exists()))
}

/// The same for who has locked the directory, and has no connection yet.
fn inspect_as_holder(file: &Path) -> Result<bool, StoreError> {
    let mut header = Vec::new();
    match File::open(file) {
        Ok(opened) => opened.take(100).read_to_end(&mut header),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => Err(e),
    }
    .map_err(|e| at_path(file, e))?;
    if header.is_empty() {
        return Ok(false);
    }
    let damaged = |problem: &str| {
        let message = format!("the database {} is damaged: {problem}", file.display());
        Err(StoreError::new(StoreErrorKind::Damaged, message))
    };
    if header.len() < 100 || !header.starts_with(b"SQLite format 3\0") {
        return damaged("it is not a SQLite database");
    }
    // A journal beside it means that creating it, or migrating it, was cut short: SQLite sets it right.
    if beside(file, "-journal").exists() {
        return Ok(true);
    }
    let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    if number(68) != APPLICATION_ID {
        return damaged("it was not made by Sidestream");
    }
    refuse_newer(file, number(60))?;
    let probed = match beside(file, "-wal").exists() {
        true => probe_with_wal(file),
        false => probe_alone(file),
    };
    let version = probed.map_err(|e| e.at(file))?;
    refuse_newer(file, version)?;
    Ok(true)
}

fn refuse_newer(file: &Path, version: u32) -> Result<(), StoreError> {
    let ours = schema::VERSION;
    if version <= ours {
        return Ok(());
    }
    let file = file.display();
    let message = format!(
        "the database {file} was written by a newer version of Sidestream: its schema is version \
         {version}, the newest known here is {ours}"
    );
    Err(StoreError::new(StoreErrorKind::NewerVersion, message))
}

/// Reads a database that was closed properly. Returns its version.
fn probe_alone(file: &Path) -> Result<u32, Failure> {
    let connection = connect_immutable(file)?;
    let bytes = fs::metadata(file).map_or(0, |metadata| metadata.len());
    if bytes <= CHECKED_BYTES_MAX {
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Failure::Unreadable(found));
        }
    }
    version(&connection)
}

/// A connection to a database that nobody uses, for a copy of it. Where it was not closed properly, the log
/// beside it counts.
pub(super) fn connect_to_copy(file: &Path) -> Result<Connection, Failure> {
    if beside(file, "-wal").exists() {
        return Ok(Connection::open_with_flags(
            file,
            OpenFlags::SQLITE_OPEN_READ_WRITE,
        )?);
    }
    connect_immutable(file)
}

/// A database as a file that nobody changes: so no file is made beside it.
fn connect_immutable(file: &Path) -> Result<Connection, Failure> {
    Ok(Connection::open_with_flags(
        immutable_uri(file),
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI,
    )?)
}

/// Reads a database that was not closed properly, and changes neither it nor the log beside it.
fn probe_with_wal(file: &Path) -> Result<u32, Failure> {
    let index = beside(file, "-shm");
    let is_index_new = !index.exists();
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let version = version(&connection);
    drop(connection);
    if is_index_new {
        // Only an index of the log, which the next who opens it makes again.
        let _ = fs::remove_file(index);
    }
    version
}

fn version(connection: &Connection) -> Result<u32, Failure> {
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version <= schema::VERSION {
        connection
            .query_row("SELECT epoch FROM head", [], |_| Ok(()))
            .optional()?;
    }
    Ok(version)
}

/// The file with something added to its name.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn immutable_uri(file: &Path) -> String {
    let path = file.to_string_lossy().replace('\\', "/");
    let root = if path.starts_with('/') { "" } else { "/" };
    let root = if file.is_absolute() { root } else { "" };
    let path = path
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    format!("file:{root}{path}?immutable=1")
}

/// A connection that may write.
pub(super) fn connect(file: &Path, options: &SqliteOptions) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    let synchronous = match options.synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    set_up(&connection, WRITER_CACHE_KIB)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Checkpoints are made by `checkpoint`, not within a commit.
    set(&connection, "wal_autocheckpoint", 0)?;
    set(&connection, "journal_size_limit", WAL_BYTES_KEPT)?;
    if let Some(bytes_max) = options.size_bytes_max {
        let page_bytes: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let pages_max = i64::try_from(bytes_max).unwrap_or(i64::MAX) / page_bytes;
        set(&connection, "max_page_count", pages_max.max(1))?;
    }
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_to_read(file: &Path) -> Result<Connection, Failure> {
    // Opened as if to write, since whoever reads a database in WAL mode writes to its index.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    set_up(&connection, READER_CACHE_KIB)?;
    set(&connection, "mmap_size", READER_MMAP_BYTES)?;
    set(&connection, "query_only", 1)?;
    Ok(connection)
}

fn set_up(connection: &Connection, cache_kib: i64) -> Result<(), Failure> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(256);
    // Else SQLite prepares a statement anew for each value bound, hoping for a better plan: that was an
    // eighth of the writer's time.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    set(connection, "foreign_keys", 0)?;
    set(connection, "cache_size", -cache_kib)?;
    Ok(())
}

/// Some settings answer with what they were set to, some with nothing.
fn set(connection: &Connection, name: &str, value: i64) -> Result<(), Failure> {
    connection
        .pragma_update_and_check(None, name, value, |_| Ok(()))
        .optional()?;
    Ok(())
}

/// What a checkpoint came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpointed {
    /// Was it kept from what it was to do, as by a reader?
    pub(super) was_kept: bool,
    /// How many pages of the log ahead are in the database, counted from its beginning.
    pub(super) pages_moved: i32,
}

/// Moves what is in the log ahead into the database.
pub(super) fn checkpoint(connection: &Connection, mode: &str) -> Result<Checkpointed, Failure> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    Ok(connection.query_row(&sql, [], |row| {
        Ok(Checkpointed {
            was_kept: row.get(0)?,
            pages_moved: row.get(2)?,
        })
    })?)
}

/// A new file is there after a power cut only when its directory is on the disk, too.
pub(super) fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    #[cfg(unix)]
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|e| at_path(directory, e))?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}
