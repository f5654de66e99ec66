//! Dispatching, looking at, and commanding tasks.

use std::time::Duration;

use serde_json::{Value, json};
use sidestream::{Backpressure, Config};

use crate::host::{Host, loopback};

#[tokio::test]
async fn a_task_is_dispatched_and_seen_to_its_end() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    let answer = host.post("/v1/tasks", json!({"toolName": "echo", "args": {"q": 1}}));
    let answer = answer.await.expect(201);
    let id = answer.json()["task"]["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), Some(&*format!("/v1/tasks/{id}")));

    let (chunks, _) = stream.until("completed").await;
    let types: Vec<_> = chunks.iter().map(|chunk| &chunk["type"]).collect();
    let expected = ["running", "output", "completed"].map(|t| format!("background-task-{t}"));
    assert_eq!(types, expected.each_ref());

    let task = host.get(format!("/v1/tasks/{id}")).await.expect(200).json();
    assert_eq!(task["task"]["status"], "completed");
    assert_eq!(task["task"]["result"], json!({"q": 1}));
    let list = host.get("/v1/tasks").await.expect(200).json();
    assert_eq!(list, json!({"tasks": [task["task"]], "total": 1}));
    host.stop().await;
}

/// WIRE part 2: absent means absent.
#[tokio::test]
async fn what_a_task_does_not_have_is_left_out() {
    let host = Host::start().await;
    let task = host.run(json!({"toolName": "echo"})).await;
    let fields: Vec<_> = task.as_object().unwrap().keys().collect();
    let expected = [
        "args",
        "attempt",
        "completedAt",
        "createdAt",
        "id",
        "maxRetries",
        "namespace",
        "priority",
        "result",
        "retryCount",
        "seq",
        "startedAt",
        "status",
        "timeoutMs",
        "toolName",
        "updatedAt",
        "workerId",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        (&task["timeoutMs"], &task["args"]),
        (&json!(300_000), &json!({}))
    );
}

/// R5.
#[tokio::test]
async fn the_same_key_in_header_or_body_gives_the_same_task() {
    let host = Host::start().await;
    let plain = json!({"toolName": "stuck"});
    let call = || {
        host.call("POST", "/v1/tasks")
            .json(&plain)
            .header("idempotency-key", "k1")
    };
    let first = call().send().await.expect(201).json();
    let again = call().send().await.expect(200).json();
    let in_body = json!({"toolName": "stuck", "idempotencyKey": "k1"});
    let third = host
        .post("/v1/tasks", in_body.clone())
        .await
        .expect(200)
        .json();
    for answer in [&again, &third] {
        assert_eq!(answer["task"]["id"], first["task"]["id"]);
    }
    let both = host.call("POST", "/v1/tasks").json(&in_body);
    let problem = both
        .header("idempotency-key", "k2")
        .send()
        .await
        .expect(400);
    assert_eq!(problem.json()["field"], "Idempotency-Key");
}

#[tokio::test]
async fn who_prefers_to_wait_gets_the_ended_task() {
    let host = Host::start().await;
    let task = json!({"toolName": "echo", "args": {"q": 2}});
    let call = host.call("POST", "/v1/tasks").json(&task);
    let answer = call.header("prefer", "respond-async, wait=10").send().await;
    let answer = answer.expect(201);
    assert_eq!(answer.header("preference-applied"), Some("wait=10"));
    assert_eq!(answer.json()["task"]["status"], "completed");
    assert_eq!(answer.json()["task"]["result"], json!({"q": 2}));
}

#[tokio::test]
async fn who_waits_too_long_gets_the_unfinished_task() {
    let mut config = loopback();
    config.limits.wait = Duration::from_millis(50);
    let host = Host::with(config, Config::default()).await;
    let mut running = host.stream("/v1/stream").await;
    let call = host
        .call("POST", "/v1/tasks")
        .json(&json!({"toolName": "stuck"}));
    // More than the server allows: it waits for as long as it does.
    let answer = call.header("prefer", "wait=3600").send().await.expect(201);
    assert_eq!(answer.header("preference-applied"), Some("wait=0"));
    running.until("running").await;
    let id = answer.json()["task"]["id"].as_str().unwrap().to_owned();
    let task = host.get(format!("/v1/tasks/{id}")).await.json();
    assert_eq!(task["task"]["status"], "running");
}

/// The preference of a client may be ignored, RFC 7240 says; an unreadable one must be.
#[tokio::test]
async fn an_unreadable_preference_is_ignored() {
    let host = Host::start().await;
    for preference in [
        "wait=soon",
        "wait=-1",
        "wait",
        "wait=99999999999999999999",
        "x=1; wait=5",
    ] {
        let call = host
            .call("POST", "/v1/tasks")
            .json(&json!({"toolName": "stuck"}));
        let answer = call.header("prefer", preference).send().await.expect(201);
        assert_eq!(answer.header("preference-applied"), None, "{preference}");
    }
}

async fn full_host(backpressure: Backpressure) -> Host {
    let config = Config {
        concurrency: 1,
        backpressure,
        ..Config::default()
    };
    let host = Host::with(loopback(), config).await;
    host.dispatch(json!({"toolName": "stuck"})).await;
    host
}

#[tokio::test]
async fn a_dispatch_without_a_free_slot_is_refused_where_that_is_the_policy() {
    let host = full_host(Backpressure::Reject).await;
    let answer = host
        .post("/v1/tasks", json!({"toolName": "echo"}))
        .await
        .expect(429);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["type"], "urn:sidestream:problem:at-capacity");
}

#[tokio::test]
async fn a_dispatch_without_a_free_slot_is_given_back_where_that_is_the_policy() {
    let host = full_host(Backpressure::FallbackToSync).await;
    let answer = host
        .post("/v1/tasks", json!({"toolName": "echo"}))
        .await
        .expect(200);
    assert_eq!(answer.json(), json!({"fallbackToSync": true}));
}

async fn status_of(host: &Host, id: &str) -> Value {
    host.get(format!("/v1/tasks/{id}")).await.json()["task"]["status"].clone()
}

#[tokio::test]
async fn a_suspended_task_is_resumed_with_what_it_waits_for() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    let id = host.dispatch(json!({"toolName": "ask"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let (chunks, _) = stream.until("suspended").await;
    assert_eq!(
        chunks.last().unwrap()["payload"]["suspendPayload"],
        "may I?"
    );
    let resumed = host.post(
        format!("/v1/tasks/{id}/resume"),
        json!({"resumeData": {"yes": 1}}),
    );
    resumed.await.expect(200);
    let (chunks, _) = stream.until("completed").await;
    assert_eq!(
        chunks.last().unwrap()["payload"]["result"],
        json!({"yes": 1})
    );
    let again = host
        .post(format!("/v1/tasks/{id}/resume"), json!({"resumeData": 1}))
        .await;
    assert_eq!(
        again.expect(409).json()["type"],
        "urn:sidestream:problem:conflict"
    );
}

#[tokio::test]
async fn a_task_is_cancelled_retried_and_deleted() {
    let host = Host::start().await;
    let id = host.dispatch(json!({"toolName": "stuck"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let path = format!("/v1/tasks/{id}");
    host.call("DELETE", &path).send().await.expect(409);
    // Neither a body nor its type is needed where there is nothing to say.
    for _ in 0..2 {
        let cancelled = host.call("POST", format!("{path}/cancel")).send().await;
        assert_eq!(cancelled.expect(200).json()["task"]["status"], "cancelled");
    }
    let retried = host
        .call("POST", format!("{path}/retry"))
        .send()
        .await
        .expect(200);
    assert_eq!(retried.json()["task"]["status"], "pending");
    host.call("POST", format!("{path}/cancel"))
        .send()
        .await
        .expect(200);
    assert_eq!(status_of(&host, id).await, "cancelled");
    let deleted = host.call("DELETE", &path).send().await.expect(204);
    assert!(deleted.body.is_empty());
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone())] {
        let gone = host.call(method, path).send().await.expect(404);
        assert_eq!(
            gone.header("content-type"),
            Some("application/problem+json")
        );
    }
    host.call("POST", format!("{path}/cancel"))
        .send()
        .await
        .expect(404);
}
