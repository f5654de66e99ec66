//! Background tasks for AI agents: durable, streamed, embeddable.

pub mod clock;
pub mod error;
pub mod store;
pub mod worker;

pub use sidestream_core as core;
