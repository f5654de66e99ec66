//! Background tasks for AI agents: durable, streamed, embeddable.

pub mod clock;
pub mod error;
pub mod records;
pub mod store;

pub use sidestream_core as core;
