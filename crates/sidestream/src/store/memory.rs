//! The reference store.

/// Keeps everything in memory.
#[derive(Debug)]
pub struct MemoryStore;
