//! Who does what, and how it should end.

use sidestream::Status;

/// A task of the demo.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) agent: &'static str,
    pub(super) tool: &'static str,
    pub(super) description: &'static str,
    /// How it should end…
    pub(super) status: Status,
    /// …at which attempt…
    pub(super) attempts: u32,
    /// …with what in its result or error.
    pub(super) outcome_contains: &'static str,
}

/// The tool whose output is replayed at the end.
pub(super) const REPLAYED: &str = "survey";
/// The tool that asks for approval.
pub(super) const ASKS: &str = "publish";
/// The tool that is cancelled.
pub(super) const CANCELLED: &str = "deep_scan";
/// The tool whose process is killed.
pub(super) const KILLED: &str = "checksum";

const fn part(
    agent: &'static str,
    tool: &'static str,
    description: &'static str,
    (status, attempts): (Status, u32),
    outcome_contains: &'static str,
) -> Part {
    Part {
        agent,
        tool,
        description,
        status,
        attempts,
        outcome_contains,
    }
}

/// Everyone, in the order of their entry.
pub(super) const CAST: &[Part] = &[
    part(
        "indexer",
        "hash_files",
        "hash every file",
        (Status::Completed, 1),
        "sha256",
    ),
    part(
        "indexer",
        "count_lines",
        "count lines by language",
        (Status::Completed, 1),
        "lines",
    ),
    part(
        "builder",
        REPLAYED,
        "a shell command whose output streams",
        (Status::Completed, 1),
        "files in",
    ),
    part(
        "reviewer",
        ASKS,
        "waits for approval",
        (Status::Completed, 2),
        "published",
    ),
    part(
        "builder",
        "upload",
        "fails twice, then succeeds",
        (Status::Completed, 3),
        "uploaded",
    ),
    part(
        "reviewer",
        CANCELLED,
        "is cancelled",
        (Status::Cancelled, 1),
        "",
    ),
    part(
        "builder",
        "audit",
        "takes too long",
        (Status::TimedOut, 1),
        "Task timed out after 1500ms",
    ),
    part(
        "indexer",
        KILLED,
        "loses its process to kill -9, and is run again",
        (Status::Completed, 2),
        "files",
    ),
];
