//! A page of fifty tasks with its exact total, by each filter, in both directions, from the first page, the
//! middle and the last: in process and over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use sidestream::core::{
    AgentId, Namespace, ResourceId, RunId, Status, ThreadId, ToolCallId, ToolName,
};
use sidestream::store::{PageStart, Store, TimeField};
use sidestream::{ListQuery, SqliteOptions, SqliteStore, TaskManager};
use sidestream_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::found::{Found, percentile, ready};
use crate::load;

const PAGE: usize = 50;
/// Each page is asked for so many times: enough that a moment in which the machine does something else is not its p99.
const TIMES: usize = 1_000;

/// What is asked for, and how many there are.
struct Asked {
    name: String,
    query: ListQuery,
    total: u64,
}

/// `big` is a folder that keeps the database for the next run.
pub(crate) async fn run(big: &Path, tasks: usize) -> anyhow::Result<Found> {
    let dir = load::once(big, super::start::load(tasks)).await?;
    ready();
    let store = SqliteStore::open(dir.join("store"), SqliteOptions::default())?;
    let store: Arc<dyn Store> = Arc::new(store);
    let found = in_process(&*store, tasks).await?;
    over_http(store, found).await
}

/// Every kind of page; `p99_ms` is the worst kind's.
pub(super) async fn in_process(store: &dyn Store, tasks: usize) -> anyhow::Result<Found> {
    let mut found = Found::default();
    let mut worst_p99 = 0_f64;
    let (mut pages, mut totals) = (0, 0);
    for asked in all(tasks as u64)? {
        for (depth, query) in depths(store, &asked).await? {
            let mut ms = Vec::with_capacity(TIMES);
            for _ in 0..TIMES {
                let begun = Instant::now();
                let page = store.list(&query).await?;
                ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
                verify(&asked, &query, &page)?;
                pages += 1;
            }
            totals += 1;
            let p99 = percentile(&mut ms, 0.99);
            worst_p99 = worst_p99.max(p99);
            found = found.value(&format!("{} {depth} p99_ms", asked.name), p99);
        }
    }
    found = found.value("p99_ms", worst_p99);
    found.verified = format!(
        "{pages} pages of {totals} kinds were full and in order, each with its exact total"
    );
    Ok(found)
}

/// One filter each, by creation; and the other orders without a filter.
fn all(tasks: u64) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    let mut add = |name: &str, total: u64, change: &dyn Fn(&mut ListQuery)| {
        for is_descending in [false, true] {
            let mut query = ListQuery::new(Namespace::default(), PAGE);
            query.is_descending = is_descending;
            change(&mut query);
            let direction = if is_descending { "latest" } else { "oldest" };
            asked.push(Asked {
                name: format!("{name}, {direction} first"),
                query,
                total,
            });
        }
    };
    let agent = AgentId::new("agent-7")?;
    let resource = ResourceId::new("resource-7")?;
    let thread = ThreadId::new("thread-77")?;
    let run = RunId::new("run-77")?;
    let call = ToolCallId::new("call-777")?;
    let tool = ToolName::new("tool-7")?;
    add("all", tasks, &|_| {});
    add("completed", tasks / 10 * 9, &|query| {
        query.statuses = vec![Status::Completed]
    });
    add("failed", tasks / 10, &|query| {
        query.statuses = vec![Status::Failed]
    });
    add("running", 0, &|query| {
        query.statuses = vec![Status::Running]
    });
    add("agent", tasks / 100, &|query| {
        query.agent_id = Some(agent.clone())
    });
    add("tool", tasks / 10, &|query| {
        query.tool_name = Some(tool.clone())
    });
    add("resource", tasks / 1_000, &|query| {
        query.resource_id = Some(resource.clone())
    });
    add("thread", 10, &|query| {
        query.thread_id = Some(thread.clone())
    });
    add("run", 10, &|query| query.run_id = Some(run.clone()));
    add("tool call", 1, &|query| {
        query.tool_call_id = Some(call.clone())
    });
    add("dispatched here", tasks, &|query| {
        query.is_external = Some(false)
    });
    for (name, order_by) in [
        ("by start", TimeField::StartedAt),
        ("by end", TimeField::CompletedAt),
    ] {
        add(name, tasks, &|query| query.order_by = order_by);
    }
    Ok(asked)
}

/// The first page, one in the middle, and the last.
async fn depths(
    store: &dyn Store,
    asked: &Asked,
) -> anyhow::Result<Vec<(&'static str, ListQuery)>> {
    let mut depths = vec![("first", asked.query.clone())];
    let total = usize::try_from(asked.total)?;
    if total > 2 * PAGE {
        for (name, skipped) in [("middle", total / 2), ("last", total - PAGE)] {
            let mut before = asked.query.clone();
            before.start = PageStart::Offset(skipped - 1);
            before.limit = 1;
            let next = store.list(&before).await?.next;
            let mut query = asked.query.clone();
            query.start = PageStart::After(next.expect("the list goes on"));
            depths.push((name, query));
        }
    }
    Ok(depths)
}

fn verify(asked: &Asked, query: &ListQuery, page: &sidestream::Page) -> anyhow::Result<()> {
    let (total, count) = (page.total, page.tasks.len() as u64);
    let name = &asked.name;
    anyhow::ensure!(
        total == asked.total,
        "{name}: {total} of {} tasks",
        asked.total
    );
    let expected = asked.total.min(PAGE as u64);
    anyhow::ensure!(
        count == expected,
        "{name}: a page of {count}, not of {expected}"
    );
    let times: Vec<_> = page
        .tasks
        .iter()
        .map(|task| query.order_by.of(task))
        .collect();
    let is_ordered = match query.is_descending {
        true => times.is_sorted_by(|earlier, later| earlier >= later),
        false => times.is_sorted(),
    };
    anyhow::ensure!(is_ordered, "{name}: a page is out of order");
    Ok(())
}

/// The same over HTTP: one connection, which asks for one page after the other.
async fn over_http(store: Arc<dyn Store>, mut found: Found) -> anyhow::Result<Found> {
    let manager = TaskManager::builder_on(store.clone());
    let manager = manager.config(crate::site::keeping_all()).start().await?;
    let config = ServerConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..ServerConfig::default()
    };
    let server = Server::bind(config, Some(manager.clone()), store).await?;
    let (address, stopping) = (server.local_addr(), CancellationToken::new());
    let mut serving = JoinSet::new();
    serving.spawn(server.run(stopping.clone()));
    let asking = tokio::task::spawn_blocking(move || {
        let mut worst = 0_f64;
        let paths = [
            "/v1/tasks?limit=50",
            "/v1/tasks?limit=50&status=failed&orderDirection=desc",
            "/v1/tasks?limit=50&agentId=agent-7",
            "/v1/tasks?limit=50&toolName=tool-7",
            "/v1/tasks?limit=50&threadId=thread-77",
        ];
        for path in paths {
            worst = worst.max(percentile(&mut ask(address, path)?, 0.99));
        }
        anyhow::Ok(worst)
    });
    let worst = asking.await??;
    stopping.cancel();
    while serving.join_next().await.is_some() {}
    manager.shutdown().await;
    found = found.value("http_p99_ms", worst);
    Ok(found)
}

#[expect(clippy::disallowed_methods, reason = "a stopwatch on a plain thread")]
fn ask(address: SocketAddr, path: &str) -> anyhow::Result<Vec<f64>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (mut answer, mut ms) = (vec![0; 1 << 20], Vec::new());
    for _ in 0..TIMES {
        let begun = std::time::Instant::now();
        socket.write_all(request.as_bytes())?;
        let mut length = 0;
        let mut whole = usize::MAX;
        while length < whole {
            let more = socket.read(&mut answer[length..])?;
            anyhow::ensure!(more > 0, "the server closed the connection");
            length += more;
            if whole == usize::MAX {
                whole = whole_length(&answer[..length])?.unwrap_or(usize::MAX);
            }
        }
        ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(ms)
}

/// Of an answer, by what its head says; `None` while that has not come.
fn whole_length(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&answer[..end])?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the server says {head}");
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.ok_or_else(|| anyhow::anyhow!("the answer has no length"))?;
    Ok(Some(end + 4 + length.parse::<usize>()?))
}
