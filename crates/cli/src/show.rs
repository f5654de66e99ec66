//! How chunks and tasks look to people.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sidestream::core::wire::TaskRecord;
use sidestream::{Json, Status, Timestamp};
use sidestream_client::{Chunk, ChunkType};

use crate::console::{Console, Style, plain};

/// What a chunk says, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// A sign that is one column wide.
    pub(crate) mark: &'static str,
    pub(crate) style: Style,
    pub(crate) text: String,
}

/// An output of a tool, as people want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output<'a> {
    pub(crate) text: Cow<'a, str>,
    /// A command wrote it to its standard error.
    pub(crate) is_error: bool,
}

/// What a chunk says.
pub(crate) fn told(chunk: &Chunk) -> Told {
    let payload = &chunk.payload;
    let message = || payload.error.as_ref().map_or("", |error| &error.message);
    let (mark, style, text) = match chunk.chunk_type {
        Some(ChunkType::Started) => ("·", Style::Dim, "dispatched".to_owned()),
        Some(ChunkType::Running) => ("▶", Style::Blue, attempt("started", chunk)),
        Some(ChunkType::Output) => {
            let output = payload.payload.as_ref().map(output);
            let (text, is_error) =
                output.map_or((Cow::Borrowed(""), false), |it| (it.text, it.is_error));
            let style = if is_error {
                Style::Yellow
            } else {
                Style::Plain
            };
            ("│", style, text.into_owned())
        }
        Some(ChunkType::Completed) => {
            let result = payload.result.as_ref().map(brief);
            let result = result.map_or(String::new(), |result| format!(": {result}"));
            ("✔", Style::Green, format!("completed{result}"))
        }
        Some(ChunkType::Failed) => ("✖", Style::Red, format!("failed: {}", message())),
        Some(ChunkType::Cancelled) => ("■", Style::Yellow, "cancelled".to_owned()),
        Some(ChunkType::Suspended) => {
            let payload = payload.suspend_payload.as_ref().map(brief);
            let payload = payload.unwrap_or_default();
            ("‖", Style::Magenta, format!("suspended: {payload}"))
        }
        Some(ChunkType::Resumed) => ("▶", Style::Blue, attempt("resumed", chunk)),
        Some(ChunkType::Queued) => ("·", Style::Dim, "resumed, waits for a slot".to_owned()),
        Some(ChunkType::Retrying) => {
            let why = message();
            let text = match why {
                "" => "tried again by hand".to_owned(),
                why => format!("{}: {why}; will be tried again", attempt("failed", chunk)),
            };
            ("↻", Style::Yellow, text)
        }
        Some(ChunkType::StreamReset) => {
            let reason = payload.reason.as_deref().unwrap_or("unknown");
            (
                "↺",
                Style::Yellow,
                format!("the stream begins anew: {reason}"),
            )
        }
        None => ("?", Style::Dim, chunk.json().to_string()),
    };
    let text = plain(&text).into_owned();
    Told { mark, style, text }
}

fn attempt(what: &str, chunk: &Chunk) -> String {
    match chunk.payload.attempt {
        None | Some(0 | 1) => what.to_owned(),
        Some(attempt) => format!("{what} (attempt {attempt})"),
    }
}

/// The envelope that agents put around a tool's output, and what a command tool makes of a line of its
/// standard error.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Option<ToolOutput<'a>>,
    #[serde(default, borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    text: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ToolOutput<'a> {
    #[serde(borrow)]
    output: &'a RawValue,
}

/// What a tool emitted, out of its envelope: a text as it is, anything else as JSON.
pub(crate) fn output(json: &Json) -> Output<'_> {
    let text = json.as_str();
    if let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) {
        match envelope {
            Envelope {
                kind: Some(kind),
                payload: Some(inner),
                ..
            } if kind == "tool-output" => {
                return Output {
                    text: unquoted(inner.output.get()),
                    is_error: false,
                };
            }
            Envelope {
                stream: Some(stream),
                text: Some(text),
                ..
            } if stream == "stderr" => {
                return Output {
                    text,
                    is_error: true,
                };
            }
            _ => {}
        }
    }
    Output {
        text: unquoted(text),
        is_error: false,
    }
}

/// A JSON string's own text; any other JSON as it is.
fn unquoted(json: &str) -> Cow<'_, str> {
    if json.starts_with('"')
        && let Ok(text) = serde_json::from_str::<String>(json)
    {
        return Cow::Owned(text);
    }
    Cow::Borrowed(json)
}

/// Names under which what a suspended task waits for is said in words.
const QUESTIONS: [&str; 6] = [
    "question",
    "message",
    "prompt",
    "title",
    "reason",
    "description",
];

/// What a suspended task waits for, in words if it has any, else as JSON.
pub(crate) fn question(payload: &Json) -> Cow<'_, str> {
    let Ok(fields) = payload.parse::<BTreeMap<String, Json>>() else {
        return unquoted(payload.as_str());
    };
    let texts = QUESTIONS.iter().filter_map(|name| {
        let text: String = fields.get(*name)?.parse().ok()?;
        (!text.trim().is_empty()).then_some(text)
    });
    let mut texts = texts.map(Cow::Owned);
    texts.next().unwrap_or(Cow::Borrowed(payload.as_str()))
}

/// A result or payload within a line.
fn brief(json: &Json) -> String {
    let text = unquoted(json.as_str());
    let text = text.trim();
    match text.split_once('\n') {
        Some((_, rest)) => {
            let first = text.lines().next().unwrap_or_default();
            format!("{first} … (and {} lines more)", rest.lines().count())
        }
        None => text.to_owned(),
    }
}

/// The colour of a status.
pub(crate) fn style_of(status: Status) -> Style {
    match status {
        Status::Pending => Style::Dim,
        Status::Running => Style::Blue,
        Status::Suspended => Style::Magenta,
        Status::Completed => Style::Green,
        Status::Failed | Status::TimedOut => Style::Red,
        Status::Cancelled => Style::Yellow,
    }
}

/// How a task ended, or how it stands, in one line.
pub(crate) fn outcome(task: &TaskRecord) -> String {
    let text = match (&task.result, &task.error, &task.suspend_payload) {
        (Some(result), _, _) => brief(result),
        (_, Some(error), _) => error.message.to_string(),
        (_, _, Some(payload)) => brief(payload),
        _ => String::new(),
    };
    plain(&text).into_owned()
}

/// From the beginning of its latest attempt to its end.
pub(crate) fn took(task: &TaskRecord) -> Option<String> {
    let (from, to) = (task.started_at?, task.completed_at?);
    Some(format!("{:.2} s", to.since(from).as_secs_f64()))
}

/// A time without its date.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(11..23).unwrap_or(&text).to_owned()
}

/// All of a task, field by field.
pub(crate) fn task(task: &TaskRecord, console: Console) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |name: &str, text: &str| {
        let name = console.paint(Style::Dim, &format!("{name:<12}"));
        lines.push(format!("{name}  {}", plain(text)));
    };
    let text = |value: &Option<std::sync::Arc<str>>| value.as_deref().map(str::to_owned);
    let time = |value: Option<Timestamp>| value.map(|at| at.to_string());
    line("id", task.id.as_str());
    line("status", task.status.as_str());
    line("tool", &task.tool_name);
    line("args", task.args.as_str());
    let attempts = match task.max_retries {
        0 => format!("{}", task.attempt),
        retries => format!(
            "{} ({} of {retries} retries)",
            task.attempt, task.retry_count
        ),
    };
    let optional = [
        ("agent", text(&task.agent_id)),
        ("run", text(&task.run_id)),
        ("thread", text(&task.thread_id)),
        ("resource", text(&task.resource_id)),
        ("tool call", text(&task.tool_call_id)),
        ("description", text(&task.description)),
        ("attempt", Some(attempts)),
        ("dispatched", Some(task.created_at.to_string())),
        ("not before", time(task.run_at)),
        ("started", time(task.started_at)),
        ("suspended", time(task.suspended_at)),
        (
            "waits for",
            task.suspend_payload.as_ref().map(|json| json.to_string()),
        ),
        ("ended", time(task.completed_at)),
        ("took", took(task)),
        (
            "error",
            task.error.as_ref().map(|error| error.message.to_string()),
        ),
        ("result", task.result.as_ref().map(|json| json.to_string())),
        (
            "metadata",
            task.metadata.as_ref().map(|json| json.to_string()),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            line(name, &value);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> (String, bool) {
        let json = Json::from_text(json).expect("it is JSON");
        let output = output(&json);
        (output.text.into_owned(), output.is_error)
    }

    #[test]
    fn an_output_is_shown_without_its_envelope() {
        let envelope = r#"{"type":"tool-output","runId":"r","from":"AGENT","payload":{"output":"hi","toolName":"t"}}"#;
        assert_eq!(shown(envelope), ("hi".into(), false));
        let of_json = envelope.replace("\"hi\"", r#"{"step":1}"#);
        assert_eq!(shown(&of_json), (r#"{"step":1}"#.into(), false));
        assert_eq!(
            shown(r#"{"stream":"stderr","text":"oh"}"#),
            ("oh".into(), true)
        );
        assert_eq!(shown(r#""a\nb""#), ("a\nb".into(), false));
        assert_eq!(
            shown(r#"{"payload":7}"#),
            (r#"{"payload":7}"#.into(), false)
        );
        assert_eq!(shown("[1, 2]"), ("[1, 2]".into(), false));
    }

    #[test]
    fn what_is_asked_is_shown_in_words_where_there_are_any() {
        for (json, expected) in [
            (r#"{"words":9,"question":"May I?"}"#, "May I?"),
            (
                r#"{"title":" ","reason":"over the limit","n":1e999}"#,
                "over the limit",
            ),
            (r#"{"question":{"a":1}}"#, r#"{"question":{"a":1}}"#),
            (r#""may I?""#, "may I?"),
            ("[1]", "[1]"),
        ] {
            let json = Json::from_text(json).expect("it is JSON");
            assert_eq!(question(&json), expected);
        }
    }

    #[test]
    fn a_chunk_is_one_line_whatever_it_holds() {
        let json =
            r#"{"type":"background-task-completed","payload":{"result":"a\nb\u001b[2J\nc\n"}}"#;
        let chunk = Chunk::from_json(json).expect("it is a chunk");
        assert_eq!(told(&chunk).text, "completed: a … (and 2 lines more)");
        let json = r#"{"type":"background-task-output","payload":{"payload":"a\nb\u001b[2J"}}"#;
        let chunk = Chunk::from_json(json).expect("it is a chunk");
        assert_eq!(told(&chunk).text, "a b␛[2J");
    }
}
