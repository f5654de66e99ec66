//! Brings what the peers need: their packages and crates, and Redis. What cannot be had is said, never left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::catalogue::{Entry, Program};
use super::child;
use crate::place::Kind;

/// What is there, each time with the reason if it is not.
#[derive(Debug)]
pub(super) struct Peers {
    node: Result<PathBuf, String>,
    crates: Result<PathBuf, String>,
    redis: Result<(), String>,
}

impl Peers {
    /// Fetches and builds what these entries need, and no more.
    pub(super) fn prepare<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> Self {
        let is_needed = |is: fn(&Entry) -> bool| match entries.clone().any(is) {
            true => Ok(()),
            false => Err("it was not needed".to_owned()),
        };
        Self {
            node: is_needed(|entry| matches!(entry.program, Program::Node(_)))
                .and_then(|()| node()),
            crates: is_needed(|entry| entry.program == Program::Crates).and_then(|()| crates()),
            redis: is_needed(|entry| entry.store == Kind::Redis).and_then(|()| redis()),
        }
    }

    /// How an entry is started; why it cannot be, otherwise.
    pub(super) fn program(&self, entry: &Entry) -> Result<child::Program, String> {
        if entry.store == Kind::Redis {
            self.redis.clone()?;
        }
        match entry.program {
            Program::Own => {
                let path = std::env::current_exe().map_err(|error| error.to_string())?;
                Ok(child::Program {
                    path,
                    args: vec!["contend".to_owned()],
                })
            }
            Program::Node(script) => {
                let script = folder("node").join(script).to_string_lossy().into_owned();
                Ok(child::Program {
                    path: self.node.clone()?,
                    args: vec![script],
                })
            }
            Program::Crates => Ok(child::Program {
                path: self.crates.clone()?,
                args: Vec::new(),
            }),
        }
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// The packages as the lock file names them; the Node that they ask for is one of them.
fn node() -> Result<PathBuf, String> {
    let folder = folder("node");
    let written = |file: &str| fs::metadata(folder.join(file)).and_then(|found| found.modified());
    let installed = written("node_modules/.package-lock.json");
    let is_current =
        matches!((installed, written("package-lock.json")), (Ok(is), Ok(wanted)) if is >= wanted);
    if !is_current {
        let install = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        run(
            "the peers' packages",
            Command::new("npm").args(install).current_dir(&folder),
        )?;
    }
    let node = folder.join("node_modules/node/bin/node");
    run("their Node", Command::new(&node).arg("--version"))?;
    Ok(node)
}

fn crates() -> Result<PathBuf, String> {
    let folder = folder("rust");
    let target = folder.join("target");
    let mut build = Command::new("cargo");
    build
        .args(["build", "--release", "--locked", "--quiet", "--target-dir"])
        .arg(&target);
    run("the peers' crates", build.current_dir(&folder))?;
    Ok(target.join("release/sidestream-bench-peers"))
}

/// Debian's, if need be and if we may.
fn redis() -> Result<(), String> {
    let is_there = || {
        run(
            "redis-server",
            Command::new("redis-server").arg("--version"),
        )
    };
    if is_there().is_ok() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("redis-server is missing; Debian's package is `redis-server`".to_owned());
    }
    let install = [
        "install",
        "--quiet",
        "--yes",
        "--no-install-recommends",
        "redis-server",
    ];
    let mut apt = Command::new("apt-get");
    run(
        "redis-server",
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(install),
    )?;
    is_there()
}

fn run(what: &str, command: &mut Command) -> Result<(), String> {
    let ran = command.output();
    let ran =
        ran.map_err(|error| format!("{what}: {}: {error}", command.get_program().display()))?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    let said: Vec<&str> = said.trim().lines().collect();
    let last = said[said.len().saturating_sub(4)..].join(" / ");
    Err(format!(
        "{what}: {} ended with {}: {last}",
        command.get_program().display(),
        ran.status
    ))
}
