//! Where a measured store keeps its tasks: each time in a fresh place.

use std::path::Path;
use std::sync::Arc;

use sidestream::store::PostgresStore;
use sidestream::{MemoryStore, SqliteOptions, SqliteStore, Store};
use sidestream_test_postgres::{Cluster, Options};
use tempfile::TempDir;

/// The stores that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing is kept.
    Memory,
    /// WAL, synchronous=FULL.
    Sqlite,
    /// A server of its own on this machine, which waits for the disk at every commit.
    Postgres,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// A fresh place.
#[derive(Debug)]
pub(crate) enum Place {
    Memory,
    Sqlite(TempDir),
    Postgres(Box<Cluster>),
}

impl Place {
    pub(crate) fn fresh(kind: Kind, dir: &Path) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Memory => Self::Memory,
            Kind::Sqlite => Self::Sqlite(tempfile::tempdir_in(dir)?),
            Kind::Postgres => Self::Postgres(Box::new(cluster())),
        })
    }

    /// A store in it: of PostgreSQL as many as there are to be servers.
    pub(crate) async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Sqlite(dir) => Arc::new(SqliteStore::open(dir.path(), SqliteOptions::default())?),
            Self::Postgres(cluster) => {
                let url = cluster.url("postgres");
                Arc::new(PostgresStore::open(&url, Default::default()).await?)
            }
        })
    }
}

/// A PostgreSQL as it comes, but for the memory that any guide would give it.
pub(crate) fn cluster() -> Cluster {
    let settings = ["shared_buffers=512MB", "max_wal_size=4GB"];
    Cluster::start_with(Options {
        fsync: true,
        settings: settings.map(Into::into).into(),
        ..Options::default()
    })
}
