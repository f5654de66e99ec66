//! The physical limit: the same rows, written by the database's own client and nothing else.
//!
//! A task's life is three transitions: dispatched, claimed, completed. Each writes the task's row and
//! one event. Nothing is decided, checked, queued, published or answered. The tables have the keys that
//! no store could do without, and no index for listing.

use std::ops::RangeInclusive;

pub(crate) mod postgres;
pub(crate) mod sqlite;

const AT_MS: i64 = 1_790_000_000_000;
const BODY: &str = "{\"worker\":\"local-0123456789abcdef\"}";
/// Dispatched, claimed, completed.
const TRANSITIONS: [i64; 3] = [0, 1, 5];

/// An id as scattered as a random one.
fn id(key: i64) -> String {
    let scattered = u128::from(key.unsigned_abs());
    format!(
        "{:032x}",
        scattered.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

/// The keys of the tasks, `batch` at a time.
fn batches(tasks: i64, batch: i64) -> impl Iterator<Item = RangeInclusive<i64>> {
    let firsts = (0..tasks.div_euclid(batch)).map(move |n| n * batch + 1);
    firsts.map(move |first| first..=first + batch - 1)
}
