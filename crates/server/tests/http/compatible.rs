//! The routes that existing clients call, in their shapes (WIRE part 4). The unmodified client itself is
//! tested elsewhere; here is what it does not show.

use serde_json::{Value, json};

use crate::host::{Host, loopback};

const ROUTE: &str = "/api/background-tasks";

#[tokio::test]
async fn records_are_given_plainly() {
    let host = Host::start().await;
    let task = host.run(json!({"toolName": "echo", "agentId": "a"})).await;
    let id = task["id"].as_str().unwrap();
    assert_eq!(
        host.get(format!("{ROUTE}/{id}")).await.expect(200).json(),
        task
    );
    let list = host.get(ROUTE).await.expect(200).json();
    assert_eq!(list, json!({"tasks": [task], "total": 1}));
    let long = "x".repeat(10_000);
    for id in ["nobody", "a%2Fb", "a%00b", &long] {
        let answer = host.get(format!("{ROUTE}/{id}")).await.expect(404);
        assert_eq!(answer.json(), json!({"error": "Background task not found"}));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn unknown_parameters_are_ignored_and_empty_ones_are_no_filter() {
    let host = Host::start().await;
    host.run(json!({"toolName": "echo"})).await;
    for query in [
        "colour=red",
        "status=&agentId=&page=&perPage=&orderBy=&fromDate=",
        "page=7",
    ] {
        let list = host
            .get(format!("{ROUTE}?{query}"))
            .await
            .expect(200)
            .json();
        assert_eq!(list["total"], 1, "{query}");
        assert_eq!(list["tasks"].as_array().unwrap().len(), 1, "{query}");
    }
    let none = host
        .get(format!("{ROUTE}?perPage=0"))
        .await
        .expect(200)
        .json();
    assert_eq!(none, json!({"tasks": [], "total": 1}));
}

#[tokio::test]
async fn bad_values_are_issues() {
    let host = Host::start().await;
    for (query, fields) in [
        ("status=sleeping", vec!["status"]),
        ("status=failed&status=running", vec!["status"]),
        (
            "orderBy=mood&orderDirection=up",
            vec!["orderBy", "orderDirection"],
        ),
        (
            "dateFilterBy=birthday&fromDate=someday&toDate=x",
            vec!["fromDate", "toDate", "dateFilterBy"],
        ),
        ("perPage=-1", vec!["perPage"]),
        ("page=1e3&perPage=1", vec!["page"]),
        ("agentId=a%00b", vec!["agentId"]),
    ] {
        let answer = host
            .get(format!("{ROUTE}?{query}"))
            .await
            .expect(400)
            .json();
        assert_eq!(answer["error"], "Invalid query parameters");
        let issues = answer["issues"].as_array().unwrap();
        let found: Vec<_> = issues
            .iter()
            .map(|issue| issue["field"].as_str().unwrap())
            .collect();
        assert_eq!(found, fields, "{query}");
        assert!(issues.iter().all(|issue| issue["message"].is_string()));
        assert_eq!(answer.as_object().unwrap().len(), 2);
    }
    let stream = host
        .get(format!("{ROUTE}/stream?after=x"))
        .await
        .expect(400)
        .json();
    assert_eq!(stream["issues"][0]["field"], "after");
}

/// Other servers return every row: 36 MB at 100,000 tasks. Ours stops at 1,000, and says how many there are.
#[tokio::test]
async fn a_list_without_a_page_stops_at_a_thousand() {
    let host = Host::start().await;
    let task = || sidestream::NewTask::new("echo");
    let tasks = (0..1_005).map(|_| task());
    let dispatched = host.manager().dispatch_all(tasks).await;
    assert!(dispatched.iter().all(Result::is_ok));
    let list = host.get(ROUTE).await.expect(200).json();
    assert_eq!(list["total"], 1_005);
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1_000);
    // Who asks for more on a page gets pages of a thousand.
    for (query, count) in [
        ("perPage=1000&page=1", 5),
        ("perPage=5000", 1_000),
        ("perPage=5000&page=1", 5),
    ] {
        let page = host.get(format!("{ROUTE}?{query}")).await;
        let page = page.expect(200).json();
        assert_eq!(page["tasks"].as_array().unwrap().len(), count, "{query}");
    }
}

#[tokio::test]
async fn every_refusal_is_in_the_shape_of_these_routes() {
    let mut config = loopback();
    config.limits.body_bytes = 100;
    let host = Host::with(config, sidestream::Config::default()).await;
    let is_plain = |answer: Value| answer["error"].is_string() && answer["detail"].is_null();
    assert!(is_plain(
        host.call("POST", ROUTE).send().await.expect(405).json()
    ));
    assert!(is_plain(host.get("/api/nothing").await.expect(404).json()));
    let foreign = host
        .call("GET", ROUTE)
        .header("origin", "https://evil.example");
    assert!(is_plain(foreign.send().await.expect(403).json()));
    host.post("/v1/keys", json!({"role": "read"}))
        .await
        .expect(201);
    let refused = host.get(ROUTE).await.expect(401);
    assert!(refused.header("www-authenticate").is_some());
    assert!(is_plain(refused.json()));
}

#[tokio::test]
async fn without_a_manager_there_are_no_tasks_and_streams_stay_open() {
    let host = Host::disabled().await;
    let nothing = json!({"tasks": [], "total": 0});
    assert_eq!(host.get(ROUTE).await.expect(200).json(), nothing);
    assert_eq!(host.get("/v1/tasks").await.expect(200).json(), nothing);
    let missing = host.get(format!("{ROUTE}/x")).await.expect(404).json();
    assert_eq!(missing, json!({"error": "Background task not found"}));
    host.get("/v1/tasks/x").await.expect(404);
    let refused = host
        .post("/v1/tasks", json!({"toolName": "echo"}))
        .await
        .expect(503);
    assert_eq!(refused.json()["type"], "urn:sidestream:problem:disabled");
    host.get("/readyz").await.expect(200);
    host.get("/metrics").await.expect(200);

    let mut streams = Vec::new();
    for target in ["/v1/stream", "/api/background-tasks/stream?agentId=a"] {
        streams.push(host.stream(target).await);
    }
    host.stop().await;
    for mut stream in streams {
        assert_eq!(stream.block().await, None);
        assert!(stream.has_ended_well());
    }
}

#[tokio::test]
async fn a_stream_of_a_disabled_server_shows_that_it_is_alive() {
    let mut config = loopback();
    config.limits.keep_alive = std::time::Duration::from_millis(20);
    let host = Host::of(config, None).await;
    let mut stream = host.stream("/v1/stream").await;
    for _ in 0..3 {
        assert_eq!(stream.block().await.unwrap(), ": keep-alive");
    }
}
