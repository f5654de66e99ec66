//! What is bound to a statement: one value, or a column of values for many rows.
//!
//! Rows are written and looked up by the hundred: a statement takes an array for each column, and
//! `unnest` makes rows of them.

use std::borrow::Cow;

use tokio_postgres::types::{ToSql, Type};

/// A value with its type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'v> {
    Integer(Option<i64>),
    Text(Option<Cow<'v, str>>),
    Bytes(Option<Cow<'v, [u8]>>),
    Boolean(Option<bool>),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'v, str>>>),
    ByteStrings(Vec<Option<Cow<'v, [u8]>>>),
    Booleans(Vec<Option<bool>>),
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Text,
    Bytes,
    Boolean,
}

/// A column's name and type.
pub(super) type Column = (&'static str, Kind);

impl<'v> Value<'v> {
    pub(super) fn integers(values: impl IntoIterator<Item = i64>) -> Self {
        Self::Integers(values.into_iter().map(Some).collect())
    }

    pub(super) fn texts(values: impl IntoIterator<Item = &'v str>) -> Self {
        let texts = values.into_iter().map(|text| Some(Cow::Borrowed(text)));
        Self::Texts(texts.collect())
    }

    pub(super) fn byte_strings(values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let texts = values.into_iter().map(|bytes| Some(Cow::Borrowed(bytes)));
        Self::ByteStrings(texts.collect())
    }

    pub(super) fn kind(&self) -> Type {
        match self {
            Self::Integer(_) => Type::INT8,
            Self::Text(_) => Type::TEXT,
            Self::Bytes(_) => Type::BYTEA,
            Self::Boolean(_) => Type::BOOL,
            Self::Integers(_) => Type::INT8_ARRAY,
            Self::Texts(_) => Type::TEXT_ARRAY,
            Self::ByteStrings(_) => Type::BYTEA_ARRAY,
            Self::Booleans(_) => Type::BOOL_ARRAY,
        }
    }

    pub(super) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Integer(value) => value,
            Self::Text(value) => value,
            Self::Bytes(value) => value,
            Self::Boolean(value) => value,
            Self::Integers(values) => values,
            Self::Texts(values) => values,
            Self::ByteStrings(values) => values,
            Self::Booleans(values) => values,
        }
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Integer(value)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Boolean(Some(value))
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(Some(Cow::Borrowed(text)))
    }
}

impl<'v> From<Option<&'v str>> for Value<'v> {
    fn from(text: Option<&'v str>) -> Self {
        Self::Text(text.map(Cow::Borrowed))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Some(Cow::Owned(text)))
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(Some(Cow::Borrowed(bytes)))
    }
}

impl<'v> From<Option<&'v [u8]>> for Value<'v> {
    fn from(bytes: Option<&'v [u8]>) -> Self {
        Self::Bytes(bytes.map(Cow::Borrowed))
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Some(Cow::Owned(bytes)))
    }
}

impl From<Option<Vec<u8>>> for Value<'_> {
    fn from(bytes: Option<Vec<u8>>) -> Self {
        Self::Bytes(bytes.map(Cow::Owned))
    }
}

/// Turns rows into an array for each of their columns.
///
/// # Panics
/// When a row's values are not those of the columns.
pub(super) fn arrays<'v, const N: usize>(
    columns: &[Column; N],
    rows: impl IntoIterator<Item = [Value<'v>; N]>,
) -> Vec<Value<'v>> {
    let empty = |(_, kind): &Column| match kind {
        Kind::Integer => Value::Integers(Vec::new()),
        Kind::Text => Value::Texts(Vec::new()),
        Kind::Bytes => Value::ByteStrings(Vec::new()),
        Kind::Boolean => Value::Booleans(Vec::new()),
    };
    let mut arrays: Vec<Value<'v>> = columns.iter().map(empty).collect();
    for row in rows {
        for ((array, value), (name, _)) in arrays.iter_mut().zip(row).zip(columns) {
            match (array, value) {
                (Value::Integers(array), Value::Integer(value)) => array.push(value),
                (Value::Texts(array), Value::Text(value)) => array.push(value),
                (Value::ByteStrings(array), Value::Bytes(value)) => array.push(value),
                (Value::Booleans(array), Value::Boolean(value)) => array.push(value),
                (_, value) => panic!("column {name} is not for {value:?}"),
            }
        }
    }
    arrays
}

/// `unnest($1::bigint[], …) AS i(key, …)`, the parameters counted from `first`.
pub(super) fn unnest<const N: usize>(columns: &[Column; N], first: usize) -> String {
    let arrays = columns.iter().enumerate().map(|(n, (_, kind))| {
        let kind = match kind {
            Kind::Integer => "bigint",
            Kind::Text => "text",
            Kind::Bytes => "bytea",
            Kind::Boolean => "boolean",
        };
        format!("${}::{kind}[]", first + n)
    });
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    format!("unnest({arrays}) AS i({})", names(columns, ""))
}

/// The names of columns, each with something before it, such as `i.`.
pub(super) fn names<const N: usize>(columns: &[Column; N], before: &str) -> String {
    let names = columns.iter().map(|(name, _)| format!("{before}{name}"));
    names.collect::<Vec<_>>().join(", ")
}
