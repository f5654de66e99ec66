//! A line that the user is writing.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// So many bytes can be written, or pasted.
const BYTES_MAX: usize = 65_536;

/// The text, and where in it the next character goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Input {
    text: String,
    at: usize,
}

impl Input {
    /// A line that begins with a text.
    pub(super) fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            at: text.len(),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is before the cursor, and what is behind it.
    pub(super) fn around(&self) -> (&str, &str) {
        self.text.split_at(self.at)
    }

    /// Takes what was pasted, on one line.
    pub(super) fn insert(&mut self, text: &str) {
        let text = text.replace(['\r', '\n', '\t'], " ");
        if self.text.len() + text.len() <= BYTES_MAX {
            self.text.insert_str(self.at, &text);
            self.at += text.len();
        }
    }

    /// Takes a key, if it is one that writes or moves within the line.
    pub(super) fn press(&mut self, key: KeyEvent) {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('u') if is_control => *self = Self::of(&self.text[self.at..]).at_start(),
            KeyCode::Char('a') if is_control => self.at = 0,
            KeyCode::Char('e') if is_control => self.at = self.text.len(),
            KeyCode::Char(c) if !is_control && !key.modifiers.contains(KeyModifiers::ALT) => {
                self.insert(c.encode_utf8(&mut [0; 4]));
            }
            KeyCode::Backspace if self.at > 0 => {
                self.at = self.before();
                self.text.remove(self.at);
            }
            KeyCode::Delete if self.at < self.text.len() => {
                self.text.remove(self.at);
            }
            KeyCode::Left => self.at = self.before(),
            KeyCode::Right => self.at = self.after(),
            KeyCode::Home => self.at = 0,
            KeyCode::End => self.at = self.text.len(),
            _ => {}
        }
    }

    fn at_start(mut self) -> Self {
        self.at = 0;
        self
    }

    fn before(&self) -> usize {
        let last = self.text[..self.at].chars().next_back();
        self.at - last.map_or(0, char::len_utf8)
    }

    fn after(&self) -> usize {
        let next = self.text[self.at..].chars().next();
        self.at + next.map_or(0, char::len_utf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(input: &mut Input, codes: &[KeyCode]) {
        for code in codes {
            input.press(KeyEvent::new(*code, KeyModifiers::NONE));
        }
    }

    #[test]
    fn a_line_is_written_and_mended() {
        use KeyCode::{Backspace, Char, Delete, End, Home, Left, Right};
        let mut input = Input::of("{é}");
        press(&mut input, &[Left, Char('日'), Char('x'), Backspace]);
        assert_eq!(input.around(), ("{é日", "}"));
        press(
            &mut input,
            &[Home, Delete, Right, Backspace, End, Char('!')],
        );
        assert_eq!(input.text(), "日}!");
        press(&mut input, &[Home, Backspace, Left, End, Delete, Right]);
        assert_eq!(input.around(), ("日}!", ""));
        press(&mut input, &[Left]);
        input.press(KeyEvent::new(Char('u'), KeyModifiers::CONTROL));
        assert_eq!(input.around(), ("", "!"));
    }

    #[test]
    fn what_is_pasted_stays_on_the_line_and_within_the_bound() {
        let mut input = Input::default();
        input.insert("{\n\t\"a\": 1\r\n}");
        assert_eq!(input.text(), "{  \"a\": 1  }");
        input.insert(&"x".repeat(BYTES_MAX));
        assert_eq!(input.text(), "{  \"a\": 1  }");
    }
}
