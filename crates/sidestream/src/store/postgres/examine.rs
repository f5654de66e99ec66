//! An examination of the database: does it keep what it says it keeps, do its notifications arrive, does it
//! tidy up after itself? And what must be done after an older copy of it was put back.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::time::Duration;

use sidestream_core::Timestamp;
use tokio::time::{Instant, timeout};
use tokio_postgres::AsyncMessage;

use super::address::Address;
use super::connection::{Connection, Connections, quoted};
use super::failure::{FORGETS, FORGETS_ADVICE, Failure, Result};
use super::proxy::Sessions;
use super::spec::Specs;
use super::{PostgresOptions, PostgresStore, Value, check_schema, log, proxy, schema};
use crate::chance::{self, SystemChance};
use crate::clock::{Clock, SystemClock};
use crate::error::StoreError;
use crate::store::Head;
use crate::store::finding::{Finding, bytes_in_words};
use crate::store::waiting::{self, WAITED_MS_MIN, Waiting};

/// So long a notification may take.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(3);
/// A journey that takes longer than this makes every commit slow.
const JOURNEY_MAX: Duration = Duration::from_millis(20);
/// A table is bloated if it has more dead rows than this, and more than living ones.
const DEAD_ROWS_MIN: i64 = 100_000;
/// A transaction that is open for longer than this keeps the database from tidying up, in seconds.
const TRANSACTION_SECONDS_MAX: i64 = 600;
/// So far the database's clock may be before the latest event, in milliseconds.
const CLOCK_MS_MAX: i64 = 5_000;

impl PostgresStore {
    /// Looks at what can go wrong with a database over the years. Changes nothing, and migrates nothing.
    ///
    /// # Errors
    /// When it cannot be reached, or has no tables of ours.
    pub async fn examine(
        url: &str,
        options: PostgresOptions,
    ) -> std::result::Result<Vec<Finding>, StoreError> {
        let nowhere = |failure: Failure| failure.at(&"the PostgreSQL database");
        check_schema(&options.schema).map_err(nowhere)?;
        let address = Address::parse(url, options.connect_timeout).map_err(nowhere)?;
        let direct = options.listen_url.as_deref().unwrap_or(url);
        let direct = Address::parse(direct, options.connect_timeout).map_err(nowhere)?;
        let examined = examine(&address, &direct, &options).await;
        examined.map_err(|failure| failure.at(&address.place))
    }

    /// Names the log anew: for after an older copy of the database was put back. What happened since the
    /// copy was made is lost, so a cursor of the old log must be told apart from one of the new. No server
    /// may be using the database.
    ///
    /// # Errors
    /// When the database cannot be reached, or has no tables of ours.
    pub async fn name_log_anew(
        url: &str,
        options: PostgresOptions,
    ) -> std::result::Result<Head, StoreError> {
        let nowhere = |failure: Failure| failure.at(&"the PostgreSQL database");
        check_schema(&options.schema).map_err(nowhere)?;
        let address = Address::parse(url, options.connect_timeout).map_err(nowhere)?;
        let renamed = name_anew(&address, &options).await;
        renamed.map_err(|failure| failure.at(&address.place))
    }
}

async fn name_anew(address: &Address, options: &PostgresOptions) -> Result<Head> {
    let connections = Connections::new(address, options)?;
    let connection = connections.get().await?;
    schema::known(&connection, &options.schema, &address.place).await?;
    let epoch = chance::epoch(&SystemChance);
    let sql = "UPDATE @head SET epoch = $1 WHERE single = 1";
    connection.query(sql, &[epoch.as_str().into()]).await?;
    let rows = connection.query(super::start::HEAD, &[]).await?;
    connection.give_back();
    log::known(&Specs::default(), &rows)
}

async fn examine(
    address: &Address,
    direct: &Address,
    options: &PostgresOptions,
) -> Result<Vec<Finding>> {
    let (proxy, options) = proxy(address, options).await?;
    let connections = Connections::new(address, &options)?;
    let connection = connections.get().await?;
    let version = schema::known(&connection, &options.schema, &address.place).await?;
    let schema = options.schema.as_str();
    let findings = vec![
        journey(&connection, version).await?,
        proxy,
        durability(&connection).await?,
        notifications(&connection, direct).await?,
        clock(&connection).await?,
        sessions(&connection).await?,
        transactions(&connection).await?,
        indexes(&connection, schema, version).await?,
        bloat(&connection, schema).await?,
        age(&connection).await?,
        tools(&connection).await?,
    ];
    connection.give_back();
    Ok(findings)
}

/// Goes on without prepared statements where they would be forgotten.
async fn proxy(address: &Address, options: &PostgresOptions) -> Result<(Finding, PostgresOptions)> {
    let mut options = options.clone();
    let seen = match proxy::sessions(&Connections::new(address, &options)?).await {
        Ok(seen) => seen,
        Err(Failure::Forgotten(how)) => {
            options.prepared = false;
            let seen = format!("the database {FORGETS} ({how})");
            return Ok((Finding::bad("proxy", seen, FORGETS_ADVICE), options));
        }
        Err(other) => return Err(other),
    };
    let statements = match options.prepared {
        true => "keeps prepared statements",
        false => "is not asked to keep prepared statements",
    };
    let seen = match seen {
        Sessions::Own => format!("none is seen that pools by transaction; the server {statements}"),
        Sessions::Shared => format!("one pools connections by transaction; it {statements}"),
    };
    Ok((Finding::good("proxy", seen), options))
}

async fn journey(connection: &Connection, version: i64) -> Result<Finding> {
    let sql = "SELECT current_setting('server_version')";
    // The first readies the statement.
    connection.query(sql, &[]).await?;
    let begun = Instant::now();
    let rows = connection.query(sql, &[]).await?;
    let took = begun.elapsed();
    let server: &str = one(&rows)?.try_get(0)?;
    let newest = schema::VERSION;
    let seen = format!(
        "PostgreSQL {server}, schema {version} of {newest}, answers in {:.1} ms",
        took.as_secs_f64() * 1e3
    );
    Ok(match took <= JOURNEY_MAX {
        true => Finding::good("connection", seen),
        false => Finding::doubtful(
            "connection",
            seen,
            "every commit takes a few such journeys: run the servers nearer to the database",
        ),
    })
}

/// What is answered must be on the disk.
async fn durability(connection: &Connection) -> Result<Finding> {
    let sql = "SELECT current_setting('fsync'), current_setting('full_page_writes'),
        current_setting('synchronous_commit')";
    let rows = connection.query(sql, &[]).await?;
    let row = one(&rows)?;
    let (fsync, pages, commit): (&str, &str, &str) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let seen = format!("fsync {fsync}, full_page_writes {pages}, synchronous_commit {commit}");
    Ok(if fsync == "off" || pages == "off" {
        Finding::bad(
            "durability",
            seen,
            "a crash of the machine can destroy the database: turn them on",
        )
    } else if commit == "off" {
        Finding::doubtful(
            "durability",
            seen,
            "a crash can take what was answered last: turn synchronous_commit on",
        )
    } else {
        Finding::good("durability", seen)
    })
}

/// One is sent through the pool, and heard where the store listens.
async fn notifications(connection: &Connection, direct: &Address) -> Result<Finding> {
    let channel = format!("sidestream_doctor_{:016x}", chance_number());
    let begun = Instant::now();
    let heard = match timeout(NOTIFIED_WITHIN, heard(connection, direct, &channel)).await {
        Ok(heard) => heard?.then(|| begun.elapsed()),
        Err(_) => None,
    };
    Ok(match heard {
        Some(took) => {
            let ms = took.as_secs_f64() * 1e3;
            Finding::good("notifications", format!("one arrived within {ms:.1} ms"))
        }
        None => Finding::bad(
            "notifications",
            format!("none arrived within {} s", NOTIFIED_WITHIN.as_secs()),
            "servers see each other's events late; if store.database_url leads to a proxy that pools by \
             transaction, name the database itself in store.database_listen_url",
        ),
    })
}

async fn heard(connection: &Connection, direct: &Address, channel: &str) -> Result<bool> {
    let (client, mut listening) = direct.config.connect(direct.tls.clone()).await?;
    let listen = format!("LISTEN {}", quoted(channel));
    let asking = async {
        client.batch_execute(&listen).await?;
        let sql = "SELECT pg_notify($1, 'doctor')";
        connection.query(sql, &[Value::from(channel)]).await?;
        std::future::pending::<Result<bool>>().await
    };
    let hearing = async {
        loop {
            match poll_fn(|cx| listening.poll_message(cx)).await {
                Some(Ok(AsyncMessage::Notification(_))) => return Ok(true),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::Server(error)),
                None => return Ok(false),
            }
        }
    };
    tokio::select! {
        asked = asking => asked,
        heard = hearing => heard,
    }
}

fn chance_number() -> u64 {
    chance::Chance::next(&SystemChance)
}

/// Only the database's clock counts, and it must not be set back.
async fn clock(connection: &Connection) -> Result<Finding> {
    let rows = connection.query(super::start::HEAD, &[]).await?;
    let row = one(&rows)?;
    let (shown, last): (i64, i64) = (row.try_get(0)?, row.try_get(4)?);
    let apart = shown - SystemClock.now().ms();
    let shown = Timestamp::from_ms(shown);
    let seen = format!("the database says it is {shown}, {apart} ms from this machine's clock");
    let behind = last.saturating_sub(shown.ms());
    Ok(match behind <= CLOCK_MS_MAX {
        true => Finding::good("clock", seen),
        false => Finding::bad(
            "clock",
            format!("{seen}; the latest event is {behind} ms later"),
            "set the clock of the database's machine right, and let a time service (NTP) keep it so",
        ),
    })
}

async fn sessions(connection: &Connection) -> Result<Finding> {
    let sql = "SELECT count(*), current_setting('max_connections')::bigint FROM pg_stat_activity
        WHERE backend_type = 'client backend'";
    let rows = connection.query(sql, &[]).await?;
    let row = one(&rows)?;
    let (used, most): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let seen = format!("{used} of {most} connections are in use");
    Ok(match used * 10 <= most * 9 {
        true => Finding::good("connections", seen),
        false => Finding::doubtful(
            "connections",
            seen,
            "raise max_connections, lower store.database_connections_max, or put a pooling proxy before it",
        ),
    })
}

async fn transactions(connection: &Connection) -> Result<Finding> {
    let sql = "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start))::bigint, 0),
        coalesce((array_agg(application_name ORDER BY xact_start))[1], '')
        FROM pg_stat_activity WHERE xact_start IS NOT NULL AND backend_type = 'client backend'";
    let rows = connection.query(sql, &[]).await?;
    let row = one(&rows)?;
    let (seconds, name): (i64, &str) = (row.try_get(0)?, row.try_get(1)?);
    let seen = format!("the oldest open transaction is {seconds} s old");
    Ok(match seconds <= TRANSACTION_SECONDS_MAX {
        true => Finding::good("transactions", seen),
        false => Finding::doubtful(
            "transactions",
            format!("{seen} (application {name:?})"),
            "while it is open nothing can be tidied up: end it, and set idle_in_transaction_session_timeout",
        ),
    })
}

async fn indexes(connection: &Connection, schema: &str, version: i64) -> Result<Finding> {
    let sql = "SELECT c.relname::text, i.indisvalid FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
    let rows = connection.query(sql, &[Value::from(schema)]).await?;
    let mut there = Vec::new();
    let mut invalid = Vec::new();
    for row in &rows {
        let (name, is_valid): (&str, bool) = (row.try_get(0)?, row.try_get(1)?);
        there.push(name);
        if !is_valid {
            invalid.push(name);
        }
    }
    // What a newer version took away, it did without.
    let expected = match version > schema::VERSION {
        true => BTreeSet::new(),
        false => schema::index_names(version),
    };
    let missing: Vec<&str> = expected
        .into_iter()
        .filter(|name| !there.contains(name))
        .collect();
    Ok(if !missing.is_empty() {
        Finding::bad(
            "indexes",
            format!("{} missing", missing.join(", ")),
            "somebody dropped them: make them again as docs/data-model.md has them",
        )
    } else if !invalid.is_empty() {
        Finding::bad(
            "indexes",
            format!("{} cannot be used", invalid.join(", ")),
            "REINDEX INDEX CONCURRENTLY makes them anew",
        )
    } else {
        Finding::good("indexes", format!("all {} can be used", there.len()))
    })
}

async fn bloat(connection: &Connection, schema: &str) -> Result<Finding> {
    let sql = "SELECT relname::text, n_live_tup, n_dead_tup,
        pg_total_relation_size(relid)::bigint FROM pg_stat_user_tables WHERE schemaname = $1
        ORDER BY 4 DESC";
    let rows = connection.query(sql, &[Value::from(schema)]).await?;
    let mut bytes = 0;
    let mut bloated = Vec::new();
    for row in &rows {
        let (name, live, dead): (&str, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        bytes += row.try_get::<_, i64>(3)?;
        if dead > DEAD_ROWS_MIN && dead > live {
            bloated.push(format!("{name} ({dead} dead rows, {live} living)"));
        }
    }
    let size = bytes_in_words(bytes.cast_unsigned());
    Ok(match bloated.is_empty() {
        true => Finding::good("bloat", format!("the tables take {size}, and are tidy")),
        false => Finding::doubtful(
            "bloat",
            format!("the tables take {size}: {}", bloated.join(", ")),
            "autovacuum does not keep up: is it on, is an old transaction open, does it need more workers?",
        ),
    })
}

/// PostgreSQL's numbers of transactions go round.
async fn age(connection: &Connection) -> Result<Finding> {
    let sql =
        "SELECT age(datfrozenxid)::bigint FROM pg_database WHERE datname = current_database()";
    let rows = connection.query(sql, &[]).await?;
    let age: i64 = one(&rows)?.try_get(0)?;
    let seen = format!("the oldest transaction number is {age} old");
    Ok(match age <= 1_000_000_000 {
        true => Finding::good("freezing", seen),
        false => Finding::bad(
            "freezing",
            seen,
            "at two thousand million PostgreSQL stops: VACUUM FREEZE, and find what keeps autovacuum from it",
        ),
    })
}

/// Tools whose tasks wait while none of them runs. Each part of the line has an index of its own.
async fn tools(connection: &Connection) -> Result<Finding> {
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let rows = connection.query(now, &[]).await?;
    let now: i64 = one(&rows)?.try_get(0)?;
    let sql = "SELECT c.value, w.tasks, w.since FROM @counters c
        CROSS JOIN LATERAL (
            SELECT count(*) AS tasks, min(due_at_ms) AS since FROM (
                SELECT due_at_ms FROM @tasks WHERE tool_name = c.value AND queue = 'ready'
                UNION ALL
                SELECT due_at_ms FROM @tasks
                WHERE tool_name = c.value AND queue = 'delayed' AND due_at_ms <= $1
            ) AS line
        ) AS w
        WHERE c.scope = 'tool' AND c.namespace = '' AND NOT c.is_external
            AND c.pending > 0 AND c.running = 0 AND w.since <= $2
        ORDER BY w.since, c.value";
    let times = [now.into(), now.saturating_sub(WAITED_MS_MIN).into()];
    let rows = connection.query(sql, &times).await?;
    let waiting = rows.iter().map(|row| {
        Ok(Waiting {
            tool: row.try_get(0)?,
            tasks: row.try_get::<_, i64>(1)?.cast_unsigned(),
            since: Timestamp::from_ms(row.try_get(2)?),
        })
    });
    let waiting: Vec<Waiting> = waiting.collect::<Result<_>>()?;
    Ok(waiting::finding(&waiting, Timestamp::from_ms(now)))
}

fn one(rows: &[tokio_postgres::Row]) -> Result<&tokio_postgres::Row> {
    rows.first()
        .ok_or_else(|| Failure::Bug("the server answers with no row".into()))
}
