//! Is there a proxy that pools connections by transaction, and does it know of prepared statements?
//!
//! Behind one that does not, a statement that was prepared in one transaction is gone in the next, or, worse,
//! it is another process's statement that has its name there. So this is found out before anything else is
//! sent.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Row;

use super::connection::{Connection, Connections, Ready, answer};
use super::failure::{Failure, Result};
use crate::chance::{Chance, SystemChance};

/// How often one connection tries to meet the other's session. A proxy that has nothing else to do hands out
/// the session that was given back last; one that is busy moves a connection from one to the next.
const TRIES: u32 = 2;
/// A proxy with a single session to give has none for a second connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Whose the sessions of the server are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sessions {
    /// As far as could be seen, each connection has its own.
    Own,
    /// A proxy gives each transaction whichever is free.
    Shared,
}

/// Finds out whose the sessions are.
///
/// # Errors
/// [`Failure::Forgotten`] if they are shared, prepared statements are not brought along, and the connections
/// use them.
pub(super) async fn sessions(connections: &Connections) -> Result<Sessions> {
    let (mine, other) = (connections.get().await?, connections.get_spare().await?);
    let looked = Look::new(&mine, &other).look().await;
    other.rest();
    match &looked {
        Ok(Seen { is_idle: true, .. }) => mine.give_back(),
        _ => drop(mine),
    }
    looked.map(|seen| seen.sessions)
}

/// A question whose answer says which session answers.
struct Look<'c> {
    mine: &'c Connection,
    other: &'c Connection,
    sql: String,
    /// In the answer, so that it is known to be that of our own statement.
    sign: String,
}

/// What was found out, and whether the first connection can be used again.
#[derive(Debug)]
struct Seen {
    sessions: Sessions,
    is_idle: bool,
}

impl<'c> Look<'c> {
    fn new(mine: &'c Connection, other: &'c Connection) -> Self {
        let sign = format!("{:016x}", SystemChance.next());
        let sql = format!("SELECT pg_backend_pid(), '{sign}'::text");
        Self {
            mine,
            other,
            sql,
            sign,
        }
    }

    async fn look(&self) -> Result<Seen> {
        let seen = |sessions, is_idle| Ok(Seen { sessions, is_idle });
        let ready = self.mine.prepare(&self.sql, &[]).await?;
        for _ in 0..TRIES {
            let first = self.ask(&ready).await?;
            // While this transaction is open, its session is nobody else's.
            answer(self.other.send_plain("BEGIN")).await?;
            let rows = self.other.query_planned(&self.sql, &[]).await?;
            let met = self.session(&rows)? == first;
            let again = match timeout(ANSWER_WITHIN, self.ask(&ready)).await {
                Ok(again) => again?,
                Err(_) => return seen(Sessions::Shared, false),
            };
            if met || again != first {
                return seen(Sessions::Shared, true);
            }
            answer(self.other.send_plain("ROLLBACK")).await?;
        }
        self.other.ended();
        seen(Sessions::Own, true)
    }

    async fn ask(&self, ready: &Ready) -> Result<i32> {
        let rows = answer(self.mine.send(ready, &[])).await?;
        self.session(&rows)
    }

    fn session(&self, rows: &[Row]) -> Result<i32> {
        let row = rows.first();
        let sign: Option<&str> = row.and_then(|row| row.try_get(1).ok());
        match row.and_then(|row| row.try_get(0).ok()) {
            Some(session) if sign == Some(self.sign.as_str()) => Ok(session),
            _ => Err(Failure::Forgotten("another statement answered".into())),
        }
    }
}
