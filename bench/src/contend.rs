//! One of ours, or a physical limit, carries out one work and answers as every contender does.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use sidestream::SqliteOptions;
use sidestream::store::Synchronous;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::found::Answer;
use crate::place::Kind;
use crate::work::Work;
use crate::{figures, limits, process};

pub(crate) async fn contend(work: &Work) -> anyhow::Result<Answer> {
    let is_limit = work.contender == "limit";
    let found = match is_limit {
        true => limits::run(work).await?,
        false => figures::run(work).await?,
    };
    let version = match is_limit {
        true => limits::version(work),
        false => env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(Answer {
        contender: match is_limit {
            true => limits::name(work),
            false => ours(work),
        },
        version,
        durability: durability(work).await?,
        found,
        peak_kib: process::peak_kib(std::process::id()).unwrap_or(0),
    })
}

/// As the tables call it.
fn ours(work: &Work) -> String {
    let servers = match work.settings.get("servers") {
        Some(servers) if *servers > 1 => format!(", {servers} servers"),
        _ => String::new(),
    };
    format!("Sidestream on {}{servers}", work.store.name())
}

async fn durability(work: &Work) -> anyhow::Result<String> {
    Ok(match (work.store, work.contender.as_str()) {
        (Kind::Sqlite, "ours") => of_sqlite(&figures::store_of(work)?)?,
        (Kind::Sqlite, _) if ["tasks", "outputs"].contains(&work.figure.as_str()) => {
            "WAL, synchronous=FULL".to_owned()
        }
        (Kind::Sqlite, _) => String::new(),
        (Kind::Postgres, _) => of_postgres(work.url()?).await?,
        _ => "none: it is gone with the process".to_owned(),
    })
}

/// The journal is read back from the file; when a commit counts, from the options that the store was opened by.
fn of_sqlite(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("sidestream.db");
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let synchronous = match SqliteOptions::default().synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    };
    Ok(format!("{journal}, synchronous={synchronous}"))
}

async fn of_postgres(url: &str) -> anyhow::Result<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let mut connecting = JoinSet::new();
    connecting.spawn(connection);
    let mut said = Vec::new();
    for setting in ["fsync", "synchronous_commit"] {
        let row = client.query_one(&format!("SHOW {setting}"), &[]).await?;
        said.push(format!("{setting}={}", row.get::<_, &str>(0)));
    }
    Ok(said.join(", "))
}
