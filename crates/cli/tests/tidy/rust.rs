//! Reading Rust without a compiler: comments, literals and tests are blanked out, and then a path or a
//! macro is found by its words. Blanked text keeps its length and its lines, so places stay true.

use std::ops::Range;

/// Where `word` stands by itself, not as a part of a longer one.
pub(crate) fn places(text: &str, word: &str) -> Vec<usize> {
    let is_part =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            at.checked_sub(1)
                .is_none_or(|before| !is_part(bytes.get(before)))
        })
        .filter(|at| !word.ends_with(char::is_alphanumeric) || !is_part(bytes.get(at + word.len())))
        .collect()
}

pub(crate) fn line_of(text: &str, place: usize) -> usize {
    text[..place].matches('\n').count() + 1
}

/// The first names after each `prefix`: one, or those of a group in braces.
pub(crate) fn paths_after(code: &str, prefix: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in places(code, prefix)
        .into_iter()
        .filter(|at| !code[..*at].ends_with(['$', ':']))
    {
        let rest = &code[at + prefix.len()..];
        if rest.starts_with('{') {
            let group = &rest[1..closing_brace(rest, 0)];
            found.extend(
                top_level_parts(group)
                    .into_iter()
                    .map(|part| (at, first_name(part))),
            );
        } else {
            found.push((at, first_name(rest)));
        }
    }
    found.retain(|(_, name)| !name.is_empty() && name != "super" && name != "self");
    found
}

fn first_name(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

fn top_level_parts(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

/// The place of the brace that closes the one at `open`; the end, if none does.
fn closing_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return open + at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks out every item that only tests are compiled with.
pub(crate) fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut left = code.to_owned();
    while let Some(start) = left.find(MARK) {
        let item = start + MARK.len();
        let last = match left[item..].find(['{', ';']).map(|at| item + at) {
            Some(at) if left[at..].starts_with('{') => closing_brace(&left, at),
            Some(at) => at,
            None => left.len(),
        };
        let end = left.len().min(last + 1);
        blank(&mut left, start..end);
    }
    left
}

/// Blanks out comments and literals.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = text.to_owned();
    let mut at = 0;
    while at < text.len() {
        let length = not_code_at(text, at);
        blank(&mut code, at..at + length);
        at += length.max(1);
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    code
}

/// How long the comment or literal is that starts here; 0 where code does.
fn not_code_at(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment(rest)
    } else if rest.starts_with("r#") || rest.starts_with("r\"") {
        raw_string(rest)
    } else if rest.starts_with('"') {
        quoted(rest, '"')
    } else if rest.starts_with('\'') {
        character(rest)
    } else {
        0
    }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(next) = rest[at..].find(['/', '*']).map(|next| at + next) {
        at = next + 1;
        if rest[next..].starts_with("/*") {
            (depth, at) = (depth + 1, next + 2);
        } else if rest[next..].starts_with("*/") {
            (depth, at) = (depth - 1, next + 2);
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    let body = 1 + hashes + 1;
    if rest.as_bytes().get(body - 1) != Some(&b'"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    rest[body..]
        .find(&end)
        .map_or(rest.len(), |at| body + at + end.len())
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime, which starts alike, is code.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    let is_literal = match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    };
    if is_literal { quoted(rest, '\'') } else { 0 }
}

fn blank(text: &mut String, range: Range<usize>) {
    let blanks: String = text[range.clone()]
        .bytes()
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect();
    text.replace_range(range, &blanks);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = r##"let a = "println!"; // println!
    /* println! /* nested */ println! */ let b = r#"println!""#; let c = '"'; fn d<'e>() { println!() }"##;
        let code = code_of(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(
            places(&code, "println!"),
            [text.rfind("println!").expect("it is there")]
        );
    }

    #[test]
    fn what_is_compiled_for_tests_only_is_not_code() {
        let code = without_tests(
            "use crate::a; #[cfg(test)] mod tests { use crate::b; fn c() {} } use crate::d;",
        );
        let names: Vec<_> = paths_after(&code, "crate::")
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["a", "d"]);
    }

    #[test]
    fn every_name_of_a_group_is_an_import() {
        let names: Vec<_> = paths_after("use crate::{a::{self, x}, b, c as d};", "crate::")
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
