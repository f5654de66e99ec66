//! The peers that are crates: each carries out one work, given as JSON, and prints its answer as its last line, as
//! Sidestream does in `bench/src/contend.rs`.

mod apalis_postgres;
mod apalis_sqlite;
mod flight;
mod graphile;
mod work;

use anyhow::Context as _;

use work::{Found, Work};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let work = std::env::args().nth(1).context("the work is missing")?;
    let work: Work = serde_json::from_str(&work)?;
    let found: Found = match (work.contender.as_str(), work.store.as_str()) {
        ("apalis", "sqlite") => apalis_sqlite::run(&work).await?,
        ("apalis", "postgres") => apalis_postgres::run(&work).await?,
        ("graphile_worker", "postgres") => graphile::run(&work).await?,
        (contender, store) => anyhow::bail!("no crate here is called {contender} on {store}"),
    };
    println!("{}", serde_json::to_string(&found)?);
    // What a peer leaves running must not keep the process.
    std::process::exit(0);
}
