//! Reading a row from left to right.

use sidestream_core::{Json, Timestamp};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::failure::{Failure, Result};

/// The columns of a row that have not been read yet.
#[derive(Debug)]
pub(super) struct Cells<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Cells<'r> {
    pub(super) fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    /// The next column.
    pub(super) fn next<T: FromSql<'r>>(&mut self) -> Result<T> {
        let column = self.next;
        self.next += 1;
        let value = self.row.try_get(column);
        value.map_err(|error| Failure::Unreadable(format!("column {column}: {error}")))
    }

    /// A number that is not negative where it comes from.
    pub(super) fn unsigned(&mut self) -> Result<u64> {
        Ok(self.next::<i64>()?.cast_unsigned())
    }

    /// A number of fewer bits than its column has.
    pub(super) fn small<T: TryFrom<i64>>(&mut self) -> Result<T> {
        small(self.next()?)
    }

    pub(super) fn text(&mut self) -> Result<&'r str> {
        self.next()
    }

    /// A text that is kept as its bytes.
    pub(super) fn bytes_text(&mut self) -> Result<Option<&'r str>> {
        let bytes: Option<&[u8]> = self.next()?;
        let text = bytes.map(std::str::from_utf8).transpose();
        text.map_err(|error| Failure::Unreadable(error.to_string()))
    }

    /// An id, or whatever else a text is made into.
    pub(super) fn made<T>(
        &mut self,
        make: impl FnOnce(&'r str) -> std::result::Result<T, sidestream_core::Invalid>,
    ) -> Result<Option<T>> {
        let text: Option<&str> = self.next()?;
        Ok(text.map(make).transpose()?)
    }

    pub(super) fn time(&mut self) -> Result<Option<Timestamp>> {
        let ms: Option<i64> = self.next()?;
        Ok(ms.map(Timestamp::from_ms))
    }

    pub(super) fn moment(&mut self) -> Result<Timestamp> {
        Ok(Timestamp::from_ms(self.next()?))
    }

    pub(super) fn json(&mut self) -> Result<Option<Json>> {
        let text: Option<&str> = self.next()?;
        Ok(text.map(Json::from_text).transpose()?)
    }
}

/// A number of fewer bits than its column has.
pub(super) fn small<T: TryFrom<i64>>(number: i64) -> Result<T> {
    let problem = || Failure::Unreadable(format!("the number {number} is out of range"));
    T::try_from(number).map_err(|_| problem())
}
