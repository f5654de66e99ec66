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
    use sidestream::chance::{Chance, SystemChance};
    use sidestream::store::{PostgresOptions, PostgresStore};
    use sidestream_test_postgres::{Pooler, PoolerOptions, Shared};

    /// A schema of its own in the database that all share.
    struct Postgres {
        url: String,
        options: PostgresOptions,
        _pooler: Option<Pooler>,
    }

    impl Postgres {
        fn new() -> Self {
            let schema = format!("test_{:016x}", SystemChance.next());
            Self {
                url: Shared::of_this_run().url(),
                options: PostgresOptions {
                    schema,
                    ..PostgresOptions::default()
                },
                _pooler: None,
            }
        }

        /// The same through a proxy that pools connections by transaction.
        fn pooled() -> Self {
            let direct = Self::new();
            let options = PoolerOptions {
                server_connections: 3,
                prepared_max: 0,
            };
            let pooler = Pooler::before(Shared::of_this_run().port(), &options);
            Self {
                url: pooler.url("postgres"),
                options: PostgresOptions {
                    prepared: false,
                    listen_url: Some(direct.url),
                    ..direct.options
                },
                _pooler: Some(pooler),
            }
        }
    }

    #[async_trait::async_trait]
    impl Backend for Postgres {
        async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn Store> {
            let options = PostgresOptions {
                clock: Some(clock),
                ..self.options.clone()
            };
            let opened = PostgresStore::open(&self.url, options).await;
            Arc::new(opened.expect("the store opens"))
        }
    }

    sidestream::conformance_suite!(postgres, Postgres::new());
    sidestream::conformance_suite!(postgres_behind_a_proxy, Postgres::pooled());
}
