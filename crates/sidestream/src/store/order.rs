//! The order of a list, in SQL.
//!
//! A list is read from parts, each of which an index holds in the list's order. In some of them every task has
//! the time that the list is ordered by, in some none has it: these are in the order of creation.

use sidestream_core::Timestamp;

use super::{ListQuery, PageKey, PageStart, TimeField};

/// The columns that a list is ordered by, by the names that a statement has for them.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    /// The time that was asked for.
    pub(super) time: String,
    /// The time of creation.
    pub(super) created: String,
    /// The number of the task.
    pub(super) key: String,
}

/// A condition and its values, one for each `?`. An empty one is always met.
pub(super) type Condition = (String, Vec<i64>);

impl Columns {
    /// What a part is ordered by. Where every task or none has the time, there is less to say.
    ///
    /// `nulls_first` and `nulls_last` are what the database must be told for those without the time to be the
    /// earliest.
    pub(super) fn order(
        &self,
        query: &ListQuery,
        has_time: Option<bool>,
        [nulls_first, nulls_last]: [&str; 2],
    ) -> String {
        let (time, created, key) = (&self.time, &self.created, &self.key);
        let (direction, nulls) = match query.is_descending {
            false => ("", nulls_first),
            true => (" DESC", nulls_last),
        };
        let by_creation = format!("{created}{direction}, {key}{direction}");
        match has_time {
            _ if query.order_by == TimeField::CreatedAt => by_creation,
            Some(false) => by_creation,
            Some(true) => format!("{time}{direction}, {by_creation}"),
            None => format!("{time}{direction}{nulls}, {by_creation}"),
        }
    }

    /// What of a part comes on the page or after it: conditions, each of which leads to tasks that an index has in
    /// order. None, if nothing of the part does.
    pub(super) fn starts(&self, query: &ListQuery, has_time: Option<bool>) -> Vec<Condition> {
        let PageStart::After(PageKey {
            time: after,
            created_at,
            key,
        }) = query.start
        else {
            return vec![everything()];
        };
        let (time, created, key_column) = (&self.time, &self.created, &self.key);
        let is_descending = query.is_descending;
        let beyond = if is_descending { "<" } else { ">" };
        let later_made = format!("({created}, {key_column}) {beyond} (?, ?)");
        let made = [created_at.ms(), key];
        if query.order_by == TimeField::CreatedAt {
            return vec![(later_made, made.to_vec())];
        }
        let later = |at: Timestamp| {
            let sql = format!("({time}, {created}, {key_column}) {beyond} (?, ?, ?)");
            (sql, vec![at.ms(), made[0], made[1]])
        };
        let has_none = format!("{time} IS NULL");
        match (after, has_time) {
            (None, Some(false)) => vec![(later_made, made.to_vec())],
            (None, Some(true)) if is_descending => Vec::new(),
            (None, Some(true)) => vec![everything()],
            (None, None) => {
                let without = (format!("{has_none} AND {later_made}"), made.to_vec());
                let with = (format!("{time} IS NOT NULL"), Vec::new());
                match is_descending {
                    false => vec![without, with],
                    true => vec![without],
                }
            }
            (Some(_), Some(false)) if is_descending => vec![everything()],
            (Some(_), Some(false)) => Vec::new(),
            (Some(at), None) if is_descending => vec![later(at), (has_none, Vec::new())],
            (Some(at), _) => vec![later(at)],
        }
    }
}

fn everything() -> Condition {
    (String::new(), Vec::new())
}
