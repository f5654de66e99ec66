//! Reads what a program writes, passes it on line by line, and keeps what its end will need.
//!
//! The pipe is read only as fast as the sink takes, so a slow sink slows the program and not our
//! memory. Held are: a read buffer and one line for each of the two pipes, all of stdout (it may be
//! the result; the output limit bounds it) and the last bytes of stderr.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use sidestream_core::Json;
use sidestream_core::task::PAYLOAD_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio_util::sync::CancellationToken;

use super::lines::{self, Line, Lines};
use super::{Cause, Exit, Failure, Program, Sink};

const READ_BYTES: usize = 16 * 1024;

/// Bytes of stderr kept for the message of a failure, which quotes the last 2 KiB.
const STDERR_TAIL_BYTES: usize = 4 * 1024;

/// What stands around the text of a line of stderr.
const STDERR_FRAME_BYTES: usize = r#"{"stream":"stderr","text":}"#.len();

/// Our ends of a program's pipes.
pub(super) struct Pipes {
    pub(super) stdin: Option<ChildStdin>,
    stdout: Pipe<ChildStdout>,
    stderr: Pipe<ChildStderr>,
}

/// One pipe and what was read from it last.
struct Pipe<R> {
    reader: R,
    buffer: Vec<u8>,
    is_open: bool,
}

/// The two that a program writes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Pipes {
    /// Takes the pipes of a child for the runtime of the caller.
    pub(super) fn new(child: ChildPipes) -> io::Result<Self> {
        Ok(Self {
            stdin: Some(ChildStdin::from_std(child.stdin)?),
            stdout: Pipe::new(ChildStdout::from_std(child.stdout)?),
            stderr: Pipe::new(ChildStderr::from_std(child.stderr)?),
        })
    }

    /// A second hold on what the program writes to.
    pub(super) fn writers(&self) -> io::Result<Writers> {
        Ok(Writers([
            self.stdout.reader.as_fd().try_clone_to_owned()?,
            self.stderr.reader.as_fd().try_clone_to_owned()?,
        ]))
    }

    /// Reads to the end and forgets it, so that a full pipe keeps nobody from ending.
    pub(super) async fn discard(&mut self) {
        tokio::join!(self.stdout.discard(), self.stderr.discard());
    }

    /// Reads what is there first, into that pipe's buffer; `None` when both are closed.
    async fn read(&mut self) -> io::Result<Option<Stream>> {
        while self.stdout.is_open || self.stderr.is_open {
            let (stream, has_read) = tokio::select! {
                read = self.stdout.read(), if self.stdout.is_open => (Stream::Stdout, read?),
                read = self.stderr.read(), if self.stderr.is_open => (Stream::Stderr, read?),
            };
            if has_read {
                return Ok(Some(stream));
            }
        }
        Ok(None)
    }

    /// What was read last.
    fn bytes(&self, stream: Stream) -> &[u8] {
        match stream {
            Stream::Stdout => &self.stdout.buffer,
            Stream::Stderr => &self.stderr.buffer,
        }
    }
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: Vec::with_capacity(READ_BYTES),
            is_open: true,
        }
    }

    /// Reads once; false at the end. Loses nothing when dropped.
    async fn read(&mut self) -> io::Result<bool> {
        self.buffer.clear();
        self.is_open = self.reader.read_buf(&mut self.buffer).await? > 0;
        Ok(self.is_open)
    }

    async fn discard(&mut self) {
        while self.is_open && self.read().await.is_ok() {}
    }
}

/// Those who can still write to a program's stdout or stderr.
pub(super) struct Writers([OwnedFd; 2]);

impl Writers {
    /// Does anybody hold one of the pipes open? Tells it even while unread output is left in them.
    pub(super) fn are_left(&self) -> bool {
        self.0.iter().any(|pipe| {
            let mut pipe = [PollFd::new(pipe, PollFlags::IN)];
            let seen = poll(&mut pipe, Some(&Timespec::default()));
            seen.is_err() || !pipe[0].revents().contains(PollFlags::HUP)
        })
    }
}

/// The pipes of a child, before they belong to a runtime.
pub(super) struct ChildPipes {
    stdin: std::process::ChildStdin,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

impl ChildPipes {
    /// Takes them from a child that was started with all three piped.
    pub(super) fn of(child: &mut Child) -> Option<Self> {
        Some(Self {
            stdin: child.stdin.take()?,
            stdout: child.stdout.take()?,
            stderr: child.stderr.take()?,
        })
    }
}

/// What became of a program's output so far.
pub(super) struct Output {
    stdout_lines: Lines,
    stderr_lines: Lines,
    /// All of stdout, uncut.
    stdout: Vec<u8>,
    /// The end of stderr.
    stderr_tail: Vec<u8>,
    written_bytes: usize,
    bytes_max: usize,
}

#[derive(Serialize)]
struct StderrLine<'a> {
    stream: &'static str,
    text: &'a str,
}

impl Output {
    pub(super) fn new(program: &Program) -> Self {
        Self {
            stdout_lines: Lines::new(program.line_bytes_max),
            stderr_lines: Lines::new(program.line_bytes_max),
            stdout: Vec::new(),
            stderr_tail: Vec::new(),
            written_bytes: 0,
            bytes_max: program.output_bytes_max,
        }
    }

    /// Passes lines on until both pipes are closed, or until `give_up` fires and nothing more is
    /// there to be read.
    pub(super) async fn pass_on<S: Sink>(
        &mut self,
        pipes: &mut Pipes,
        sink: &S,
        give_up: &CancellationToken,
    ) -> Result<(), Cause> {
        loop {
            let read = tokio::select! {
                // Reading comes first: what was written is not lost by giving up.
                biased;
                read = pipes.read() => read.map_err(|_| Cause::System)?,
                () = give_up.cancelled() => break,
            };
            let Some(stream) = read else {
                break;
            };
            self.take(stream, pipes.bytes(stream), sink).await?;
        }
        for (stream, line) in [
            (Stream::Stdout, self.stdout_lines.rest()),
            (Stream::Stderr, self.stderr_lines.rest()),
        ] {
            if let Some(line) = line {
                deliver(stream, line, sink).await?;
            }
        }
        Ok(())
    }

    async fn take<S: Sink>(&mut self, stream: Stream, bytes: &[u8], sink: &S) -> Result<(), Cause> {
        let allowed = bytes
            .len()
            .min(self.bytes_max.saturating_sub(self.written_bytes));
        self.written_bytes += bytes.len();
        let mut rest = &bytes[..allowed];
        self.keep(stream, rest);
        let lines = match stream {
            Stream::Stdout => &mut self.stdout_lines,
            Stream::Stderr => &mut self.stderr_lines,
        };
        while let Some(line) = lines.take(&mut rest) {
            deliver(stream, line, sink).await?;
        }
        if allowed < bytes.len() {
            return Err(Cause::OutputLimit {
                written_bytes: self.written_bytes,
                bytes_max: self.bytes_max,
            });
        }
        Ok(())
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            self.stdout.extend_from_slice(bytes);
            return;
        }
        self.stderr_tail.extend_from_slice(bytes);
        let surplus = self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES);
        self.stderr_tail.drain(..surplus);
    }

    /// The result of a program that has ended by itself and whose output was read.
    pub(super) fn conclude(self, program: &Program, exit: Exit) -> Result<Option<Json>, Failure> {
        let cause = match exit {
            Exit::Code(0) => return Ok(result(self.stdout)),
            Exit::Code(code) => Cause::Exit { code },
            Exit::Signal(number) => Cause::Signal { number },
            Exit::Unknown => Cause::Unknown,
        };
        let stderr = lines::lossy(self.stderr_tail);
        Err(Failure::of(program, cause, &stderr))
    }
}

async fn deliver<S: Sink>(stream: Stream, line: Line, sink: &S) -> Result<(), Cause> {
    let output = match stream {
        Stream::Stdout => line.into_json(),
        Stream::Stderr => {
            let text = &line.into_text(PAYLOAD_BYTES_MAX - STDERR_FRAME_BYTES);
            let line = StderrLine {
                stream: "stderr",
                text,
            };
            Json::from_value(&line).expect("two texts are JSON")
        }
    };
    sink.output(output).await.map_err(|_| Cause::SinkClosed)
}

/// The last line that is not blank if it is JSON; else the text, or as much of its end as a result can hold;
/// else nothing.
fn result(stdout: Vec<u8>) -> Option<Json> {
    let mut text = lines::lossy(stdout);
    if text.contains("\r\n") {
        text = text.replace("\r\n", "\n");
    }
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    if let Some(value) = lines::value(last) {
        return Some(value);
    }
    let text = text.trim_end_matches('\n');
    (!text.is_empty()).then(|| Json::string(&lines::end_of(text, PAYLOAD_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_the_last_json_line_or_the_text() {
        let result = |text: &str| result(text.into()).map(|json| json.to_string());
        assert_eq!(
            result("working\n{\"a\": 1}\n").as_deref(),
            Some(r#"{"a": 1}"#)
        );
        assert_eq!(result("{\"a\": 1}\r\n\r\n").as_deref(), Some(r#"{"a": 1}"#));
        assert_eq!(
            result("{\"a\": 1}\ndone\n").as_deref(),
            Some(r#""{\"a\": 1}\ndone""#)
        );
        assert_eq!(result("one\r\ntwo\r\n").as_deref(), Some(r#""one\ntwo""#));
        assert_eq!(result("7").as_deref(), Some("7"));
        assert_eq!(result(" \n").as_deref(), Some(r#"" ""#));
        assert_eq!(result("\n\r\n"), None);
        assert_eq!(result(""), None);
    }

    /// A program that says much has not failed.
    #[test]
    fn a_text_result_is_never_longer_than_a_result_can_be() {
        let long: String = (1..=300_000).map(|n| format!("line {n}\n")).collect();
        let result = result(long.clone().into()).expect("there is text");
        assert!(result.bytes() <= PAYLOAD_BYTES_MAX);
        let text: String = result.parse().expect("a text");
        let (cut, end) = text.split_once('…').expect("it is cut");
        assert!(cut.ends_with(" bytes cut]"), "{cut}");
        assert!(long.ends_with(&format!("{end}\n")) && end.len() > PAYLOAD_BYTES_MAX / 2);
    }

    #[test]
    fn a_json_result_may_be_longer_than_an_output() {
        let long = format!("[\"{}\"]", "x".repeat(3 << 20));
        assert_eq!(
            result(long.clone().into()).map(|json| json.bytes()),
            Some(long.len())
        );
    }
}
