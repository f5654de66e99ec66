//! Reads `sidestream.toml`: every key it says, with its place; and every fault, not only the first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key, Kind, TOOL_KEYS, Value};

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) entries: Vec<Entry>,
    /// Each tool's entries, by its name.
    pub(crate) tools: BTreeMap<String, Vec<Entry>>,
}

/// A key that a file sets.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    /// The line, from 1.
    pub(crate) line: usize,
}

/// Something in the configuration that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where: `FILE:LINE:COLUMN`, a variable, or a flag.
    pub(crate) place: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Reads a file's text.
pub(crate) fn read(path: &Path, text: &str) -> Result<File, Vec<Fault>> {
    let mut reader = Reader {
        path,
        text,
        file: File {
            path: path.to_owned(),
            ..File::default()
        },
        faults: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(table) => reader.read_root(table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or_default();
            reader.fault(span, error.message().trim().replace('\n', ", "));
        }
    }
    if reader.faults.is_empty() {
        Ok(reader.file)
    } else {
        Err(reader.faults)
    }
}

/// The sections that the keys make, in their order.
fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections.push("tools");
    sections
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    file: File,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn read_root(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            match (name.get_ref().as_ref(), value.get_ref()) {
                ("tools", DeValue::Table(tools)) => self.read_tools(tools),
                (section, DeValue::Table(table)) if sections().contains(&section) => {
                    let entries = self.entries(section, "", table);
                    self.file.entries.extend(entries);
                }
                (section, _) if sections().contains(&section) => {
                    self.fault(
                        value.span(),
                        format!("`{section}` is not a table: write [{section}]"),
                    );
                }
                (word, _) => self.unknown_root(word, name.span()),
            }
        }
    }

    fn read_tools(&mut self, tools: &DeTable<'_>) {
        for (name, value) in tools {
            let span = name.span();
            let name = name.get_ref().as_ref();
            let DeValue::Table(table) = value.get_ref() else {
                self.fault(
                    value.span(),
                    format!("`tools.{name}` is not a table: write [tools.{name}]"),
                );
                continue;
            };
            if let Err(error) = sidestream::ToolName::new(name) {
                self.fault(span.clone(), format!("the tool's name {}", error.problem));
            }
            let path = format!(".{name}");
            let entries = self.entries("tools", &path, table);
            let is_remote =
                |entry: &Entry| entry.key.name == "remote" && entry.value == Value::Flag(true);
            let has_command = table.iter().any(|(key, _)| key.get_ref() == "command");
            if !has_command && !entries.iter().any(is_remote) {
                self.fault(span, format!("tools.{name} has no `command`"));
            }
            self.file.tools.insert(name.to_owned(), entries);
        }
    }

    fn entries(&mut self, section: &str, path: &str, table: &DeTable<'_>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, value) in table {
            let Some(key) = keys::find(section, name.get_ref()) else {
                self.unknown(section, path, name);
                continue;
            };
            match value_of(key.kind, value.get_ref()) {
                Some(value) => entries.push(Entry {
                    key,
                    value,
                    line: line_and_column(self.text, name.span().start).0,
                }),
                None => {
                    let (found, expected) = (shown(value.get_ref()), key.kind.expected());
                    let name = format!("{section}{path}.{}", key.name);
                    self.fault(value.span(), format!("{name} is {found}, not {expected}"));
                }
            }
        }
        entries.sort_by_key(|entry| entry.line);
        entries
    }

    fn unknown(&mut self, section: &str, path: &str, name: &Spanned<std::borrow::Cow<'_, str>>) {
        let word = name.get_ref().as_ref();
        let keys = || KEYS.iter().chain(TOOL_KEYS);
        let here = keys()
            .filter(|key| key.section == section)
            .map(|key| key.name);
        let elsewhere = keys().find(|key| key.name == word && key.section != section);
        let hint = match (nearest(word, here), elsewhere) {
            (_, Some(key)) if key.section != "tools" => {
                Some(format!("it belongs in [{}]", key.section))
            }
            (Some(near), _) => Some(format!("did you mean `{near}`?")),
            (None, _) => None,
        };
        self.faults.push(Fault {
            place: self.place(name.span().start),
            message: format!("unknown key `{section}{path}.{word}`"),
            hint,
        });
    }

    fn unknown_root(&mut self, word: &str, span: Range<usize>) {
        let near = nearest(word, sections().into_iter());
        let key = KEYS.iter().find(|key| key.name == word);
        let hint = match (key, near) {
            (Some(key), _) => Some(format!("it belongs in [{}]", key.section)),
            (None, Some(near)) => Some(format!("did you mean [{near}]?")),
            (None, None) => None,
        };
        self.faults.push(Fault {
            place: self.place(span.start),
            message: format!("unknown key `{word}`"),
            hint,
        });
    }

    fn fault(&mut self, span: Range<usize>, message: String) {
        self.faults.push(Fault {
            place: self.place(span.start),
            message,
            hint: None,
        });
    }

    fn place(&self, offset: usize) -> String {
        let (line, column) = line_and_column(self.text, offset);
        format!("{}:{line}:{column}", self.path.display())
    }
}

/// A value of the file, if it is one that the key may have.
fn value_of(kind: Kind, value: &DeValue<'_>) -> Option<Value> {
    let value = match value {
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Integer(number) => {
            Value::Number(u64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            let texts: Option<Vec<&str>> = texts.collect();
            Value::Texts(texts?.into_iter().map(Into::into).collect())
        }
        DeValue::Table(table) => {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                Some((
                    name.clone().into_owned(),
                    value.get_ref().as_str()?.to_owned(),
                ))
            };
            Value::Pairs(table.iter().map(pair).collect::<Option<_>>()?)
        }
        DeValue::Float(_) | DeValue::Datetime(_) => return None,
    };
    kind.accepts(&value).then_some(value)
}

/// What a value is, for messages.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(items) if items.is_empty() => "an empty list".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The word most like another, if any is like it at all.
pub(crate) fn nearest<'a>(word: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let likeness = |other: &str| strsim::jaro_winkler(&word, other);
    let best = words.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.78).then_some(best)
}

/// Line and column of a place in a text, both from 1; columns count characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (line, before[start..].chars().count() + 1)
}
