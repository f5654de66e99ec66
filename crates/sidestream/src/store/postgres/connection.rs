//! Connections: a pool of them, and how statements are sent over one.
//!
//! Statements are *pipelined*: sent at once, one behind the other, and their answers waited for later, so
//! that a batch of statements costs one journey. The server carries them out in the order in which they
//! were sent; so each must be ready to be sent before the first is.

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures::future::{MaybeDone, maybe_done};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

use super::PostgresOptions;
use super::address::Address;
use super::failure::{Failure, Result};

/// A few connections, each used by one call at a time.
#[derive(Debug)]
pub(super) struct Connections {
    pool: Pool,
    /// For whoever holds a broken one of the pool and must ask something: else, when all broke at once,
    /// each would wait for another's.
    spare: Pool,
    shape: Arc<Shape>,
}

/// What is the same for every connection.
#[derive(Debug)]
struct Shape {
    /// The PostgreSQL schema, quoted, with its dot.
    schema: String,
    is_prepared: bool,
    begin_to_write: String,
    begin_to_read: String,
    begin_to_search: String,
    /// When the server itself should have given up long ago.
    answer_timeout: Duration,
}

impl Connections {
    pub(super) fn new(address: &Address, options: &PostgresOptions) -> Result<Self> {
        Ok(Self {
            pool: pool(address, options, options.connections_max.max(1))?,
            spare: pool(address, options, 1)?,
            shape: Arc::new(Shape::new(options)),
        })
    }

    pub(super) async fn get(&self) -> Result<Connection> {
        self.of(&self.pool).await
    }

    pub(super) async fn get_spare(&self) -> Result<Connection> {
        self.of(&self.spare).await
    }

    async fn of(&self, pool: &Pool) -> Result<Connection> {
        let object = pool.get().await?;
        Ok(Connection {
            object: Some(object),
            shape: Arc::clone(&self.shape),
            has_ended: AtomicBool::new(false),
        })
    }

    /// Takes no more connections from the pool, and closes those that are idle.
    pub(super) fn close(&self) {
        self.pool.close();
        self.spare.close();
    }
}

fn pool(address: &Address, options: &PostgresOptions, size: usize) -> Result<Pool> {
    let manager = Manager::from_config(
        address.config.clone(),
        address.tls.clone(),
        ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        },
    );
    Pool::builder(manager)
        .max_size(size)
        .wait_timeout(Some(options.connect_timeout))
        .create_timeout(Some(options.connect_timeout))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| Failure::Bug(error.to_string()))
}

impl Shape {
    fn new(options: &PostgresOptions) -> Self {
        let ms = |duration: Duration| duration.as_millis().clamp(1, i32::MAX as u128);
        let statement = ms(options.statement_timeout);
        let idle = ms(options.idle_in_transaction_timeout);
        let lock = ms(options.lock_timeout);
        // Nothing of a session is relied on, since behind a proxy that pools by transaction each
        // transaction may meet another session.
        let limits = format!(
            "SET LOCAL statement_timeout = {statement}; \
             SET LOCAL idle_in_transaction_session_timeout = {idle};"
        );
        // Statements that go by a key are made for its index, whatever the statistics say of a table that
        // was empty a moment ago: their plan is made once. See `row`.
        let by_index = "SET LOCAL plan_cache_mode = force_generic_plan; \
            SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
            SET LOCAL enable_mergejoin = off; SET LOCAL enable_material = off; SET LOCAL jit = off;";
        let begin_to_write = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; {limits} SET LOCAL lock_timeout = {lock}; {by_index}"
        );
        let reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;";
        let begin_to_read = format!("{reading} {limits} {by_index}");
        let begin_to_search = format!("{reading} {limits} SET LOCAL jit = off;");
        Self {
            schema: format!("{}.", quoted(&options.schema)),
            is_prepared: options.prepared,
            begin_to_write,
            begin_to_read,
            begin_to_search,
            answer_timeout: options.statement_timeout * 2 + Duration::from_secs(5),
        }
    }
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A connection, from the pool until this is dropped. A transaction that is still open then is undone.
#[derive(Debug)]
pub(super) struct Connection {
    /// `None` once it has been given back, or away.
    object: Option<Object>,
    shape: Arc<Shape>,
    /// Has the transaction ended?
    has_ended: AtomicBool,
}

/// A statement that can be sent at once.
#[derive(Debug)]
pub(super) enum Ready {
    /// The server knows it.
    Prepared(Statement),
    /// It goes along with its values.
    Text(String, Vec<Type>),
}

/// An answer that is on its way.
pub(super) type Sent<'c, T> =
    Pin<Box<MaybeDone<Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>>>>;

/// Waits for an answer.
pub(super) async fn answer<T>(mut sent: Sent<'_, T>) -> Result<T> {
    sent.as_mut().await;
    let answer = sent.as_mut().take_output();
    answer.expect("an answer is taken once")
}

/// Sends a request, which its future does when it is first polled.
fn send<'c, T: 'c>(
    timeout: Duration,
    request: impl Future<Output = Result<T>> + Send + 'c,
) -> Sent<'c, T> {
    let request = tokio::time::timeout(timeout, request);
    let future: Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>> = Box::pin(async move {
        let answer = request.await;
        answer.unwrap_or(Err(Failure::TimedOut("answer")))
    });
    let mut sent = Box::pin(maybe_done(future));
    let _ = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    sent
}

impl Connection {
    fn client(&self) -> &Client {
        self.object
            .as_ref()
            .expect("it is ours until it is dropped")
    }

    /// A statement with the schema in the place of each `@`.
    pub(super) fn sql(&self, sql: &str) -> String {
        sql.replace('@', &self.shape.schema)
    }

    /// Makes a statement ready to be sent with values of these types.
    pub(super) async fn prepare(&self, sql: &str, values: &[super::Value<'_>]) -> Result<Ready> {
        let sql = self.sql(sql);
        let types: Vec<Type> = values.iter().map(super::Value::kind).collect();
        #[cfg(test)]
        super::plans::seen::note(&self.shape.schema, &sql, &types, true);
        if !self.shape.is_prepared {
            return Ok(Ready::Text(sql, types));
        }
        let object = self
            .object
            .as_ref()
            .expect("it is ours until it is dropped");
        let statement = object.prepare_typed_cached(&sql, &types).await?;
        Ok(Ready::Prepared(statement))
    }

    /// Sends a statement.
    pub(super) fn send<'c>(
        &'c self,
        ready: &'c Ready,
        values: &'c [super::Value<'c>],
    ) -> Sent<'c, Vec<Row>> {
        let (client, timeout) = (self.client(), self.shape.answer_timeout);
        match ready {
            Ready::Prepared(statement) => send(timeout, async move {
                let values: Vec<&(dyn ToSql + Sync)> =
                    values.iter().map(super::Value::as_sql).collect();
                Ok(client.query(statement, &values).await?)
            }),
            Ready::Text(sql, types) => send(timeout, async move {
                let values: Vec<(&(dyn ToSql + Sync), Type)> = values
                    .iter()
                    .map(super::Value::as_sql)
                    .zip(types.iter().cloned())
                    .collect();
                Ok(client.query_typed(sql, &values).await?)
            }),
        }
    }

    /// Sends a statement whose plan must be made for its very values, and waits for the answer.
    pub(super) async fn query_planned(
        &self,
        sql: &str,
        values: &[super::Value<'_>],
    ) -> Result<Vec<Row>> {
        let types: Vec<Type> = values.iter().map(super::Value::kind).collect();
        let sql = self.sql(sql);
        #[cfg(test)]
        super::plans::seen::note(&self.shape.schema, &sql, &types, false);
        let ready = Ready::Text(sql, types);
        answer(self.send(&ready, values)).await
    }

    /// Sends a statement, and waits for the answer.
    pub(super) async fn query(&self, sql: &str, values: &[super::Value<'_>]) -> Result<Vec<Row>> {
        let ready = self.prepare(sql, values).await?;
        answer(self.send(&ready, values)).await
    }

    /// Sends statements without values and without an answer.
    pub(super) fn send_plain<'c>(&'c self, sql: &'c str) -> Sent<'c, ()> {
        let (client, timeout) = (self.client(), self.shape.answer_timeout);
        send(timeout, async move { Ok(client.batch_execute(sql).await?) })
    }

    /// Runs statements without values and without an answer that may take any time.
    pub(super) async fn run_for_long(&self, sql: &str) -> Result<()> {
        Ok(self.client().batch_execute(sql).await?)
    }

    /// How a transaction that writes begins. Those that name a turn, which is a number, take turns: they count
    /// before they decide, as claims do, and dispatches that may be turned away.
    pub(super) fn beginning_to_write(&self, turn: Option<i64>) -> Cow<'_, str> {
        let begin = &self.shape.begin_to_write;
        match turn {
            Some(turn) => format!("{begin} SELECT pg_advisory_xact_lock({turn});").into(),
            None => begin.into(),
        }
    }

    /// Sends the beginning of a transaction that reads, all at one moment.
    pub(super) fn begin_to_read(&self) -> Sent<'_, ()> {
        self.send_plain(&self.shape.begin_to_read)
    }

    /// The same, for statements whose plan depends on what is looked for.
    pub(super) fn begin_to_search(&self) -> Sent<'_, ()> {
        self.send_plain(&self.shape.begin_to_search)
    }

    /// Takes note that the transaction has ended, and that no other will be begun.
    pub(super) fn ended(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Ends the transaction and gives the connection back, without waiting: whoever gets it next comes
    /// behind.
    pub(super) fn rest(mut self) {
        if let Some(object) = self.object.take() {
            if !self.has_ended.load(Relaxed) {
                let rollback = pin!(object.batch_execute("ROLLBACK"));
                let _: Poll<_> = rollback.poll(&mut Context::from_waker(Waker::noop()));
            }
            drop(object);
        }
    }

    /// Gives the connection back: no transaction is open.
    pub(super) fn give_back(mut self) {
        self.object = None;
    }
}

impl Drop for Connection {
    /// Whatever it was doing is undone: the server does so when the connection goes.
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}
