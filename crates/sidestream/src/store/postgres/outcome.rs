//! What became of a transaction whose connection broke while it was committing.
//!
//! PostgreSQL numbers its transactions, and says of a number how it ended, on any connection and after a
//! crash too. Where the places of the events are not known, they are found by that number: each row
//! names the transaction that wrote it.

use std::time::Duration;

use sidestream_core::Seq;
use tokio::time::{Instant, sleep};

use super::Value;
use super::connection::{Connection, Connections};
use super::failure::{Failure, Result};

/// How long it is asked before we give up.
const ASK_FOR: Duration = Duration::from_secs(10);
/// The wait between two questions.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A transaction that may have been committed.
#[derive(Debug)]
pub(super) struct Pending {
    /// How the connection broke.
    pub(super) cause: Failure,
    /// By what the server knows it.
    pub(super) xid: String,
    /// The last event when it began.
    pub(super) begun_at: Seq,
    /// The keys of its events' tasks, in order.
    pub(super) events: Vec<i64>,
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its events are after this one.
    Committed {
        base: Seq,
    },
    Aborted,
}

impl Pending {
    /// Finds out; if it was committed, after which event its own are.
    pub(super) async fn settle(self: Box<Self>, connections: &Connections) -> Result<Seq> {
        match self.ended(connections).await {
            Some(Ended::Committed { base }) => Ok(base),
            Some(Ended::Aborted) => Err(self.cause),
            None => Err(Failure::OutcomeUnknown(Box::new(self.cause))),
        }
    }

    /// `None` if nobody could be asked, or nobody knows.
    async fn ended(&self, connections: &Connections) -> Option<Ended> {
        let until = Instant::now() + ASK_FOR;
        loop {
            match self.ask(connections).await {
                Ok(Some(ended)) => return Some(ended),
                Ok(None) => {}
                Err(failure) if failure.is_loss() => {}
                Err(failure) => {
                    tracing::warn!(?failure, "the outcome of a commit cannot be found out");
                    return None;
                }
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// `None` while it has not ended.
    async fn ask(&self, connections: &Connections) -> Result<Option<Ended>> {
        let connection = connections.get_spare().await?;
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let rows = connection.query(sql, &[self.xid.as_str().into()]).await?;
        let status: Option<String> = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        let ended = match status.as_deref() {
            Some("committed") => Some(Ended::Committed {
                base: self.base(&connection).await?,
            }),
            Some("aborted") => Some(Ended::Aborted),
            Some(_) => None,
            None => {
                return Err(Failure::Bug(
                    "the server has forgotten a transaction".into(),
                ));
            }
        };
        connection.give_back();
        Ok(ended)
    }

    /// After which event its own are.
    async fn base(&self, connection: &Connection) -> Result<Seq> {
        if self.events.is_empty() {
            return Ok(self.begun_at);
        }
        // A row has the lower 32 bits of the number.
        let sql = "SELECT seq, task_key FROM @events
            WHERE seq > $1 AND xmin::text = ($2::text::numeric % 4294967296)::text ORDER BY seq";
        let after = Value::from(self.begun_at.0.cast_signed());
        let values = [after, self.xid.as_str().into()];
        let rows = connection.query(sql, &values).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(row.try_get::<_, i64>(1)?);
        }
        let first = rows
            .first()
            .map(|row| row.try_get::<_, i64>(0))
            .transpose()?;
        match first {
            Some(first) if found == self.events => Ok(Seq((first - 1).cast_unsigned())),
            // Pruned already, or this is no longer the same server.
            _ => Err(Failure::Bug(
                "the events of a transaction cannot be found".into(),
            )),
        }
    }
}
