//! Text of others, made fit for a terminal, and measured.
//!
//! Whatever a tool emits or is called, nothing of it may act on the terminal, and every character must take the
//! columns that we reckon with. So controls are shown as signs, what reorders or hides text is made visible,
//! what joins characters into one is left out, and marks that would pile up are cut off.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::console::plain;

/// So many marks without a width of their own may stand on one character.
const MARKS_MAX: usize = 2;

/// The text, safe to show, on one line.
pub(super) fn safe(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut marks = MARKS_MAX;
    for c in plain(text).chars() {
        match kind(c) {
            Kind::Shown => {
                shown.push(c);
                marks = 0;
            }
            Kind::Mark if marks < MARKS_MAX => {
                shown.push(c);
                marks += 1;
            }
            Kind::Deceiving => {
                shown.push('\u{fffd}');
                marks = 0;
            }
            Kind::Mark | Kind::Joining => {}
        }
    }
    Cow::Owned(shown)
}

enum Kind {
    Shown,
    /// Takes no column: it stands on the character before it.
    Mark,
    /// Joins characters, or asks for another look of one: terminals disagree on how wide that is.
    Joining,
    /// Turns the direction of what follows, or ends the line.
    Deceiving,
}

fn kind(c: char) -> Kind {
    match c {
        '\u{200e}'
        | '\u{200f}'
        | '\u{061c}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => Kind::Deceiving,
        '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}' => Kind::Deceiving,
        '\u{00ad}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200d}'
        | '\u{2060}'..='\u{2064}' => Kind::Joining,
        '\u{206a}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' => Kind::Joining,
        '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0000}'..='\u{e0fff}' => Kind::Joining,
        c if c.width() == Some(0) => Kind::Mark,
        _ => Kind::Shown,
    }
}

/// Its beginning, where it has more than so many bytes, and how many are missing.
pub(super) fn bounded(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let more = text.len() - end;
    Cow::Owned(format!("{}… ({more} bytes more)", &text[..end]))
}

/// How many columns it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// Its beginning, of at most so many columns, with a sign where it was cut.
pub(super) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if fits(text, columns) {
        return Cow::Borrowed(text);
    }
    match columns {
        0 => Cow::Borrowed(""),
        columns => Cow::Owned(format!("{}…", &text[..break_at(text, columns - 1)])),
    }
}

/// Exactly so many columns: cut, or filled with spaces.
pub(super) fn fitted(text: &str, columns: usize) -> String {
    let mut fitted = cut(text, columns).into_owned();
    let missing = columns.saturating_sub(width(&fitted));
    fitted.extend(std::iter::repeat_n(' ', missing));
    fitted
}

/// The same, with the spaces before it.
pub(super) fn fitted_right(text: &str, columns: usize) -> String {
    let cut = cut(text, columns);
    let missing = columns.saturating_sub(width(&cut));
    format!("{}{cut}", " ".repeat(missing))
}

/// The line, broken into rows of at most so many columns. At least one row.
pub(super) fn wrapped(line: &str, columns: usize) -> Vec<&str> {
    let mut rows = Vec::new();
    let mut rest = line;
    while !fits(rest, columns.max(2)) {
        let (row, after) = rest.split_at(break_at(rest, columns.max(2)));
        rows.push(row);
        rest = after;
    }
    rows.push(rest);
    rows
}

/// Its end, of at most so many columns: where somebody is typing.
pub(super) fn tail(text: &str, columns: usize) -> &str {
    let mut taken = 0;
    let mut start = text.len();
    for (at, c) in text.char_indices().rev() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        start = at;
    }
    &text[start..]
}

fn fits(text: &str, columns: usize) -> bool {
    // A byte takes at most one column, so short texts need no reckoning.
    text.len() <= columns || break_at(text, columns) == text.len()
}

/// Where the part ends that takes at most so many columns.
fn break_at(text: &str, columns: usize) -> usize {
    let mut taken = 0;
    for (at, c) in text.char_indices() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_acts_on_the_terminal() {
        assert_eq!(
            safe("a\x1b[2J\x07\u{9b}31m\tb\r\n"),
            "a␛[2J␇\u{fffd}31m b  "
        );
        assert_eq!(safe("\u{202e}evil\u{2066}"), "\u{fffd}evil\u{fffd}");
        assert_eq!(safe("a\u{200b}b\u{feff}c\u{2028}d"), "abc\u{fffd}d");
        assert!(matches!(safe("plain ~"), Cow::Borrowed(_)));
        assert_eq!(safe("grüße 日本 🙂"), "grüße 日本 🙂");
    }

    /// Terminals disagree on how wide joined characters are, and marks without end cover other lines.
    #[test]
    fn every_character_takes_the_columns_that_are_reckoned_with() {
        assert_eq!(safe("👩\u{200d}💻"), "👩💻");
        assert_eq!(safe("❤\u{fe0f}👍\u{1f3fd}"), "❤👍");
        let piled = format!("e{}x", "\u{301}".repeat(50));
        assert_eq!(safe(&piled), "e\u{301}\u{301}x");
        assert_eq!(width(&safe(&piled)), 2);
        assert_eq!(safe("\u{301}x"), "x", "a mark that stands on nothing");
    }

    #[test]
    fn a_text_without_end_is_bounded() {
        assert_eq!(bounded("abc", 3), "abc");
        assert_eq!(bounded("aéb", 2), "a… (3 bytes more)");
    }

    #[test]
    fn a_text_is_cut_and_filled_by_columns() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("日", 1), "…");
        assert_eq!(cut("a", 0), "");
        assert_eq!(fitted("日本語", 4), "日… ");
        assert_eq!(fitted_right("7", 3), "  7");
        assert_eq!(tail("abc日本", 4), "日本");
    }

    #[test]
    fn a_line_is_broken_into_rows_that_fit() {
        assert_eq!(wrapped("", 4), [""]);
        assert_eq!(wrapped("abcdefg", 3), ["abc", "def", "g"]);
        assert_eq!(wrapped("a日本語b", 3), ["a日", "本", "語b"]);
        assert_eq!(wrapped("日本", 1), ["日", "本"], "a row takes what it must");
    }
}
