//! Listings: every filter, every order, every page, and an exact total.

use super::*;
use crate::store::{PageKey, PageStart, TimeField};

const FIELDS: [TimeField; 4] = [
    TimeField::CreatedAt,
    TimeField::StartedAt,
    TimeField::SuspendedAt,
    TimeField::CompletedAt,
];

fn all() -> ListQuery {
    ListQuery::new(room("default"), 1_000)
}

async fn listed(world: &World, query: &ListQuery) -> Vec<String> {
    let page = world.list(query).await;
    assert_eq!(page.total, page.tasks.len() as u64);
    assert_eq!(page.next, None);
    page.tasks
        .iter()
        .map(|task| task.id().to_string())
        .collect()
}

/// Each filter by itself, several at once, and any of several statuses.
pub(super) async fn every_filter_holds(world: &mut World) {
    let new = |tool: &str| {
        NewTask::new(tool)
            .agent("agent")
            .thread("thread")
            .resource("resource")
    };
    let specs = [
        spec("plain", NewTask::new("a")),
        spec("full", new("a").run("run").tool_call("call")),
        spec("agent", new("a").agent("agent-2")),
        spec("run", new("a").run("run-2")),
        spec("thread", new("a").thread("thread-2")),
        spec("resource", new("a").resource("resource-2")),
        spec("tool", new("b")),
        spec("call", new("a").tool_call("call-2")),
    ];
    world.dispatch_all(specs).await;
    let elsewhere = spec_in(&room("elsewhere"), "elsewhere", new("a"));
    world.dispatch(elsewhere).await;
    let theirs = record("theirs", "failed", &serde_json::json!({}));
    let kept = world.record(&room("default"), &theirs).await;
    kept.expect("it is kept");
    let mut queries: Vec<(ListQuery, Vec<&str>)> = Vec::new();
    let mut query = |expected: &[&'static str], change: &dyn Fn(&mut ListQuery)| {
        let mut query = all();
        change(&mut query);
        queries.push((query, expected.to_vec()));
    };
    let everything = [
        "plain", "full", "agent", "run", "thread", "resource", "tool", "call", "theirs",
    ];
    let agent_id = |name: &str| Some(agent(name));
    query(&everything[..8], &|q| q.is_external = Some(false));
    query(&["theirs"], &|q| q.is_external = Some(true));
    query(&["agent"], &|q| q.agent_id = agent_id("agent-2"));
    query(&[], &|q| q.agent_id = agent_id("agent-3"));
    query(&["run"], &|q| q.run_id = "run-2".parse().ok());
    query(&["thread"], &|q| q.thread_id = "thread-2".parse().ok());
    query(&["resource"], &|q| {
        q.resource_id = "resource-2".parse().ok()
    });
    query(&["tool"], &|q| q.tool_name = Some(tool("b")));
    query(&["theirs"], &|q| q.tool_name = Some(tool("researcher")));
    query(&["call"], &|q| q.tool_call_id = "call-2".parse().ok());
    query(&["full"], &|q| q.tool_call_id = "call".parse().ok());
    query(&["full", "run", "thread", "resource", "call"], &|q| {
        q.agent_id = agent_id("agent");
        q.tool_name = Some(tool("a"));
    });
    query(&["full"], &|q| {
        q.agent_id = agent_id("agent");
        q.run_id = "run".parse().ok();
        q.thread_id = "thread".parse().ok();
        q.resource_id = "resource".parse().ok();
        q.tool_name = Some(tool("a"));
        q.tool_call_id = "call".parse().ok();
        q.is_external = Some(false);
        q.statuses = vec![Status::Pending];
        q.from = Some(at("2026-11-21T00:00:00Z"));
        q.to = Some(at("2026-11-22T00:00:00Z"));
    });
    query(&["theirs"], &|q| q.statuses = vec![Status::Failed]);
    query(&[], &|q| q.statuses = vec![Status::Running]);
    for (query, mut expected) in queries {
        // The record says that it was made the day before.
        expected.sort_by_key(|id| *id != "theirs");
        assert_eq!(listed(world, &query).await, expected, "{query:?}");
    }
    let statuses = [
        Status::Cancelled,
        Status::Completed,
        Status::Failed,
        Status::TimedOut,
        Status::Suspended,
        Status::Running,
    ];
    let ends = [
        Command::Cancel,
        complete(Attempt(1), "1"),
        fail(Attempt(1), "no luck"),
        time_out(Attempt(1)),
        suspend(Attempt(1), "1"),
        output(Attempt(1), &["1"]),
    ];
    let one_each = Claim {
        namespace: Some(room("default")),
        limit: 6,
        ..claim(&["a"])
    };
    let claimed = world.claim(one_each).await;
    for (task, end) in claimed.iter().zip(ends) {
        world.must(task, end).await;
    }
    for (n, status) in statuses.into_iter().enumerate() {
        let mut query = all();
        query.is_external = Some(false);
        query.statuses = vec![status];
        assert_eq!(listed(world, &query).await, [claimed[n].id().as_str()]);
        query.statuses = vec![status, Status::Pending, status];
        assert_eq!(listed(world, &query).await.len(), 3);
    }
    let mut query = all();
    query.statuses = Status::ALL.to_vec();
    assert_eq!(listed(world, &query).await.len(), 9);
}

/// A task that has no such time is on neither side of it.
pub(super) async fn from_is_inclusive_and_to_is_exclusive(world: &mut World) {
    let start = world.now();
    for n in 0..5 {
        world
            .dispatch(spec(&format!("t{n}"), NewTask::new("a")))
            .await;
        world.clock.advance_ms(10);
    }
    let between = |field, from: Option<i64>, to: Option<i64>| {
        let mut query = all();
        query.date_field = field;
        query.from = from.map(|ms| start.plus_ms(ms));
        query.to = to.map(|ms| start.plus_ms(ms));
        query
    };
    let created = TimeField::CreatedAt;
    let query = between(created, Some(10), Some(30));
    assert_eq!(listed(world, &query).await, ["t1", "t2"]);
    let query = between(created, Some(11), None);
    assert_eq!(listed(world, &query).await, ["t2", "t3", "t4"]);
    let query = between(created, None, Some(10));
    assert_eq!(listed(world, &query).await, ["t0"]);
    let query = between(created, Some(30), Some(10));
    assert!(listed(world, &query).await.is_empty());
    let claimed = world.claim(claim(&["a"])).await;
    for (field, name) in [
        (TimeField::StartedAt, "t2"),
        (TimeField::SuspendedAt, "t0"),
        (TimeField::CompletedAt, "t1"),
    ] {
        world.clock.advance_ms(10);
        let task = &claimed[name[1..].parse::<usize>().expect("a number")];
        match field {
            TimeField::SuspendedAt => drop(world.must(task, suspend(Attempt(1), "1")).await),
            TimeField::CompletedAt => drop(world.must(task, Command::Cancel).await),
            _ => continue,
        }
        let now = world.now().ms() - start.ms();
        let query = between(field, Some(now), Some(now + 1));
        assert_eq!(listed(world, &query).await, [name]);
        let query = between(field, None, Some(now + 1_000));
        assert_eq!(listed(world, &query).await, [name], "the others have none");
    }
    let everything = between(TimeField::StartedAt, Some(0), None);
    assert_eq!(listed(world, &everything).await.len(), 5);
}

/// Tasks with times that are equal, that are absent, and that come in another order than they were
/// dispatched in.
async fn motley(world: &World) -> Vec<Task> {
    for group in 0..6 {
        let specs = (0..6).map(|n| {
            let agent = if n % 3 == 0 { "few" } else { "many" };
            let task = NewTask::new("a").agent(agent);
            spec(
                &format!("{group}-{n}"),
                task.thread(format!("thread-{}", n % 2)),
            )
        });
        world.dispatch_all(specs).await;
        if group % 2 == 0 {
            world.clock.advance_ms(10);
        }
    }
    let mut random = Random(7);
    let mut claimed = Vec::new();
    for _ in 0..5 {
        let some = Claim {
            limit: 6,
            ..claim(&["a"])
        };
        claimed.extend(world.claim(some).await);
        if random.one_in(2) {
            world.clock.advance_ms(10);
        }
    }
    while !claimed.is_empty() {
        let index = usize::try_from(random.below(claimed.len() as u64)).expect("an index");
        let task = claimed.swap_remove(index);
        match random.below(4) {
            0 => drop(world.must(&task, Command::Cancel).await),
            1 => drop(world.must(&task, suspend(Attempt(1), "1")).await),
            2 => drop(world.must(&task, complete(Attempt(1), "1")).await),
            _ => {}
        }
        if random.one_in(3) {
            world.clock.advance_ms(10);
        }
    }
    let older = record("older", "completed", &serde_json::json!({}));
    let kept = world.record(&room("default"), &older).await;
    kept.expect("it is kept");
    world.list(&all()).await.tasks
}

/// What a listing must be, from the tasks in the order of dispatch.
fn sorted(tasks: &[Task], field: TimeField, is_descending: bool) -> Vec<String> {
    let mut tasks: Vec<&Task> = tasks.iter().collect();
    tasks.sort_by_key(|task| (field.of(task), task.created_at));
    if is_descending {
        tasks.reverse();
    }
    tasks.iter().map(|task| task.id().to_string()).collect()
}

async fn in_order_of_dispatch(world: &World) -> Vec<Task> {
    let mut tasks = motley(world).await;
    let log = world.log_after(Seq(0), None).await;
    let first = |task: &Task| {
        let of_task = log.iter().find(|entry| entry.task.id == *task.id());
        of_task.map(|entry| entry.event.seq)
    };
    tasks.sort_by_key(first);
    tasks
}

/// By each time, up and down: the absent ones are earliest, and equal ones in the order of creation, then of dispatch.
pub(super) async fn every_order_holds(world: &mut World) {
    let tasks = in_order_of_dispatch(world).await;
    assert_eq!(tasks.len(), 37);
    for order_by in FIELDS {
        for is_descending in [false, true] {
            let query = ListQuery {
                order_by,
                is_descending,
                ..all()
            };
            let expected = sorted(&tasks, order_by, is_descending);
            assert_eq!(listed(world, &query).await, expected, "{order_by:?}");
        }
    }
}

/// Page after page, by offset or by the last task, of any size: everything once, in order, and each
/// page knows the exact total and whether there is a next one.
pub(super) async fn pages_cover_everything_once(world: &mut World) {
    let tasks = in_order_of_dispatch(world).await;
    for (narrow, is_expected) in filters(&tasks) {
        let expected = tasks.iter().filter(|task| is_expected(task));
        let some: Vec<Task> = expected.cloned().collect();
        assert!(!some.is_empty());
        for order_by in FIELDS {
            for is_descending in [false, true] {
                let mut query = ListQuery {
                    order_by,
                    is_descending,
                    ..all()
                };
                narrow(&mut query);
                let expected = sorted(&some, order_by, is_descending);
                // Without a filter, the edges of everything, too.
                let limits: &[usize] = match some.len() {
                    37 => &[1, 5, 36, 37, 100],
                    _ => &[3, 100],
                };
                for &limit in limits {
                    query.limit = limit;
                    let paged = pages(world, query.clone(), expected.len(), false).await;
                    assert_eq!(paged, expected, "by key: {query:?}");
                    let paged = pages(world, query.clone(), expected.len(), true).await;
                    assert_eq!(paged, expected, "by offset: {query:?}");
                }
            }
        }
    }
    let mut query = all();
    query.start = PageStart::Offset(10_000);
    let page = world.list(&query).await;
    assert_eq!((page.tasks.len(), page.total, page.next), (0, 37, None));
    query.start = PageStart::Offset(usize::MAX);
    query.limit = usize::MAX;
    assert_eq!(world.list(&query).await.total, 37);
    query.start = PageStart::Beginning;
    assert_eq!(world.list(&query).await.tasks.len(), 37);
}

type Narrow = Box<dyn Fn(&mut ListQuery) + Send + Sync>;
type IsExpected = Box<dyn Fn(&Task) -> bool + Send + Sync>;

/// Filters, and what they leave of tasks.
fn filters(tasks: &[Task]) -> Vec<(Narrow, IsExpected)> {
    let mut filters: Vec<(Narrow, IsExpected)> = Vec::new();
    let mut add = |narrow: Narrow, is_expected: IsExpected| filters.push((narrow, is_expected));
    add(Box::new(|_| {}), Box::new(|_| true));
    for statuses in [
        vec![Status::Suspended, Status::Completed, Status::Pending],
        vec![Status::Pending, Status::Running],
        vec![Status::Cancelled],
    ] {
        let asked = statuses.clone();
        add(
            Box::new(move |query| query.statuses.clone_from(&asked)),
            Box::new(move |task| statuses.contains(&task.status)),
        );
    }
    for name in ["few", "many"] {
        add(
            Box::new(move |query| query.agent_id = Some(agent(name))),
            Box::new(move |task| task.identity().agent_id == Some(agent(name))),
        );
    }
    add(
        Box::new(|query| {
            query.agent_id = Some(agent("many"));
            query.statuses = vec![Status::Completed, Status::Running];
        }),
        Box::new(|task| {
            let is_asked = [Status::Completed, Status::Running].contains(&task.status);
            is_asked && task.identity().agent_id == Some(agent("many"))
        }),
    );
    let thread = || Some(ThreadId::new("thread-1").expect("a plain id"));
    add(
        Box::new(move |query| query.thread_id = thread()),
        Box::new(move |task| task.identity().thread_id == thread()),
    );
    for is_external in [false, true] {
        add(
            Box::new(move |query| query.is_external = Some(is_external)),
            Box::new(move |task| task.is_external() == is_external),
        );
    }
    for field in FIELDS {
        let mut times: Vec<_> = tasks.iter().filter_map(|task| field.of(task)).collect();
        times.sort();
        let from = times[times.len() / 2];
        add(
            Box::new(move |query| {
                query.date_field = field;
                query.from = Some(from);
            }),
            Box::new(move |task| field.of(task).is_some_and(|at| at >= from)),
        );
    }
    filters
}

async fn pages(world: &World, mut query: ListQuery, total: usize, is_offset: bool) -> Vec<String> {
    let mut paged: Vec<String> = Vec::new();
    loop {
        let page = world.list(&query).await;
        assert_eq!(page.total, total as u64, "each page knows the total");
        paged.extend(page.tasks.iter().map(|task| task.id().to_string()));
        assert_eq!(page.next.is_none(), paged.len() >= total, "{query:?}");
        let Some(next) = page.next else {
            return paged;
        };
        assert_eq!(page.tasks.len(), query.limit, "a page is full but the last");
        let last = page.tasks.last().expect("a full page");
        assert_eq!(next.time, query.order_by.of(last));
        query.start = if is_offset {
            PageStart::Offset(paged.len())
        } else {
            PageStart::After(next)
        };
    }
}

/// Who reads page by key misses nothing that was there all the time, and sees nothing twice, while
/// others come and go; even the task that a page ended with may be gone.
pub(super) async fn a_page_goes_on_where_the_last_one_ended(world: &mut World) {
    let specs = (0..30).map(|n| spec(&format!("old{n:02}"), NewTask::new("a")));
    let old = world.dispatch_all(specs).await;
    for is_descending in [false, true] {
        let mut query = ListQuery {
            is_descending,
            limit: 4,
            ..all()
        };
        let mut paged: Vec<String> = Vec::new();
        let mut round = 0;
        loop {
            let page = world.list(&query).await;
            paged.extend(page.tasks.iter().map(|task| task.id().to_string()));
            let Some(next) = page.next else {
                break;
            };
            let new = format!("new-{is_descending}-{round}");
            let new = world.dispatch(spec(&new, NewTask::new("a"))).await;
            if round % 3 == 0 {
                // The newest is the last task of a first page that looks backwards.
                world.must(&new, Command::Cancel).await;
                world.delete(&new).await.expect("it has ended");
            }
            query.start = PageStart::After(next);
            round += 1;
            assert!(round < 50, "it comes to an end");
        }
        let mut found: Vec<_> = paged.iter().filter(|id| id.starts_with("old")).collect();
        found.sort();
        assert_eq!(found.len(), 30);
        found.dedup();
        assert_eq!(found.len(), 30);
        let once: BTreeSet<_> = paged.iter().collect();
        assert_eq!(once.len(), paged.len());
    }
    let last = old.last().expect("there are thirty");
    let mut query = ListQuery { limit: 30, ..all() };
    let page = world.list(&query).await;
    assert_eq!(page.tasks.last().map(Task::id), Some(last.id()));
    world.must(last, Command::Cancel).await;
    world.delete(last).await.expect("it has ended");
    let rest = page.total - 30;
    query.start = PageStart::After(page.next.expect("there is more"));
    assert_eq!(world.list(&query).await.tasks.len() as u64, rest);
}

/// `perPage=0` of an existing client: no rows, and the real total.
pub(super) async fn a_limit_of_zero_gives_the_total(world: &mut World) {
    let specs = (0..7).map(|n| spec(&format!("t{n}"), NewTask::new("a")));
    world.dispatch_all(specs).await;
    let query = ListQuery { limit: 0, ..all() };
    let page = world.list(&query).await;
    assert_eq!((page.tasks.len(), page.total, page.next), (0, 7, None));
    let nobody = ListQuery {
        limit: 0,
        agent_id: Some(agent("nobody")),
        ..all()
    };
    assert_eq!(world.list(&nobody).await.total, 0);
    let start = PageStart::After(PageKey {
        time: Some(at("2999-01-01T00:00:00Z")),
        created_at: at("2999-01-01T00:00:00Z"),
        key: i64::MAX,
    });
    let beyond = ListQuery { start, ..all() };
    let page = world.list(&beyond).await;
    assert_eq!((page.tasks.len(), page.total), (0, 7));
}
