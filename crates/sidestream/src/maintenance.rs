//! The duties that keep a store in order, one to a file.

pub(crate) mod pruner;
pub(crate) mod rescuer;
