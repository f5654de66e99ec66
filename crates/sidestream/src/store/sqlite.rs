//! The store on SQLite.

/// How a SQLite store is opened.
#[derive(Debug)]
pub struct SqliteOptions;

/// Keeps everything in a SQLite database.
#[derive(Debug)]
pub struct SqliteStore;
