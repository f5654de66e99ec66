//! Each store keeps every promise: see `store/conformance.rs`.

use std::sync::{Arc, OnceLock};

use sidestream::clock::Clock;
use sidestream::store::conformance::Backend;
use sidestream::store::{MemoryStore, SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

#[derive(Default)]
struct Memory(OnceLock<Arc<MemoryStore>>);

#[async_trait::async_trait]
impl Backend for Memory {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let store = || Arc::new(MemoryStore::with_clock(clock));
        self.0.get_or_init(store).clone()
    }
}

sidestream::conformance_suite!(memory, Memory::default());

struct Sqlite(TempDir);

#[async_trait::async_trait]
impl Backend for Sqlite {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
        let options = SqliteOptions {
            clock,
            ..SqliteOptions::default()
        };
        Arc::new(SqliteStore::open(self.0.path(), options).expect("the store opens"))
    }
}

sidestream::conformance_suite!(sqlite, Sqlite(TempDir::new().expect("a directory")));

#[cfg(feature = "postgres")]
mod with_postgres {
    use super::*;
    use sidestream::store::{PostgresOptions, PostgresStore};
    use sidestream_test_postgres::Cluster;

    struct Postgres {
        cluster: Cluster,
        database: String,
        is_prepared: bool,
    }

    impl Postgres {
        fn new(is_prepared: bool) -> Self {
            let cluster = Cluster::start();
            let database = cluster.database();
            Self {
                cluster,
                database,
                is_prepared,
            }
        }
    }

    #[async_trait::async_trait]
    impl Backend for Postgres {
        async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
            let options = PostgresOptions {
                clock: Some(clock),
                prepared: self.is_prepared,
                ..PostgresOptions::default()
            };
            let url = self.cluster.url(&self.database);
            let opened = PostgresStore::open(&url, options).await;
            Arc::new(opened.expect("the store opens"))
        }
    }

    sidestream::conformance_suite!(postgres, Postgres::new(true));
}
