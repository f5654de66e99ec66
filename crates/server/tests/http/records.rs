//! Tasks kept for an owner elsewhere, under any id.

use serde_json::{Value, json};

use crate::host::Host;

/// What an owner may call its tasks, and how that looks in a path, where it can.
const IDS: [(&str, Option<&str>); 7] = [
    ("", None),
    (".", None),
    ("..", None),
    ("a/b", Some("a%2Fb")),
    ("🦀 ü", Some("%F0%9F%A6%80%20%C3%BC")),
    ("cancel", Some("cancel")),
    ("100%?#&+=", Some("100%25%3F%23%26%2B%3D")),
];

fn document(id: &str) -> Value {
    json!({
        "id": id, "subagentType": "researcher", "description": "looks things up",
        "status": "running", "createdAt": "2026-11-21T00:10:24.219Z", "updatedAt": "2026-11-21T00:10:25.000Z",
        "theirs": {"kept": [1, null]},
    })
}

fn in_query(id: &str) -> String {
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/v1/task?id={encoded}")
}

#[tokio::test]
async fn a_record_of_any_id_is_kept_as_it_came() {
    let host = Host::start().await;
    for (id, in_path) in IDS {
        let put = host
            .call("PUT", in_query(id))
            .json(&document(id))
            .send()
            .await;
        let task = put.expect(200).json()["task"].clone();
        assert_eq!(task["record"], document(id));
        assert_eq!(
            (&task["id"], &task["status"]),
            (&json!(id), &json!("running"))
        );
        let mut targets = vec![in_query(id)];
        targets.extend(in_path.map(|path| format!("/v1/tasks/{path}")));
        for target in targets {
            let got = host.get(&target).await.expect(200).json();
            assert_eq!(got["task"], task, "{target}");
        }
    }
    let listed = host.get("/v1/tasks?external=true").await.json();
    assert_eq!(listed["total"], IDS.len());
    for (id, _) in IDS {
        host.call("DELETE", in_query(id)).send().await.expect(204);
        host.call("DELETE", in_query(id)).send().await.expect(404);
    }
}

/// Numbers beyond what we could read, white space and the order of fields survive.
#[tokio::test]
async fn a_record_is_kept_to_the_letter() {
    let host = Host::start().await;
    let document = "{\"z\": 1.0,  \"n\": 123456789012345678901234567890,\t\"id\":\"mine\", \"status\":\"running\",\
                    \"subagentType\":\"\\u0073\", \"description\":\"\", \"createdAt\":\"\", \"updatedAt\":\"x\", \"a\":[ ]}";
    let put = host
        .call("PUT", "/v1/tasks/mine")
        .text("application/json", document);
    put.send().await.expect(200);
    let got = host.get("/v1/tasks/mine").await.expect(200).text();
    assert!(got.contains(&format!("\"record\":{document}")), "{got}");
}

#[tokio::test]
async fn a_new_record_needs_only_its_kind_and_its_description() {
    let host = Host::start().await;
    let body = json!({"subagentType": "researcher", "description": "d"});
    let put = host
        .call("PUT", "/v1/tasks/mine")
        .json(&body)
        .send()
        .await
        .expect(200);
    let record = put.json()["task"]["record"].clone();
    assert_eq!(
        (&record["id"], &record["status"]),
        (&json!("mine"), &json!("pending"))
    );
    assert_eq!(record["createdAt"], record["updatedAt"]);
}

/// The owner's word counts: any status may follow any other, and watchers see it.
#[tokio::test]
async fn an_owner_reports_how_its_task_stands() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    for (status, shown) in [
        ("running", "running"),
        ("killed", "cancelled"),
        ("running", "running"),
        ("failed", "failed"),
        ("completed", "completed"),
    ] {
        let mut report = document("mine");
        report["status"] = json!(status);
        report["result"] = json!("found");
        host.call("PUT", "/v1/tasks/mine")
            .json(&report)
            .send()
            .await
            .expect(200);
        let (_, chunk) = stream.chunk().await.unwrap();
        assert_eq!(chunk["type"], format!("background-task-{shown}"));
        assert_eq!(chunk["payload"]["taskId"], "mine");
    }
}

#[tokio::test]
async fn a_task_dispatched_here_is_nobody_elses() {
    let host = Host::start().await;
    let id = host.dispatch(json!({"toolName": "stuck"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let put = host
        .call("PUT", format!("/v1/tasks/{id}"))
        .json(&document(id));
    put.send().await.expect(409);
    host.call("PUT", "/v1/tasks/mine")
        .json(&document("mine"))
        .send()
        .await
        .expect(200);
    for action in ["cancel", "retry"] {
        host.call("POST", format!("/v1/tasks/mine/{action}"))
            .send()
            .await
            .expect(409);
    }
    // A task of the very name of an action is a task all the same.
    host.call("PUT", "/v1/tasks/stream")
        .json(&document("stream"))
        .send()
        .await
        .expect(200);
    host.call("GET", "/v1/tasks/stream")
        .send()
        .await
        .expect(200);
}
