//! One contender's process, from its start to its answer: what it said, and what it took.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::servers::Server;
use crate::found::{Answer, READY};
use crate::process;
use crate::results::Run;
use crate::work::Work;

/// Between two looks at the memory. What a process has at most the kernel remembers, so that only what it took in
/// its last moments can be missed.
const LOOK: Duration = Duration::from_millis(20);

/// The program, and what stands before the work on its command line.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<String>,
}

/// Runs it to its end, at most for `most`.
#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch and looks at another process"
)]
pub(super) fn run(
    program: &Program,
    work: &Work,
    server: Option<&Server>,
    most: Duration,
) -> anyhow::Result<Run> {
    let errors = work.dir.join("stderr");
    let started = Instant::now();
    let root = server.map(Server::process).transpose()?;
    let server_cpu = move || root.map(of_family);
    let server_before = server_cpu();
    let mut child = Command::new(&program.path)
        .args(&program.args)
        .arg(serde_json::to_string(work)?)
        // Peers that need clients of ours find them here.
        .env("BENCH_PROGRAM", std::env::current_exe()?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&errors)?)
        .spawn()
        .with_context(|| format!("{} does not start", program.path.display()))?;
    let pid = child.id();
    let (peak_kib, server_peak_kib) = (AtomicU64::new(0), AtomicU64::new(0));
    let look = || {
        peak_kib.fetch_max(process::peak_kib(pid).unwrap_or(0), Relaxed);
        if let Some(root) = root {
            let now = process::together_kib(&process::family(root));
            server_peak_kib.fetch_max(now, Relaxed);
        }
    };
    let stdout = child.stdout.take().context("it is piped")?;
    let said = std::thread::spawn(move || {
        let (mut last, mut before) = (String::new(), (0.0, server_before));
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line == READY {
                before = (process::cpu_seconds(pid).unwrap_or(0.0), server_cpu());
            }
            last = line;
        }
        (last, before)
    });
    let mut is_late = false;
    // It is not waited for yet: then nothing would be known of it any more.
    while !has_ended(pid)? {
        look();
        if started.elapsed() > most && !is_late {
            is_late = true;
            child.kill()?;
        }
        std::thread::sleep(LOOK);
    }
    let took_seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = process::cpu_seconds(pid).unwrap_or(0.0);
    let status = child.wait()?;
    let (last, (cpu_before, server_before)) = said.join().expect("it only reads");
    let server_after = server_cpu();
    if is_late {
        anyhow::bail!(
            "it had not ended after {} s: {}",
            most.as_secs(),
            tail(&errors)
        );
    }
    anyhow::ensure!(
        status.success(),
        "it ended with {status}: {}",
        tail(&errors)
    );
    let answer = serde_json::from_str::<Answer>(&last);
    let mut answer = answer.with_context(|| format!("its last line is no answer: {last}"))?;
    answer.peak_kib = answer.peak_kib.max(peak_kib.into_inner());
    Ok(Run {
        cpu_seconds: cpu_seconds - cpu_before,
        server_cpu_seconds: server_after
            .zip(server_before)
            .map(|(after, before)| after - before),
        answer,
        server_peak_kib: root.map(|_| server_peak_kib.into_inner()),
        took_seconds,
    })
}

/// Seconds of processors that a process has used with all that it started.
fn of_family(root: u32) -> f64 {
    let family = process::family(root);
    let seconds = family.iter().filter_map(|pid| process::cpu_seconds(*pid));
    seconds.sum()
}

fn has_ended(pid: u32) -> anyhow::Result<bool> {
    let pid = Pid::from_raw(pid.cast_signed()).context("a process has a number")?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.is_some())
}

/// The last lines of what it said to the side.
fn tail(errors: &std::path::Path) -> String {
    let said = fs::read_to_string(errors).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
