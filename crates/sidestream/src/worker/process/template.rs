//! Arguments of a program made of JSON arguments: `--name={name}`.
//!
//! A template makes exactly one element of the argument list, whatever the value holds: there is no
//! shell that could read it again.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::value::RawValue;
use sidestream_core::Json;

/// One argument with places for values: `--name={name}`.
///
/// `{name}` must be among the arguments; with `{name?}` the whole element is left out when it is
/// not, or is `null`. A string is put in as it is, anything else as its JSON text. `{{` and `}}`
/// stand for braces.
///
/// A value is never read as an option: where the template *begins* with a place, as in `{file}`, a
/// value that begins with `-` is refused, unless an element `--` stands before it.
///
/// ```
/// use sidestream::worker::process::FlagTemplate;
///
/// assert!("--name={name}".parse::<FlagTemplate>().is_ok());
/// assert!("--name={name".parse::<FlagTemplate>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FlagTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value { name: String, is_optional: bool },
}

/// Why a text is no [`FlagTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("flag template `{text}`: {problem}")]
pub struct TemplateError {
    text: String,
    problem: &'static str,
}

impl FromStr for FlagTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match parts(text) {
            Ok(parts) => Ok(Self {
                text: text.to_owned(),
                parts,
            }),
            Err(problem) => Err(TemplateError {
                text: text.to_owned(),
                problem,
            }),
        }
    }
}

impl TryFrom<String> for FlagTemplate {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl FlagTemplate {
    fn begins_with_value(&self) -> bool {
        matches!(self.parts.first(), Some(Part::Value { .. }))
    }

    /// The element, or `None` when an optional value is missing.
    fn fill(&self, values: &Values) -> Result<Option<String>, String> {
        let mut element = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => element.push_str(text),
                Part::Value { name, is_optional } => match values.get(name).map(|raw| raw.get()) {
                    // Models like to fill in `null` for what they have no value for.
                    None | Some("null") if *is_optional => return Ok(None),
                    None => return Err(format!("`{name}` is missing; `{}` needs it", self.text)),
                    Some(raw) => element.push_str(&text_of(name, raw)?),
                },
            }
        }
        Ok(Some(element))
    }
}

/// The elements that the templates make of the arguments, to be put behind `fixed`.
pub(super) fn fill(
    templates: &[FlagTemplate],
    args: &Json,
    fixed: &[String],
) -> Result<Vec<String>, String> {
    if templates.is_empty() {
        return Ok(Vec::new());
    }
    let values: Values = if args.is_object() {
        args.parse().map_err(|error| error.to_string())?
    } else {
        Values::new()
    };
    let mut options_ended = fixed.iter().any(|argument| argument == "--");
    let mut elements = Vec::new();
    for template in templates {
        let Some(element) = template.fill(&values)? else {
            continue;
        };
        if template.begins_with_value() && element.starts_with('-') && !options_ended {
            return Err(format!(
                "the value for `{}` begins with `-` and would be read as an option",
                template.text
            ));
        }
        options_ended |= element == "--";
        elements.push(element);
    }
    Ok(elements)
}

type Values = BTreeMap<String, Box<RawValue>>;

/// A string's own text, anything else as its JSON text.
fn text_of(name: &str, raw: &str) -> Result<String, String> {
    if !raw.starts_with('"') {
        return Ok(raw.to_owned());
    }
    let text: String =
        serde_json::from_str(raw).map_err(|error| format!("`{name}` is no text: {error}"))?;
    if text.contains('\0') {
        return Err(format!("`{name}` holds a NUL, which no argument can"));
    }
    Ok(text)
}

fn parts(text: &str) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(brace) = ["{{", "}}"].into_iter().find(|it| rest.starts_with(it)) {
            literal.push_str(&brace[..1]);
            rest = &rest[2..];
            continue;
        }
        let (part, after) = place(rest)?;
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal)));
        }
        parts.push(part);
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Text(literal));
    }
    Ok(parts)
}

/// Reads `{name}` or `{name?}` at the start of a text.
fn place(text: &str) -> Result<(Part, &str), &'static str> {
    let inner = text
        .strip_prefix('{')
        .ok_or("a `}` without `{`; write `}}` for a brace")?;
    let (name, after) = inner
        .split_once('}')
        .ok_or("a `{` without `}`; write `{{` for a brace")?;
    let (name, is_optional) = match name.strip_suffix('?') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() || name.contains('{') {
        return Err("`{…}` needs the name of an argument");
    }
    let name = name.to_owned();
    Ok((Part::Value { name, is_optional }, after))
}
