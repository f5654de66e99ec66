//! What only the store on PostgreSQL can break: other processes, lost connections, restarts, versions.
//! What every store promises is in `conformance.rs`.

mod faults;
mod naive;
mod open;
mod order;
mod processes;
mod restart;
mod support;
#[allow(
    dead_code,
    reason = "shared with the tests of another store, which use more of it"
)]
#[path = "../work/mod.rs"]
mod work;
