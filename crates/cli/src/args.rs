//! The command line's own words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use sidestream::Timestamp;
use sidestream_client::{ChunkType, Filter, SnapshotKind, Status};

use crate::config::flags::SettingFlags;
use crate::console::ColorChoice;

/// Background tasks for AI agents: durable, streamed.
#[derive(Debug, Parser)]
#[command(
    name = "sidestream",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Common {
    /// Talk to the server at this address, such as http://127.0.0.1:7600. Without it: to the one that
    /// runs on the data directory, or else to the data itself.
    #[arg(long, global = true, value_name = "URL", env = "SIDESTREAM_URL")]
    pub(crate) server: Option<String>,
    /// The API key. Other users of this machine can see a flag; the variable is better.
    #[arg(
        long,
        global = true,
        value_name = "KEY",
        env = "SIDESTREAM_API_KEY",
        hide_env_values = true
    )]
    pub(crate) api_key: Option<String>,
    /// The namespace, where no API key says.
    #[arg(long, global = true, value_name = "NAME", env = "SIDESTREAM_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The data directory [env: SIDESTREAM_DATA].
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) data: Option<String>,
    /// The PostgreSQL database that servers share, in place of a data directory. Other users of this machine
    /// can see a flag; the variable is better [env: SIDESTREAM_DATABASE_URL].
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The configuration file [default: sidestream.toml, if there is one] [env: SIDESTREAM_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write JSON, one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to colour.
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        value_enum,
        default_value_t,
        env = "SIDESTREAM_COLOR"
    )]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run tasks, and let clients dispatch and watch them, until told to stop.
    Serve(SettingFlags),
    /// Run the command tools of the configuration for a server elsewhere, until told to stop.
    Worker(WorkerArgs),
    /// Run real work of three agents over the files here, and show what Sidestream does with it.
    Demo(DemoArgs),
    /// Dispatch a task; or run a local command as one: sidestream run -- COMMAND ARG…
    Run(RunArgs),
    /// List tasks, latest first.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show one task.
    Get {
        /// The task's id.
        id: String,
    },
    /// Show what happens, as it happens; or one task's whole story.
    Watch(WatchArgs),
    /// End a task that has not ended.
    Cancel {
        /// The ids of the tasks.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Give a suspended task what it waits for.
    Resume(ResumeArgs),
    /// Try a failed, timed-out or cancelled task again.
    Retry {
        /// The ids of the tasks.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Remove a task that has ended.
    Delete {
        /// The ids of the tasks.
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Manage API keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at what can go wrong with a deployment, and say what to do about it.
    Doctor,
    /// Copy the data into a new file, also while a server works on it.
    Backup {
        /// The file to make.
        file: PathBuf,
    },
    /// Put a copy into a data directory that is empty, as a log of a new name; or give the log of a
    /// PostgreSQL database a new name, after a copy of it was put back.
    Restore {
        /// The copy; none with a PostgreSQL database.
        file: Option<PathBuf>,
    },
    /// Write a completion script for a shell to the standard output.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// What tasks say of who runs them, before something random [default: the machine's name].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How many tasks run at once [default: 10] [env: SIDESTREAM_CONCURRENCY].
    #[arg(long, value_name = "NUMBER")]
    pub(crate) concurrency: Option<String>,
    /// How long it may be silent before its tasks are given to others [default: 30000] [env:
    /// SIDESTREAM_LEASE_MS].
    #[arg(long, value_name = "MS")]
    pub(crate) lease_ms: Option<String>,
    /// How long a program may take to stop once told, and how long a shutdown waits for running tasks
    /// [default: 5000] [env: SIDESTREAM_GRACE_MS].
    #[arg(long, value_name = "MS")]
    pub(crate) grace_ms: Option<String>,
    /// What is logged [default: info] [env: SIDESTREAM_LOG].
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Lines for people (text), or one JSON object a line (json) [env: SIDESTREAM_LOG_FORMAT].
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The directory whose files are worked on [default: the working directory].
    #[arg(value_name = "DIRECTORY")]
    pub(crate) directory: Option<PathBuf>,
}

/// Whose task it is.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Whose {
    /// The agent.
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The agent's run.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<String>,
    /// The conversation.
    #[arg(long, value_name = "ID")]
    pub(crate) thread: Option<String>,
    /// The user or object.
    #[arg(long, value_name = "ID")]
    pub(crate) resource: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "sidestream run [OPTIONS] TOOL\n       sidestream run [OPTIONS] -- COMMAND [ARG]..."
)]
pub(crate) struct RunArgs {
    /// The tool.
    #[arg(required_unless_present = "command", conflicts_with = "command")]
    pub(crate) tool: Option<String>,
    /// A command, to be run as a task. A server runs it only if its `allow_commands` says so.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// The arguments: JSON, @FILE, or - for the standard input.
    #[arg(long, value_name = "JSON", conflicts_with = "command")]
    pub(crate) args: Option<String>,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// The model's id of the call. With --run it makes a repeated dispatch harmless.
    #[arg(long, value_name = "ID")]
    pub(crate) tool_call: Option<String>,
    /// How long one attempt may take.
    #[arg(long, value_name = "MS")]
    pub(crate) timeout_ms: Option<u64>,
    /// How many failures are followed by another attempt.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_retries: Option<u32>,
    /// Higher goes first.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) priority: Option<i16>,
    /// Not before this time, such as 2026-11-21T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) run_at: Option<Timestamp>,
    /// What it is, for people.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Two dispatches with one key are one task.
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
    /// Show its outputs as they come, and end as it does.
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only those that stand so; may be repeated.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub(crate) status: Vec<Status>,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Only those of this tool.
    #[arg(long, value_name = "NAME")]
    pub(crate) tool: Option<String>,
    /// At most so many.
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 50)]
    pub(crate) limit: usize,
    /// All of them, however many there are.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
    /// Earliest first.
    #[arg(long)]
    pub(crate) oldest_first: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A task's id: its whole story from the start, until it has ended.
    #[arg(conflicts_with_all = ["agent", "run", "thread", "resource", "tool", "types", "snapshot"])]
    pub(crate) id: Option<String>,
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Only tasks of this tool.
    #[arg(long, value_name = "NAME")]
    pub(crate) tool: Option<String>,
    /// Only these types, such as output or completed; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_parser = chunk_type)]
    pub(crate) types: Vec<ChunkType>,
    /// Which tasks to show at the beginning.
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub(crate) snapshot: Snapshot,
    /// Begin with what followed this cursor; 0 is the beginning of the log.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Show all tasks on a screen of their own, live, and act on them by keys; ? shows which.
    #[arg(long, conflicts_with_all = ["types", "snapshot", "after"])]
    pub(crate) tui: bool,
    /// With --tui: at first only those that stand so; may be repeated.
    #[arg(long, value_name = "STATUS", value_parser = status, requires = "tui")]
    pub(crate) status: Vec<Status>,
}

/// Which tasks a snapshot shows.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Snapshot {
    /// The running ones.
    #[default]
    Running,
    /// The pending, running and suspended ones.
    Active,
    /// None: only news.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The task's id.
    pub(crate) id: String,
    /// What it waits for: JSON, @FILE, or - for the standard input.
    #[arg(value_name = "RESUME_DATA", default_value = "{}")]
    pub(crate) resume_data: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key. It is written to the standard output, this once.
    Add {
        /// What it allows: read, write, worker or admin.
        #[arg(long, value_name = "ROLE")]
        role: String,
        /// What it is for, for people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        name: String,
    },
    /// List the keys, without their secrets.
    List,
    /// Make a key worthless from now on.
    Revoke {
        /// The key's id, as `keys list` shows it.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with the configuration; else show what holds, and who said so.
    Check {
        /// The file [default: as --config].
        file: Option<PathBuf>,
    },
}

fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).map_err(|error| error.to_string())
}

fn chunk_type(text: &str) -> Result<ChunkType, String> {
    ChunkType::parse(text).map_err(|error| error.to_string())
}

impl From<Snapshot> for sidestream::SnapshotKind {
    fn from(snapshot: Snapshot) -> Self {
        match snapshot {
            Snapshot::Running => Self::Running,
            Snapshot::Active => Self::Active,
            Snapshot::None => Self::None,
        }
    }
}

impl From<Snapshot> for SnapshotKind {
    fn from(snapshot: Snapshot) -> Self {
        match snapshot {
            Snapshot::Running => Self::Running,
            Snapshot::Active => Self::Active,
            Snapshot::None => Self::None,
        }
    }
}

impl WatchArgs {
    /// The filter that the flags make.
    ///
    /// # Errors
    /// Names the flag that cannot be accepted.
    pub(crate) fn filter(&self) -> Result<Filter, sidestream::core::Invalid> {
        let whose = self.whose.clone();
        Ok(Filter {
            agent_id: whose.agent.map(|id| id.parse()).transpose()?,
            run_id: whose.run.map(|id| id.parse()).transpose()?,
            thread_id: whose.thread.map(|id| id.parse()).transpose()?,
            resource_id: whose.resource.map(|id| id.parse()).transpose()?,
            task_id: None,
            tool_name: self.tool.clone().map(|name| name.parse()).transpose()?,
            types: self.types.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
