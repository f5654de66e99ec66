//! What only the store on PostgreSQL can break: other processes, lost connections, restarts, versions.
//! What every store promises is in `conformance.rs`.

mod examine;
mod faults;
mod losses;
mod naive;
mod open;
mod order;
mod pooled;
mod processes;
mod quiet;
mod restart;
mod sessions;
mod support;
mod time;
mod tls;
mod versions;
#[allow(
    dead_code,
    reason = "shared with the tests of another store, which use more of it"
)]
#[path = "../work/mod.rs"]
mod work;
