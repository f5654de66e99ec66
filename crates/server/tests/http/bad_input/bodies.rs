//! What is in a body.

use serde_json::{Value, json};

use super::{case, check_all};
use crate::host::Host;

#[tokio::test]
async fn a_dispatch_that_cannot_be_accepted_says_why() {
    let host = Host::start().await;
    let text = |body: &str| {
        host.call("POST", "/v1/tasks")
            .text("application/json", body)
    };
    let with = |field: &str, value: Value| {
        let mut body = json!({"toolName": "echo"});
        body[field] = value;
        host.call("POST", "/v1/tasks").json(&body)
    };
    let big = "x".repeat(1_500_000);
    let long = "x".repeat(10_000);
    let too_long = "is 10,000 bytes, more than the 1,024 allowed";
    let mut cases = vec![
        case(text(""), 400, &["body", "line 1 column 0"]),
        case(
            text(r#"{"toolName": "echo""#),
            400,
            &["body", "line 1 column 19"],
        ),
        case(
            text("{\"toolName\": \"echo\",\n \"args\": {]}}"),
            400,
            &["line 2 column 11"],
        ),
        case(
            text(r#"{"toolName": "echo"} {}"#),
            400,
            &["body", "trailing characters"],
        ),
        case(text("null"), 400, &["body", "invalid type: null"]),
        case(text("[\"echo\"]"), 400, &["body is not a JSON object"]),
        case(text("\u{feff}{}"), 400, &["body", "line 1 column 1"]),
        case(
            text(r#"{"toolName": "echo", "toolName": "echo"}"#),
            400,
            &["duplicate field `toolName`"],
        ),
        case(text("{}"), 400, &["toolName is empty"]),
        case(
            with("toolName", json!(7)),
            400,
            &["toolName", "invalid type: integer `7`"],
        ),
        case(with("toolName", json!("")), 400, &["toolName is empty"]),
        case(
            with("toolName", json!("nobody")),
            400,
            &["toolName", "\"nobody\" is not registered", "echo"],
        ),
        case(
            with("tool", json!("echo")),
            400,
            &["tool", "unknown field `tool`", "toolName"],
        ),
        case(
            with("timeoutMs", json!("soon")),
            400,
            &["timeoutMs", "invalid type: string"],
        ),
        case(
            with("timeoutMs", json!(-1)),
            400,
            &["timeoutMs", "integer `-1`"],
        ),
        case(
            with("timeoutMs", json!(0)),
            400,
            &["timeoutMs is 0, not between 1 and 2592000000"],
        ),
        case(
            with("timeoutMs", json!(u64::MAX)),
            400,
            &["timeoutMs is 18446744073709551615"],
        ),
        case(
            with("timeoutMs", json!(1.5)),
            400,
            &["timeoutMs", "floating point `1.5`"],
        ),
        case(
            text(r#"{"toolName": "echo", "timeoutMs": 18446744073709551616}"#),
            400,
            &["timeoutMs", "line 1 column"],
        ),
        case(
            text(r#"{"toolName": "echo", "timeoutMs": 1e999}"#),
            400,
            &["out of range"],
        ),
        case(with("maxRetries", json!(-1)), 400, &["maxRetries"]),
        case(
            with("maxRetries", json!(1_001)),
            400,
            &["maxRetries is 1001, more than the 1000 allowed"],
        ),
        case(
            with("priority", json!(40_000)),
            400,
            &["priority", "integer `40000`"],
        ),
        case(
            with("runAt", json!("tomorrow")),
            400,
            &["runAt", "\"tomorrow\" is not an ISO 8601 time"],
        ),
        case(
            with("runAt", json!("2026-02-30T00:00:00Z")),
            400,
            &["runAt", "is not an ISO 8601 time"],
        ),
        case(
            with("runAt", json!(1_700_000_000)),
            400,
            &["runAt", "invalid type: integer"],
        ),
        case(
            with("metadata", json!([1])),
            400,
            &["metadata is not an object"],
        ),
        case(
            with("metadata", json!({"x": "y".repeat(70_000)})),
            400,
            &["metadata is 70,008 bytes", "65,536"],
        ),
        case(
            with("description", json!("x".repeat(70_000))),
            400,
            &["description is 70,000 bytes"],
        ),
        case(
            with("args", json!(big)),
            400,
            &["args is 1,500,002 bytes, more than the 1,048,576 allowed"],
        ),
        case(
            with("args", json!("x".repeat(2 << 20))),
            413,
            &["more than the 2,097,152 allowed"],
        ),
        case(
            with("args", json!("x".repeat(20 << 20))),
            413,
            &["more than the 2,097,152 allowed"],
        ),
        case(
            with("idempotencyKey", json!(long)),
            400,
            &["idempotencyKey", too_long],
        ),
        case(
            with("args", json!(1)).header("idempotency-key", long.clone()),
            400,
            &["idempotencyKey", too_long],
        ),
        case(
            with("args", json!(1)).header("idempotency-key", ""),
            400,
            &["Idempotency-Key is empty"],
        ),
    ];
    // An empty key would make all tasks of those who send it one.
    let empty_key = with("idempotencyKey", json!(""));
    cases.push(case(empty_key, 400, &["idempotencyKey is empty"]));
    for field in ["toolCallId", "agentId", "runId", "threadId", "resourceId"] {
        cases.push(case(with(field, json!("")), 400, &[field, "is empty"]));
        cases.push(case(
            with(field, json!("a\0b")),
            400,
            &[field, "contains a NUL character"],
        ));
        cases.push(case(with(field, json!(long)), 400, &[field, too_long]));
        cases.push(case(
            with(field, json!({})),
            400,
            &[field, "invalid type: map"],
        ));
    }
    check_all(&host, cases).await;
}

#[tokio::test]
async fn what_a_worker_says_that_cannot_be_accepted_says_why() {
    let host = Host::start().await;
    let post = |target: &str, body: &Value| host.call("POST", target).json(body);
    let claim = |field: &str, value: Value| {
        let mut body = json!({"worker": "w", "tools": ["afar"]});
        body[field] = value;
        host.call("POST", "/v1/claims").json(&body)
    };
    let id = host.dispatch(json!({"toolName": "afar"})).await["id"].clone();
    let claimed = json!({"worker": "w", "tools": ["afar"]});
    host.post("/v1/claims", claimed).await.expect(200);
    let report = |route: &str, field: &str, value: Value| {
        let mut body = json!({"attempt": 1, "report": 1});
        body[field] = value;
        let target = format!("/v1/tasks/{}/{route}", id.as_str().unwrap());
        host.call("POST", target).json(&body)
    };
    let big = "x".repeat(1_500_000);
    let too_big = "is 1,500,002 bytes, more than the 1,048,576 allowed";
    let cases = vec![
        case(claim("worker", json!("")), 400, &["worker is empty"]),
        case(claim("worker", json!(7)), 400, &["worker", "invalid type"]),
        case(
            claim("worker", json!("a\0b")),
            400,
            &["worker contains a NUL"],
        ),
        case(
            claim("worker", json!("local-1")),
            400,
            &["worker begins with \"local-\""],
        ),
        case(claim("tools", json!([])), 400, &["tools is empty"]),
        case(
            claim("tools", json!("afar")),
            400,
            &["tools", "invalid type"],
        ),
        case(
            claim("tools", json!(["a", ""])),
            400,
            &["tools[1] is empty"],
        ),
        case(
            claim("tools", json!(vec!["t"; 1_001])),
            400,
            &["tools names 1001 tools, more than the 1000 allowed"],
        ),
        case(
            claim("limit", json!(257)),
            400,
            &["limit is 257, more than the 256 allowed"],
        ),
        case(claim("limit", json!(-1)), 400, &["limit", "integer `-1`"]),
        case(
            claim("leaseMs", json!(99)),
            400,
            &["leaseMs is 99, not between 100 and 86400000"],
        ),
        case(
            claim("leaseMs", json!(86_400_001)),
            400,
            &["leaseMs is 86400001"],
        ),
        case(
            claim("waitMs", json!(60_001)),
            400,
            &["waitMs is 60001, more than the 60000 allowed"],
        ),
        case(
            claim("waitMs", json!(1.5)),
            400,
            &["waitMs", "floating point"],
        ),
        case(
            claim("namespace", json!("x")),
            400,
            &["namespace", "unknown field"],
        ),
        case(
            report("renew", "attempt", json!(0)),
            400,
            &["unknown field `report`"],
        ),
        case(
            post(
                &format!("/v1/tasks/{}/renew", id.as_str().unwrap()),
                &json!({}),
            ),
            400,
            &["attempt is missing, or 0"],
        ),
        case(
            post(
                &format!("/v1/tasks/{}/renew", id.as_str().unwrap()),
                &json!({"attempt": 1, "leaseMs": 0}),
            ),
            400,
            &["leaseMs is 0, not between"],
        ),
        case(
            report("output", "attempt", json!("one")),
            400,
            &["attempt", "invalid type"],
        ),
        case(
            report("output", "outputs", json!([])),
            400,
            &["outputs is missing, or empty"],
        ),
        case(
            report("output", "report", json!(1)),
            400,
            &["outputs is missing, or empty"],
        ),
        case(
            report("output", "outputs", json!({})),
            400,
            &["outputs", "invalid type"],
        ),
        case(
            report("output", "outputs", json!([1, big])),
            400,
            &["outputs[1]", too_big],
        ),
        case(
            report("output", "report", json!(-1)),
            400,
            &["report", "integer `-1`"],
        ),
        case(
            report("complete", "result", json!(big)),
            400,
            &["result", too_big],
        ),
        case(
            report("complete", "attempt", json!(0)),
            400,
            &["attempt is missing, or 0"],
        ),
        case(
            report("fail", "report", json!(1)),
            400,
            &["error is missing"],
        ),
        case(
            report("fail", "error", json!("no")),
            400,
            &["error", "invalid type"],
        ),
        case(
            report("fail", "error", json!({})),
            400,
            &["error", "missing field `message`"],
        ),
        case(
            report("suspend", "report", json!(1)),
            400,
            &["suspendPayload is missing"],
        ),
        case(
            report("suspend", "suspendPayload", json!(big)),
            400,
            &["suspendPayload", too_big],
        ),
        case(
            post("/v1/tasks/nobody/complete", &json!({"attempt": 1})),
            404,
            &["task nobody does not exist"],
        ),
        case(
            post("/v1/task/complete?id=..", &json!({"attempt": 1})),
            404,
            &["task .. does not exist"],
        ),
    ];
    check_all(&host, cases).await;
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json_is_not_read() {
    let host = Host::start().await;
    let body = r#"{"toolName": "echo"}"#;
    let call = || host.call("POST", "/v1/tasks");
    check_all(
        &host,
        vec![
            case(
                call().text("text/plain", body),
                415,
                &["text/plain", "application/json"],
            ),
            case(
                call().text("application/x-www-form-urlencoded", body),
                415,
                &["application/x-www-form-urlencoded"],
            ),
            case(
                call().text("application/jsonx", body),
                415,
                &["application/jsonx"],
            ),
            case(
                call()
                    .text("application/json", body)
                    .without_header("content-type"),
                415,
                &["missing"],
            ),
        ],
    )
    .await;
    let fine = call()
        .text("application/JSON; charset=utf-8", body)
        .send()
        .await;
    fine.expect(201);
}
