//! A program as a tool's handler: each attempt runs it once.

use futures::future::BoxFuture;
use sidestream_core::{Json, TaskError};

use crate::worker::handler::{Context, Handler, Outcome, OutputError, Tool};
use crate::worker::process::{Cause, Closed, Failure, Invocation, Program, Sink, run};

/// Runs a [`Program`] for each attempt: what it writes are the attempt's outputs, what it wrote last is
/// the result. See [`run`] for how a program is spoken to.
#[derive(Debug, Clone)]
struct CommandHandler(Program);

impl Tool {
    /// A tool behind a program.
    ///
    /// ```
    /// use sidestream::Tool;
    /// use sidestream::worker::process::Program;
    ///
    /// let count = Tool::command("count", Program::new("wc", ["-l", "README.md"]));
    /// ```
    #[must_use]
    pub fn command(name: impl Into<String>, program: Program) -> Self {
        Self::from_handler(name, CommandHandler(program))
    }
}

impl Handler for CommandHandler {
    fn starts_programs(&self) -> bool {
        true
    }

    fn call(&self, context: Context) -> BoxFuture<'static, Outcome> {
        let program = self.0.clone();
        Box::pin(async move {
            let invocation = Invocation {
                installation: context.log().to_string(),
                task_id: context.task_id().to_string(),
                attempt: context.attempt().0,
                args: context.task().args.clone(),
                resume_data: context.resume_json().cloned(),
            };
            let cancel = context.cancelled().clone();
            match run(&program, &invocation, &Outputs(context), &cancel).await {
                Ok(result) => Outcome::Completed(result),
                Err(failure) => failed(failure),
            }
        })
    }
}

fn failed(failure: Failure) -> Outcome {
    // A program that is stopped because its worker shuts down may well be run again; the others that
    // are stopped are not asked.
    let is_retryable = failure.is_retryable() || failure.cause == Cause::Cancelled;
    Outcome::Failed {
        error: TaskError::new(&failure.message),
        is_retryable,
    }
}

/// What the program writes becomes the attempt's outputs.
struct Outputs(Context);

impl Sink for Outputs {
    async fn output(&self, output: Json) -> Result<(), Closed> {
        match self.0.output_json(output).await {
            // An output over the limit cannot be: a line is cut long before. If it were, the program
            // goes on without it.
            Ok(()) | Err(OutputError::Invalid(_) | OutputError::Json(_)) => Ok(()),
            Err(OutputError::Stopped(_)) => Err(Closed),
        }
    }
}
