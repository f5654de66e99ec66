//! Lists of tasks: filters, orders and pages.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::host::Host;

fn ids(page: &Value) -> Vec<String> {
    let tasks = page["tasks"].as_array().unwrap().iter();
    tasks
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn list(host: &Host, query: &str) -> Value {
    host.get(format!("/v1/tasks?{query}"))
        .await
        .expect(200)
        .json()
}

/// Six tasks: of agents a and b in turn, every third broken.
async fn filled() -> (Host, Vec<Value>) {
    let host = Host::start().await;
    let mut tasks = Vec::new();
    for n in 0..6 {
        let tool = if n % 3 == 2 { "broken" } else { "echo" };
        let agent = if n % 2 == 0 { "a" } else { "b" };
        let task = json!({"toolName": tool, "agentId": agent, "threadId": format!("t{n}")});
        tasks.push(host.run(task).await);
    }
    (host, tasks)
}

#[tokio::test]
async fn filters_pick_what_matches_all_of_them() {
    let (host, tasks) = filled().await;
    let id = |n: usize| tasks[n]["id"].as_str().unwrap().to_owned();
    let created = |n: usize| tasks[n]["createdAt"].as_str().unwrap().to_owned();
    for (query, expected) in [
        (String::new(), vec![0, 1, 2, 3, 4, 5]),
        ("agentId=a".into(), vec![0, 2, 4]),
        ("agentId=a&toolName=broken".into(), vec![2]),
        ("status=failed".into(), vec![2, 5]),
        (
            "status=failed&status=completed&agentId=b".into(),
            vec![1, 3, 5],
        ),
        ("status=running&status=pending".into(), vec![]),
        ("threadId=t3".into(), vec![3]),
        ("threadId=none".into(), vec![]),
        ("external=true".into(), vec![]),
        ("external=false&agentId=b".into(), vec![1, 3, 5]),
        // An empty value is no filter.
        ("agentId=&status=&threadId=t1".into(), vec![1]),
        ("orderDirection=desc&agentId=b".into(), vec![5, 3, 1]),
        (
            "orderBy=completedAt&orderDirection=desc&status=failed".into(),
            vec![5, 2],
        ),
    ] {
        let expected: Vec<_> = expected.into_iter().map(id).collect();
        let found = list(&host, &query).await;
        assert_eq!(ids(&found), expected, "{query}");
        assert_eq!(found["total"], expected.len(), "{query}");
    }
    // From inclusive, to exclusive.
    let range = format!("fromDate={}&toDate={}", created(1), created(4));
    let expected = tasks.iter().filter(|task| {
        let at = task["createdAt"].as_str().unwrap();
        at >= created(1).as_str() && at < created(4).as_str()
    });
    let expected: Vec<_> = expected
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids(&list(&host, &range).await), expected);
    let never = "fromDate=1970-01-01T00:00:00Z&dateFilterBy=suspendedAt";
    assert_eq!(list(&host, never).await, json!({"tasks": [], "total": 0}));
}

#[tokio::test]
async fn a_cursor_leads_through_every_page_once() {
    let (host, tasks) = filled().await;
    for order in [
        "",
        "orderDirection=desc&",
        "orderBy=startedAt&",
        "orderBy=suspendedAt&",
    ] {
        let mut seen = Vec::new();
        let mut page = list(&host, &format!("{order}limit=4")).await;
        loop {
            assert_eq!(page["total"], 6);
            seen.extend(ids(&page));
            let Some(cursor) = page["nextCursor"].as_str() else {
                break;
            };
            page = list(&host, &format!("{order}limit=4&cursor={cursor}")).await;
        }
        assert_eq!(seen.len(), 6, "{order}");
        let all: BTreeSet<_> = tasks
            .iter()
            .map(|t| t["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all, "{order}");
    }
}

#[tokio::test]
async fn pages_are_numbered_from_0() {
    let (host, tasks) = filled().await;
    let expected: Vec<_> = tasks[4..]
        .iter()
        .map(|t| t["id"].as_str().unwrap())
        .collect();
    let page = list(&host, "page=1&perPage=4").await;
    assert_eq!(
        (ids(&page), &page["total"]),
        (
            expected.iter().map(ToString::to_string).collect(),
            &json!(6)
        )
    );
    assert_eq!(
        list(&host, "perPage=0").await,
        json!({"tasks": [], "total": 6})
    );
    assert_eq!(list(&host, "limit=0").await["total"], 6);
    assert_eq!(ids(&list(&host, "page=7").await).len(), 6);
    let far = list(&host, "page=1099511627776&perPage=1000").await;
    assert_eq!(far, json!({"tasks": [], "total": 6}));
}

#[tokio::test]
async fn a_cursor_belongs_to_its_order() {
    let (host, _) = filled().await;
    let page = list(&host, "limit=2").await;
    let cursor = page["nextCursor"].as_str().unwrap();
    let other = host
        .get(format!("/v1/tasks?orderDirection=desc&cursor={cursor}"))
        .await;
    assert_eq!(other.expect(400).json()["field"], "cursor");
    let both = host
        .get(format!("/v1/tasks?perPage=2&cursor={cursor}"))
        .await;
    assert_eq!(both.expect(400).json()["field"], "perPage");
}
