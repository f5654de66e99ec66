//! Workers on other machines, over the real server: the same promises as in its own process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod proxy;
mod site;

mod cut_off;
mod runs;
