//! Pages of tasks, and their exact totals.
//!
//! The total comes from the counters where they know it: for a namespace, or one agent or tool of it,
//! in any statuses. Else what matches is counted. The page is read in the order asked for, if that is likely to
//! find enough matching tasks soon; else all that matches is read and sorted.
//!
//! What is in order is in parts: the tasks of each status by creation, and those that have another time by that.

use sidestream_core::{Task, Timestamp};
use tokio_postgres::Row;

use super::Value;
use super::cells::Cells;
use super::counters;
use super::failure::{Failure, Result};
use super::reading::Reading;
use super::scan::{self, Statement, time_column};
use super::snapshot;
use crate::store::counts::{Counts, Scope};
use crate::store::order::{Columns, Condition};
use crate::store::wanted::Wanted;
use crate::store::{ListQuery, Page, PageKey, PageStart, TimeField};

/// More rows than any list has: two such numbers can be added.
const ROWS_MAX: i64 = 1 << 40;
/// So many tasks of a page are read at a time.
const AT_A_TIME: usize = 128;

/// Those without a time are the earliest.
const NULLS: [&str; 2] = [" NULLS FIRST", " NULLS LAST"];

pub(super) async fn list(reading: &Reading<'_>, query: &ListQuery) -> Result<Page> {
    let lister = Lister::new(reading, query).await?;
    let total = lister.total().await?;
    let limit = query.limit;
    let mut places = match limit {
        0 => Vec::new(),
        _ if total == 0 => Vec::new(),
        _ => lister.places().await?,
    };
    let found = places.len();
    places.truncate(limit);
    let tasks = tasks_at(reading, &places, query.page_bytes_max()).await?;
    places.truncate(tasks.len());
    let has_more = found > tasks.len();
    let next = places.last().copied().filter(|_| has_more);
    Ok(Page { tasks, total, next })
}

/// The tasks at some places, up to the one that brings them to so many bytes. Read by and by, so that what is
/// not needed is not read.
async fn tasks_at(
    reading: &Reading<'_>,
    places: &[PageKey],
    bytes_max: usize,
) -> Result<Vec<Task>> {
    let gone = |key| Failure::Unreadable(format!("an index names task {key}, not there"));
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    for places in places.chunks(AT_A_TIME) {
        let keys = places.iter().map(|place| place.key);
        let mut found = snapshot::by_keys(reading, keys).await?;
        for PageKey { key, .. } in places {
            if bytes >= bytes_max {
                return Ok(tasks);
            }
            let task = found.remove(key).ok_or_else(|| gone(*key))?.task;
            bytes += task.payload_bytes();
            tasks.push(task);
        }
    }
    Ok(tasks)
}

#[derive(Debug)]
struct Lister<'q> {
    reading: &'q Reading<'q>,
    query: &'q ListQuery,
    wanted: Wanted,
    /// Are the specs looked at, too?
    has_specs: bool,
    /// How many tasks there are of each of [`Wanted::scopes`].
    counts: Vec<Counts>,
    /// How many at most match, as far as the counters know.
    counted: Option<u64>,
    /// Is that exactly how many match?
    is_exact: bool,
}

impl<'q> Lister<'q> {
    async fn new(reading: &'q Reading<'q>, query: &'q ListQuery) -> Result<Self> {
        let wanted = Wanted::by_list(query);
        let scopes = wanted.scopes();
        let read = counters::read(reading.connection, &scopes).await?;
        let counts = |scope: &Scope| -> Counts {
            let [ours, theirs] = read.get(scope).copied().unwrap_or_default();
            match wanted.is_external {
                None => ours.plus(theirs),
                Some(false) => ours,
                Some(true) => theirs,
            }
        };
        let counts: Vec<Counts> = scopes.iter().map(counts).collect();
        let matching = counts.iter().map(|counts| counts.of_any(&wanted.statuses));
        let has_specs = scan::needs_specs(&wanted);
        let is_exact = wanted.date.is_none() && !is_by_id(&wanted) && scopes.len() <= 2;
        Ok(Self {
            reading,
            query,
            counted: matching.min(),
            counts,
            is_exact,
            has_specs,
            wanted,
        })
    }

    async fn total(&self) -> Result<u64> {
        if let Some(counted) = self.counted.filter(|_| self.is_exact) {
            return Ok(counted);
        }
        let statement = scan::select("count(*)", &self.wanted);
        let rows = statement.rows(self.reading.connection).await?;
        match rows.first() {
            Some(row) => Cells::of(row).unsigned(),
            None => Ok(0),
        }
    }

    /// The places of the page's tasks, and of one more if there is one.
    async fn places(&self) -> Result<Vec<PageKey>> {
        let parts = self.parts();
        let Some(statement) = self.statement(&parts) else {
            return Ok(Vec::new());
        };
        let rows = statement.rows(self.reading.connection).await?;
        let place = |row: &Row| {
            let mut cells = Cells::of(row);
            Ok(PageKey {
                time: cells.next::<Option<i64>>()?.map(Timestamp::from_ms),
                created_at: Timestamp::from_ms(cells.next()?),
                key: cells.next()?,
            })
        };
        rows.iter().map(place).collect()
    }

    fn offset(&self) -> usize {
        match self.query.start {
            PageStart::Offset(offset) => offset,
            _ => 0,
        }
    }

    /// Reads in order what matches, or sorts what is narrow?
    fn is_in_order(&self) -> bool {
        if is_by_id(&self.wanted) {
            return false;
        }
        let Some(matching) = self.counted else {
            return true;
        };
        let needed = self
            .query
            .limit
            .saturating_add(1)
            .saturating_add(self.offset()) as u64;
        // If those that match are spread evenly, so many are met before enough of them are found.
        let met = needed.saturating_mul(self.counts[0].of_any(&[])) / matching.max(1);
        matching > met
    }

    /// What is read, each part in the order asked for or to be sorted.
    fn parts(&self) -> Vec<Part> {
        let order_by = self.query.order_by;
        let is_in_order = self.is_in_order();
        let whole = |has_time| Part {
            wanted: self.wanted.clone(),
            has_time,
            is_in_order,
        };
        let of_status = |wanted: Wanted| {
            let has_time = order_by.is_had_while(wanted.statuses[0]);
            Part {
                wanted,
                has_time,
                is_in_order: true,
            }
        };
        let may_match = |wanted: &Wanted| {
            let counts = self.counts.iter();
            let mut counts = counts.map(|counts| counts.of_any(&wanted.statuses));
            counts.all(|count| count > 0)
        };
        let by_status = scan::for_each_status(&self.wanted);
        let by_status = by_status.filter(may_match).map(of_status);
        match order_by {
            TimeField::CreatedAt if !self.has_specs => by_status.collect(),
            TimeField::SuspendedAt | TimeField::CompletedAt if is_in_order => {
                let with = self.wanted.may_have(order_by).then(|| whole(Some(true)));
                let without = by_status.filter(|part| part.has_time == Some(false));
                with.into_iter().chain(without).collect()
            }
            // An index of the specs or of the tasks has all that matches in order.
            _ => vec![whole(None)],
        }
    }

    /// `None`, if nothing of any part is on the page.
    fn statement<'s>(&'s self, parts: &'s [Part]) -> Option<Statement<'s>> {
        let mut statement = Statement::new();
        statement.add("SELECT time, created, key FROM (");
        let columns = self.columns();
        let mut separator = "";
        for part in parts {
            for start in columns.starts(self.query, part.has_time) {
                statement.add(separator);
                separator = " UNION ALL ";
                self.add_part(&mut statement, part, &columns, start);
            }
        }
        if separator.is_empty() {
            return None;
        }
        let selected = Columns {
            time: "time".to_owned(),
            created: "created".to_owned(),
            key: "key".to_owned(),
        };
        let order = selected.order(self.query, None, NULLS);
        statement.add(&format!(") AS parts ORDER BY {order}"));
        let (limit, offset) = (self.query.limit.saturating_add(1), self.offset());
        statement.with(" LIMIT ? OFFSET ?", [rows(limit), rows(offset)]);
        Some(statement)
    }

    /// Adds one part of what matches: in order and no more than needed, or all of it.
    fn add_part<'s>(
        &'s self,
        statement: &mut Statement<'s>,
        part: &'s Part,
        columns: &Columns,
        (condition, values): Condition,
    ) {
        let Columns { time, created, key } = columns;
        let time = match part.has_time {
            Some(false) => "NULL::bigint",
            _ => time,
        };
        statement.add(&format!(
            "(SELECT {time} AS time, {created} AS created, {key} AS key"
        ));
        scan::from(statement, &part.wanted, self.has_specs);
        // What the index is limited to.
        if part.has_time == Some(true) {
            statement.add(&format!(" AND {time} IS NOT NULL"));
        }
        if !condition.is_empty() {
            statement.with(
                &format!(" AND {condition}"),
                values.into_iter().map(Value::from),
            );
        }
        if part.is_in_order {
            let most = self
                .query
                .limit
                .saturating_add(1)
                .saturating_add(self.offset());
            let order = columns.order(self.query, part.has_time, NULLS);
            statement.add(&format!(" ORDER BY {order}"));
            statement.with(" LIMIT ?", [rows(most)]);
        } else {
            // The planner must not know that few of them are needed: it would read everything in order,
            // and hope.
            statement.add(" OFFSET 0");
        }
        statement.add(")");
    }

    /// The columns of a task's place, of the table whose index has them in order.
    fn columns(&self) -> Columns {
        let has_specs = self.has_specs && self.query.order_by == TimeField::CreatedAt;
        let created = time_column(TimeField::CreatedAt, has_specs);
        Columns {
            time: time_column(self.query.order_by, has_specs),
            key: format!("{}key", &created[..2]),
            created,
        }
    }
}

/// What matches, or a part of it.
#[derive(Debug)]
struct Part {
    wanted: Wanted,
    /// Has each of its tasks the time that the list is ordered by?
    has_time: Option<bool>,
    /// Is there an index that has it in order?
    is_in_order: bool,
}

/// Is it wanted by an id that few tasks have?
fn is_by_id(wanted: &Wanted) -> bool {
    wanted.task_id.is_some()
        || wanted.tool_call_id.is_some()
        || wanted.run_id.is_some()
        || wanted.thread_id.is_some()
        || wanted.resource_id.is_some()
}

fn rows(count: usize) -> Value<'static> {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX).min(ROWS_MAX))
}
