//! The tool behind `sidestream run -- COMMAND`: it runs whatever command it is given.
//!
//! So whoever may dispatch it may run anything. A server has it only when its configuration says so
//! (`allow_commands`).

use std::path::PathBuf;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sidestream::worker::handler::OutputError;
use sidestream::worker::process::{self, Cause, Closed, Invocation, Program, Sink};
use sidestream::{Context, Handler, Json, Outcome, TaskError, Tool};

use crate::exit::Failure;

/// The tool's name.
pub(crate) const NAME: &str = "command";

/// What the tool is called with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    command: Vec<String>,
    /// Where it runs; where the worker does, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<PathBuf>,
}

/// Runs any command.
#[derive(Debug)]
struct AnyCommand {
    /// Names of the variables that commands get.
    env_allowed: Vec<String>,
}

/// The tool's arguments for a command that is to run here.
pub(crate) fn args(command: Vec<String>) -> Result<Json, Failure> {
    let cwd = std::env::current_dir().ok();
    let args = Args { command, cwd };
    Json::from_value(&args)
        .map_err(|_| Failure::bad_input("the working directory's name is not UTF-8"))
}

/// The tool as a server has it: with the environment that command tools get.
pub(crate) fn tool() -> Tool {
    let env_allowed = Program::ENV_ALLOWED.map(String::from).to_vec();
    Tool::from_handler(NAME, AnyCommand { env_allowed })
}

/// The tool as this process has it: the command is the caller's own, and so is the environment.
pub(crate) fn tool_here() -> Tool {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let env_allowed = names.collect();
    Tool::from_handler(NAME, AnyCommand { env_allowed })
}

impl Handler for AnyCommand {
    fn starts_programs(&self) -> bool {
        true
    }

    fn call(&self, context: Context) -> BoxFuture<'static, Outcome> {
        let program = self.program(&context);
        Box::pin(async move {
            let program = match program {
                Ok(program) => program,
                Err(message) => {
                    return Outcome::Failed {
                        error: TaskError::new(message),
                        is_retryable: false,
                    };
                }
            };
            let invocation = Invocation {
                installation: context.log().to_string(),
                task_id: context.task_id().to_string(),
                attempt: context.attempt().0,
                args: Json::empty_object(),
                resume_data: None,
            };
            let cancel = context.cancelled().clone();
            match process::run(&program, &invocation, &Outputs(context), &cancel).await {
                Ok(result) => Outcome::Completed(result),
                Err(failure) => Outcome::Failed {
                    is_retryable: failure.is_retryable() || failure.cause == Cause::Cancelled,
                    error: TaskError::new(&failure.message),
                },
            }
        })
    }
}

impl AnyCommand {
    fn program(&self, context: &Context) -> Result<Program, String> {
        let args: Args = context
            .task()
            .args
            .parse()
            .map_err(|error| format!("args do not fit: {error}"))?;
        let mut command = args.command.into_iter();
        let program = command
            .next()
            .ok_or("args do not fit: the command is empty")?;
        Ok(Program {
            working_directory: args.cwd,
            env_allowed: self.env_allowed.clone(),
            ..Program::new(program, command)
        })
    }
}

/// What the command writes becomes the attempt's outputs.
struct Outputs(Context);

impl Sink for Outputs {
    async fn output(&self, output: Json) -> Result<(), Closed> {
        match self.0.output_json(output).await {
            Err(OutputError::Stopped(_)) => Err(Closed),
            _ => Ok(()),
        }
    }
}
