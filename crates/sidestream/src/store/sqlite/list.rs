//! Pages of tasks, and their exact totals.
//!
//! The total comes from the counters where they know it: for a namespace, or one agent or tool of it,
//! in any statuses. Else the narrowest index is counted. The page is read from an index in the order
//! asked for, if that is likely to find enough matching tasks soon; else the narrowest index is read
//! and sorted.

use rusqlite::types::Value;
use sidestream_core::Timestamp;

use super::choice::{self, Candidate};
use super::counters;
use super::failure::{Failure, Result};
use super::readers::Reading;
use super::row;
use super::scan::{Range, Statement, Way, rows, time};
use crate::store::counts::{Counts, Scope};
use crate::store::wanted::{Wanted, column};
use crate::store::{ListQuery, Page, PageKey, PageStart, TimeField};

/// A range of times is counted up to so many tasks to learn whether it is narrow.
const NARROW_MAX: usize = 5_000;

/// A task's place in a list.
type Place = (Option<i64>, i64);

pub(super) fn list(reading: &Reading<'_>, query: &ListQuery) -> Result<Page> {
    let lister = Lister::new(reading, query)?;
    let total = lister.total()?;
    let limit = query.limit;
    let mut places = match limit {
        0 => Vec::new(),
        _ if total == 0 => Vec::new(),
        _ => lister.places()?,
    };
    let found = places.len();
    places.truncate(limit);
    let task = |key| {
        let stored = row::by_key(reading.connection, reading.specs, key)?;
        let gone = || Failure::Unreadable(format!("an index names task {key}, not there"));
        Ok::<_, Failure>(stored.ok_or_else(gone)?.task)
    };
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    for &(_, key) in &places {
        if bytes >= query.page_bytes_max() {
            break;
        }
        let task = task(key)?;
        bytes += task.payload_bytes();
        tasks.push(task);
    }
    places.truncate(tasks.len());
    let has_more = found > tasks.len();
    let next = places
        .last()
        .filter(|_| has_more)
        .map(|&(time, key)| PageKey {
            time: time.map(Timestamp::from_ms),
            key,
        });
    Ok(Page { tasks, total, next })
}

#[derive(Debug)]
struct Lister<'q> {
    reading: &'q Reading<'q>,
    query: &'q ListQuery,
    wanted: Wanted,
    /// How many tasks the namespace has, by kind of owner.
    everybody: [Counts; 2],
    /// The cheapest way to all that match, if any is better than to look at everybody.
    cheapest: Option<Candidate>,
}

impl<'q> Lister<'q> {
    fn new(reading: &'q Reading<'q>, query: &'q ListQuery) -> Result<Self> {
        let wanted = Wanted::by_list(query);
        let scope = Scope::Namespace(query.namespace.clone());
        let count = |is_external| counters::read(reading.connection, &scope, is_external);
        let everybody = [count(false)?, count(true)?];
        let mut lister = Self {
            reading,
            query,
            wanted,
            everybody,
            cheapest: None,
        };
        lister.cheapest = lister.find_cheapest()?;
        Ok(lister)
    }

    fn everybody(&self) -> Counts {
        match self.wanted.is_external {
            None => self.everybody[0].plus(self.everybody[1]),
            Some(is_external) => self.everybody[usize::from(is_external)],
        }
    }

    fn find_cheapest(&self) -> Result<Option<Candidate>> {
        if let Some(way) = choice::by_id(&self.wanted) {
            return Ok(Some(Candidate::by_rows(way, 0)));
        }
        let mut candidates = choice::counted(self.reading.connection, &self.wanted)?;
        if let Some((field, ..)) = self.wanted.date {
            let tasks = self.count_up_to(Way::Time(field), NARROW_MAX)?;
            if tasks < NARROW_MAX as u64 {
                candidates.push(Candidate::by_rows(Way::Time(field), tasks));
            }
        }
        Ok(choice::cheapest(candidates))
    }

    /// How many tasks a way's range of times has, at most so many.
    fn count_up_to(&self, way: Way, max: usize) -> Result<u64> {
        let only_date = Wanted {
            namespace: self.wanted.namespace.clone(),
            date: self.wanted.date,
            ..Wanted::default()
        };
        let mut count = 0;
        for range in way.ranges(&only_date) {
            let mut statement = range.select("1", &only_date);
            statement.then("LIMIT ?", [rows(max)]);
            count += statement.rows(self.reading.connection, |_| Ok(()))?.len() as u64;
        }
        Ok(count)
    }

    fn total(&self) -> Result<u64> {
        let wanted = &self.wanted;
        let is_counted = wanted.date.is_none() && choice::by_id(wanted).is_none();
        let scopes = choice::scopes(wanted);
        match scopes.as_slice() {
            [] if is_counted => return Ok(self.everybody().of_any(&wanted.statuses)),
            [(_, scope)] if is_counted => {
                let connection = self.reading.connection;
                let counts = counters::read_both(connection, scope, wanted.is_external)?;
                return Ok(counts.of_any(&wanted.statuses));
            }
            _ => {}
        }
        let by_date = wanted.date.map(|(field, ..)| Way::Time(field));
        let way = match (self.cheapest, by_date) {
            // Its ranges are in the order of that time, so only a part of them is read.
            (Some(found), Some(by_date)) if found.way.order() == by_date.order() => found.way,
            (Some(found), _) if found.tasks <= NARROW_MAX as u64 => found.way,
            (_, Some(by_date)) => by_date,
            (Some(found), None) => found.way,
            (None, None) => Way::Time(TimeField::CreatedAt),
        };
        let ranges = way.ranges(wanted).into_iter();
        let count = |range: Range| {
            let statement = range.select("count(*)", wanted);
            statement.number(self.reading.connection)
        };
        ranges.map(count).sum()
    }

    /// The places of the page's tasks, and of one more if there is one.
    fn places(&self) -> Result<Vec<Place>> {
        let query = self.query;
        let offset = match query.start {
            PageStart::Offset(offset) => offset,
            _ => 0,
        };
        let way = self.way_to_page(offset);
        let ranges: Vec<Range> = way.ranges(&self.wanted);
        let ranges = ranges.into_iter().filter(|range| self.may_hold_any(*range));
        let mut statements: Vec<Statement> =
            ranges.flat_map(|range| self.statements(range)).collect();
        let wanted = query.limit.saturating_add(1);
        let mut left_out = offset;
        if let [only] = statements.as_mut_slice() {
            only.then("LIMIT ? OFFSET ?", [rows(wanted), rows(offset)]);
            left_out = 0;
        } else {
            for statement in &mut statements {
                statement.then("LIMIT ?", [rows(wanted.saturating_add(offset))]);
            }
        }
        let mut places: Vec<Place> = Vec::new();
        for statement in &statements {
            let place = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            places.extend(statement.rows(self.reading.connection, place)?);
        }
        // Each range is in order already.
        places.sort();
        if query.is_descending {
            places.reverse();
        }
        Ok(places.into_iter().skip(left_out).take(wanted).collect())
    }

    /// Reads in order what matches, or sorts what is narrow?
    fn way_to_page(&self, offset: usize) -> Way {
        let in_order = Way::Time(self.query.order_by);
        let Some(Candidate { way, tasks, .. }) = self.cheapest else {
            return in_order;
        };
        let is_by_id = choice::by_id(&self.wanted) == Some(way);
        if is_by_id || way.order() == in_order.order() {
            return way;
        }
        let needed = self.query.limit.saturating_add(1).saturating_add(offset) as u64;
        let everybody = self.everybody().of_any(&[]);
        // If those that match are spread evenly, so many are met before enough of them are found.
        let met = needed.saturating_mul(everybody) / tasks.max(1);
        if tasks <= met { way } else { in_order }
    }

    /// Do the counters say that there is nothing to find?
    fn may_hold_any(&self, range: Range) -> bool {
        let counts = match range.is_external {
            Some(is_external) => self.everybody[usize::from(is_external)],
            None => self.everybody(),
        };
        let status = range.status.map(|status| [status]);
        let statuses = status
            .as_ref()
            .map_or(self.wanted.statuses.as_slice(), |s| s);
        counts.of_any(statuses) > 0
    }

    /// What to read of a range: one statement, or two where the tasks without the time are apart.
    fn statements(&self, range: Range) -> Vec<Statement> {
        let (query, wanted) = (self.query, &self.wanted);
        let time_column = column(query.order_by);
        let direction = if query.is_descending { "DESC" } else { "ASC" };
        let select = |condition: &str, values: Vec<Value>| {
            let mut statement = range.select(&format!("{time_column}, key"), wanted);
            if !condition.is_empty() {
                statement.and(condition, values);
            }
            let order = format!("ORDER BY {time_column} {direction}, key {direction}");
            statement.then(&order, []);
            statement
        };
        let PageStart::After(PageKey { time: after, key }) = query.start else {
            return vec![select("", Vec::new())];
        };
        let key = Value::Integer(key);
        let has_time = format!("{time_column} IS NOT NULL");
        let has_none = format!("{time_column} IS NULL");
        match (after, query.is_descending) {
            (Some(at), false) => {
                let later = format!("({time_column}, key) > (?, ?)");
                vec![select(&later, vec![time(at), key])]
            }
            (Some(at), true) => {
                let earlier = format!("({time_column}, key) < (?, ?)");
                let mut statements = vec![select(&earlier, vec![time(at), key])];
                if query.order_by != TimeField::CreatedAt {
                    statements.push(select(&has_none, Vec::new()));
                }
                statements
            }
            (None, false) => vec![
                select(&format!("{has_none} AND key > ?"), vec![key]),
                select(&has_time, Vec::new()),
            ],
            (None, true) => vec![select(&format!("{has_none} AND key < ?"), vec![key])],
        }
    }
}
