//! Records of tasks that somebody else runs, as an agent's framework keeps them: saved, loaded, listed, cleaned up.

use std::path::Path;

use serde_json::json;
use sidestream::core::record::RecordStatus;
use sidestream::records::RecordFilter;
use sidestream::{Json, Namespace, Record, TaskId, TaskManager};
use tokio::time::Instant;

use crate::found::Found;
use crate::place::{Kind, Place};

/// Whoever ended before this has ended long ago.
const EXPIRES_MS: u64 = 1;
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";

/// One in ten runs, and is what is loaded and listed; the others have ended, and are what a cleanup takes.
pub(crate) async fn run(dir: &Path, kind: Kind, records: usize) -> anyhow::Result<Found> {
    let store = Place::of(kind, dir, None)?.open().await?;
    let manager = TaskManager::builder_on(store).start().await?;
    let kept = manager.in_namespace(Namespace::new("bench")?);
    let kept = kept.records(Some(EXPIRES_MS));
    let running = records.div_ceil(10);

    let documents: Vec<Record> = (0..records).map(record).collect::<Result<_, _>>()?;
    let began = Instant::now();
    for document in documents {
        kept.save(document).await?;
    }
    let saving = began.elapsed();

    let began = Instant::now();
    let filter = RecordFilter::statuses([RecordStatus::Running]);
    let listed = kept.list_tasks(&filter).await?.len();
    let listing = began.elapsed();
    anyhow::ensure!(
        listed == running,
        "{listed} records were listed, not {running}"
    );

    let sought: Vec<TaskId> = (0..records).step_by(10).map(id).collect::<Result<_, _>>()?;
    let began = Instant::now();
    for id in &sought {
        let loaded = kept.load(id).await?;
        anyhow::ensure!(loaded.is_some(), "{id} is not there");
    }
    let loading = began.elapsed();

    let began = Instant::now();
    let cleaned = kept.cleanup().await?;
    let cleaning = began.elapsed();
    let ended = (records - running) as u64;
    anyhow::ensure!(
        cleaned == ended,
        "{cleaned} records were cleaned up, not {ended}"
    );
    let left = kept.list(&RecordFilter::all()).await?.len();
    anyhow::ensure!(left == running, "{left} records are left, not {running}");
    manager.shutdown().await;
    let verified = format!("{running} of {records} records are left, those that run");
    Ok(Found::verified(verified)
        .value("saves_per_second", records as f64 / saving.as_secs_f64())
        .value("loads_per_second", running as f64 / loading.as_secs_f64())
        .value("list_ms", listing.as_secs_f64() * 1_000.0)
        .value("cleanup_ms", cleaning.as_secs_f64() * 1_000.0))
}

fn id(number: usize) -> anyhow::Result<TaskId> {
    Ok(TaskId::new(format!("task-{number}"))?)
}

fn record(number: usize) -> anyhow::Result<Record> {
    let mut document = json!({
        "id": id(number)?, "subagentType": "bench", "description": "a record", "status": "running",
        "createdAt": LONG_AGO, "updatedAt": LONG_AGO, "metadata": { "number": number },
    });
    if !number.is_multiple_of(10) {
        document["status"] = json!("completed");
        document["completedAt"] = json!(LONG_AGO);
        document["result"] = json!("done");
    }
    Ok(Record::from_document(Json::from(document))?)
}
