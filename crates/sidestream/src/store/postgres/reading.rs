//! Reading: one short transaction that reads everything at one moment.
//!
//! The answer to its beginning is not waited for: when that went wrong, so does what comes behind it.

use super::connection::Connection;
use super::failure::Result;
use super::spec::Specs;

/// A connection within a transaction that reads.
#[derive(Debug)]
pub(super) struct Reading<'s> {
    pub(super) connection: &'s Connection,
    pub(super) specs: &'s Specs,
}

/// What a read came to. The connection is given back unless it is broken.
pub(super) fn ended<T>(connection: Connection, found: Result<T>) -> Result<T> {
    match &found {
        Err(failure) if failure.is_loss() => drop(connection),
        _ => connection.rest(),
    }
    found
}
