//! What the program says, and where: data to the standard output, everything else to the standard error.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure};

/// The colours and weights in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
}

/// When to colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// Where the program speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    /// One JSON object a line instead of text.
    pub(crate) json: bool,
    /// Is the standard output a terminal?
    pub(crate) is_terminal: bool,
    colors_out: bool,
    colors_error: bool,
}

impl Console {
    pub(crate) fn new(json: bool, color: ColorChoice) -> Self {
        let wants = |is_terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                is_terminal && std::env::var_os("NO_COLOR").is_none_or(|text| text.is_empty())
            }
        };
        let is_terminal = io::stdout().is_terminal();
        Self {
            json,
            is_terminal,
            colors_out: wants(is_terminal) && !json,
            colors_error: wants(io::stderr().is_terminal()),
        }
    }

    /// Writes a line of data.
    ///
    /// # Errors
    /// When nobody reads any more (`sidestream list | head`): the program then ends, without a word.
    pub(crate) fn data(&self, line: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(line.as_bytes());
        let written = written
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush());
        written.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::unreachable(format!("the output cannot be written: {error}")),
        })
    }

    /// Writes a value as one line of JSON.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub(crate) fn json<T: Serialize>(&self, value: &T) -> Result<(), Failure> {
        self.data(&serde_json::to_string(value).expect("what is shown is JSON"))
    }

    /// Says something beside the data. Nobody may listen.
    pub(crate) fn note(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Says why it did not work, and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.message.is_empty() {
            return;
        }
        let label = self.paint_error(Style::Red, "error:");
        self.note(&format!("{label} {}", failure.message));
        if let Some(hint) = &failure.hint {
            let label = self.paint_error(Style::Cyan, "hint:");
            self.note(&format!(" {label} {hint}"));
        }
    }

    /// Is what goes to the standard output coloured?
    pub(crate) fn has_colors(&self) -> bool {
        self.colors_out
    }

    /// Colours a text that goes to the standard output.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        painted(self.colors_out, style, text)
    }

    /// Colours a text that goes to the standard error.
    pub(crate) fn paint_error(&self, style: Style, text: &str) -> String {
        painted(self.colors_error, style, text)
    }

    /// How many columns a line may have; `None` where lines are not cut.
    pub(crate) fn width(&self) -> Option<usize> {
        let (_, columns) = console::Term::stdout().size_checked()?;
        self.is_terminal.then_some(usize::from(columns))
    }
}

fn painted(colors: bool, style: Style, text: &str) -> String {
    let code = match style {
        Style::Plain => return text.to_owned(),
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Red => "31",
        Style::Green => "32",
        Style::Yellow => "33",
        Style::Blue => "34",
        Style::Magenta => "35",
        Style::Cyan => "36",
    };
    if colors {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A text that cannot act on a terminal: what a tool emits is data, not control.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| match c {
        '\t' | '\n' | '\r' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The beginning of a text, of at most so many columns, its end marked where it is cut.
pub(crate) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    console::truncate_str(text, columns, "…")
}

/// A text and as many spaces as it takes to fill so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let width = console::measure_text_width(text);
    format!("{text}{}", " ".repeat(columns.saturating_sub(width)))
}

/// Lays rows out in columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows
                .iter()
                .map(|row| console::measure_text_width(&row[column]));
            cells.chain([header[column].len()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let cells: Vec<_> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| padded(cell, *width))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    let rows = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(header.to_vec())).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_emits_cannot_act_on_the_terminal() {
        assert_eq!(plain("a\x1b[2J\x07\u{9b}b\tc\r\n"), "a␛[2J␇\u{fffd}b c  ");
        assert!(matches!(plain("grüße 🙂"), Cow::Borrowed(_)));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["1".into(), "zwei".into()],
            vec!["33333".into(), "ü".into()],
        ];
        let expected = ["A      B", "1      zwei", "33333  ü"];
        assert_eq!(table(&["A", "B"], &rows), expected);
    }
}
