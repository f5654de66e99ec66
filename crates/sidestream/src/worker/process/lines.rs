//! Cuts what a program writes into lines of bounded length.

use std::borrow::Cow;

use sidestream_core::Json;
use sidestream_core::task::PAYLOAD_BYTES_MAX;

/// The most that a mark of what was cut takes, in bytes.
const MARK_BYTES_MAX: usize = 40;

/// Collects bytes until they are a line. Holds at most `bytes_max` bytes.
#[derive(Debug)]
pub(super) struct Lines {
    kept: Vec<u8>,
    /// Bytes of the line that came after those kept.
    cut_bytes: usize,
    /// The line's last byte so far, kept or not: the CR of a CRLF is no part of the text.
    last: u8,
    bytes_max: usize,
}

/// A line without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The text; if something was cut, with a mark that says how much.
    pub(super) text: String,
    /// How much of it stands before the mark.
    kept_bytes: usize,
    cut_bytes: usize,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            cut_bytes: 0,
            last: 0,
            bytes_max,
        }
    }

    /// Takes bytes off the front, up to and with the next newline. Gives the line that they end, or
    /// nothing when they ended none; then all are taken.
    pub(super) fn take(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        if let Some(at) = bytes.iter().position(|byte| *byte == b'\n') {
            self.collect(&bytes[..at]);
            *bytes = &bytes[at + 1..];
            return Some(self.line());
        }
        self.collect(bytes);
        *bytes = &[];
        None
    }

    /// The line that no newline has ended, if there is one.
    pub(super) fn rest(&mut self) -> Option<Line> {
        (!self.kept.is_empty() || self.cut_bytes > 0).then(|| self.line())
    }

    fn collect(&mut self, bytes: &[u8]) {
        let fitting = bytes.len().min(self.bytes_max - self.kept.len());
        self.kept.extend_from_slice(&bytes[..fitting]);
        self.cut_bytes += bytes.len() - fitting;
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn line(&mut self) -> Line {
        // Taken, not copied: a line of a megabyte must not keep its memory for the next one.
        let mut kept = std::mem::take(&mut self.kept);
        let mut cut_bytes = std::mem::take(&mut self.cut_bytes);
        if std::mem::take(&mut self.last) == b'\r' {
            if cut_bytes > 0 {
                cut_bytes -= 1;
            } else {
                kept.pop();
            }
        }
        if cut_bytes > 0 {
            let broken = incomplete_tail(&kept);
            kept.truncate(kept.len() - broken);
            cut_bytes += broken;
        }
        let mut text = lossy(kept);
        let kept_bytes = text.len();
        if cut_bytes > 0 {
            text.push_str(&mark(cut_bytes));
        }
        Line {
            text,
            kept_bytes,
            cut_bytes,
        }
    }
}

impl Line {
    /// The line as one JSON value if it is one, else as a JSON string; in either case no more than an
    /// output can hold.
    pub(super) fn into_json(self) -> Json {
        let may_be_value = self.cut_bytes == 0 && self.text.len() <= PAYLOAD_BYTES_MAX;
        let value = value(&self.text).filter(|_| may_be_value);
        value.unwrap_or_else(|| Json::string(&self.into_text(PAYLOAD_BYTES_MAX)))
    }

    /// As much of the text as is at most so many bytes long when it is a JSON string.
    pub(super) fn into_text(self, json_bytes_max: usize) -> String {
        let Self {
            mut text,
            kept_bytes,
            cut_bytes,
        } = self;
        if json_string_bytes(&text) <= json_bytes_max {
            return text;
        }
        let mut room_bytes = json_bytes_max.saturating_sub("\"\"".len() + MARK_BYTES_MAX);
        let mut is_past = |character| match room_bytes.checked_sub(json_bytes(character)) {
            Some(left) => {
                room_bytes = left;
                false
            }
            None => true,
        };
        let mut kept = text[..kept_bytes].char_indices();
        let past = kept.find(|(_, character)| is_past(*character));
        let end = past.map_or(kept_bytes, |(at, _)| at);
        text.truncate(end);
        text.push_str(&mark(cut_bytes + kept_bytes - end));
        text
    }
}

/// The end of a text, as much as is at most so many bytes long when it is a JSON string: who reads what a
/// program wrote wants to know how it came out.
pub(super) fn end_of(text: &str, json_bytes_max: usize) -> Cow<'_, str> {
    if json_string_bytes(text) <= json_bytes_max {
        return text.into();
    }
    let mut room_bytes = json_bytes_max.saturating_sub("\"\"".len() + MARK_BYTES_MAX);
    let mut start = text.len();
    for (at, character) in text.char_indices().rev() {
        match room_bytes.checked_sub(json_bytes(character)) {
            Some(left) => (room_bytes, start) = (left, at),
            None => break,
        }
    }
    let cut = mark(start).replacen('…', "", 1);
    format!("{cut}…{}", &text[start..]).into()
}

fn mark(cut_bytes: usize) -> String {
    format!("…[{cut_bytes} bytes cut]")
}

/// How long a text is as a JSON string.
fn json_string_bytes(text: &str) -> usize {
    "\"\"".len() + text.chars().map(json_bytes).sum::<usize>()
}

/// How many bytes `serde_json` makes of a character.
fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
        '\0'..='\x1f' => 6,
        other => other.len_utf8(),
    }
}

/// The text as JSON, if it is one JSON value.
pub(super) fn value(text: &str) -> Option<Json> {
    // Looking at the first character first spares most lines of prose a copy.
    let first = text.trim_start().chars().next()?;
    if !matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') {
        return None;
    }
    Json::from_text(text).ok()
}

/// Bytes as text, with U+FFFD for what is not UTF-8; valid text is not copied.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// How many bytes at the end begin a UTF-8 character that they do not finish.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    for (back, byte) in tail.iter().rev().enumerate() {
        let width = match byte {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if width > back + 1 { back + 1 } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(bytes_max: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::new(bytes_max);
        let mut texts = Vec::new();
        for mut chunk in chunks.iter().copied() {
            while let Some(line) = lines.take(&mut chunk) {
                texts.push(line.text);
            }
        }
        texts.extend(lines.rest().map(|line| line.text));
        texts
    }

    #[test]
    fn a_line_ends_in_lf_crlf_or_with_the_output() {
        assert_eq!(
            texts(9, &[b"a\nb\r\n\nc\r", b"\nd"]),
            ["a", "b", "", "c", "d"]
        );
        assert_eq!(texts(9, &[b""]), [""; 0]);
        assert_eq!(texts(9, &[b"10%\r20%\n"]), ["10%\r20%"]);
    }

    #[test]
    fn a_line_over_the_limit_says_how_much_is_cut() {
        assert_eq!(texts(3, &[b"abc\nabcd\n"]), ["abc", "abc…[1 bytes cut]"]);
        assert_eq!(
            texts(3, &[b"abc\r\nabcd\r\n"]),
            ["abc", "abc…[1 bytes cut]"]
        );
        assert_eq!(texts(3, &[b"ab", b"cd", b"ef"]), ["abc…[3 bytes cut]"]);
        assert_eq!(texts(0, &[b"abc\n\n"]), ["…[3 bytes cut]", ""]);
    }

    #[test]
    fn a_character_is_cut_whole() {
        assert_eq!(texts(3, &["aää\n".as_bytes()]), ["aä…[2 bytes cut]"]);
        assert_eq!(texts(2, &["aää\n".as_bytes()]), ["a…[4 bytes cut]"]);
        assert_eq!(texts(4, &["a😀\n".as_bytes()]), ["a…[4 bytes cut]"]);
        assert_eq!(texts(5, &["a😀b\n".as_bytes()]), ["a😀…[1 bytes cut]"]);
    }

    #[test]
    fn of_a_text_that_is_too_long_the_end_is_kept() {
        assert_eq!(end_of("ab\nc", 7), "ab\nc");
        let long = "ä\n".repeat(1_000);
        let end = end_of(&long, 100);
        assert_eq!(end, format!("[2957 bytes cut]…\n{}", "ä\n".repeat(14)));
        assert!(json_string_bytes(&end) <= 100);
    }

    #[test]
    fn what_is_not_utf8_is_replaced() {
        assert_eq!(texts(9, &[b"a\xffb\xc3\n"]), ["a\u{fffd}b\u{fffd}"]);
    }

    #[test]
    fn a_whole_line_of_json_is_json_and_a_cut_one_is_not() {
        let json = |bytes_max, text: &str| {
            let mut lines = Lines::new(bytes_max);
            assert!(lines.take(&mut text.as_bytes()).is_none());
            lines.rest().map(|line| line.into_json().to_string())
        };
        assert_eq!(
            json(99, r#" {"a": 1.0} "#).as_deref(),
            Some(r#"{"a": 1.0}"#)
        );
        assert_eq!(json(99, "42").as_deref(), Some("42"));
        assert_eq!(json(99, "null").as_deref(), Some("null"));
        assert_eq!(json(99, "42 43").as_deref(), Some(r#""42 43""#));
        assert_eq!(json(99, "NaN").as_deref(), Some(r#""NaN""#));
        assert_eq!(json(1, "42").as_deref(), Some(r#""4…[1 bytes cut]""#));
    }

    proptest! {
        /// However the bytes arrive, the lines are the same, and they are the text's lines.
        #[test]
        fn lines_do_not_depend_on_how_the_bytes_arrive(
            text in "[aä😀\r\n]{0,40}",
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            ends.push(bytes.len());
            ends.sort_unstable();
            let mut start = 0;
            let mut chunks = Vec::new();
            for end in ends {
                chunks.push(&bytes[start..end]);
                start = end;
            }
            prop_assert_eq!(texts(7, &chunks), texts(7, &[bytes]));
            let without_cr = |line: &str| line.strip_suffix('\r').unwrap_or(line).to_owned();
            let mut expected: Vec<String> = text.split('\n').map(without_cr).collect();
            if text.is_empty() || text.ends_with('\n') {
                expected.pop();
            }
            prop_assert_eq!(texts(1000, &chunks), expected);
        }
    }
}
