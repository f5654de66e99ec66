//! Where a measured store keeps its tasks: each time in a fresh place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sidestream::store::PostgresStore;
use sidestream::{MemoryStore, SqliteOptions, SqliteStore, Store};
use sidestream_test_postgres::{Cluster, Options};

/// What a contender keeps its tasks in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Nothing is kept.
    Memory,
    /// WAL, synchronous=FULL.
    Sqlite,
    /// A server of its own on this machine, which waits for the disk at every commit.
    Postgres,
    /// Of peers only: a server of its own on this machine, as it comes, without its log of changes.
    Redis,
    /// Of peers only: a file for each task.
    File,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::File => "files",
        }
    }
}

/// A place that nobody has used: a folder, or a server with an empty database.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Memory,
    Sqlite(PathBuf),
    /// Its URL.
    Postgres(String),
}

impl Place {
    /// Whoever runs the contenders has made `dir` and started what `url` names.
    pub(crate) fn of(kind: Kind, dir: &Path, url: Option<&str>) -> anyhow::Result<Self> {
        Ok(match kind {
            Kind::Memory => Self::Memory,
            Kind::Sqlite => Self::Sqlite(dir.join("store")),
            Kind::Postgres => Self::Postgres(url.context("PostgreSQL has no URL")?.to_owned()),
            Kind::Redis | Kind::File => anyhow::bail!("there is no store in {}", kind.name()),
        })
    }

    /// A store in it: of PostgreSQL as many as there are to be servers.
    pub(crate) async fn open(&self) -> anyhow::Result<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Sqlite(dir) => {
                std::fs::create_dir_all(dir)?;
                Arc::new(SqliteStore::open(dir, SqliteOptions::default())?)
            }
            Self::Postgres(url) => Arc::new(PostgresStore::open(url, Default::default()).await?),
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
