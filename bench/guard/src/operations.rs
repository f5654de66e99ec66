//! The operations that are counted. Everything in them is the same each time: ids, payloads, times; and each is
//! carried out once before it is counted, so that what is made on first use does not count.

mod pure;
mod stores;
mod streams;

/// An operation, ready to be carried out again and again.
type Operation = Box<dyn FnMut() -> anyhow::Result<()>>;

/// An operation's name, and what gets it ready.
type Named = (&'static str, fn() -> anyhow::Result<Operation>);

/// In the order in which they are counted.
const OPERATIONS: [Named; 11] = [
    ("decide and apply: 1,000 lives", pure::lives),
    ("check JSON: 1,000 of 1 KB", pure::check_json),
    (
        "event to its stored form and back: 3,000",
        pure::stored_forms,
    ),
    ("event to its chunk: 3,000", pure::chunks),
    ("match a filter: 30,000", pure::filters),
    ("memory: commit 100 dispatches", stores::memory_dispatches),
    ("SQLite: commit 100 lives", stores::sqlite_lives),
    ("SQLite: snapshot of 1,000 tasks", stores::sqlite_snapshot),
    ("SQLite: page of a list", stores::sqlite_list),
    ("ring: read 1,000 events", streams::ring),
    ("SSE: send 1,000 events", streams::sse),
];

pub(crate) fn names() -> Vec<&'static str> {
    OPERATIONS.iter().map(|(name, _)| *name).collect()
}

/// Carries them all out.
pub(crate) fn carry_out() -> anyhow::Result<()> {
    for (_, prepare) in OPERATIONS {
        let mut operation = prepare()?;
        operation()?;
        begins();
        operation()?;
        has_ended();
    }
    Ok(())
}

/// From here on it is counted: callgrind knows the function by its name.
#[inline(never)]
fn begins() {
    std::hint::black_box("begins");
}

/// Up to here. The text keeps the compiler from making one function of the two.
#[inline(never)]
fn has_ended() {
    std::hint::black_box("has ended");
}
