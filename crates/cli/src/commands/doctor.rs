//! `sidestream doctor`: is everything as it should be, and what to do where it is not.

use std::path::Path;

use serde_json::json;
use sidestream::store::finding::{Finding, Verdict};
use sidestream::{PostgresStore, SqliteStore};
use sidestream_client::Client;
use tokio::time::Instant;

use crate::args::Common;
use crate::config::Database;
use crate::console::{Console, Style, padded, plain};
use crate::exit::{Exit, Failure};
use crate::place;

/// Columns for what was looked at.
const TOPIC_COLUMNS: usize = 14;

pub(crate) async fn doctor(common: &Common, console: Console) -> Result<Exit, Failure> {
    let findings = match place::named_server(common)? {
        Some(client) => vec![server(&client).await],
        None => {
            let settings = place::settings(common)?;
            match &settings.database {
                Some(Database { url, options }) => {
                    PostgresStore::examine(url, options.clone()).await?
                }
                None => directory(common, &settings.data).await?,
            }
        }
    };
    let mut worst = Verdict::Good;
    for finding in &findings {
        worst = worst.max(finding.verdict);
        show(finding, console)?;
    }
    Ok(match worst {
        Verdict::Bad => Exit::TaskNotCompleted,
        Verdict::Good | Verdict::Doubtful => Exit::Done,
    })
}

async fn directory(common: &Common, directory: &Path) -> Result<Vec<Finding>, Failure> {
    let path = directory.to_owned();
    let examined = tokio::task::spawn_blocking(move || SqliteStore::examine(path)).await;
    let examined = examined.map_err(|error| Failure::unreachable(error.to_string()))?;
    let mut findings = examined?;
    findings.insert(
        0,
        match place::announced(common, directory)? {
            Some(client) => server(&client).await,
            None => Finding::good("server", "none runs on this data directory"),
        },
    );
    Ok(findings)
}

async fn server(client: &Client) -> Finding {
    let begun = Instant::now();
    let base = client.base();
    match client.is_healthy().await {
        true => {
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            Finding::good("server", format!("{base} answers, in {ms:.1} ms"))
        }
        false => Finding::bad(
            "server",
            format!("{base} does not answer"),
            "start it with `sidestream serve`; if it runs, its log says what keeps it",
        ),
    }
}

fn show(finding: &Finding, console: Console) -> Result<(), Failure> {
    let Finding {
        topic,
        verdict,
        seen,
        advice,
    } = finding;
    if console.json {
        return console.json(&json!({
            "topic": topic, "verdict": verdict.to_string(), "seen": seen, "advice": advice,
        }));
    }
    let (mark, style) = match verdict {
        Verdict::Good => ("✔", Style::Green),
        Verdict::Doubtful => ("!", Style::Yellow),
        Verdict::Bad => ("✖", Style::Red),
    };
    let mark = console.paint(style, mark);
    let topic = padded(topic, TOPIC_COLUMNS);
    console.data(&format!("{mark} {topic}{}", plain(seen)))?;
    if !advice.is_empty() {
        let indent = padded("", TOPIC_COLUMNS + 2);
        console.data(&format!("{indent}{}", console.paint(style, advice)))?;
    }
    Ok(())
}
