//! The server over real sockets, on the memory store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod host;

mod completions;
mod listing;
mod records;
mod tasks;

mod streams;

mod workers;

mod bad_input;
mod compatible;

mod keys;
mod web_pages;

mod dashboard;
mod session;

mod operation;
mod outages;
