//! JSON over several lines, as it came: its numbers and the order of its names are not ours to change.

use super::text::{bounded, safe};

/// So many lines are made; what follows is counted.
const LINES_MAX: usize = 5_000;
/// A text or number is cut after so many bytes: one can be a mebibyte.
const TOKEN_BYTES_MAX: usize = 8_192;

/// The lines of one well-formed JSON value, safe to show.
pub(super) fn pretty(json: &str) -> Vec<String> {
    let mut writer = Writer {
        lines: Vec::new(),
        line: String::new(),
        depth: 0,
        left_out: 0,
    };
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        let token = &json[at..end];
        at = end;
        match token {
            "{" | "[" => {
                writer.line.push_str(token);
                let close = if token == "{" { b'}' } else { b']' };
                let next = at
                    + json[at..]
                        .bytes()
                        .take_while(u8::is_ascii_whitespace)
                        .count();
                if bytes.get(next) == Some(&close) {
                    writer.line.push(char::from(close));
                    at = next + 1;
                } else {
                    writer.depth += 1;
                    writer.end_line();
                }
            }
            "}" | "]" => {
                writer.depth = writer.depth.saturating_sub(1);
                writer.end_line();
                writer.line.push_str(token);
            }
            "," => {
                writer.line.push(',');
                writer.end_line();
            }
            ":" => writer.line.push_str(": "),
            token => writer.push(token),
        }
    }
    writer.finish()
}

/// Where the token ends that begins there; a blank is none of its own and is skipped with it.
fn token_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    match rest[0] {
        b'"' => {
            let mut is_escaped = false;
            let end = rest.iter().skip(1).position(|byte| {
                let is_end = *byte == b'"' && !is_escaped;
                is_escaped = *byte == b'\\' && !is_escaped;
                is_end
            });
            at + end.map_or(rest.len(), |end| end + 2)
        }
        b'{' | b'}' | b'[' | b']' | b',' | b':' => at + 1,
        _ => {
            let is_end = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b',' | b':');
            at + rest.iter().position(is_end).unwrap_or(rest.len())
        }
    }
}

struct Writer {
    lines: Vec<String>,
    line: String,
    depth: usize,
    left_out: usize,
}

impl Writer {
    fn push(&mut self, token: &str) {
        let token = bounded(token.trim(), TOKEN_BYTES_MAX);
        self.line.push_str(&safe(&token));
    }

    /// Ends the line and indents the next.
    fn end_line(&mut self) {
        let next = "  ".repeat(self.depth.min(40));
        let line = std::mem::replace(&mut self.line, next);
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else {
            self.left_out += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.depth = 0;
        self.end_line();
        if self.left_out > 0 {
            let left_out = self.left_out;
            self.lines.push(format!("… ({left_out} lines more)"));
        }
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_and_not_changed() {
        let json = r#"{"b": 1e999,"a":[1, {"x":"a,{\"b\\"}, [], { }],"é":null}"#;
        let expected = [
            "{",
            r#"  "b": 1e999,"#,
            r#"  "a": ["#,
            "    1,",
            "    {",
            r#"      "x": "a,{\"b\\""#,
            "    },",
            "    [],",
            "    {}",
            "  ],",
            r#"  "é": null"#,
            "}",
        ];
        assert_eq!(pretty(json), expected);
        assert_eq!(pretty(" 7 "), ["7"]);
        assert_eq!(pretty(r#""a\u001b""#), [r#""a\u001b""#]);
    }

    #[test]
    fn what_is_large_is_bounded() {
        let list = format!("[{}0]", "0,".repeat(20_000));
        let lines = pretty(&list);
        assert_eq!(lines.len(), LINES_MAX + 1);
        assert!(lines[LINES_MAX].contains("lines more"));
        let text = format!("\"{}\"", "é".repeat(100_000));
        let lines = pretty(&text);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() < TOKEN_BYTES_MAX + 40, "{}", lines[0].len());
        let deep = "[".repeat(5_000) + &"]".repeat(5_000);
        let longest = pretty(&deep).iter().map(String::len).max();
        assert!(longest < Some(100));
    }
}
