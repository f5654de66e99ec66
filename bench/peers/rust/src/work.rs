//! What is asked for, and what was found: as in `bench/src/work.rs` and `bench/src/found.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

#[derive(Debug, Deserialize)]
pub(crate) struct Work {
    pub(crate) figure: String,
    pub(crate) contender: String,
    pub(crate) store: String,
    pub(crate) dir: PathBuf,
    pub(crate) url: Option<String>,
    pub(crate) settings: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Found {
    pub(crate) contender: String,
    pub(crate) version: String,
    pub(crate) durability: String,
    pub(crate) values: BTreeMap<&'static str, f64>,
    pub(crate) verified: String,
    pub(crate) peak_kib: u64,
}

impl Work {
    pub(crate) fn number(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.settings.get(name);
        Ok(usize::try_from(*found.with_context(|| {
            format!("the work has no setting {name}")
        })?)?)
    }

    pub(crate) fn url(&self) -> anyhow::Result<&str> {
        self.url.as_deref().context("the work names no server")
    }
}

/// What comes before is start-up, and is not counted among what the work took of a processor.
pub(crate) fn ready() {
    println!("ready");
}

/// The most memory that this process has had.
pub(crate) fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Adds the median and the 99th percentile.
pub(crate) fn add_latencies(values: &mut BTreeMap<&'static str, f64>, mut ms: Vec<f64>) {
    ms.sort_by(f64::total_cmp);
    let at = |share: f64| ms[((ms.len() - 1) as f64 * share).round() as usize];
    values.insert("p50_ms", at(0.5));
    values.insert("p99_ms", at(0.99));
}

pub(crate) async fn durability_of_postgres(pool: &PgPool) -> anyhow::Result<String> {
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(pool).await?;
    let commit: String = sqlx::query_scalar("SHOW synchronous_commit")
        .fetch_one(pool)
        .await?;
    Ok(format!("fsync={fsync}, synchronous_commit={commit}"))
}

/// Asks until as many are counted as there should be; says what there is if that never comes.
pub(crate) async fn until<F>(wanted: usize, mut count: impl FnMut() -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<i64, sqlx::Error>>,
{
    let begun = Instant::now();
    loop {
        let found = count().await?;
        if found == i64::try_from(wanted)? {
            return Ok(());
        }
        let is_late = begun.elapsed() > Duration::from_secs(60);
        anyhow::ensure!(!is_late, "{found} are counted after a minute, not {wanted}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
