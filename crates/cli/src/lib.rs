//! The command line `sidestream`: where the parts are put together, and the only place that prints or
//! exits.
//!
//! Read [`args`] first: what can be said. Each subcommand is one file of [`commands`]. What they share:
//! [`place`] (a server, or the data directory itself), [`following`] (its stream), [`show`] (how chunks and tasks look), [`console`]
//! (where it is said), [`exit`] (how it ends), [`config`] (what holds, and who said so).

mod args;
mod commands;
mod demo;

mod following;
mod place;
mod show;

mod config;
mod console;
mod exit;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use console::Console;
use exit::{Exit, Failure};

/// Does what the command line says, and tells how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console::new(cli.common.json, cli.common.color);
    let exit = match run(cli, console) {
        Ok(exit) => exit,
        Err(failure) => {
            console.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn run(cli: Cli, console: Console) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::unreachable(format!("no threads: {error}")))?;
    let exit = runtime.block_on(dispatch(cli, console));
    // Whatever still blocks a thread, such as a handler that does not stop, does not keep us.
    runtime.shutdown_background();
    exit
}

async fn dispatch(Cli { common, command }: Cli, console: Console) -> Result<Exit, Failure> {
    match command {
        Command::Serve(flags) => commands::serve::serve(&common, flags, console).await,
        Command::Worker(args) => commands::worker::worker(&common, args, console).await,
        Command::Demo(args) => demo::demo(args, console).await,
        Command::Run(args) => commands::run::run(&common, args, console).await,
        Command::List(args) => commands::list::list(&common, args, console).await,
        Command::Get { id } => commands::act::get(&common, &id, console).await,
        Command::Watch(args) => commands::watch::watch(&common, args, console).await,
        Command::Cancel { ids } => commands::act::cancel(&common, &ids, console).await,
        Command::Resume(args) => commands::act::resume(&common, args, console).await,
        Command::Retry { ids } => commands::act::retry(&common, &ids, console).await,
        Command::Delete { ids } => commands::act::delete(&common, &ids, console).await,
        Command::Keys(command) => commands::keys::keys(&common, command, console).await,
        Command::Config(command) => commands::config::config(&common, command, console),
        Command::Doctor => commands::doctor::doctor(&common, console).await,
        Command::Backup { file } => commands::backup::backup(&common, file, console).await,
        Command::Restore { file } => commands::backup::restore(&common, file, console).await,
        Command::Completions { shell } => commands::completions::completions(shell, console),
    }
}
