//! S6: filters hold for snapshot, news and replay alike.

use super::support::*;
use super::*;

/// S6: each filter lets through its own, in the snapshot, in the news and in what is replayed.
#[tokio::test(start_paused = true)]
async fn filters_hold_for_snapshot_news_and_replay_alike() {
    let process = process().await;
    let task = |n: u64| {
        NewTask::new(format!("tool-{n}"))
            .agent(format!("agent-{n}"))
            .run(format!("run-{n}"))
            .thread(format!("thread-{n}"))
            .resource(format!("resource-{n}"))
    };
    let mine = process.run(task(1)).await;
    let other = process.run(task(2)).await;
    let filters = [
        Filter::default().tool(ToolName::new("tool-1").unwrap()),
        Filter::default().agent(AgentId::new("agent-1").unwrap()),
        Filter::default().run(RunId::new("run-1").unwrap()),
        Filter::default().thread(ThreadId::new("thread-1").unwrap()),
        Filter::default().resource(ResourceId::new("resource-1").unwrap()),
        Filter::default().task(mine.id().clone()),
    ];
    let mut live = Vec::new();
    for filter in &filters {
        live.push(process.open(of(filter.clone())).await);
    }
    for task in [&other, &mine, &other] {
        process.output(task, [task.seq.0]).await;
    }
    process.complete(&other).await;
    process.complete(&mine).await;
    for (filter, stream) in filters.iter().zip(&mut live) {
        assert_eq!(
            ready(stream).await,
            ["running", "|", "2", "completed"],
            "{filter:?}"
        );
        let mut replayed = process.open(after("0", filter.clone())).await;
        assert_eq!(
            ready(&mut replayed).await,
            ["running", "2", "completed"],
            "{filter:?}"
        );
        let mut types = process
            .open(after("0", filter.clone().types([Started, Completed])))
            .await;
        assert_eq!(
            ready(&mut types).await,
            ["started", "completed"],
            "{filter:?}"
        );
    }
}

/// E2: a tenant's stream knows nothing of another's tasks.
#[tokio::test(start_paused = true)]
async fn another_tenant_sees_nothing() {
    let process = process().await;
    let task = process.run(NewTask::new("runs").thread("t1")).await;
    let other = process
        .manager
        .in_namespace(Namespace::new("default-2").unwrap());
    let thread = Filter::default().thread(ThreadId::new("t1").unwrap());
    for filter in [
        Filter::default(),
        thread,
        Filter::default().task(task.id().clone()),
    ] {
        let mut live = other.stream(of(filter.clone())).await.unwrap();
        let mut replayed = other.stream(after("0", filter)).await.unwrap();
        process.output(&task, [1]).await;
        assert_eq!(ready(&mut live).await, ["|"]);
        assert_eq!(ready(&mut replayed).await, [""; 0]);
    }
}
