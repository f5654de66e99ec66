//! What processes have used, as the kernel counts it: read from `/proc`.

use std::fs;

/// The kernel counts processors' time in hundredths of a second, on every machine that we know of.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processors that a process has used, with those of its children that have ended and were waited for.
///
/// It is still known once the process has ended, until somebody waits for it.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses, and may have any characters in it.
    let after_name = stat.rsplit_once(')')?.1;
    let fields = after_name.split_whitespace().skip(11).take(4);
    let ticks: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
    (ticks.len() == 4).then(|| ticks.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// The memory that a process has now, in KiB: `VmRSS`.
pub(crate) fn resident_kib(pid: u32) -> Option<u64> {
    field_kib(pid, "VmRSS:")
}

/// The most memory that a process has had, in KiB: `VmHWM`.
pub(crate) fn peak_kib(pid: u32) -> Option<u64> {
    field_kib(pid, "VmHWM:")
}

/// What these processes have now, in KiB: what each has to itself, and once what they share.
pub(crate) fn together_kib(pids: &[u32]) -> u64 {
    let own = |pid: &u32| field_kib(*pid, "RssAnon:").unwrap_or(0);
    let shared = |pid: &u32| {
        let of = |field| field_kib(*pid, field).unwrap_or(0);
        of("RssShmem:") + of("RssFile:")
    };
    pids.iter().map(own).sum::<u64>() + pids.iter().map(shared).max().unwrap_or(0)
}

/// A process, its children, and theirs.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let path = format!("/proc/{0}/task/{0}/children", found[at]);
        let children = fs::read_to_string(path).unwrap_or_default();
        found.extend(
            children
                .split_whitespace()
                .map_while(|pid| pid.parse::<u32>().ok()),
        );
        at += 1;
    }
    found
}

fn field_kib(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_a_processor_and_memory() {
        let own = std::process::id();
        assert!(cpu_seconds(own).is_some());
        let peak = peak_kib(own).expect("it is known");
        assert!(peak >= 1_000, "{peak} KiB are too few for any process");
        assert!(family(own).contains(&own));
    }
}
