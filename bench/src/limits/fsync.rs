//! What one durable write costs on this disk.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// How long the disk takes to make 4 KiB at the end of a file durable, each time in milliseconds.
#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
pub(crate) fn ms(dir: &Path, times: usize) -> anyhow::Result<Vec<f64>> {
    let mut file = std::fs::File::create(dir.join("fsync"))?;
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        file.write_all(&[7; 4_096])?;
        file.sync_data()?;
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(took)
}
