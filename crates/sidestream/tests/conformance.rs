//! Each store keeps every promise: see `store/conformance.rs`.

use std::sync::{Arc, OnceLock};

use sidestream::clock::Clock;
use sidestream::store::conformance::Backend;
use sidestream::store::{MemoryStore, Store};

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
