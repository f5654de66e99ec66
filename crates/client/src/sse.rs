//! Reads an event stream: bytes in, split anywhere, blocks out.
//!
//! The algorithm is that of the WHATWG HTML standard, "Interpreting an event stream"
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), with three differences that our
//! protocol needs. A block that has an `id:` but no data is told, too, as [`Parsed::Moved`]: a browser
//! keeps such an id silently. An event says only the id of its own block: a browser repeats the last
//! one, and a chunk of a snapshot, which has none, could not be told apart. And a line is not read
//! without end: see [`LINE_BYTES_MAX`].

/// The longest line that is read, in bytes. A chunk is one line, and holds at most two payloads of
/// 1 MiB each and some ids, so no honest server comes near it.
pub const LINE_BYTES_MAX: usize = 16 * 1_048_576;

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// A block with data: an event.
    Event(Event),
    /// A block without data that moved the cursor to this id.
    Moved(String),
    /// How long to wait before connecting again, in milliseconds.
    RetryMs(u64),
    /// A comment: a sign of life.
    Comment,
}

/// An event, as it was dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its `event:`; `message` where there was none.
    pub kind: String,
    /// Its `data:` lines, joined by line feeds.
    pub data: String,
    /// The `id:` of its block, if it has one.
    pub id: Option<String>,
}

/// A line is longer than [`LINE_BYTES_MAX`]: this is no event stream of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {LINE_BYTES_MAX} bytes")]
pub struct LineTooLong;

/// Reads one stream, from its first byte.
///
/// ```
/// use sidestream_client::sse::{Parsed, Parser};
///
/// let mut parser = Parser::new();
/// parser.push(b"id: 7\nda")?;
/// assert_eq!(parser.next(), None);
/// parser.push(b"ta: hello\n\n")?;
/// let Some(Parsed::Event(event)) = parser.next() else { panic!() };
/// assert_eq!((event.data.as_str(), event.id.as_deref()), ("hello", Some("7")));
/// # Ok::<(), sidestream_client::sse::LineTooLong>(())
/// ```
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF right after it belongs to the same end of line.
    after_cr: bool,
    /// The first line has begun: from now on a byte order mark is text.
    has_begun: bool,
    block: Block,
    parsed: std::collections::VecDeque<Parsed>,
}

/// What was read since the last blank line.
#[derive(Debug, Default)]
struct Block {
    kind: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl Parser {
    /// Begins a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes. What they complete is then given by [`Parser::next`].
    ///
    /// # Errors
    /// When a line grows too long; nothing more can be read then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&rest[..end])?;
            self.end_line();
            let is_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if is_cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        self.extend(rest)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.line.len() + bytes.len() > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) {
        let mut line = std::mem::take(&mut self.line);
        self.read_line(&line);
        line.clear();
        self.line = line;
    }

    fn read_line(&mut self, mut bytes: &[u8]) {
        if !self.has_begun {
            self.has_begun = true;
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        // An end of line is never inside a character, so decoding by lines is decoding the whole.
        let text = String::from_utf8_lossy(bytes);
        match text.split_once(':') {
            None if text.is_empty() => self.end_block(),
            None => self.field(&text, ""),
            Some(("", _)) => self.parsed.push_back(Parsed::Comment),
            Some((name, value)) => self.field(name, value.strip_prefix(' ').unwrap_or(value)),
        }
    }

    fn field(&mut self, name: &str, value: &str) {
        match name {
            "event" => value.clone_into(&mut self.block.kind),
            "data" => {
                self.block.has_data = true;
                self.block.data.push_str(value);
                self.block.data.push('\n');
            }
            "id" if !value.contains('\0') => self.block.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                let ms = value.parse().unwrap_or(u64::MAX);
                self.parsed.push_back(Parsed::RetryMs(ms));
            }
            _ => {}
        }
    }

    fn end_block(&mut self) {
        let Block {
            kind,
            mut data,
            has_data,
            id,
        } = std::mem::take(&mut self.block);
        if has_data {
            data.pop();
            let kind = if kind.is_empty() {
                "message".to_owned()
            } else {
                kind
            };
            self.parsed
                .push_back(Parsed::Event(Event { kind, data, id }));
        } else if let Some(id) = id {
            self.parsed.push_back(Parsed::Moved(id));
        }
    }
}

/// What the bytes so far have completed, in order; `None` until more is pushed.
impl Iterator for Parser {
    type Item = Parsed;

    fn next(&mut self) -> Option<Parsed> {
        self.parsed.pop_front()
    }
}
