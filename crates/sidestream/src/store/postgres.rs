//! The store on PostgreSQL: one database, as many processes and machines as you like.
//!
//! Each batch is one transaction of two journeys (`transaction`, `start`, `finish`): the first locks and
//! reads what the batch names; then the lifecycle decides, here; the second writes rows, events and counters
//! and commits. What makes the log dense and in the order of commits is one row, the head, locked by
//! the last statement before the commit (`docs/decisions`, 10).
//! Reads are one transaction each, at one moment (`reading`). The bell rings for the commits of every
//! process (`bell`).
//!
//! Nothing of a session is relied on but by the one that listens, so a proxy that pools connections by
//! transaction may stand before all the others. Time is the database's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sidestream_core::wire::SnapshotTask;
use sidestream_core::{Namespace, Seq, Status, Task, TaskId, ThreadId, Timestamp};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::counts::Scope;
use super::{
    ApiKey, Committed, Head, ListQuery, LogPage, LogQuery, Page, Pin, Pins, Request, Result,
    Snapshot, SnapshotQuery, Store,
};
use crate::clock::Clock;
use crate::error::{StoreError, StoreErrorKind};

mod address;
mod bell;
mod cells;
mod claim;
mod connection;
mod counters;
mod examine;
mod failure;
mod finish;
mod list;
mod log;
mod outcome;
#[cfg(test)]
mod plans;
mod proxy;
mod queue;
mod quiet;
mod reading;
mod requests;
mod row;
mod scan;
mod schema;
mod snapshot;
mod spec;
mod start;
mod time;
mod transaction;
mod upkeep;
mod value;

use address::{Address, Place};
use bell::Bell;
use connection::Connections;
use failure::Failure;
use proxy::Sessions;
use quiet::Quiet;
use reading::Reading;
use snapshot::{Begun, Search};
use spec::Specs;
use time::Time;
use value::Value;

/// How a PostgreSQL store is opened.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The PostgreSQL schema that everything is in: letters, digits and `_`, at most 40. It is made if it
    /// is not there.
    pub schema: String,
    /// So many connections at most, but for one that listens and one that is kept in reserve.
    pub connections_max: usize,
    /// Where to listen for the commits of others, if the URL leads to a proxy that pools connections by
    /// transaction: straight to the server.
    pub listen_url: Option<String>,
    /// How often the head of the log is looked at in case a notification was lost.
    pub look_every: Duration,
    /// May the server keep prepared statements from one transaction to the next? Not behind a proxy that
    /// pools connections by transaction, unless it knows of them.
    pub prepared: bool,
    /// How long may it take to connect, or to get a connection?
    pub connect_timeout: Duration,
    /// How long may one statement take?
    pub statement_timeout: Duration,
    /// How long may one statement wait for another's lock?
    pub lock_timeout: Duration,
    /// How long may a transaction wait for this process? A process that is stopped holds nobody up for
    /// longer.
    pub idle_in_transaction_timeout: Duration,
    /// In place of the database's clock, for tests: processes with different clocks do not agree.
    pub clock: Option<Arc<dyn Clock>>,
}

impl Default for PostgresOptions {
    /// Schema `sidestream`, at most 16 connections, prepared statements, the database's clock.
    fn default() -> Self {
        Self {
            schema: "sidestream".into(),
            connections_max: 16,
            listen_url: None,
            look_every: Duration::from_millis(500),
            prepared: true,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: Duration::from_secs(10),
            clock: None,
        }
    }
}

/// How often a batch is tried again whose transaction met another's.
const CONFLICTS_MAX: u32 = 20;
/// How often one whose connection broke before it was committed.
const LOSSES_MAX: u32 = 5;
/// The wait before the second attempt; doubled each time.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Keeps everything in a PostgreSQL database.
///
/// Any number of processes can have it open. All calls need a tokio runtime, the one in which it was
/// opened.
#[derive(Debug)]
pub struct PostgresStore {
    connections: Arc<Connections>,
    specs: Specs,
    quiet: Quiet,
    time: Time,
    bell: Bell,
    place: Place,
    schema: String,
    /// On which channel commits are notified.
    channel: String,
    /// The name of the lock that those who count take.
    turn: i64,
    /// Ended when the store is dropped.
    _listening: JoinSet<()>,
}

/// Reads at one moment; again, if the connection turns out to be broken, or a migration is in the way.
macro_rules! read {
    ($store:expr, |$reading:ident| $found:expr) => {
        read!($store, begin_to_read, |$reading| $found)
    };
    ($store:expr, $begin:ident, |$reading:ident| $found:expr) => {
        again!($store, async {
            let connection = $store.connections.get().await?;
            let begun = connection.$begin();
            let $reading = &Reading {
                connection: &connection,
                specs: &$store.specs,
            };
            let found: failure::Result<_> = $found.await;
            drop(begun);
            reading::ended(connection, found)
        })
    };
}

/// Does it again, if its connection turns out to be broken, or a migration is in the way.
macro_rules! again {
    ($store:expr, $read:expr) => {{
        let (mut losses, mut conflicts) = (0, 0);
        loop {
            let read: failure::Result<_> = $read.await;
            match read {
                Err(failure) if failure.is_loss() && losses < LOSSES_MAX => losses += 1,
                Err(failure) if failure.is_conflict() && conflicts < CONFLICTS_MAX => {
                    conflicts += 1
                }
                Ok(found) => break Ok(found),
                Err(failure) => break Err($store.told(failure).await),
            }
        }
    }};
}

impl PostgresStore {
    /// Opens the database that a URL names: `postgresql://user:password@host/database`. Makes or renews
    /// what it needs there.
    ///
    /// `sslmode` in the URL is one of `disable`, `prefer` (the default), `require` and `verify-full`;
    /// `sslrootcert` names a file of trusted authorities.
    ///
    /// # Errors
    /// [`StoreErrorKind::NewerVersion`]: nothing has been touched. [`StoreErrorKind::Unavailable`]: there
    /// is no such database, or none that can be used; the message says why.
    pub async fn open(url: &str, options: PostgresOptions) -> Result<Self> {
        let nowhere = |failure: Failure| failure.at(&"the PostgreSQL database");
        check_schema(&options.schema).map_err(nowhere)?;
        let address = Address::parse(url, options.connect_timeout).map_err(nowhere)?;
        let direct = match &options.listen_url {
            Some(url) => Address::parse(url, options.connect_timeout).map_err(nowhere)?,
            None => address.clone(),
        };
        let place = address.place.clone();
        let opened = Self::open_at(address, direct, options).await;
        opened.map_err(|failure| failure.at(&place))
    }

    async fn open_at(
        address: Address,
        direct: Address,
        options: PostgresOptions,
    ) -> failure::Result<Self> {
        let connections = Arc::new(Connections::new(&address, &options)?);
        let sessions = proxy::sessions(&connections).await?;
        let connection = connections.get().await?;
        schema::prepare(&connection, &options.schema, &address.place).await?;
        let rows = connection.query(start::HEAD, &[]).await?;
        let head_sql = connection.sql(bell::HEAD);
        connection.give_back();
        let head = start::Read::of(&rows)?;
        let digest = Sha256::digest(options.schema.as_bytes());
        let turn = digest.first_chunk().copied().unwrap_or_default();
        let channel = format!("{}_log", options.schema);
        let bell = Bell::new(head.seq);
        let mut listening = JoinSet::new();
        if sessions == Sessions::Shared && options.listen_url.is_none() {
            tracing::warn!(
                look_every = ?options.look_every,
                "a proxy pools the connections by transaction, so nobody can listen through it: what other \
                 servers do is noticed late; name the database itself in store.database_listen_url"
            );
        } else {
            listening.spawn(bell.clone().listen(direct, channel.clone(), head_sql));
        }
        let looking = bell
            .clone()
            .look(Arc::clone(&connections), options.look_every);
        listening.spawn(looking);
        let specs = Specs::default();
        specs.of_log(&head.epoch);
        Ok(Self {
            connections,
            specs,
            quiet: Quiet::default(),
            time: Time::starting_after(options.clock, head.shown_ms, head.last_at),
            bell,
            place: address.place,
            schema: options.schema,
            channel,
            turn: i64::from_be_bytes(turn),
            _listening: listening,
        })
    }

    /// The failure, for those outside: also when a newer server has changed the database under this one.
    async fn told(&self, failure: Failure) -> StoreError {
        if failure.is_missing()
            && let Ok(connection) = self.connections.get_spare().await
        {
            let known = schema::known(&connection, &self.schema, &self.place).await;
            if let Err(newer @ Failure::Refused(..)) = known {
                return newer.at(&self.place);
            }
            connection.give_back();
        }
        failure.at(&self.place)
    }

    /// Carries out a batch once.
    async fn try_to_commit(&self, batch: &[Request]) -> failure::Result<Committed> {
        let connection = self.connections.get().await?;
        let committed = self.transact(&connection, batch).await;
        match &committed {
            Ok(_) => connection.rest(),
            // What the server refused it has undone; the connection is as good as before.
            Err(failure) if failure.said().is_some() && !failure.is_loss() => connection.rest(),
            Err(_) => drop(connection),
        }
        let (committed, head) = committed?;
        if let Some(head) = head {
            self.bell.ring(head);
        }
        Ok(committed)
    }

    async fn transact(
        &self,
        connection: &connection::Connection,
        batch: &[Request],
    ) -> failure::Result<(Committed, Option<Seq>)> {
        let begun = start::start(
            connection,
            (&self.specs, &self.quiet, &self.time),
            self.turn,
            batch,
        )
        .await;
        let mut transaction = begun?;
        let mut answers = Vec::with_capacity(batch.len());
        for request in batch {
            answers.push(transaction.carry_out(request).await?);
        }
        let finished = transaction.finish(answers, &self.channel, &self.connections);
        finished.await
    }
}

/// The schema's name stands in statements, and in the name of a channel.
fn check_schema(schema: &str) -> failure::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if (1..=40).contains(&schema.len()) && schema.chars().all(is_plain) {
        return Ok(());
    }
    let message = format!("the schema {schema:?} is not 1 to 40 ASCII letters, digits and _");
    Err(Failure::Refused(StoreErrorKind::Unavailable, message))
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.connections.close();
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, batch: Vec<Request>) -> Result<Committed> {
        if batch.is_empty() {
            let (answers, entries) = (Vec::new(), Vec::new());
            return Ok(Committed { answers, entries });
        }
        let (mut conflicts, mut losses, mut wait) = (0, 0, AGAIN_AFTER);
        loop {
            let failure = match self.try_to_commit(&batch).await {
                Ok(committed) => return Ok(committed),
                Err(failure) => failure,
            };
            if failure.is_conflict() && conflicts < CONFLICTS_MAX {
                conflicts += 1;
            } else if failure.is_loss() && losses < LOSSES_MAX {
                losses += 1;
            } else {
                return Err(self.told(failure).await);
            }
            tracing::debug!(?failure, "a batch is carried out again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }

    async fn head(&self) -> Result<Head> {
        read!(self, |reading| log::head(reading))
    }

    async fn get(&self, namespace: &Namespace, id: &TaskId) -> Result<Option<Task>> {
        read!(self, |reading| snapshot::by_id(reading, namespace, id))
    }

    async fn list(&self, query: &ListQuery) -> Result<Page> {
        read!(self, begin_to_search, |reading| list::list(reading, query))
    }

    async fn snapshot(&self, query: &SnapshotQuery) -> Result<Snapshot> {
        let begun = again!(self, Search::begin(&self.connections, &self.specs, query));
        let Begun { head, first, rest } = begun?;
        let place = self.place.clone();
        let pins = match rest {
            None => first.into(),
            Some(search) => Pins::found_by(first, |finder| async move {
                let found = search.finish(finder).await;
                found.map_err(|failure| failure.at(&place))
            }),
        };
        Ok(Snapshot { head, pins })
    }

    async fn resolve(&self, pins: &[Pin]) -> Result<Vec<SnapshotTask>> {
        read!(self, |reading| snapshot::resolve(reading, pins))
    }

    async fn log(&self, query: &LogQuery) -> Result<LogPage> {
        read!(self, |reading| log::page(reading, query))
    }

    async fn completions(
        &self,
        namespace: &Namespace,
        thread: &ThreadId,
        limit: usize,
    ) -> Result<Vec<Task>> {
        read!(self, |reading| snapshot::completions(
            reading, namespace, thread, limit
        ))
    }

    async fn counts(&self) -> Result<HashMap<Status, u64>> {
        read!(self, |reading| async {
            let counts = counters::read(reading.connection, &[Scope::All]).await?;
            let [ours, theirs] = counts.get(&Scope::All).copied().unwrap_or_default();
            let counts = ours.plus(theirs);
            let counts = Status::ALL.map(|status| (status, counts.of(status)));
            Ok(counts.into_iter().filter(|(_, count)| *count > 0).collect())
        })
    }

    async fn keys(&self) -> Result<Vec<ApiKey>> {
        read!(self, |reading| async {
            let sql = format!("{} ORDER BY created_at_ms, position", requests::SELECT_KEYS);
            let rows = reading.connection.query(&sql, &[]).await?;
            rows.iter().map(requests::read_key).collect()
        })
    }

    fn doorbell(&self) -> watch::Receiver<Seq> {
        self.bell.subscribe()
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }
}
