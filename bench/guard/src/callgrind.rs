//! Has callgrind count what this program does.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::counts::Counts;

/// The functions that begin and end what is counted, by their names.
const FROM: &str = "guard::operations::begins";
const TO: &str = "guard::operations::has_ended";

/// Counts each operation: the counts come in the order of the names.
pub(crate) fn count(names: &[&str]) -> anyhow::Result<Counts> {
    let dir = tempfile::tempdir()?;
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--cache-sim=no"])
        .arg(format!("--dump-before={FROM}"))
        .arg(format!("--dump-before={TO}"))
        .arg(format!(
            "--callgrind-out-file={}",
            dir.path().join("out").display()
        ))
        .arg(std::env::current_exe()?)
        .arg("--carry-out")
        // What is logged, and how, must not count.
        .env_remove("RUST_LOG")
        .env("RUST_BACKTRACE", "0")
        .output()
        .context("valgrind cannot be run: it is Debian's package of that name")?;
    let said = String::from_utf8_lossy(&counted.stderr);
    anyhow::ensure!(
        counted.status.success(),
        "the operations were not carried out: {said}"
    );
    let counts = dumps(dir.path())?;
    anyhow::ensure!(
        counts.len() == names.len(),
        "{} operations were counted, of {}: {said}",
        counts.len(),
        names.len()
    );
    let names = names.iter().map(|name| (*name).to_owned());
    Ok(Counts::new(tools(), names.zip(counts).collect()))
}

/// What shifts all counts: the compiler, and the C library that is there.
fn tools() -> String {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let library = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let library = library.unwrap_or_default();
    format!("{}, {library}", env!("GUARD_COMPILER"))
}

/// What was counted from the beginning of each operation to its end, in their order.
fn dumps(dir: &Path) -> anyhow::Result<Vec<u64>> {
    let mut dumps = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // The last, at the program's end, has no number.
        let Some(nth) = path
            .extension()
            .and_then(|nth| nth.to_str()?.parse::<u32>().ok())
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path)?;
        if let Some(count) = count_in(&text) {
            dumps.push((nth, count));
        }
    }
    dumps.sort_unstable();
    Ok(dumps.into_iter().map(|(_, count)| count).collect())
}

/// The count of a dump that was written when an operation had ended.
fn count_in(dump: &str) -> Option<u64> {
    let trigger = |line: &&str| line.starts_with("desc: Trigger: --dump-before=");
    let trigger = dump.lines().find(trigger)?;
    if !trigger.contains("has_ended") {
        return None;
    }
    // "totals" is the last line of a dump; "summary" the same, near its beginning.
    let line = |name: &str| dump.lines().find_map(|line| line.strip_prefix(name));
    line("summary: ")
        .or_else(|| line("totals: "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_operation_did_is_counted() {
        let dump =
            |why: &str| format!("version: 1\ndesc: Trigger: {why}\n\nevents: Ir\nsummary: 42\n\n");
        assert_eq!(
            count_in(&dump("--dump-before=guard::operations::has_ended")),
            Some(42)
        );
        assert_eq!(
            count_in(&dump("--dump-before=guard::operations::begins")),
            None
        );
        assert_eq!(count_in(&dump("Program termination")), None);
    }
}
