//! The command line, end to end: the real binary, its exit codes, what it writes and where.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binary;

mod care;
mod config;
mod database;
mod demo;
mod keys;
mod local;
mod screen;
mod server;
mod watch;
mod worker;
