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
mod load;
mod machine;
mod place;
mod site;
mod sse;
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
    /// Watches a server, by as many clients as are asked for, given as JSON: a process beside a contender's.
    #[command(hide = true)]
    SseClients {
        /// Address, path, and how many.
        watching: String,
    },
    /// Serves the database in a folder, says where, and ends when its stdin does.
    #[command(hide = true)]
    Serve {
        /// The folder.
        dir: std::path::PathBuf,
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
        Command::Serve { dir } => figures::start::serve(&dir).await?,
        Command::SseClients { watching } => sse::clients::watch(serde_json::from_str(&watching)?)?,
    }
    Ok(())
}
