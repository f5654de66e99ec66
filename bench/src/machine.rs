//! What the figures were measured on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The machine, as far as it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    memory_kib: u64,
    /// Load average over a minute when the run began: other work on the machine spoils the figures.
    load: String,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: after(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            memory_kib: number(&meminfo, "MemTotal").unwrap_or(0),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
        }
    }
}

fn after<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(field))?;
    Some(line.split_once(':')?.1.trim())
}

fn number(text: &str, field: &str) -> Option<u64> {
    after(text, field)?.split(' ').next()?.parse().ok()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory_kib as f64 / f64::from(1 << 20);
        let (cores, cpu, load) = (self.cores, &self.cpu, &self.load);
        write!(
            f,
            "{cores} cores ({cpu}), {gib:.0} GiB, load {load} at the start"
        )
    }
}
