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

impl Kind {
    /// As SQL has it.
    fn name(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Text => "text",
            Self::Bytes => "bytea",
            Self::Boolean => "boolean",
        }
    }
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

    fn is_array(&self) -> bool {
        matches!(
            self,
            Self::Integers(_) | Self::Texts(_) | Self::ByteStrings(_) | Self::Booleans(_)
        )
    }

    /// Is it an array of one value, however often?
    fn is_one(&self) -> bool {
        fn is_one<T: PartialEq>(values: &[T]) -> bool {
            let same = |pair: &[T]| matches!(pair, [one, other] if one == other);
            !values.is_empty() && values.windows(2).all(same)
        }
        match self {
            Self::Integers(values) => is_one(values),
            Self::Texts(values) => is_one(values),
            Self::ByteStrings(values) => is_one(values),
            Self::Booleans(values) => is_one(values),
            _ => false,
        }
    }

    /// Makes of such an array its value.
    fn be_one(&mut self) {
        let one = match self {
            Self::Integers(values) => values.pop().map(Self::Integer),
            Self::Texts(values) => values.pop().map(Self::Text),
            Self::ByteStrings(values) => values.pop().map(Self::Bytes),
            Self::Booleans(values) => values.pop().map(Self::Boolean),
            _ => None,
        };
        *self = one.expect("it has a value");
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

/// Rows to be written by one statement: an array for each column; or, where every row has the same, one
/// value for all, which costs the server a tenth.
///
/// Which columns may be one value is said in groups, and those of a group are so together: else there would
/// be as many statements to prepare as there are ways to choose among the columns.
#[derive(Debug)]
pub(super) struct Rows<'v> {
    /// What stands for each column in the statement: `i.key`, or `$7::text`.
    cells: Vec<(&'static str, String)>,
    /// `unnest(…) AS i(…)`.
    pub(super) from: String,
    pub(super) values: Vec<Value<'v>>,
}

impl<'v> Rows<'v> {
    /// Of columns and their arrays, as [`arrays`] makes them.
    pub(super) fn new(columns: &[Column], arrays: Vec<Value<'v>>, alike: &[&[&str]]) -> Self {
        let mut arrays = arrays;
        for group in alike {
            let members = columns.iter().zip(&mut arrays);
            let members = members.filter(|((name, _), _)| group.contains(name));
            let mut members: Vec<_> = members.map(|(_, array)| array).collect();
            if members.iter().all(|array| array.is_one()) {
                for array in &mut members {
                    array.be_one();
                }
            }
        }
        let (mut cells, mut unnested, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (n, ((name, kind), value)) in columns.iter().zip(&arrays).enumerate() {
            let parameter = format!("${}::{}", n + 1, kind.name());
            if value.is_array() {
                unnested.push(format!("{parameter}[]"));
                names.push(*name);
                cells.push((*name, format!("i.{name}")));
            } else {
                cells.push((*name, parameter));
            }
        }
        let from = format!("unnest({}) AS i({})", unnested.join(", "), names.join(", "));
        Self {
            cells,
            from,
            values: arrays,
        }
    }

    /// What stands for a column.
    ///
    /// # Panics
    /// When there is no such column.
    pub(super) fn cell(&self, name: &str) -> &str {
        let cell = self.cells.iter().find(|(column, _)| *column == name);
        let (_, cell) = cell.expect("it is one of the columns");
        cell
    }

    /// The names of the columns, and what stands for them, in the same order.
    pub(super) fn names_and_cells(&self) -> (String, String) {
        let names: Vec<&str> = self.cells.iter().map(|(name, _)| *name).collect();
        let cells: Vec<&str> = self.cells.iter().map(|(_, cell)| cell.as_str()).collect();
        (names.join(", "), cells.join(", "))
    }
}

/// `unnest($1::bigint[], …) AS i(key, …)`, the parameters counted from `first`.
pub(super) fn unnest<const N: usize>(columns: &[Column; N], first: usize) -> String {
    let arrays = columns.iter().enumerate();
    let arrays = arrays.map(|(n, (_, kind))| format!("${}::{}[]", first + n, kind.name()));
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    format!("unnest({arrays}) AS i({})", names(columns, ""))
}

/// The names of columns, each with something before it, such as `i.`.
pub(super) fn names<const N: usize>(columns: &[Column; N], before: &str) -> String {
    let names = columns.iter().map(|(name, _)| format!("{before}{name}"));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One value for a group only if every column of it is alike in every row; a null is a value like others.
    #[test]
    fn what_all_rows_have_alike_is_one_value() {
        let columns = [
            ("key", Kind::Integer),
            ("tool", Kind::Text),
            ("agent", Kind::Text),
            ("error", Kind::Text),
        ];
        let rows = |agents: [Option<&'static str>; 2]| {
            let row = |(key, agent): (i64, Option<&'static str>)| {
                [key.into(), "t".into(), agent.into(), Value::Text(None)]
            };
            let arrays = arrays(&columns, [1, 2].into_iter().zip(agents).map(row));
            Rows::new(&columns, arrays, &[&["tool", "agent"], &["error"]])
        };
        let alike = rows([Some("a"), Some("a")]);
        assert_eq!(alike.from, "unnest($1::bigint[]) AS i(key)");
        assert_eq!(alike.cell("agent"), "$3::text");
        assert_eq!(
            alike.values[1..],
            ["t".into(), "a".into(), Value::Text(None)]
        );
        let apart = rows([Some("a"), None]);
        assert_eq!(
            apart.from,
            "unnest($1::bigint[], $2::text[], $3::text[]) AS i(key, tool, agent)"
        );
        let (names, cells) = apart.names_and_cells();
        assert_eq!(names, "key, tool, agent, error");
        assert_eq!(cells, "i.key, i.tool, i.agent, $4::text");
        assert_eq!(apart.values.len(), columns.len());
    }
}
