//! The servers that contenders keep their tasks in: one for each run, fresh, and gone afterwards.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use sidestream_test_postgres::Cluster;

use crate::place::{self, Kind};

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(super) enum Server {
    Postgres(Box<Cluster>),
    Redis { process: Child, port: u16 },
}

impl Server {
    /// The one that this kind of store needs, if it needs one. What it keeps goes into `dir`, or, PostgreSQL's, into
    /// the temporary folder.
    pub(super) fn start(kind: Kind, dir: &Path) -> anyhow::Result<Option<Self>> {
        Ok(match kind {
            Kind::Memory | Kind::Sqlite | Kind::File => None,
            Kind::Postgres => Some(Self::Postgres(Box::new(place::cluster()))),
            Kind::Redis => Some(redis(dir)?),
        })
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Postgres(cluster) => cluster.url(&cluster.database()),
            Self::Redis { port, .. } => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The process that started all its others.
    pub(super) fn process(&self) -> anyhow::Result<u32> {
        match self {
            Self::Redis { process, .. } => Ok(process.id()),
            Self::Postgres(cluster) => {
                let file = cluster.folder().join("data/postmaster.pid");
                let said = fs::read_to_string(&file)?;
                let first = said.lines().next().and_then(|pid| pid.parse().ok());
                first.with_context(|| format!("{} names no process", file.display()))
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Self::Redis { process, .. } = self {
            // It may have ended by itself; nothing is left of it either way.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// As it comes: it writes what it has to the disk now and then (`save`), and keeps no log of changes (`appendonly`).
fn redis(dir: &Path) -> anyhow::Result<Server> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = free.local_addr()?.port();
    drop(free);
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(dir)
        // What BullMQ asks for: no job may be thrown out for want of memory.
        .args(["--maxmemory-policy", "noeviction"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("redis-server does not start")?;
    let said = process.stdout.take().context("it is piped")?;
    let mut lines = BufReader::new(said).lines();
    let is_ready = |line: &str| line.to_lowercase().contains("ready to accept connections");
    let mut last = String::new();
    let found = lines.by_ref().map_while(Result::ok).any(|line| {
        last = line;
        is_ready(&last)
    });
    anyhow::ensure!(found, "redis-server did not start: {last}");
    // It would stop at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Server::Redis { process, port })
}
