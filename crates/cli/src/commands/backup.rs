//! `sidestream backup` and `sidestream restore`: copies of the data, and their return.

use std::path::{Path, PathBuf};

use serde_json::json;
use sidestream::SqliteStore;
use sidestream::store::Head;

use crate::args::Common;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::place;

pub(crate) async fn backup(
    common: &Common,
    file: PathBuf,
    console: Console,
) -> Result<Exit, Failure> {
    let data = place::settings(common)?.data;
    let to = file.clone();
    let copied = tokio::task::spawn_blocking(move || SqliteStore::back_up(data, to)).await;
    let head = copied.map_err(|error| Failure::unreachable(error.to_string()))??;
    let what = format!("{} holds all up to event {}", file.display(), head.seq);
    told(&head, &file, &what, console)
}

pub(crate) async fn restore(
    common: &Common,
    file: PathBuf,
    console: Console,
) -> Result<Exit, Failure> {
    let data = place::settings(common)?.data;
    let to = data.clone();
    let restored = tokio::task::spawn_blocking(move || SqliteStore::restore(file, to)).await;
    let head = restored.map_err(|error| Failure::unreachable(error.to_string()))??;
    let what = format!(
        "{} holds all up to event {}; the log is now called {}, so watchers with older cursors begin anew",
        data.display(),
        head.seq,
        head.epoch
    );
    told(&head, &data, &what, console)
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
