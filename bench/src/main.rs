//! Sidestream's benchmarks. Each figure stands beside its physical limit and beside its peers, measured in the
//! same run, because a speed alone says nothing about anybody else's machine.
//!
//! `./bench/run` builds and runs it. PostgreSQL is measured on a server of its own, from Debian's package
//! `postgresql`.
#![expect(clippy::print_stdout, reason = "a program that prints tables")]

mod contend;
mod figures;
mod found;
mod limits;
mod machine;
mod place;
mod work;

use clap::Parser;

/// Measures Sidestream beside its peers and the physical limits.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Carries out one work, given as JSON: what a run starts for each measurement of ours and of the limits.
    #[command(hide = true)]
    Contend {
        /// Figure, contender, store, folder, server and settings.
        work: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Contend { work } => {
            let work = serde_json::from_str(&work)?;
            let answer = contend::contend(&work).await?;
            println!("{}", serde_json::to_string(&answer)?);
        }
    }
    Ok(())
}
