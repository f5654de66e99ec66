//! Makes the command line and the environment of one attempt, before anything is started.

use std::io;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use uuid::Uuid;

use super::marked::{self, MARK};
use super::template;
use super::{Cause, Failure, Invocation, Program};

/// A command that can be started, and the token its processes will carry.
pub(super) struct Prepared {
    pub(super) command: Command,
    pub(super) token: String,
}

/// Fills in everything that the attempt adds to the program.
///
/// # Errors
/// [`Cause::Arguments`] when the arguments do not fit the flags.
#[expect(
    clippy::disallowed_methods,
    reason = "marks real processes, which no seed replays"
)]
pub(super) fn prepare(program: &Program, invocation: &Invocation) -> Result<Prepared, Failure> {
    let flags = template::fill(&program.flags, &invocation.args, &program.arguments)
        .map_err(|problem| Failure::of(program, Cause::Arguments, &problem))?;
    let token = marked::token(&invocation.installation, Uuid::new_v4());
    let mut command = Command::new(&program.command);
    command
        .args(&program.arguments)
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(directory) = &program.working_directory {
        command.current_dir(directory);
    }
    set_environment(&mut command, program, invocation, &token);
    Ok(Prepared { command, token })
}

fn set_environment(command: &mut Command, program: &Program, invocation: &Invocation, token: &str) {
    command.env_clear();
    for name in &program.env_allowed {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .envs(&program.env)
        .env("SIDESTREAM_TASK_ID", &invocation.task_id)
        .env("SIDESTREAM_ATTEMPT", invocation.attempt.to_string())
        .env(MARK, token);
    if let Some(data) = &invocation.resume_data {
        command.env("SIDESTREAM_RESUME_DATA", data.as_str());
    }
}

/// Tells why a program could not be started.
pub(super) fn refused(program: &Program, error: &io::Error) -> Failure {
    if let Some(directory) = &program.working_directory
        && !directory.is_dir()
    {
        let problem = format!("there is no working directory {}", directory.display());
        return Failure::of(program, Cause::NotRunnable, &problem);
    }
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => {
            Failure::of(program, Cause::NotRunnable, "there is no such program")
        }
        Some(Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR) => {
            Failure::of(program, Cause::NotRunnable, &error.to_string())
        }
        Some(Errno::TOOBIG) => Failure::of(
            program,
            Cause::Arguments,
            "a flag or the resume data is too long for the system (Linux allows 131,072 bytes each)",
        ),
        // std refuses a NUL in an argument or a variable.
        None if error.kind() == io::ErrorKind::InvalidInput => {
            Failure::of(program, Cause::Arguments, &error.to_string())
        }
        _ => Failure::of(program, Cause::System, &error.to_string()),
    }
}
