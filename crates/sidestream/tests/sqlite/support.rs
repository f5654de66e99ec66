//! What these tests share beside the work: data directories.

use std::collections::BTreeMap;
use std::path::Path;

use sidestream::error::StoreError;
use sidestream::store::{SqliteOptions, SqliteStore};

pub(crate) use crate::work::*;

pub(crate) fn open(directory: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(directory, SqliteOptions::default())
}

/// The files of a directory, each with its bytes.
pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        (name, std::fs::read(&path).expect("a file"))
    };
    entries.map(file).collect()
}

/// Copies a directory's files, as a crash of the machine would leave them.
pub(crate) fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        std::fs::write(to.join(name), bytes).expect("a copy");
    }
}
