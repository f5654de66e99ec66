//! Sidestream's benchmarks. Each figure stands beside its physical limit and beside its peers, measured in the
//! same run, because a speed alone says nothing about anybody else's machine.
//!
//! `./bench/run` builds and runs it. PostgreSQL is measured on a server of its own, from Debian's package
//! `postgresql`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

mod contend;
mod figures;
mod found;
mod limits;
mod load;
mod machine;
mod options;
mod place;
mod process;
mod results;
mod runner;
mod site;
mod sse;
mod work;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options};

/// As in the binary that people run.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match carry_out(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(options: &Options) -> anyhow::Result<()> {
    match &options.command {
        None => runner::run(options),
        Some(Command::Publish { results }) => {
            runner::publish(&results::Results::read_all(results)?)
        }
        Some(Command::Soak { seconds, dir }) => soak(*seconds, dir),
        Some(Command::Contend { work }) => {
            let work = serde_json::from_str(work)?;
            let runtime = tokio::runtime::Runtime::new()?;
            let answer = runtime.block_on(contend::contend(&work))?;
            println!("{}", serde_json::to_string(&answer)?);
            Ok(())
        }
        Some(Command::Serve { dir }) => {
            tokio::runtime::Runtime::new()?.block_on(figures::start::serve(dir))
        }
        Some(Command::SseClients { watching }) => {
            sse::clients::watch(serde_json::from_str(watching)?)
        }
    }
}

fn soak(seconds: usize, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let place = tempfile::Builder::new().prefix("soak-").tempdir_in(dir)?;
    let settings = figures::soak::Settings {
        seconds,
        line_seconds: seconds.div_ceil(30),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let found = runtime.block_on(figures::soak::run(place.path(), settings))?;
    println!("{}", serde_json::to_string_pretty(&found.values)?);
    println!("{}", found.verified);
    Ok(())
}
