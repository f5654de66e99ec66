//! What a run is asked to do.

use std::path::PathBuf;

use clap::Parser;

use crate::place::Kind;

/// Measures Sidestream beside its peers and beside what the disk, the database and the kernel allow.
///
/// Everything is run alternately: one round of all contenders, then the next. Each is a process of its own, with a
/// fresh store, and verifies what it did. A whole run (nothing left out) is kept in bench/results, and writes the
/// tables of docs/performance.md and the plots that it shows.
#[derive(Debug, Parser)]
#[command(name = "bench/run", args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Which figures, by their names; `--list` names them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) figures: Vec<String>,
    /// Which contenders: `ours`, `limit`, or peers by their names; `--list` names them.
    #[arg(long, value_delimiter = ',')]
    pub(crate) contenders: Vec<String>,
    /// Only those that keep their tasks in one of these.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) stores: Vec<Kind>,
    /// How many tasks are in flight at once, where that is a figure's setting.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,10,100,1000",
        value_parser = clap::value_parser!(u64).range(1..=100_000)
    )]
    pub(crate) in_flight: Vec<u64>,
    /// How many tasks are stored, where that is a figure's setting. A million take a minute or two to be made, and each
    /// run works on a copy.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,10000,100000,1000000",
        value_parser = clap::value_parser!(u64).range(1..=100_000_000)
    )]
    pub(crate) stored: Vec<u64>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// A tenth of the work: to see that everything runs.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Where databases are put: the disk that is measured; large ones are kept there for the next run. PostgreSQL's
    /// are in the temporary folder (TMPDIR).
    #[arg(long, default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// Where the results are kept; without, those of a whole run go into bench/results, under the date.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Names the figures and who contends in each, and measures nothing.
    #[arg(long)]
    pub(crate) list: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Writes the tables of docs/performance.md and the plots from results that were kept; of a figure at a setting
    /// that is in several, the last counts.
    Publish {
        /// Files of bench/results.
        #[arg(required = true)]
        results: Vec<PathBuf>,
    },
    /// Works on at seven tenths of the best rate, with retention on, and says a line a minute of how it goes: what
    /// the last third is like beside the second.
    Soak {
        /// How long, in seconds.
        #[arg(long, default_value_t = 1_800)]
        seconds: usize,
        /// Where the database is put.
        #[arg(long, default_value = "target/bench")]
        dir: PathBuf,
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
        dir: PathBuf,
    },
    /// Carries out one work, given as JSON: what a run starts for each measurement of ours and of the limits.
    #[command(hide = true)]
    Contend {
        /// Figure, contender, store, folder, server and settings.
        work: String,
    },
}

impl Options {
    /// Is nothing left out?
    pub(crate) fn is_whole(&self) -> bool {
        let is_picked = self.figures.is_empty() && self.contenders.is_empty();
        is_picked && self.stores.is_empty() && !self.quick
    }
}
