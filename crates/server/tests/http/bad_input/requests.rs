//! Where a request goes, what it asks, and whether it is one.

use serde_json::{Value, json};

use super::{case, check_all, faults};
use crate::client::raw;
use crate::host::Host;

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
        ("cursor=createdAt-asc.x.1.1", vec!["cursor"]),
        ("cursor=createdAt-asc.1.x.1", vec!["cursor"]),
        // One of an earlier version.
        ("cursor=createdAt-asc.1.1", vec!["cursor"]),
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
