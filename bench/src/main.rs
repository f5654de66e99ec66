//! Sidestream's benchmarks. Each figure stands beside its physical limit, measured in the same run,
//! because a speed alone says nothing about anybody else's machine.
//!
//! `cargo run --release -p sidestream-bench` prints the tables; `--json FILE` keeps them. PostgreSQL is
//! measured on a server of its own, from Debian's package `postgresql`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints tables"
)]

mod across;
mod bare;
mod latency;
mod machine;
mod place;
mod tasks;

use std::path::PathBuf;

use clap::Parser;
use serde::Serialize;

/// Measures Sidestream beside the physical limit.
#[derive(Parser)]
struct Options {
    /// Runs of each measurement; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only a tenth of the work: to see that everything runs.
    #[arg(long)]
    quick: bool,
    /// Which stores.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "memory,sqlite,postgres"
    )]
    stores: Vec<place::Kind>,
    /// How many tasks are in flight at once.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    in_flight: Vec<usize>,
    /// How many servers share one PostgreSQL.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    servers: Vec<usize>,
    /// Which figures.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "tasks,latency,across"
    )]
    figures: Vec<Figure>,
    /// Where SQLite's databases are put: the disk that is measured. PostgreSQL's are in the temporary
    /// folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Keeps the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figure {
    /// Tasks a second.
    Tasks,
    /// From a handler's output to a reader.
    Latency,
    /// From one server to another, on PostgreSQL.
    Across,
}

/// Everything that a run found.
#[derive(Serialize)]
struct Report {
    machine: machine::Machine,
    tasks: Vec<tasks::Row>,
    latency: Vec<latency::Row>,
    across: Vec<across::Row>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let dir = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir_in(".")?,
    };
    let divide = if options.quick { 10 } else { 1 };
    let machine = machine::Machine::read();
    println!("{machine}\n");
    let (mut tasks, mut latency, mut across) = (Vec::new(), Vec::new(), Vec::new());
    let is_wanted = |figure| options.figures.contains(&figure);
    if is_wanted(Figure::Tasks) {
        tasks = tasks::measure(dir.path(), &options, divide).await?;
    }
    if is_wanted(Figure::Latency) {
        latency = latency::measure(dir.path(), &options.stores, options.runs, divide).await?;
    }
    if is_wanted(Figure::Across) && options.stores.contains(&place::Kind::Postgres) {
        across = across::measure(dir.path(), options.runs, divide).await?;
    }
    if let Some(path) = options.json {
        let report = Report {
            machine,
            tasks,
            latency,
            across,
        };
        std::fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
        eprintln!("kept in {}", path.display());
    }
    Ok(())
}

/// The value in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that this share of the others does not exceed. Sorts them.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len() - 1;
    values[((last as f64) * share).round() as usize]
}
