//! The description of the routes must be that of the routes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "http/client.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod client;
#[path = "http/host.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod host;

use std::collections::BTreeSet;

use host::Host;
use serde_json::{Value, json};

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

async fn document(host: &Host) -> Value {
    host.get("/openapi.json").await.expect(200).json()
}

/// `UPDATE_DOCS=1` rewrites it.
#[tokio::test]
async fn the_description_that_is_checked_in_is_the_one_that_is_served() {
    let host = Host::start().await;
    let served = host.get("/openapi.json").await.expect(200);
    assert_eq!(served.header("content-type"), Some("application/json"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(CHECKED_IN, &served.body).unwrap();
    }
    let checked_in = std::fs::read_to_string(CHECKED_IN).unwrap_or_default();
    assert!(
        served.text() == checked_in,
        "docs/openapi.json is stale: rewrite it with UPDATE_DOCS=1"
    );
}

/// Whatever a parameter's name is in the description, the route must know it, and the other way round:
/// a route names those it knows when it refuses one.
#[tokio::test]
async fn each_route_knows_the_parameters_that_are_described() {
    let host = Host::start().await;
    let id = host.dispatch(json!({"toolName": "stuck"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let document = document(&host).await;
    let routes = [
        ("/v1/tasks", "/v1/tasks?nonsense=1".to_owned()),
        ("/v1/stream", "/v1/stream?nonsense=1".to_owned()),
        (
            "/v1/task/stream",
            format!("/v1/task/stream?id={id}&nonsense=1"),
        ),
        (
            "/v1/thread/completions",
            "/v1/thread/completions?id=t&nonsense=1".to_owned(),
        ),
    ];
    for (path, target) in routes {
        let parameters = &document["paths"][path]["get"]["parameters"];
        let parameters = parameters.as_array().unwrap().iter();
        let in_query = parameters.filter(|parameter| parameter["in"] == "query");
        let mut described: BTreeSet<_> = in_query
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        described.extend(["apiKey".to_owned(), "namespace".to_owned()]);

        let refusal = host.get(target).await.expect(400).json();
        let detail = refusal["detail"].as_str().unwrap();
        let (_, known) = detail.rsplit_once(": ").unwrap();
        let known: BTreeSet<_> = known.split(", ").map(ToOwned::to_owned).collect();
        assert_eq!(known, described, "{path}");
    }
}

/// The core knows nothing of OpenAPI, so its types are described by hand.
#[tokio::test]
async fn a_task_is_described_as_it_is_sent() {
    let host = Host::start().await;
    let document = document(&host).await;
    let described = document["components"]["schemas"]["Task"]["properties"].clone();
    let described: BTreeSet<_> = described.as_object().unwrap().keys().cloned().collect();

    let full = json!({
        "toolName": "ask", "toolCallId": "c", "agentId": "a", "runId": "r", "threadId": "t",
        "resourceId": "o", "description": "d", "subagentType": "s", "metadata": {},
        "idempotencyKey": "k",
    });
    let mut suspended = host.stream("/v1/stream?type=suspended").await;
    let mut records = vec![host.dispatch(full).await];
    suspended.until("suspended").await;
    let id = records[0]["id"].as_str().unwrap().to_owned();
    records.push(host.get(format!("/v1/tasks/{id}")).await.json()["task"].clone());
    let later = json!({"toolName": "stuck", "runAt": "2999-01-01T00:00:00Z"});
    records.push(host.dispatch(later).await);
    records.push(host.run(json!({"toolName": "broken"})).await);
    records.push(host.run(json!({"toolName": "echo", "args": 1})).await);
    let record = json!({"subagentType": "s", "description": "d"});
    let put = host
        .call("PUT", "/v1/tasks/mine")
        .json(&record)
        .send()
        .await;
    records.push(put.expect(200).json()["task"].clone());

    // What only a worker is shown.
    let id = host.dispatch(json!({"toolName": "afar"})).await["id"].clone();
    let task = format!("/v1/tasks/{}", id.as_str().unwrap());
    let claim = json!({"worker": "w", "tools": ["afar"]});
    for (route, body) in [
        ("/v1/claims".to_owned(), &claim),
        (
            format!("{task}/suspend"),
            &json!({"attempt": 1, "suspendPayload": 1}),
        ),
        (format!("{task}/resume"), &json!({"resumeData": 1})),
    ] {
        host.post(route, body.clone()).await.expect(200);
    }
    let claimed = host.post("/v1/claims", claim).await.expect(200).json();
    records.push(claimed["tasks"][0].clone());

    let records = records.iter().map(|record| record.as_object().unwrap());
    let sent: BTreeSet<_> = records.flat_map(|record| record.keys().cloned()).collect();
    assert_eq!(sent, described);
}

/// Each body of a worker's, and of a login, is described with the fields that are taken, and no other.
#[tokio::test]
async fn what_a_worker_sends_is_described_as_it_is_taken() {
    let host = Host::start().await;
    let document = document(&host).await;
    for (route, schema) in [
        ("/v1/claims", "Claim"),
        ("/v1/tasks/x/renew", "Renewal"),
        ("/v1/tasks/x/output", "Outputs"),
        ("/v1/tasks/x/complete", "Completion"),
        ("/v1/tasks/x/fail", "Failure"),
        ("/v1/tasks/x/suspend", "Suspension"),
        ("/v1/session", "Login"),
    ] {
        let described = document["components"]["schemas"][schema]["properties"].clone();
        let described: BTreeSet<_> = described.as_object().unwrap().keys().cloned().collect();
        let refusal = host
            .post(route, json!({"nonsense": 1}))
            .await
            .expect(400)
            .json();
        let detail = refusal["detail"].as_str().unwrap();
        let known = detail.split('`').skip(3).step_by(2).map(ToOwned::to_owned);
        assert_eq!(known.collect::<BTreeSet<_>>(), described, "{route}");
    }
}

/// What a client can send must be described too: each field that is described is taken, and no other.
#[tokio::test]
async fn a_new_task_is_described_as_it_is_taken() {
    let host = Host::start().await;
    let document = document(&host).await;
    let described = document["components"]["schemas"]["NewTask"]["properties"].clone();
    let described: BTreeSet<_> = described.as_object().unwrap().keys().cloned().collect();
    let refusal = host.post("/v1/tasks", json!({"nonsense": 1})).await;
    let refusal = refusal.expect(400).json();
    let detail = refusal["detail"].as_str().unwrap();
    let known: BTreeSet<_> = detail
        .split('`')
        .skip(3)
        .step_by(2)
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(known, described);
}
