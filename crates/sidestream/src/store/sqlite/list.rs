//! Pages of tasks, and their exact totals.
//!
//! The total comes from the counters where they know it: for a namespace, or one agent or tool of it,
//! in any statuses. Else the narrowest index is counted. The page is read in the order asked for, if that is
//! likely to find enough matching tasks soon; else the narrowest index is read and sorted.
//!
//! What is in order is in parts, since no index that changes with every transition has more than it must: the
//! tasks of each status by creation, and those that have another time by that. They are read side by side.

use rusqlite::types::Value;
use sidestream_core::Timestamp;

use super::choice::{self, Candidate};
use super::failure::{Failure, Result};
use super::readers::Reading;
use super::row;
use super::scan::{self, Range, Statement, Way, rows};
use crate::store::counts::Counts;
use crate::store::order::Columns;
use crate::store::wanted::{Wanted, column};
use crate::store::{ListQuery, Page, PageKey, PageStart, TimeField};

/// A range of times is counted up to so many tasks to learn whether it is narrow.
const NARROW_MAX: usize = 5_000;

/// SQLite's own order: those without a time are the earliest.
const NULLS: [&str; 2] = ["", ""];

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
    for place in &places {
        if bytes >= query.page_bytes_max() {
            break;
        }
        let task = task(place.key)?;
        bytes += task.payload_bytes();
        tasks.push(task);
    }
    places.truncate(tasks.len());
    let has_more = found > tasks.len();
    let next = places.last().copied().filter(|_| has_more);
    Ok(Page { tasks, total, next })
}

#[derive(Debug)]
struct Lister<'q> {
    reading: &'q Reading<'q>,
    query: &'q ListQuery,
    wanted: Wanted,
    /// How many tasks there are of each of [`Wanted::scopes`], by kind of owner.
    counts: Vec<[Counts; 2]>,
    /// The cheapest way to all that match, if any is better than to look at everybody.
    cheapest: Option<Candidate>,
}

impl<'q> Lister<'q> {
    fn new(reading: &'q Reading<'q>, query: &'q ListQuery) -> Result<Self> {
        let wanted = Wanted::by_list(query);
        let mut lister = Self {
            reading,
            query,
            counts: choice::counts(reading.connection, &wanted)?,
            wanted,
            cheapest: None,
        };
        lister.cheapest = lister.find_cheapest()?;
        Ok(lister)
    }

    /// Those of the kind of owner that is wanted.
    fn wanted_of(&self, [ours, theirs]: [Counts; 2]) -> Counts {
        match self.wanted.is_external {
            None => ours.plus(theirs),
            Some(false) => ours,
            Some(true) => theirs,
        }
    }

    fn find_cheapest(&self) -> Result<Option<Candidate>> {
        if let Some(way) = choice::by_id(&self.wanted) {
            return Ok(Some(Candidate::by_rows(way, 0)));
        }
        let mut candidates = choice::counted(&self.wanted, &self.counts);
        if let Some((field, ..)) = self.wanted.date {
            let way = Way::by(field);
            let tasks = self.count_up_to(way, NARROW_MAX)?;
            if tasks < NARROW_MAX as u64 {
                candidates.push(Candidate::by_rows(way, tasks));
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
        let ranges = way.ranges(&only_date).into_iter();
        for range in ranges.filter(|range| self.may_hold_any(*range)) {
            let mut statement = range.select("1", &only_date);
            statement.then("LIMIT ?", [rows(max - count)]);
            count += statement.rows(self.reading.connection, |_| Ok(()))?.len();
            if count == max {
                break;
            }
        }
        Ok(count as u64)
    }

    fn total(&self) -> Result<u64> {
        let wanted = &self.wanted;
        let is_counted = wanted.date.is_none() && choice::by_id(wanted).is_none();
        if let [exact] | [_, exact] = self.counts.as_slice()
            && is_counted
        {
            return Ok(self.wanted_of(*exact).of_any(&wanted.statuses));
        }
        let by_date = wanted.date.map(|(field, ..)| Way::by(field));
        let way = match (self.cheapest, by_date) {
            // Its ranges are in the order of that time, so only a part of them is read.
            (Some(found), Some(by_date)) if found.way.order() == by_date.order() => found.way,
            (Some(found), _) if found.tasks <= NARROW_MAX as u64 => found.way,
            (_, Some(by_date)) => by_date,
            (Some(found), None) => found.way,
            (None, None) => Way::Status,
        };
        let ranges = way.ranges(wanted).into_iter();
        let count = |range: Range| {
            let statement = range.select("count(*)", wanted);
            statement.number(self.reading.connection)
        };
        ranges
            .filter(|range| self.may_hold_any(*range))
            .map(count)
            .sum()
    }

    /// The places of the page's tasks, and of one more if there is one.
    fn places(&self) -> Result<Vec<PageKey>> {
        let query = self.query;
        let offset = match query.start {
            PageStart::Offset(offset) => offset,
            _ => 0,
        };
        let parts = self.parts(self.way_to_page(offset)).into_iter();
        let parts = parts.filter(|part| self.may_hold_any(part.range));
        // Those without the time are all before the others, or all behind them.
        let (without, with): (Vec<_>, _) = parts.partition(|part| part.has_time == Some(false));
        let groups = match query.is_descending {
            false => [without, with],
            true => [with, without],
        };
        let groups = groups.map(|parts| -> Vec<Statement> {
            let statements = parts.into_iter().flat_map(|part| self.statements(part));
            statements.collect()
        });
        let wanted = query.limit.saturating_add(1);
        if let [[only], []] | [[], [only]] = groups.each_ref().map(Vec::as_slice) {
            let mut only = only.clone();
            only.then("LIMIT ? OFFSET ?", [rows(wanted), rows(offset)]);
            return only.rows(self.reading.connection, place);
        }
        let mut places = Vec::new();
        let mut left_out = 0;
        for mut statements in groups {
            if places.len() == wanted {
                break;
            }
            // Of what must be sorted first, SQLite keeps no more.
            for statement in &mut statements {
                statement.then("LIMIT ?", [rows(wanted.saturating_add(offset))]);
            }
            let order = |one: &PageKey, other: &PageKey| match query.is_descending {
                false => one.cmp(other),
                true => other.cmp(one),
            };
            let connection = self.reading.connection;
            scan::read_side_by_side(connection, &statements, place, order, |place| {
                if left_out < offset {
                    left_out += 1;
                } else {
                    places.push(place);
                }
                places.len() < wanted
            })?;
        }
        Ok(places)
    }

    /// What is read, each part in the order asked for.
    fn parts(&self, way: Way) -> Vec<Part> {
        let order_by = self.query.order_by;
        let has_time = match way {
            Way::Suspended | Way::Ended if way.order() == order_by => Some(true),
            _ => None,
        };
        let ranges = way.ranges(&self.wanted).into_iter();
        let mut parts: Vec<Part> = ranges.map(|range| Part { range, has_time }).collect();
        if has_time == Some(true) {
            // The way leads to those that have the time: none need be looked at where no wanted one can have it.
            parts.retain(|_| self.wanted.may_have(order_by));
            let others = Way::Status.ranges(&self.wanted).into_iter();
            let others = others.map(|range| Part {
                range,
                has_time: range
                    .part
                    .and_then(|(status, _)| order_by.is_had_while(status)),
            });
            parts.extend(others.filter(|part| part.has_time == Some(false)));
        }
        parts
    }

    /// Reads in order what matches, or sorts what is narrow?
    fn way_to_page(&self, offset: usize) -> Way {
        let in_order = Way::by(self.query.order_by);
        let Some(Candidate { way, tasks, .. }) = self.cheapest else {
            return in_order;
        };
        let is_by_id = choice::by_id(&self.wanted) == Some(way);
        if is_by_id || way.order() == in_order.order() {
            return way;
        }
        let needed = self.query.limit.saturating_add(1).saturating_add(offset) as u64;
        let everybody = self.wanted_of(self.counts[0]).of_any(&[]);
        // If those that match are spread evenly, so many are met before enough of them are found.
        let met = needed.saturating_mul(everybody) / tasks.max(1);
        if tasks <= met { way } else { in_order }
    }

    /// Do the counters say that there is nothing to find?
    fn may_hold_any(&self, range: Range) -> bool {
        self.counts.iter().all(|counts| {
            let count = match range.part {
                Some((status, is_external)) => counts[usize::from(is_external)].of_any(&[status]),
                None => self.wanted_of(*counts).of_any(&self.wanted.statuses),
            };
            count > 0
        })
    }

    /// What to read of a part: mostly one statement, two where the page begins among tasks with the time or
    /// without and the others are apart.
    fn statements(&self, part: Part) -> Vec<Statement> {
        let (query, has_time) = (self.query, part.has_time);
        let columns = Columns {
            time: column(query.order_by).to_owned(),
            created: column(TimeField::CreatedAt).to_owned(),
            key: "key".to_owned(),
        };
        let selected = match has_time {
            Some(false) => "NULL, created_at_ms, key".to_owned(),
            _ => format!("{}, created_at_ms, key", columns.time),
        };
        let starts = columns.starts(query, has_time).into_iter();
        let read = |(condition, values): (String, Vec<i64>)| {
            let mut statement = part.range.select(&selected, &self.wanted);
            if !condition.is_empty() {
                statement.and(&condition, values.into_iter().map(Value::Integer));
            }
            let order = columns.order(query, has_time, NULLS);
            statement.then(&format!("ORDER BY {order}"), []);
            statement
        };
        starts.map(read).collect()
    }
}

/// A range that is read in the order of the list. Has each of its tasks the time that the list is ordered by?
#[derive(Debug, Clone, Copy)]
struct Part {
    range: Range,
    has_time: Option<bool>,
}

fn place(row: &rusqlite::Row<'_>) -> Result<PageKey> {
    Ok(PageKey {
        time: row.get::<_, Option<i64>>(0)?.map(Timestamp::from_ms),
        created_at: Timestamp::from_ms(row.get(1)?),
        key: row.get(2)?,
    })
}
