//! Dispatching, looking at, and commanding tasks.

use serde_json::json;

use crate::host::Host;

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
