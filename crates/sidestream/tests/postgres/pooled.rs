//! Behind a real proxy that pools connections by transaction: many connections share few, and no
//! transaction meets what another left in its session. That it keeps every promise there, too, is in
//! `conformance.rs`.

use std::time::Duration;

use serde_json::json;
use sidestream::core::{Seq, ToolName};
use sidestream::error::StoreErrorKind;
use sidestream::store::finding::Verdict;
use sidestream::store::{ListQuery, PostgresOptions, PostgresStore, Store};
use sidestream::{
    ChunkType, Context, HandlerError, Namespace, NewTask, Status, StreamOptions, TaskManager, Tool,
};
use sidestream_test_postgres::{Cluster, Pooler, PoolerOptions, knows_prepared_statements};
use tokio::task::JoinSet;
use tokio_postgres::NoTls;

use crate::work::{audit, dispatch_some};

/// So many sessions of the server are shared by all.
const SESSIONS: u32 = 3;

fn pooler(cluster: &Cluster, prepared_max: u32) -> Pooler {
    let options = PoolerOptions {
        server_connections: SESSIONS,
        prepared_max,
    };
    Pooler::before(cluster.port(), &options)
}

/// As the operating guide says.
fn options(cluster: &Cluster, database: &str) -> PostgresOptions {
    PostgresOptions {
        prepared: false,
        listen_url: Some(cluster.url(database)),
        ..PostgresOptions::default()
    }
}

async fn manager(store: PostgresStore) -> TaskManager {
    let count = Tool::new("count", |context: Context, to: u32| async move {
        for n in 0..to {
            context.output(&n).await?;
        }
        Ok::<_, HandlerError>(to)
    });
    let builder = TaskManager::builder(store).tool(count);
    builder.start().await.expect("it starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_work_through_few_sessions_and_leave_nothing_in_them() {
    const TASKS: u32 = 200;
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, 0);
    let database = cluster.database();
    let mut managers = Vec::new();
    for _ in 0..2 {
        let url = pooler.url(&database);
        // Nobody looks: what one does the other hears.
        let options = PostgresOptions {
            look_every: Duration::from_secs(3_600),
            ..options(&cluster, &database)
        };
        let store = PostgresStore::open(&url, options).await;
        managers.push(manager(store.expect("it opens")).await);
    }
    let [here, there] = managers.try_into().expect("there are two");
    let mut stream = there
        .stream(StreamOptions::default())
        .await
        .expect("it opens");
    let mut dispatching = JoinSet::new();
    for n in 0..TASKS {
        let manager = [&here, &there][n as usize % 2].clone();
        dispatching.spawn(async move {
            let task = NewTask::new("count")
                .args(json!(n % 4))
                .agent(format!("a-{n}"));
            manager.dispatch(task).await.expect("it is dispatched");
        });
    }
    dispatching.join_all().await;
    let (mut outputs, mut completed) = (0, 0);
    while completed < TASKS {
        let item = stream.next().await.expect("it goes on").expect("it works");
        match item.chunk.map(|chunk| chunk.chunk_type) {
            Some(ChunkType::Output) => outputs += 1,
            Some(ChunkType::Completed) => completed += 1,
            _ => {}
        }
    }
    assert_eq!(
        outputs,
        TASKS / 4 * 6,
        "every output is seen on the other server"
    );
    let mut query = ListQuery::new(Namespace::default(), 10);
    query.statuses = vec![Status::Completed];
    query.tool_name = Some(ToolName::new("count").expect("a plain name"));
    let page = here.list(query).await.expect("it is listed");
    assert_eq!((page.total, page.tasks.len()), (u64::from(TASKS), 10));

    let shared = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name = 'sidestream'";
    let shared: u32 = cluster.sql(&database, shared).parse().expect("a number");
    assert!((1..=SESSIONS).contains(&shared), "{shared} sessions");
    for manager in [here, there] {
        manager.shutdown().await;
    }
    assert_eq!(
        left_in_sessions(&pooler.url(&database)).await,
        Vec::<String>::new()
    );
}

/// What a new session would not have, of each of the shared sessions.
async fn left_in_sessions(url: &str) -> Vec<String> {
    let sql = "SELECT 'prepared ' || name FROM pg_prepared_statements
        UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE name <> ''
        UNION ALL SELECT 'listens ' || pg_listening_channels()
        UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory'
        UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relpersistence = 't'
        UNION ALL SELECT 'set ' || name FROM pg_settings WHERE source = 'session'
            AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
                'standard_conforming_strings', 'IntervalStyle')";
    let mut sessions = JoinSet::new();
    let mut clients = Vec::new();
    let mut left = Vec::new();
    let mut pids = Vec::new();
    for _ in 0..SESSIONS {
        let connected = tokio_postgres::connect(url, NoTls).await;
        let (client, connection) = connected.expect("the proxy is there");
        sessions.spawn(async move { drop(connection.await) });
        // An open transaction keeps its session: the next meets another.
        client.batch_execute("BEGIN").await.expect("it works");
        for row in client.simple_query(sql).await.expect("it works") {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = row {
                left.extend(row.get(0).map(str::to_owned));
            }
        }
        let pid = client.simple_query("SELECT pg_backend_pid()").await;
        pids.push(format!("{:?}", pid.expect("it works")[1]));
        clients.push(client);
    }
    pids.sort();
    pids.dedup();
    assert_eq!(pids.len(), SESSIONS as usize, "each is looked at");
    left
}

/// Who forgets to say that there is a proxy learns it at once, however many have come before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_work_or_are_refused_by_name() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let open = async |pooler: &Pooler, prepared| {
        let options = PostgresOptions {
            prepared,
            ..options(&cluster, &database)
        };
        PostgresStore::open(&pooler.url(&database), options).await
    };
    let examine = async |pooler: &Pooler, prepared| {
        let options = PostgresOptions {
            prepared,
            ..options(&cluster, &database)
        };
        let found = PostgresStore::examine(&pooler.url(&database), options).await;
        let found = found.expect("it is examined").into_iter();
        found
            .filter(|found| found.topic == "proxy")
            .collect::<Vec<_>>()
            .remove(0)
    };
    let ignorant = pooler(&cluster, 0);
    let right = open(&ignorant, false).await.expect("it opens");
    dispatch_some(&right, ["t".to_owned()]).await;
    for _ in 0..3 {
        let error = open(&ignorant, true).await.expect_err("it is refused");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
        let said = error.to_string();
        assert!(said.contains("store.database_prepared = false"), "{said}");
    }
    let found = examine(&ignorant, true).await;
    assert_eq!(found.verdict, Verdict::Bad, "{found:?}");
    assert!(
        found.advice.contains("store.database_prepared"),
        "{found:?}"
    );
    let found = examine(&ignorant, false).await;
    assert_eq!(found.verdict, Verdict::Good, "{found:?}");
    assert!(
        found.seen.contains("pools connections by transaction"),
        "{found:?}"
    );

    if knows_prepared_statements() {
        let knowing = pooler(&cluster, 100);
        let (one, two) = (open(&knowing, true).await, open(&knowing, true).await);
        for (n, store) in [one.expect("it opens"), two.expect("it opens")]
            .iter()
            .enumerate()
        {
            dispatch_some(store, (0..50).map(|i| format!("{n}-{i}"))).await;
            audit(store).await;
        }
        let found = examine(&knowing, true).await;
        assert_eq!(found.verdict, Verdict::Good, "{found:?}");
    }
}

/// Nobody can listen through it; and a session that listened would be another's a moment later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_way_of_its_own_it_looks_and_does_not_listen() {
    let cluster = Cluster::start();
    let pooler = pooler(&cluster, 0);
    let url = pooler.url(&cluster.database());
    let mut stores = Vec::new();
    for _ in 0..2 {
        let options = PostgresOptions {
            prepared: false,
            look_every: Duration::from_millis(50),
            ..PostgresOptions::default()
        };
        let store = PostgresStore::open(&url, options).await;
        stores.push(store.expect("it opens"));
    }
    let mut bell = stores[1].doorbell();
    dispatch_some(&stores[0], ["t".to_owned()]).await;
    let rung = bell.wait_for(|head| *head == Seq(1)).await;
    rung.expect("the store is there");
    drop(stores);
    assert_eq!(left_in_sessions(&url).await, Vec::<String>::new());
}
