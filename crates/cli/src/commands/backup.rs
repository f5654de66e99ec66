//! `sidestream backup` and `sidestream restore`: copies of the data, and their return.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde_json::json;
use sidestream::store::Head;
use sidestream::{PostgresStore, SqliteStore};

use crate::args::Common;
use crate::config::{Database, without_password};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::place;

pub(crate) async fn backup(
    common: &Common,
    file: PathBuf,
    console: Console,
) -> Result<Exit, Failure> {
    let settings = place::settings(common)?;
    if settings.database.is_some() {
        let message = "a PostgreSQL database is copied with its own means, such as pg_dump";
        return Err(Failure::bad_input(message).hint("docs/guide/operating.md says how"));
    }
    let (data, to) = (settings.data, file.clone());
    let copied = tokio::task::spawn_blocking(move || SqliteStore::back_up(data, to)).await;
    let head = copied.map_err(|error| Failure::unreachable(error.to_string()))??;
    let what = format!("{} holds all up to event {}", file.display(), head.seq);
    told(&head, &file, &what, console)
}

pub(crate) async fn restore(
    common: &Common,
    file: Option<PathBuf>,
    console: Console,
) -> Result<Exit, Failure> {
    let settings = place::settings(common)?;
    let (data, file) = match (settings.database, file) {
        (Some(database), None) => return name_log_anew(database, console).await,
        (None, Some(file)) => (settings.data, file),
        (Some(_), Some(_)) => {
            let message = "a PostgreSQL database is put back with its own means, then `sidestream restore` \
                           without a file gives its log a new name";
            return Err(Failure::bad_input(message));
        }
        (None, None) => return Err(Failure::bad_input("which copy is to be put back?")),
    };
    let to = data.clone();
    let restored = tokio::task::spawn_blocking(move || SqliteStore::restore(file, to)).await;
    let head = restored.map_err(|error| Failure::unreachable(error.to_string()))??;
    told(&head, &data, &renamed(&data.display(), &head), console)
}

async fn name_log_anew(database: Database, console: Console) -> Result<Exit, Failure> {
    let head = PostgresStore::name_log_anew(&database.url, database.options).await?;
    let name = without_password(&database.url);
    told(&head, Path::new(&name), &renamed(&name, &head), console)
}

fn renamed(place: &dyn Display, head: &Head) -> String {
    format!(
        "{place} holds all up to event {}; the log is now called {}, so watchers with older cursors begin anew",
        head.seq, head.epoch
    )
}

fn told(head: &Head, place: &Path, what: &str, console: Console) -> Result<Exit, Failure> {
    if console.json {
        let epoch = head.epoch.as_str();
        console.json(&json!({"path": place, "epoch": epoch, "seq": head.seq.0}))?;
    } else {
        console.note(what);
    }
    Ok(Exit::Done)
}
