//! The work itself. What would be over before it could be seen is paced, and says so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sidestream::worker::process::Program;
use sidestream::{Context, HandlerError, Tool, ToolSettings};
use tokio::time::{Instant, sleep_until};

use super::cast;
use super::files::Files;

/// How long a walk over all files should take, so that one can watch it.
const WALK: Duration = Duration::from_millis(2_500);
/// So often a walk tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(60);
/// So many files the killed program works on.
const CHECKSUM_FILES: usize = 14;
/// So many folders the shell command looks into.
const SURVEY_FOLDERS: usize = 8;

/// What every task of the demo is called with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Where {
    pub(super) directory: String,
}

/// How far a walk over the files is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) done: usize,
    pub(super) total: usize,
    /// What it is at.
    pub(super) at: String,
}

/// Every tool of the cast.
pub(super) fn all(files: &Files) -> Vec<Tool> {
    let files = Arc::new(files.clone());
    let (hashed, counted, scanned) = (Arc::clone(&files), Arc::clone(&files), Arc::clone(&files));
    vec![
        Tool::new("hash_files", move |context, _: Where| {
            hash_files(context, Arc::clone(&hashed))
        }),
        Tool::new("count_lines", move |context, _: Where| {
            count_lines(context, Arc::clone(&counted))
        }),
        Tool::new(cast::CANCELLED, move |context, _: Where| {
            deep_scan(context, Arc::clone(&scanned))
        }),
        Tool::new(cast::ASKS, publish),
        Tool::new("upload", upload).settings(ToolSettings {
            max_retries: Some(2),
            retry_delay_ms: Some(1_000),
            ..ToolSettings::default()
        }),
        Tool::new("audit", audit).timeout(Duration::from_millis(1_500)),
        survey(&files),
        checksum(&files),
    ]
}

/// Reads every file, a little after the other, and tells how far it is.
async fn walk(
    context: &Context,
    files: &Files,
    mut take: impl FnMut(&PathBuf, Vec<u8>),
) -> Result<(), HandlerError> {
    let total = files.paths.len();
    let pace = WALK / u32::try_from(total).unwrap_or(u32::MAX);
    let started = Instant::now();
    let mut next_telling = started;
    for (done, path) in files.paths.iter().enumerate() {
        if context.cancelled().is_cancelled() {
            return Err(HandlerError::retryable("stopped"));
        }
        // A file that has gone meanwhile is an empty one.
        take(
            path,
            tokio::fs::read(files.root.join(path))
                .await
                .unwrap_or_default(),
        );
        let done = done + 1;
        if Instant::now() >= next_telling || done == total {
            next_telling = Instant::now() + TELL_EVERY;
            let at = path.display().to_string();
            context.output(&Progress { done, total, at }).await?;
        }
        sleep_until(started + pace * u32::try_from(done).unwrap_or(u32::MAX)).await;
    }
    Ok(())
}

async fn hash_files(
    context: Context,
    files: Arc<Files>,
) -> Result<serde_json::Value, HandlerError> {
    let mut all = Sha256::new();
    let mut bytes = 0;
    walk(&context, &files, |_, text| {
        bytes += text.len();
        all.update(Sha256::digest(&text));
    })
    .await?;
    let digest: String = all
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(json!({"files": files.paths.len(), "bytes": bytes, "sha256": format!("{digest}…")}))
}

async fn count_lines(
    context: Context,
    files: Arc<Files>,
) -> Result<serde_json::Value, HandlerError> {
    let mut by_language = BTreeMap::<&str, usize>::new();
    walk(&context, &files, |path, text| {
        let extension = path
            .extension()
            .and_then(|it| it.to_str())
            .unwrap_or_default();
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        *by_language.entry(language(extension)).or_default() += lines;
    })
    .await?;
    let lines: usize = by_language.values().sum();
    let mut by_language: Vec<_> = by_language
        .into_iter()
        .filter(|(_, lines)| *lines > 0)
        .collect();
    by_language.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
    for (language, lines) in by_language.iter().take(6) {
        context
            .output(&format!("{lines:>8} lines of {language}"))
            .await?;
    }
    let most = by_language
        .first()
        .map_or("nothing", |(language, _)| *language);
    Ok(json!({"lines": lines, "languages": by_language.len(), "most": most}))
}

fn language(extension: &str) -> &'static str {
    match extension {
        "rs" => "Rust",
        "md" => "Markdown",
        "toml" => "TOML",
        "js" | "mjs" | "cjs" => "JavaScript",
        "ts" | "tsx" => "TypeScript",
        "py" => "Python",
        "sh" | "bash" => "Shell",
        "json" => "JSON",
        "yml" | "yaml" => "YAML",
        "html" => "HTML",
        "css" => "CSS",
        "sql" => "SQL",
        "c" | "h" => "C",
        "go" => "Go",
        "lock" => "lock files",
        _ => "other files",
    }
}

/// Looks at one file after the other and never comes to an end by itself.
async fn deep_scan(context: Context, files: Arc<Files>) -> Result<(), HandlerError> {
    for path in files.paths.iter().cycle() {
        context
            .output(&format!("scanning {}", path.display()))
            .await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Approval {
    approved: bool,
    by: String,
}

/// Asks first. When it is resumed it begins again from the start, with the answer.
async fn publish(context: Context, _: Where) -> Result<serde_json::Value, HandlerError> {
    match context.resume_data::<Approval>()? {
        None => Err(context.suspend(&json!({"question": "Publish the report?"}))),
        Some(answer) if answer.approved => Ok(json!({"published": true, "approved_by": answer.by})),
        Some(answer) => Err(HandlerError::permanent(format!("{} said no", answer.by))),
    }
}

/// A server that is busy at first.
async fn upload(context: Context, _: Where) -> Result<serde_json::Value, HandlerError> {
    context.output("uploading the index").await?;
    tokio::time::sleep(Duration::from_millis(400)).await;
    match context.attempt().0 {
        1 => Err(HandlerError::retryable("503 Service Unavailable")),
        2 => Err(HandlerError::retryable("connection reset by peer")),
        attempt => Ok(json!({"uploaded": true, "attempt": attempt})),
    }
}

/// Waits for an answer that never comes.
async fn audit(context: Context, _: Where) -> Result<(), HandlerError> {
    context
        .output("asking an auditor who does not answer")
        .await?;
    context.cancelled().cancelled().await;
    Ok(())
}

/// A shell command whose lines are outputs as they come.
fn survey(files: &Files) -> Tool {
    const SCRIPT: &str = r#"for folder in "$@"; do
    printf '%5d files in %s\n' "$(find "$folder" -type f | wc -l)" "$folder"
    sleep 0.25
done
echo "nothing else to see" >&2"#;
    let mut folders: Vec<String> = Vec::new();
    for path in &files.paths {
        let folder = path
            .parent()
            .map(|folder| folder.iter().take(2).collect::<PathBuf>());
        let folder = folder
            .map(|folder| folder.display().to_string())
            .unwrap_or_default();
        let folder = if folder.is_empty() {
            ".".to_owned()
        } else {
            folder
        };
        // What lies at the root would be everything, and what was built with it.
        if folder != "." && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.truncate(SURVEY_FOLDERS);
    if folders.is_empty() {
        folders.extend(
            files
                .paths
                .iter()
                .take(SURVEY_FOLDERS)
                .map(|path| path.display().to_string()),
        );
    }
    Tool::command(cast::REPLAYED, shell(files, SCRIPT, folders))
}

/// A program that tells its process's number, so that somebody can kill it.
fn checksum(files: &Files) -> Tool {
    const SCRIPT: &str = r#"echo "{\"pid\":$$}"
for file in "$@"; do
    cksum "$file"
    sleep 0.15
done
echo "{\"files\":$#}""#;
    let paths = files.paths.iter().take(CHECKSUM_FILES);
    let paths = paths.map(|path| path.display().to_string()).collect();
    Tool::command(cast::KILLED, shell(files, SCRIPT, paths)).settings(ToolSettings {
        max_retries: Some(1),
        retry_delay_ms: Some(1_000),
        ..ToolSettings::default()
    })
}

fn shell(files: &Files, script: &str, arguments: Vec<String>) -> Program {
    let fixed = ["-c", script, "sh"].map(String::from);
    Program {
        working_directory: Some(files.root.clone()),
        ..Program::new("sh", fixed.into_iter().chain(arguments))
    }
}
