//! Bad input gets a clear error that names the field and the limit, and changes nothing (E1).

use crate::client::{Answer, Call};
use crate::host::Host;

mod bodies;
mod requests;

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
