//! The physical limits: what the disk, the database and the kernel take for the same work, and nothing else.
//!
//! Of tasks: the same rows, written by the database's own client. A task's life is three transitions: dispatched, claimed, completed. Each writes the task's row and
//! one event. Nothing is decided, checked, queued, published or answered. The tables have the keys that
//! no store could do without, and no index for listing.

use std::ops::RangeInclusive;

mod fanout;
mod fsync;
mod notify;
mod postgres;
mod sqlite;

use crate::figures;
use crate::found::Found;
use crate::place::Kind;
use crate::work::Work;

/// Measures the one that bounds this figure.
pub(crate) async fn run(work: &Work) -> anyhow::Result<Found> {
    match (work.figure.as_str(), work.store) {
        ("tasks", Kind::Sqlite) => {
            let (batch, tasks) = lives(work)?;
            let per_second = match is_indexed(work) {
                true => sqlite::indexed_lives_per_second(&work.dir, batch, tasks)?,
                false => sqlite::lives_per_second(&work.dir, batch, tasks)?,
            };
            Ok(Found::verified(written(tasks)).value("tasks_per_second", per_second))
        }
        ("tasks", Kind::Postgres) => {
            let (batch, tasks) = lives(work)?;
            let per_second = match is_indexed(work) {
                true => postgres::indexed_lives_per_second(work.url()?, batch, tasks).await?,
                false => postgres::lives_per_second(work.url()?, batch, tasks).await?,
            };
            Ok(Found::verified(written(tasks)).value("tasks_per_second", per_second))
        }
        ("fanout" | "delivery", _) => fanout::run(figures::fanout::Settings::of(work)?).await,
        ("outputs", Kind::Sqlite) => {
            let events = i64::try_from(work.number("outputs")?)?;
            let per_second = sqlite::events_per_second(&work.dir, 1_000, events)?;
            let verified = format!("{events} rows are written");
            Ok(Found::verified(verified).value("events_per_second", per_second))
        }
        ("latency", _) => {
            let ms = fsync::ms(&work.dir, work.number("outputs")?)?;
            let verified = format!("{} writes", ms.len());
            Ok(Found::verified(verified).latencies("", ms))
        }
        ("across", _) => {
            let ms = notify::ms(work.url()?, work.number("samples")?).await?;
            let verified = format!("{} notifications came", ms.len());
            Ok(Found::verified(verified).latencies("output_", ms))
        }
        (figure, store) => anyhow::bail!("no limit is known of `{figure}` in {}", store.name()),
    }
}

/// In Sidestream's own tables, with their indexes?
fn is_indexed(work: &Work) -> bool {
    work.settings.contains_key("indexed")
}

/// As the tables call it.
pub(crate) fn name(work: &Work) -> String {
    match (work.figure.as_str(), work.store) {
        ("tasks", Kind::Sqlite) if is_indexed(work) => "bare rusqlite, in our tables".to_owned(),
        ("tasks", Kind::Sqlite) => "bare rusqlite".to_owned(),
        ("tasks", _) if is_indexed(work) => "bare SQL, in our tables".to_owned(),
        ("tasks", _) => "bare SQL".to_owned(),
        ("outputs", _) => "bare rusqlite, 1,000 to a commit".to_owned(),
        ("fanout" | "delivery", _) => "bare axum, ready bytes".to_owned(),
        ("latency", _) => "one fsync of this disk".to_owned(),
        ("across", _) => "bare NOTIFY".to_owned(),
        (figure, _) => format!("the limit of {figure}"),
    }
}

/// Of what is measured: the database's.
pub(crate) fn version(work: &Work) -> String {
    match (work.figure.as_str(), work.store) {
        ("tasks" | "outputs", Kind::Sqlite) => format!("SQLite {}", rusqlite::version()),
        _ => String::new(),
    }
}

/// How many transitions to a commit, and how many tasks in all.
///
/// As many to a commit as occur, which `transitions_per_commit` of ours shows. Of many in flight, half is being
/// committed while the other half gathers, and half of a half is dispatched and begun at once: three quarters of what
/// is in flight. A few share each commit: twice as many. One alone shares nothing.
fn lives(work: &Work) -> anyhow::Result<(i64, i64)> {
    /// As Sidestream's writer has it.
    const FEW: i64 = 32;
    let (in_flight, tasks) = (work.number("in_flight")?, work.number("tasks")?);
    let batch = match i64::try_from(in_flight)? {
        ..=1 => 1,
        few @ ..=FEW => few * 3 / 2,
        many => many * 3 / 4,
    };
    Ok((batch, i64::try_from(tasks)?))
}

fn written(tasks: i64) -> String {
    format!("{tasks} tasks are completed, by {} events", 3 * tasks)
}

const AT_MS: i64 = 1_790_000_000_000;
const BODY: &str = "{\"worker\":\"local-0123456789abcdef\"}";
/// Dispatched, claimed, completed.
const TRANSITIONS: [i64; 3] = [0, 1, 5];

/// An id as ours are: what stands first rises with time, the rest is as scattered as chance.
fn id(key: i64) -> String {
    let scattered =
        u128::from(key.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    format!("{key:08x}{:028x}", scattered >> 16)
}

/// The keys of the tasks, `batch` at a time.
fn batches(tasks: i64, batch: i64) -> impl Iterator<Item = RangeInclusive<i64>> {
    let firsts = (0..(tasks + batch - 1) / batch).map(move |n| n * batch + 1);
    firsts.map(move |first| first..=(first + batch - 1).min(tasks))
}

/// The commits of whole lives, `batch` transitions to each: a third of so many tasks are dispatched and begin, and those
/// of the commit before end. The keys of the one, and of the other.
fn commits(tasks: i64, batch: i64) -> Vec<[RangeInclusive<i64>; 2]> {
    let nobody = || RangeInclusive::new(1, 0);
    let mut commits = Vec::new();
    let mut ending = nobody();
    for keys in batches(tasks, (batch / 3).max(1)) {
        commits.push([keys.clone(), ending]);
        ending = keys;
        if batch == 1 {
            // Alone, an end shares its commit with nothing.
            commits.push([nobody(), ending]);
            ending = nobody();
        }
    }
    if !ending.is_empty() {
        commits.push([nobody(), ending]);
    }
    commits
}
