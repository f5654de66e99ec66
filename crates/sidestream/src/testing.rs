//! What tests need, ours and those of whoever embeds us: time that stands still, chance that repeats
//! itself, a store that fails when told to, one that remembers all that was committed, and a watcher's
//! memory that notices what a stream did wrong.
//!
//! Together they make a whole system run from one seed: see `tests/simulation` of this crate.
//!
//! ```
//! use std::sync::Arc;
//! use sidestream::testing::{FaultyStore, Faults, SeededChance};
//! use sidestream::{MemoryStore, NewTask, Store, StoreErrorKind, TaskManager, Tool};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let chance = Arc::new(SeededChance::new(7));
//! let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()), chance));
//! let echo = Tool::new("echo", |_, args: serde_json::Value| async move { Ok::<_, sidestream::HandlerError>(args) });
//! let manager = TaskManager::builder_on(store.clone()).tool(echo).start().await?;
//!
//! store.set_faults(Faults { fails_after: 1_000, ..Faults::NONE });
//! let task = NewTask::new("echo").idempotency_key("k1");
//! let sidestream::Error::Store(error) = manager.dispatch(task.clone()).await.unwrap_err() else { panic!() };
//! assert_eq!(error.kind(), StoreErrorKind::OutcomeUnknown);
//!
//! // It was committed all the same: repeating it meets the same task.
//! store.set_faults(Faults::NONE);
//! assert!(matches!(manager.dispatch(task).await?, sidestream::Dispatched::Known(_)));
//! # Ok(())
//! # }
//! ```

mod audit;
mod faulty;
mod mirror;
mod witness;

pub use crate::chance::{Chance, SeededChance};
pub use crate::clock::{Clock, ManualClock, RuntimeClock};
pub use audit::Life;
pub use faulty::{Faults, FaultyStore};
pub use mirror::{Known, Mirror};
pub use witness::{History, Witness, WitnessedStore};
