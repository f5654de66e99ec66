//! Pages of tasks, and their exact totals.
//!
//! The total comes from the counters where they know it: for a namespace, or one agent or tool of it,
//! in any statuses. Else what matches is counted. The page is read from an index in the order asked for,
//! if that is likely to find enough matching tasks soon; else all that matches is read and sorted.

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
use crate::store::wanted::Wanted;
use crate::store::{ListQuery, Page, PageKey, PageStart, TimeField};

/// More rows than any list has: two such numbers can be added.
const ROWS_MAX: i64 = 1 << 40;
/// So many tasks of a page are read at a time.
const AT_A_TIME: usize = 128;

/// A task's place in a list.
type Place = (Option<i64>, i64);

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
    let next = places.last().filter(|_| has_more);
    let next = next.map(|&(time, key)| PageKey {
        time: time.map(Timestamp::from_ms),
        key,
    });
    Ok(Page { tasks, total, next })
}

/// The tasks at some places, up to the one that brings them to so many bytes. Read by and by, so that what is
/// not needed is not read.
async fn tasks_at(reading: &Reading<'_>, places: &[Place], bytes_max: usize) -> Result<Vec<Task>> {
    let gone = |key| Failure::Unreadable(format!("an index names task {key}, not there"));
    let (mut tasks, mut bytes) = (Vec::new(), 0);
    for places in places.chunks(AT_A_TIME) {
        let keys = places.iter().map(|(_, key)| *key);
        let mut found = snapshot::by_keys(reading, keys).await?;
        for (_, key) in places {
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
    /// The same, in parts that can each be read in order.
    parts: Vec<Wanted>,
    /// Are the specs looked at, too?
    has_specs: bool,
    /// How many tasks the namespace has.
    everybody: u64,
    /// How many at most match, as far as the counters know.
    counted: Option<u64>,
    /// Is that exactly how many match?
    is_exact: bool,
}

impl<'q> Lister<'q> {
    async fn new(reading: &'q Reading<'q>, query: &'q ListQuery) -> Result<Self> {
        let wanted = Wanted::by_list(query);
        let everybody = Scope::Namespace(query.namespace.clone());
        let of_few = few(&wanted);
        let scopes: Vec<Scope> = [everybody].into_iter().chain(of_few).collect();
        let read = counters::read(reading.connection, &scopes).await?;
        let counts = |scope: &Scope| -> Counts {
            let [ours, theirs] = read.get(scope).copied().unwrap_or_default();
            match wanted.is_external {
                None => ours.plus(theirs),
                Some(false) => ours,
                Some(true) => theirs,
            }
        };
        let matching = scopes
            .iter()
            .map(|scope| counts(scope).of_any(&wanted.statuses));
        let is_by_created = query.order_by == TimeField::CreatedAt;
        let has_specs = scan::needs_specs(&wanted);
        // Each status has its own part of an index, in the order of creation.
        let is_by_status = is_by_created && !has_specs && !wanted.statuses.is_empty();
        let parts = match is_by_status {
            true => scan::for_each_status(&wanted),
            false => vec![wanted.clone()],
        };
        let is_exact = wanted.date.is_none() && !is_by_id(&wanted) && scopes.len() <= 2;
        Ok(Self {
            reading,
            query,
            everybody: counts(&scopes[0]).of_any(&[]),
            counted: matching.min(),
            is_exact,
            has_specs: has_specs || (is_by_created && !is_by_status),
            parts,
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
    async fn places(&self) -> Result<Vec<Place>> {
        let rows = self.statement().rows(self.reading.connection).await?;
        let place = |row: &Row| {
            let mut cells = Cells::of(row);
            Ok((cells.next()?, cells.next()?))
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
        let met = needed.saturating_mul(self.everybody) / matching.max(1);
        matching > met
    }

    fn statement(&self) -> Statement<'_> {
        let is_in_order = self.is_in_order();
        let mut statement = Statement::new();
        statement.add("SELECT time, key FROM (");
        let mut separator = "";
        for wanted in &self.parts {
            for start in self.starts() {
                statement.add(separator);
                separator = " UNION ALL ";
                self.add_part(&mut statement, wanted, start, is_in_order);
            }
        }
        statement.add(&format!(
            ") AS parts ORDER BY {}",
            self.order("time", "key")
        ));
        let (limit, offset) = (self.query.limit.saturating_add(1), self.offset());
        statement.with(" LIMIT ? OFFSET ?", [rows(limit), rows(offset)]);
        statement
    }

    /// Adds one part of what matches: in order and no more than needed, or all of it.
    fn add_part<'s>(
        &'s self,
        statement: &mut Statement<'s>,
        wanted: &'s Wanted,
        (condition, values): (String, Vec<Value<'s>>),
        is_in_order: bool,
    ) {
        let (time, key) = self.place();
        statement.add(&format!("(SELECT {time} AS time, {key} AS key"));
        scan::from(statement, wanted, self.has_specs);
        statement.with(&condition, values);
        if is_in_order {
            let most = self
                .query
                .limit
                .saturating_add(1)
                .saturating_add(self.offset());
            statement.add(&format!(" ORDER BY {}", self.order(&time, &key)));
            statement.with(" LIMIT ?", [rows(most)]);
        } else {
            // The planner must not know that few of them are needed: it would read everything in order,
            // and hope.
            statement.add(" OFFSET 0");
        }
        statement.add(")");
    }

    /// The columns of a task's place, of one table, whose index has both.
    fn place(&self) -> (String, String) {
        let time = time_column(self.query.order_by, self.has_specs);
        let key = format!("{}key", &time[..2]);
        (time, key)
    }

    /// The order of an index, read forwards or backwards. Every task has a time of creation.
    fn order(&self, time: &str, key: &str) -> String {
        let is_never_null = self.query.order_by == TimeField::CreatedAt;
        match (self.query.is_descending, is_never_null) {
            (false, true) => format!("{time}, {key}"),
            (true, true) => format!("{time} DESC, {key} DESC"),
            (false, false) => format!("{time} NULLS FIRST, {key}"),
            (true, false) => format!("{time} DESC NULLS LAST, {key} DESC"),
        }
    }

    /// Where the page begins: conditions, each of which leads to a part of it.
    fn starts(&self) -> Vec<(String, Vec<Value<'static>>)> {
        let PageStart::After(PageKey { time: after, key }) = self.query.start else {
            return vec![(String::new(), Vec::new())];
        };
        let (time, key_column) = self.place();
        let has_time = format!(" AND {time} IS NOT NULL");
        let has_none = format!(" AND {time} IS NULL");
        let key = Value::from(key);
        match (
            after.map(|at| Value::from(at.ms())),
            self.query.is_descending,
        ) {
            (Some(at), false) => {
                let later = format!(" AND ({time}, {key_column}) > (?, ?)");
                vec![(later, vec![at, key])]
            }
            (Some(at), true) => {
                let earlier = format!(" AND ({time}, {key_column}) < (?, ?)");
                let mut starts = vec![(earlier, vec![at, key])];
                if self.query.order_by != TimeField::CreatedAt {
                    starts.push((has_none, Vec::new()));
                }
                starts
            }
            (None, false) => vec![
                (format!("{has_none} AND {key_column} > ?"), vec![key]),
                (has_time, Vec::new()),
            ],
            (None, true) => vec![(format!("{has_none} AND {key_column} < ?"), vec![key])],
        }
    }
}

/// Is it wanted by an id that few tasks have?
fn is_by_id(wanted: &Wanted) -> bool {
    wanted.task_id.is_some()
        || wanted.tool_call_id.is_some()
        || wanted.run_id.is_some()
        || wanted.thread_id.is_some()
        || wanted.resource_id.is_some()
}

/// The agent and the tool, each counted apart.
fn few(wanted: &Wanted) -> impl Iterator<Item = Scope> {
    let namespace = || wanted.namespace.clone();
    let agent = wanted.agent_id.clone();
    let agent = agent.map(|agent| Scope::NamespaceAgent(namespace(), agent));
    let tool = wanted.tool_name.clone();
    let tool = tool.map(|tool| Scope::NamespaceTool(namespace(), tool));
    agent.into_iter().chain(tool)
}

fn rows(count: usize) -> Value<'static> {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX).min(ROWS_MAX))
}
