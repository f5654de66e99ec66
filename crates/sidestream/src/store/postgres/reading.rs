//! Reading: one short transaction that reads everything at one moment.

use super::connection::{Connection, Sent};
use super::failure::Result;
use super::spec::Specs;

/// A connection within a transaction that reads.
#[derive(Debug)]
pub(super) struct Reading<'s> {
    pub(super) connection: &'s Connection,
    pub(super) specs: &'s Specs,
}

/// Sends the beginning of a transaction that reads. Its answer need not be waited for: when it went
/// wrong, so does what comes behind it.
pub(super) fn begin(connection: &Connection) -> Sent<'_, ()> {
    connection.begin_to_read()
}

/// What a read came to. The connection is given back unless it is broken.
pub(super) fn ended<T>(connection: Connection, found: Result<T>) -> Result<T> {
    match &found {
        Err(failure) if failure.is_loss() => drop(connection),
        _ => connection.rest(),
    }
    found
}
