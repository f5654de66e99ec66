//! `sidestream completions`: a script that lets a shell complete our words.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::console::Console;
use crate::exit::{Exit, Failure};

pub(crate) fn completions(shell: Shell, console: Console) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sidestream", &mut script);
    console.data(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
