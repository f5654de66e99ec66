//! The worker protocol: tasks are claimed, and what became of them is reported, over HTTP alone.

use std::time::Duration;

use serde_json::{Value, json};
use sidestream::Config;
use sidestream_server::Role;
use tokio::task::JoinSet;

use crate::client::{Answer, PATIENCE};
use crate::host::{Host, loopback};
use crate::keys::add_key;

/// A claim of the tool that only workers elsewhere have.
fn claim() -> Value {
    json!({"worker": "w", "tools": ["afar"], "limit": 10, "waitMs": 0})
}

fn with(mut body: Value, field: &str, value: impl Into<Value>) -> Value {
    body[field] = value.into();
    body
}

async fn claimed(host: &Host, claim: Value) -> Vec<Value> {
    let answer = host.post("/v1/claims", claim).await.expect(200).json();
    answer["tasks"].as_array().unwrap().clone()
}

/// Dispatches a task and claims it.
async fn running(host: &Host, task: Value) -> Value {
    host.dispatch(with(task, "toolName", "afar")).await;
    let mut tasks = claimed(host, claim()).await;
    assert_eq!(tasks.len(), 1);
    tasks.remove(0)
}

async fn report(host: &Host, task: &Value, route: &str, body: Value) -> Answer {
    let id = task["id"].as_str().unwrap();
    let body = match body.get("attempt") {
        Some(_) => body,
        None => with(body, "attempt", task["attempt"].clone()),
    };
    host.post(format!("/v1/tasks/{id}/{route}"), body).await
}

async fn get(host: &Host, task: &Value) -> Value {
    let id = task["id"].as_str().unwrap();
    host.get(format!("/v1/tasks/{id}")).await.expect(200).json()["task"].clone()
}

/// The whole of it, as watchers see it.
#[tokio::test]
async fn a_worker_elsewhere_runs_a_task() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    let task = json!({"args": {"q": 1}, "agentId": "a", "timeoutMs": 5_000});
    let task = running(&host, task).await;
    assert_eq!(task["status"], "running");
    assert_eq!(task["attempt"], 1);
    assert_eq!(task["workerId"], "w");
    assert_eq!(task["args"], json!({"q": 1}));
    assert_eq!(task["timeoutMs"], 5_000);
    assert!(claimed(&host, claim()).await.is_empty(), "it is given once");

    let told = report(
        &host,
        &task,
        "output",
        json!({"report": 1, "outputs": ["a", "b"]}),
    )
    .await;
    let standing = json!({"status": "running", "attempt": 1, "seq": 4});
    assert_eq!(told.expect(200).json(), standing);
    let renewed = report(&host, &task, "renew", json!({"leaseMs": 5_000})).await;
    assert_eq!(renewed.expect(200).json(), standing);
    let told = json!({"report": 2, "result": {"r": 1}});
    let told = report(&host, &task, "complete", told).await.expect(200);
    assert_eq!(told.json()["status"], "completed");

    let (chunks, _) = stream.until("completed").await;
    let outputs: Vec<_> = chunks
        .iter()
        .filter(|c| c["type"] == "background-task-output")
        .collect();
    assert_eq!(outputs.len(), 2);
    assert_eq!(outputs[1]["payload"]["payload"], "b");
    assert_eq!(get(&host, &task).await["result"], json!({"r": 1}));
}

/// Nothing is polled: a claim that waits is answered when there is something, and when its time comes.
#[tokio::test]
async fn a_claim_waits_for_a_task() {
    let host = Host::start().await;
    let soon = host.manager().store().now().plus_ms(300).to_string();
    for task in [json!({}), json!({"runAt": soon})] {
        let waiting = host
            .call("POST", "/v1/claims")
            .json(&with(claim(), "waitMs", 30_000));
        let mut waiting = JoinSet::from_iter([waiting.send()]);
        let dispatched = host.dispatch(with(task, "toolName", "afar")).await;
        let answer = tokio::time::timeout(PATIENCE, waiting.join_next()).await;
        let answer = answer
            .expect("it waits on")
            .unwrap()
            .unwrap()
            .expect(200)
            .json();
        assert_eq!(answer["tasks"][0]["id"], dispatched["id"]);
        assert!(answer["waitedMs"].as_u64().unwrap() < 20_000);
    }
    let none = host
        .post("/v1/claims", with(claim(), "waitMs", 50))
        .await
        .expect(200)
        .json();
    assert_eq!(none["tasks"], json!([]));
    assert!(none["waitedMs"].is_u64());
}

/// R2: a worker may be cut off while its claim waits. By the time that others may have what it lost, the
/// claim must be over, or it would be given to nobody once more.
#[tokio::test]
async fn a_claim_waits_no_longer_than_half_a_lease() {
    let host = Host::start().await;
    let brief = with(with(claim(), "waitMs", 60_000), "leaseMs", 1_000);
    let began = tokio::time::Instant::now();
    let none = host.post("/v1/claims", brief).await.expect(200).json();
    assert_eq!(none["tasks"], json!([]));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// A worker that leaves, and a server that stops, let no claim wait on; neither gives a task to nobody.
#[tokio::test]
async fn a_claim_that_waits_is_answered_when_its_worker_or_the_server_leaves() {
    let host = Host::start().await;
    let wait = |worker: &str| {
        let body = with(with(claim(), "waitMs", 60_000), "worker", worker);
        host.call("POST", "/v1/claims").json(&body).send()
    };
    let mut leaver = JoinSet::from_iter([wait("w")]);
    let mut other = JoinSet::from_iter([wait("other")]);
    let leave = json!({"worker": "w", "tools": ["afar"], "limit": 0});
    let left = async {
        loop {
            // The claim may not have come yet.
            assert!(claimed(&host, leave.clone()).await.is_empty());
            if let Some(answer) = leaver.try_join_next() {
                return answer.unwrap();
            }
        }
    };
    let left = tokio::time::timeout(PATIENCE, left)
        .await
        .expect("it waits on");
    assert_eq!(left.expect(200).json()["tasks"], json!([]));
    assert!(other.try_join_next().is_none(), "the others wait on");

    let stopped = async {
        host.stop().await;
        other.join_next().await.unwrap().unwrap()
    };
    let answer = tokio::time::timeout(PATIENCE, stopped)
        .await
        .expect("it waits on");
    assert_eq!(answer.expect(200).json()["tasks"], json!([]));
}

/// R4: the limits of the server hold for those who claim from elsewhere.
#[tokio::test]
async fn the_limits_hold_for_workers_elsewhere() {
    let config = Config {
        concurrency_per_agent: Some(2),
        ..Config::default()
    };
    let host = Host::with(loopback(), config).await;
    for (tool, agent) in [
        ("narrow", "a"),
        ("narrow", "b"),
        ("afar", "c"),
        ("afar", "c"),
        ("afar", "c"),
    ] {
        host.dispatch(json!({"toolName": tool, "agentId": agent}))
            .await;
    }
    let both = with(claim(), "tools", json!(["afar", "narrow"]));
    let first = claimed(&host, both.clone()).await;
    let tools: Vec<_> = first
        .iter()
        .map(|task| task["toolName"].as_str().unwrap())
        .collect();
    assert_eq!(tools, ["narrow", "afar", "afar"]);
    assert!(
        claimed(&host, with(both.clone(), "worker", "other"))
            .await
            .is_empty()
    );
    report(&host, &first[0], "complete", json!({}))
        .await
        .expect(200);
    assert_eq!(claimed(&host, both).await[0]["agentId"], "b");
}

/// R1: a worker that lost its task is refused, and told how the task stands; the task is run elsewhere.
#[tokio::test]
async fn a_worker_that_lost_its_lease_is_told() {
    let host = Host::start().await;
    host.dispatch(json!({"toolName": "afar", "maxRetries": 1}))
        .await;
    let brief = with(claim(), "leaseMs", 100);
    let lost = claimed(&host, brief).await.remove(0);
    let again = with(with(claim(), "worker", "other"), "waitMs", 20_000);
    let again = claimed(&host, again).await.remove(0);
    assert_eq!((&again["id"], &again["attempt"]), (&lost["id"], &json!(2)));
    for (route, body) in [
        ("renew", json!({})),
        ("output", json!({"report": 1, "outputs": [1]})),
        ("complete", json!({"report": 1, "result": 1})),
        ("fail", json!({"report": 1, "error": {"message": "no"}})),
        ("fail", json!({"report": 1, "timedOut": true})),
        ("suspend", json!({"report": 1, "suspendPayload": null})),
    ] {
        let refused = report(&host, &lost, route, body).await.expect(409);
        assert_eq!(
            refused.header("content-type"),
            Some("application/problem+json")
        );
        let problem = refused.json();
        assert_eq!(
            problem["type"], "urn:sidestream:problem:stale-attempt",
            "{route}"
        );
        assert_eq!(
            (&problem["taskStatus"], &problem["currentAttempt"]),
            (&json!("running"), &json!(2))
        );
    }
    report(&host, &again, "complete", json!({"result": 2}))
        .await
        .expect(200);
    let ended = get(&host, &lost).await;
    assert_eq!(
        (&ended["result"], &ended["workerId"]),
        (&json!(2), &json!("other"))
    );
    assert_eq!(ended["error"], Value::Null);
}

/// R1: a report that is repeated because its answer was lost is accepted as the same.
#[tokio::test]
async fn a_report_with_its_number_is_heard_once() {
    let host = Host::start().await;
    let task = running(&host, json!({})).await;
    let seq = |answer: Answer| answer.expect(200).json()["seq"].as_u64().unwrap();
    let told = json!({"report": 1, "outputs": ["a", "a"]});
    let once = seq(report(&host, &task, "output", told.clone()).await);
    assert_eq!(
        seq(report(&host, &task, "output", told.clone()).await),
        once
    );
    // Who does not count says something new each time.
    let plain = json!({"outputs": ["a"]});
    assert_eq!(
        seq(report(&host, &task, "output", plain.clone()).await),
        once + 1
    );
    assert_eq!(seq(report(&host, &task, "output", plain).await), once + 2);

    let end = json!({"report": 2, "result": 1});
    let ended = seq(report(&host, &task, "complete", end.clone()).await);
    assert_eq!(seq(report(&host, &task, "complete", end).await), ended);
    assert_eq!(seq(report(&host, &task, "output", told).await), ended);
    let late = json!({"report": 3, "outputs": ["late"]});
    let late = report(&host, &task, "output", late)
        .await
        .expect(409)
        .json();
    assert_eq!(late["taskStatus"], "completed");
}

/// R3: a worker hears of a cancellation when it renews, whatever its lease says.
#[tokio::test]
async fn a_renewal_tells_of_a_cancellation() {
    let host = Host::start().await;
    let task = running(&host, json!({})).await;
    report(&host, &task, "cancel", json!({})).await.expect(200);
    let refused = report(&host, &task, "renew", json!({}))
        .await
        .expect(409)
        .json();
    assert_eq!(refused["taskStatus"], "cancelled");
    assert_eq!(refused["currentAttempt"], 1);
}

/// Each way that an attempt may end.
#[tokio::test]
async fn an_attempt_ends_as_its_worker_says() {
    let host = Host::start().await;
    let task = running(&host, json!({})).await;
    let asks = json!({"report": 1, "suspendPayload": {"may": "I"}});
    report(&host, &task, "suspend", asks).await.expect(200);
    assert_eq!(
        get(&host, &task).await["suspendPayload"],
        json!({"may": "I"})
    );
    report(&host, &task, "resume", json!({"resumeData": null}))
        .await
        .expect(400);
    let id = task["id"].as_str().unwrap();
    host.post(
        format!("/v1/tasks/{id}/resume"),
        json!({"resumeData": null}),
    )
    .await
    .expect(200);
    let resumed = claimed(&host, claim()).await.remove(0);
    assert_eq!(resumed.get("resumeData"), Some(&Value::Null));
    assert_eq!(get(&host, &resumed).await.get("resumeData"), None);
    let nothing = report(&host, &resumed, "complete", json!({"report": 1})).await;
    nothing.expect(200);
    assert_eq!(get(&host, &resumed).await.get("result"), None);

    let error = json!({"message": "no luck", "stack": "at x"});
    for (said, retries, status) in [
        (json!({"error": error}), 1, "pending"),
        (json!({"error": error}), 0, "failed"),
        (json!({"error": error, "retryable": false}), 1, "failed"),
        (json!({"timedOut": true}), 1, "pending"),
        (json!({"timedOut": true}), 0, "timed_out"),
    ] {
        let task = running(&host, json!({"maxRetries": retries})).await;
        let told = report(&host, &task, "fail", said.clone()).await.expect(200);
        assert_eq!(told.json()["status"], status, "{said}");
        let expected = match said.get("error") {
            Some(error) => error.clone(),
            None => json!({"message": "Task timed out after 300000ms"}),
        };
        assert_eq!(get(&host, &task).await["error"], expected);
        report(&host, &task, "cancel", json!({})).await;
    }
}

/// E2: a worker's key opens its own namespace alone.
#[tokio::test]
async fn a_worker_works_in_its_own_namespace() {
    let host = Host::start().await;
    let task = host.dispatch(json!({"toolName": "afar"})).await;
    let stranger = add_key(&host, Role::Worker, "elsewhere").await.text;
    let call = host
        .call("POST", "/v1/claims")
        .key(&stranger)
        .json(&claim());
    assert_eq!(call.send().await.expect(200).json()["tasks"], json!([]));

    let own = add_key(&host, Role::Worker, "default").await.text;
    let call = host.call("POST", "/v1/claims").key(&own).json(&claim());
    assert_eq!(
        call.send().await.expect(200).json()["tasks"][0]["id"],
        task["id"]
    );
    let id = task["id"].as_str().unwrap();
    let complete = |key: &str| {
        let call = host
            .call("POST", format!("/v1/tasks/{id}/complete"))
            .key(key);
        call.json(&json!({"attempt": 1})).send()
    };
    complete(&stranger).await.expect(404);
    complete(&own).await.expect(200);
}

/// A claim is only as long as the server lets requests wait.
#[tokio::test]
async fn a_claim_waits_longer_than_other_requests_may() {
    let mut config = loopback();
    config.limits.request = Duration::from_millis(50);
    config.limits.wait = Duration::from_millis(400);
    let host = Host::with(config, Config::default()).await;
    let none = host
        .post("/v1/claims", with(claim(), "waitMs", 400))
        .await
        .expect(200)
        .json();
    assert_eq!(none["tasks"], json!([]));
    let refused = host
        .post("/v1/claims", with(claim(), "waitMs", 401))
        .await
        .expect(400)
        .json();
    assert_eq!(
        refused["detail"],
        "waitMs is 401, more than the 400 allowed"
    );
}
