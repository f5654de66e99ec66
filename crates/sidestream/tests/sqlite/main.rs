//! What only the store on SQLite can break: files, locks, crashes, full disks. What every store promises
//! is in `conformance.rs`.
#![cfg(feature = "sqlite")]

mod backup;
mod crash;
mod examine;
mod open;
mod room;
mod rows;
mod support;
mod wal;
#[path = "../work/mod.rs"]
mod work;
