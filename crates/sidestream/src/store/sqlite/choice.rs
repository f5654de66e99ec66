//! Which index leads to the wanted tasks at the least cost, by what the counters say.

use rusqlite::Connection;

use super::counters;
use super::failure::Result;
use super::scan::Way;
use crate::store::counts::Counts;
use crate::store::wanted::Wanted;

/// What it costs to look at a row, where it costs 1 to look at an entry of an index.
const ROW_COST: u64 = 10;

/// A way, and what taking it costs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) way: Way,
    /// How many tasks it leads to: those that match and, where it does not know all that is wanted,
    /// others.
    pub(super) tasks: u64,
    cost: u64,
}

impl Candidate {
    /// A way whose tasks must each be looked at.
    pub(super) fn by_rows(way: Way, tasks: u64) -> Self {
        let cost = tasks.saturating_mul(ROW_COST);
        Self { way, tasks, cost }
    }

    fn by_entries(way: Way, tasks: u64) -> Self {
        let cost = tasks;
        Self { way, tasks, cost }
    }
}

/// The cheapest of some ways.
pub(super) fn cheapest(candidates: impl IntoIterator<Item = Candidate>) -> Option<Candidate> {
    candidates
        .into_iter()
        .min_by_key(|candidate| candidate.cost)
}

/// How many tasks there are of each of [`Wanted::scopes`], by kind of owner.
pub(super) fn counts(connection: &Connection, wanted: &Wanted) -> Result<Vec<[Counts; 2]>> {
    let scopes = wanted.scopes().into_iter();
    let counts = scopes.map(|scope| counters::read_both(connection, &scope));
    counts.collect()
}

/// The ways by status, agent and tool, as far as they are wanted, by what was counted.
pub(super) fn counted(wanted: &Wanted, counts: &[[Counts; 2]]) -> Vec<Candidate> {
    let has_statuses = !wanted.statuses.is_empty();
    let everywhere = |[ours, theirs]: [Counts; 2]| ours.plus(theirs);
    let mut candidates = Vec::new();
    if has_statuses {
        let tasks = everywhere(counts[0]).of_any(&wanted.statuses);
        candidates.push(Candidate::by_entries(Way::Status, tasks));
    }
    let agent = wanted.agent_id.as_ref().map(|_| Way::Agent);
    let tool = wanted.tool_name.as_ref().map(|_| Way::Tool);
    for (way, counts) in agent.into_iter().chain(tool).zip(&counts[1..]) {
        let tasks = everywhere(*counts).of_any(&[]);
        candidates.push(match has_statuses {
            false => Candidate::by_entries(way, tasks),
            true => Candidate::by_rows(way, tasks),
        });
    }
    candidates
}

/// The way by an id that few tasks have, if one is wanted.
pub(super) fn by_id(wanted: &Wanted) -> Option<Way> {
    let ways = [
        (wanted.task_id.is_some(), Way::Id),
        (wanted.tool_call_id.is_some(), Way::ToolCall),
        (wanted.run_id.is_some(), Way::Run),
        (wanted.thread_id.is_some(), Way::Thread),
        (wanted.resource_id.is_some(), Way::Resource),
    ];
    let found = ways.into_iter().find(|(is_wanted, _)| *is_wanted);
    found.map(|(_, way)| way)
}
