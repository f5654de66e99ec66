//! Bad input gets a clear error that names the field and the limit, and changes nothing (E1).

use serde_json::{Value, json};

use crate::client::{Answer, Call, raw};
use crate::host::Host;

/// What is sent, the status it gets, and what the answer must say.
struct Case {
    call: Call,
    status: u16,
    says: Vec<String>,
}

fn case(call: Call, status: u16, says: &[&str]) -> Case {
    Case {
        call,
        status,
        says: says.iter().map(ToString::to_string).collect(),
    }
}

/// What is wrong with an answer; empty when nothing is.
fn faults(answer: &Answer, status: u16, says: &[String]) -> String {
    let text = answer.text();
    if answer.status != status {
        return format!("is {}, not {status}: {text}", answer.status);
    }
    if answer.header("content-type") != Some("application/problem+json") {
        return format!("is no problem: {text}");
    }
    let problem = answer.json();
    if problem["status"] != status || !problem["type"].is_string() || !problem["title"].is_string()
    {
        return format!("lacks a part: {text}");
    }
    let detail = problem["detail"].as_str().unwrap_or_default();
    match says.iter().find(|words| !detail.contains(words.as_str())) {
        Some(words) => format!("says {detail:?}, not {words:?}"),
        None => String::new(),
    }
}

async fn check_all(host: &Host, cases: Vec<Case>) {
    let before = host.get("/v1/tasks").await.json();
    let mut found = String::new();
    for Case { call, status, says } in cases {
        let what = call.summary();
        let faults = faults(&call.send().await, status, &says);
        if !faults.is_empty() {
            found.push_str(&format!("\n{what}\n  {faults}"));
        }
    }
    assert!(found.is_empty(), "{found}");
    assert_eq!(
        host.get("/v1/tasks").await.json(),
        before,
        "nothing has changed"
    );
}

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

#[tokio::test]
async fn a_question_that_cannot_be_answered_says_why() {
    let host = Host::start().await;
    let get = |target: &str| host.call("GET", target);
    let long = "x".repeat(10_000);
    let mut cases = Vec::new();
    for (query, says) in [
        (
            "status=sleeping",
            vec!["status \"sleeping\" is none of pending, running"],
        ),
        (
            "fromDate=someday",
            vec!["fromDate \"someday\" is not an ISO 8601 time"],
        ),
        ("toDate=2026-11-21", vec!["toDate"]),
        (
            "dateFilterBy=birthday",
            vec![
                "dateFilterBy",
                "createdAt, startedAt, suspendedAt, completedAt",
            ],
        ),
        ("orderBy=mood", vec!["orderBy is \"mood\", none of"]),
        (
            "orderDirection=up",
            vec!["orderDirection is \"up\", none of asc, desc"],
        ),
        (
            "external=yes",
            vec!["external is \"yes\", none of true, false"],
        ),
        (
            "limit=-1",
            vec!["limit is \"-1\", not a whole number from 0 to 1000"],
        ),
        ("limit=1001", vec!["limit is \"1001\""]),
        ("limit=1.5", vec!["limit is \"1.5\""]),
        (
            "limit=99999999999999999999",
            vec!["limit is \"99999999999999999999\""],
        ),
        ("perPage=many", vec!["perPage is \"many\""]),
        ("page=-1&perPage=5", vec!["page is \"-1\""]),
        (
            "cursor=nonsense",
            vec!["cursor is \"nonsense\", no nextCursor"],
        ),
        ("cursor=createdAt-asc.x.1", vec!["cursor"]),
        (
            "agentId=a&agentId=b",
            vec!["agentId is given 2 times, not once"],
        ),
        ("agentId=a%00b", vec!["agentId contains a NUL character"]),
        (
            "agent=a",
            vec!["agent is not a parameter of this route", "agentId"],
        ),
        // All that is wrong is told at once.
        (
            "orderBy=mood&limit=x&status=sad",
            vec!["orderBy", "limit", "status"],
        ),
    ] {
        cases.push(case(get(&format!("/v1/tasks?{query}")), 400, &says));
    }
    for (target, says) in [
        (
            format!("/v1/tasks?agentId={long}"),
            "agentId is 10,000 bytes, more than the 1,024 allowed",
        ),
        (
            format!("/v1/tasks/{long}"),
            "id is 10,000 bytes, more than the 1,024 allowed",
        ),
        (
            format!("/v1/task?id={long}"),
            "id is 10,000 bytes, more than the 1,024 allowed",
        ),
        ("/v1/tasks/a%00b".into(), "id contains a NUL character"),
        ("/v1/tasks/%FF".into(), "id is not UTF-8"),
        ("/v1/task".into(), "id is missing: give it as ?id="),
        ("/v1/task?id=a&id=b".into(), "id is given 2 times"),
        (
            "/v1/stream?after=nonsense".into(),
            "after is neither EPOCH-SEQ nor a number",
        ),
        ("/v1/stream?after=-1".into(), "after is neither"),
        ("/v1/stream?after=1.5".into(), "after is neither"),
        (
            "/v1/stream?after=18446744073709551616".into(),
            "after is neither",
        ),
        ("/v1/stream?after=a-b-1".into(), "after is neither"),
        (
            "/v1/stream?type=nonsense".into(),
            "type \"nonsense\" is none of background-task-running",
        ),
        (
            "/v1/stream?snapshot=all".into(),
            "snapshot is \"all\", none of running, active, none",
        ),
        (
            "/v1/stream?taskid=1".into(),
            "taskid is not a parameter of this route",
        ),
        (
            format!("/v1/stream?taskId={long}"),
            "taskId is 10,000 bytes",
        ),
        ("/v1/tasks/x/stream?after=x".into(), "after is neither"),
        ("/v1/threads/t/completions?limit=x".into(), "limit is \"x\""),
        (
            "/v1/threads/t/completions?thread=x".into(),
            "thread is not a parameter",
        ),
        ("/v1/thread/completions?id=".into(), "id is empty"),
    ] {
        cases.push(case(get(&target), 400, &[says]));
    }
    let resume = get("/v1/stream").header("last-event-id", "nonsense");
    cases.push(case(
        resume,
        400,
        &["Last-Event-ID is neither EPOCH-SEQ nor a number"],
    ));
    check_all(&host, cases).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_carried_out_says_why() {
    let host = Host::start().await;
    let post = |path: &str, body: Value| host.call("POST", path).json(&body);
    let put = |body: Value| host.call("PUT", "/v1/tasks/mine").json(&body);
    let record = |field: &str, value: Value| {
        let mut body = json!({"subagentType": "s", "description": "d"});
        body[field] = value;
        put(body)
    };
    let resume = "/v1/tasks/x/resume";
    let ack = "/v1/threads/t/completions/ack";
    check_all(
        &host,
        vec![
            case(post(resume, json!({})), 400, &["resumeData is missing"]),
            case(
                post(resume, json!({"data": 1})),
                400,
                &["data", "unknown field `data`"],
            ),
            case(
                post(resume, json!({"resumeData": 1})),
                404,
                &["task x does not exist"],
            ),
            case(
                host.call("POST", "/v1/tasks/x/cancel"),
                404,
                &["task x does not exist"],
            ),
            case(
                host.call("POST", "/v1/tasks/x/retry"),
                404,
                &["task x does not exist"],
            ),
            case(
                host.call("DELETE", "/v1/tasks/x"),
                404,
                &["task x does not exist"],
            ),
            case(post(ack, json!({})), 400, &["seq or tasks must be given"]),
            case(
                post(ack, json!({"seq": 1, "tasks": []})),
                400,
                &["seq or tasks must be given"],
            ),
            case(post(ack, json!({"seq": -1})), 400, &["seq", "integer `-1`"]),
            case(
                post(ack, json!({"tasks": [{"id": "x"}]})),
                400,
                &["tasks[0]", "missing field `seq`"],
            ),
            case(
                post(ack, json!({"tasks": [{"id": 1, "seq": 1}]})),
                400,
                &["tasks[0].id"],
            ),
            case(put(json!({})), 400, &["subagentType is missing"]),
            case(put(json!([])), 400, &["body is not a JSON object"]),
            case(
                put(json!({"subagentType": "s"})),
                400,
                &["description is missing"],
            ),
            case(
                record("status", json!("asleep")),
                400,
                &["status is none of pending, running"],
            ),
            case(
                record("subagentType", json!(1)),
                400,
                &["subagentType is not a text"],
            ),
            case(
                record("id", json!("yours")),
                400,
                &["id is not the id in the URL"],
            ),
            case(
                record("more", json!("x".repeat(1_100_000))),
                400,
                &["record is", "1,048,576 allowed"],
            ),
            case(post("/v1/keys", json!({})), 400, &["missing field `role`"]),
            case(
                post("/v1/keys", json!({"role": "king"})),
                400,
                &["role is \"king\", none of read"],
            ),
            case(
                post("/v1/keys", json!({"role": "read", "name": "n".repeat(300)})),
                400,
                &["name is 300 bytes, more than the 256 allowed"],
            ),
            case(
                host.call("DELETE", "/v1/keys/none"),
                404,
                &["there is no key none"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_route_that_is_not_there_says_so() {
    let host = Host::start().await;
    let call = |method, target: &str| host.call(method, target);
    check_all(
        &host,
        vec![
            case(
                call("GET", "/v2/tasks"),
                404,
                &["there is no route /v2/tasks"],
            ),
            case(
                call("GET", "/v1/tasks/"),
                404,
                &["there is no route /v1/tasks/"],
            ),
            case(
                call("GET", "/v1/tasks/a/b"),
                404,
                &["there is no route /v1/tasks/a/b"],
            ),
            case(
                call("PUT", "/v1/tasks"),
                405,
                &["/v1/tasks cannot be asked with PUT"],
            ),
            case(
                call("GET", "/v1/tasks/x/cancel"),
                405,
                &["cannot be asked with GET"],
            ),
            case(
                call("POST", "/v1/stream"),
                405,
                &["cannot be asked with POST"],
            ),
            case(
                call("POST", "/healthz"),
                405,
                &["cannot be asked with POST"],
            ),
            case(
                call("BREW", "/v1/tasks"),
                405,
                &["cannot be asked with BREW"],
            ),
            case(
                call("GET", &format!("/v1/tasks?agentId={}", "x".repeat(40_000))),
                414,
                &["the query is 40,008 bytes, more than the 32,768 allowed"],
            ),
        ],
    )
    .await;
    let refused = host.call("PUT", "/v1/tasks").send().await;
    assert_eq!(refused.header("allow"), Some("POST,GET,HEAD"));
}

/// What is no HTTP, or too much of it, is refused before it gets to any route.
#[tokio::test]
async fn a_request_that_is_no_request_is_refused() {
    let host = Host::start().await;
    let long = format!("GET /?{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(70_000));
    let mut many = "GET / HTTP/1.1\r\n".to_owned();
    (0..200).for_each(|n| many.push_str(&format!("x-{n}: y\r\n")));
    many.push_str("\r\n");
    for (bytes, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        (
            "POST /v1/tasks HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(),
            400,
        ),
        (long, 431),
        (many, 431),
    ] {
        let start: String = bytes.chars().take(60).collect();
        let answer = raw(host.address, bytes.as_bytes()).await;
        assert_eq!(answer.status, status, "{start}");
    }
    // A body without a length that turns out to be too large.
    let piece = "x".repeat(1 << 20);
    let mut chunked = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        host.address
    );
    (0..4).for_each(|_| chunked.push_str(&format!("100000\r\n{piece}\r\n")));
    chunked.push_str("0\r\n\r\n");
    let answer = raw(host.address, chunked.as_bytes()).await;
    let says = ["the body is more than the 2,097,152 allowed".to_owned()];
    assert_eq!(faults(&answer, 413, &says), "");
}
