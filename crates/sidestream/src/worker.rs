//! To come.

#[cfg(unix)]
pub mod process;
