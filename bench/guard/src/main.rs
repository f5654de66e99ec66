//! Counts the instructions of Sidestream's core operations, and compares them with the counts that were accepted
//! last (`bench/guard/counts.json`), so that none becomes slower unseen.
//!
//! Instructions, not time: a count is the same on a busy machine, and says what changed to within a percent. It
//! says nothing of the disk or the network, which `bench/` measures. Callgrind counts: it runs this program a
//! second time, and writes down the count when an operation begins and when it has ended.
//!
//! `./check guard` runs it. A count that has risen for a good reason, or fallen, is accepted with `--accept`.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

mod callgrind;
mod counts;
mod operations;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use counts::Counts;

/// Counts the instructions of core operations, and fails where one has become slower.
#[derive(Parser)]
struct Options {
    /// Writes the counts down as those to compare with from now on.
    #[arg(long)]
    accept: bool,
    /// Carries the operations out, to be counted: what this program starts itself a second time.
    #[arg(long, hide = true)]
    carry_out: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    if options.carry_out {
        operations::carry_out()?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counts.json");
    let found = callgrind::count(&operations::names())?;
    if options.accept {
        found.write(&file)?;
        println!("accepted in {}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let accepted = Counts::read(&file)?;
    let report = accepted.compare(&found);
    println!("{report}");
    Ok(match report.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
