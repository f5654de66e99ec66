//! What a contender is asked to do: one figure, once, with one setting. It is the only argument of its process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::place::Kind;

/// As JSON, on the command line of whoever carries it out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) figure: String,
    /// Which of those that one program knows: `ours`, `limit`, or a peer's own name.
    pub(crate) contender: String,
    pub(crate) store: Kind,
    /// An empty folder on the disk that is measured.
    pub(crate) dir: PathBuf,
    /// The server, where the store is one: fresh, with an empty database.
    pub(crate) url: Option<String>,
    /// Numbers by their names: `in_flight`, `tasks`, `clients`.
    pub(crate) settings: BTreeMap<String, u64>,
}

impl Work {
    pub(crate) fn number(&self, name: &str) -> anyhow::Result<usize> {
        let found = self.settings.get(name);
        let found = found.with_context(|| format!("the work has no setting `{name}`: {self:?}"))?;
        Ok(usize::try_from(*found)?)
    }

    pub(crate) fn url(&self) -> anyhow::Result<&str> {
        let url = self.url.as_deref();
        url.with_context(|| format!("the work names no server: {self:?}"))
    }
}
