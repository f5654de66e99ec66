//! What an agent has not yet been told (R6).

use serde_json::{Value, json};

use crate::host::Host;

async fn untold(host: &Host, thread: &str) -> Vec<Value> {
    let answer = host.get(format!("/v1/threads/{thread}/completions")).await;
    answer.expect(200).json()["tasks"]
        .as_array()
        .unwrap()
        .clone()
}

async fn acknowledge(host: &Host, body: Value) -> Value {
    let answer = host.post("/v1/threads/t/completions/ack", body).await;
    answer.expect(200).json()["acknowledged"].clone()
}

#[tokio::test]
async fn an_end_is_told_until_it_is_acknowledged() {
    let host = Host::start().await;
    for n in 0..3 {
        host.run(json!({"toolName": "echo", "threadId": "t", "args": n}))
            .await;
    }
    host.run(json!({"toolName": "echo", "threadId": "other"}))
        .await;
    host.dispatch(json!({"toolName": "stuck", "threadId": "t"}))
        .await;

    let told = untold(&host, "t").await;
    let args: Vec<_> = told.iter().map(|task| &task["args"]).collect();
    assert_eq!(args, [&json!(0), &json!(1), &json!(2)]);
    // Asking again takes nothing away: the agent may have died before it used it.
    assert_eq!(untold(&host, "t").await, told);

    let second = json!({"tasks": [{"id": told[1]["id"], "seq": told[1]["seq"]}]});
    assert_eq!(acknowledge(&host, second.clone()).await, 1);
    assert_eq!(acknowledge(&host, second).await, 0);
    assert_eq!(untold(&host, "t").await, [told[0].clone(), told[2].clone()]);
    assert_eq!(acknowledge(&host, json!({"seq": told[2]["seq"]})).await, 2);
    assert!(untold(&host, "t").await.is_empty());
    assert_eq!(untold(&host, "other").await.len(), 1);
    let first = host
        .get("/v1/thread/completions?id=other&limit=0")
        .await
        .expect(200);
    assert_eq!(first.json(), json!({"tasks": []}));
}

/// A stale acknowledgement must not swallow a newer end.
#[tokio::test]
async fn an_end_that_came_anew_is_told_again() {
    let host = Host::start().await;
    let task = host
        .run(json!({"toolName": "broken", "threadId": "t"}))
        .await;
    let told = untold(&host, "t").await;
    let id = task["id"].as_str().unwrap();
    let mut failed = host.stream("/v1/stream?type=failed").await;
    host.call("POST", format!("/v1/tasks/{id}/retry"))
        .send()
        .await
        .expect(200);
    failed.until("failed").await;
    let stale = json!({"tasks": [{"id": id, "seq": told[0]["seq"]}]});
    assert_eq!(acknowledge(&host, stale).await, 0);
    assert_eq!(untold(&host, "t").await.len(), 1);
}
