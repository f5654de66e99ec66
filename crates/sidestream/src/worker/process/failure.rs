//! Why an attempt of a program failed, and whether another attempt can help.

use super::Program;

/// The most bytes of a program's stderr that a failure's message quotes.
const STDERR_BYTES_MAX: usize = 2048;

/// An attempt without a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened.
    pub cause: Cause,
    /// The whole story for a person: the program, what happened to it, the end of its stderr (at
    /// most 2 KiB).
    pub message: String,
}

/// What happened to a program that gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The arguments do not fit the program's flags, or are more than the system can pass on.
    Arguments,
    /// There is no such program or working directory, or we may not execute it.
    NotRunnable,
    /// The system refused what we need: a process, a pipe, memory.
    System,
    /// It ended with an exit code other than 0.
    Exit {
        /// The exit code.
        code: i32,
    },
    /// A signal that was not ours killed it.
    Signal {
        /// The signal's number.
        number: i32,
    },
    /// How it ended is not known: somebody else in this process collects its children.
    Unknown,
    /// It wrote more than it may, and was stopped.
    OutputLimit {
        /// Bytes seen when it was stopped.
        written_bytes: usize,
        /// Bytes allowed.
        bytes_max: usize,
    },
    /// It was stopped because the token was cancelled.
    Cancelled,
    /// It was stopped because the sink is closed.
    SinkClosed,
}

impl Failure {
    /// Can another attempt help?
    ///
    /// Yes, but for arguments that do not fit, a program that cannot be run, the exit codes 64 to
    /// 78 other than 75 (`sysexits.h`: permanent errors; 75 is `EX_TEMPFAIL`), and a program that
    /// was stopped because nobody wants its result.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.cause {
            Cause::Arguments | Cause::NotRunnable | Cause::Cancelled | Cause::SinkClosed => false,
            Cause::Exit { code } => !(64..=78).contains(&code) || code == 75,
            Cause::System | Cause::Signal { .. } | Cause::Unknown | Cause::OutputLimit { .. } => {
                true
            }
        }
    }

    /// Tells what happened to the program; `detail` is what it or the system said about it.
    pub(super) fn of(program: &Program, cause: Cause, detail: &str) -> Self {
        let mut message = format!("`{}` {}", program.command, verb(cause));
        let detail = tail(detail.trim(), STDERR_BYTES_MAX);
        if !detail.is_empty() {
            message.push_str(": ");
            message.push_str(&detail);
        }
        Self { cause, message }
    }
}

fn verb(cause: Cause) -> String {
    match cause {
        Cause::Arguments => "cannot be given these arguments".into(),
        Cause::NotRunnable => "cannot be run".into(),
        Cause::System => "was refused by the system".into(),
        Cause::Exit { code } => format!("ended with exit code {code}"),
        Cause::Signal { number } => format!("was killed by {}", signal_name(number)),
        Cause::Unknown => "ended, but its exit code was collected by somebody else".into(),
        Cause::OutputLimit {
            written_bytes,
            bytes_max,
        } => format!(
            "was stopped: it wrote {} bytes of output, more than the {} allowed",
            grouped(written_bytes),
            grouped(bytes_max),
        ),
        Cause::Cancelled => "was stopped: the task was cancelled or its time was up".into(),
        Cause::SinkClosed => "was stopped: no more of its outputs are taken".into(),
    }
}

/// The last bytes of a text, marked when something is missing in front.
fn tail(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - (bytes_max - '…'.len_utf8()));
    format!("…{}", &text[start..])
}

/// A number with its thousands set apart: `1,048,576`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The name of a signal, where it has the same name and meaning on Linux and macOS.
fn signal_name(number: i32) -> String {
    use rustix::process::Signal;
    const NAMES: [(Signal, &str); 16] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    NAMES
        .iter()
        .find(|(signal, _)| signal.as_raw() == number)
        .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_errors_are_not_retried() {
        let is_retryable = |cause| {
            let message = String::new();
            Failure { cause, message }.is_retryable()
        };
        for code in 1..=255 {
            let is_permanent = (64..=74).contains(&code) || (76..=78).contains(&code);
            assert_eq!(is_retryable(Cause::Exit { code }), !is_permanent, "{code}");
        }
        assert!(is_retryable(Cause::Signal { number: 9 }));
        assert!(is_retryable(Cause::System));
        assert!(!is_retryable(Cause::NotRunnable));
        assert!(!is_retryable(Cause::Arguments));
    }

    #[test]
    fn a_tail_is_bounded_and_cut_between_characters() {
        assert_eq!(tail("short", 8), "short");
        assert_eq!(tail("0123456789", 8), "…56789");
        assert_eq!(tail("äöüäöüäöü", 8), "…öü");
        assert!(tail(&"ü".repeat(5000), STDERR_BYTES_MAX).len() <= STDERR_BYTES_MAX);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(123), "123");
        assert_eq!(grouped(1_048_576), "1,048,576");
    }
}
