//! Streams: the format to the letter, and promises S1 to S8 as a client sees them.

use std::time::Duration;

use serde_json::{Value, json};
use sidestream::{Config, Retention};

use crate::client::Open;
use crate::host::{Host, loopback};

fn seq(chunk: &Value) -> u64 {
    chunk["payload"]["seq"].as_u64().unwrap()
}

fn types(chunks: &[Value]) -> Vec<&str> {
    let types = chunks.iter().map(|chunk| chunk["type"].as_str().unwrap());
    types
        .map(|word| word.trim_start_matches("background-task-"))
        .collect()
}

/// A server whose streams show that they are alive again and again.
async fn impatient() -> Host {
    let mut config = loopback();
    config.limits.keep_alive = Duration::from_millis(50);
    Host::with(config, Config::default()).await
}

async fn cursor_of_now(host: &Host) -> String {
    let block = host
        .stream("/v1/stream?snapshot=none")
        .await
        .block()
        .await
        .unwrap();
    block.strip_prefix("id: ").unwrap().to_owned()
}

/// A mute stream makes `fetch` and `EventSource` hang.
#[tokio::test]
async fn an_idle_stream_answers_at_once() {
    let host = Host::start().await;
    for target in [
        "/v1/stream",
        "/v1/stream?after=0",
        "/api/background-tasks/stream",
    ] {
        let mut open = host.call("GET", target).open().await;
        assert_eq!(open.status, 200);
        assert_eq!(open.header("content-type"), Some("text/event-stream"));
        assert_eq!(open.header("cache-control"), Some("no-cache"));
        assert_eq!(open.header("x-accel-buffering"), Some("no"));
        assert_eq!(open.header("transfer-encoding"), Some("chunked"));
        assert_eq!(open.block().await.unwrap(), "retry: 1000");
        assert_eq!(open.block().await.unwrap(), ": open");
    }
}

/// WIRE part 5, to the letter: a snapshot without ids, its end an id alone, then an id with each chunk.
#[tokio::test]
async fn the_format_is_that_of_the_wire() {
    let host = Host::start().await;
    let mut first = host.stream("/v1/stream?snapshot=none").await;
    let id = host
        .dispatch(json!({"toolName": "stuck", "args": {"q": 1}}))
        .await["id"]
        .clone();
    let id = id.as_str().unwrap();
    first.until("running").await;

    let mut stream = host.stream("/v1/stream").await;
    let task = host.get(format!("/v1/tasks/{id}")).await.json()["task"].clone();
    let started_at = task["startedAt"].as_str().unwrap();
    let expected = format!(
        "data: {{\"type\":\"background-task-running\",\"payload\":{{\"taskId\":\"{id}\",\"toolName\":\
         \"stuck\",\"startedAt\":\"{started_at}\",\"args\":{{\"q\":1}},\"attempt\":1}}}}"
    );
    assert_eq!(stream.block().await.unwrap(), expected);
    let end = stream.block().await.unwrap();
    let (epoch, place) = end.strip_prefix("id: ").unwrap().rsplit_once('-').unwrap();
    assert_eq!(place, "2");

    let cancelled = host
        .call("POST", format!("/v1/tasks/{id}/cancel"))
        .send()
        .await
        .json();
    let completed_at = cancelled["task"]["completedAt"].as_str().unwrap();
    let expected = format!(
        "id: {epoch}-3\ndata: {{\"type\":\"background-task-cancelled\",\"payload\":{{\"taskId\":\"{id}\",\
         \"toolName\":\"stuck\",\"completedAt\":\"{completed_at}\",\"seq\":3}}}}"
    );
    assert_eq!(stream.block().await.unwrap(), expected);
}

/// S2, by header and by parameter, from every place of a story.
#[tokio::test]
async fn who_resumes_gets_exactly_what_followed() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream?snapshot=none").await;
    for n in 0..5 {
        host.run(json!({"toolName": "echo", "args": n, "agentId": format!("a{}", n % 2)}))
            .await;
    }
    let mut seen = Vec::new();
    while types(
        &seen
            .iter()
            .map(|(_, c): &(_, Value)| c.clone())
            .collect::<Vec<_>>(),
    )
    .iter()
    .filter(|word| **word == "completed")
    .count()
        < 5
    {
        let (id, chunk) = stream.chunk().await.unwrap();
        seen.push((id.unwrap(), chunk));
    }
    for place in 0..seen.len() {
        let (id, chunk) = &seen[place];
        let expected: Vec<_> = seen[place + 1..].iter().map(|(_, chunk)| chunk).collect();
        let targets = [
            host.call("GET", "/v1/stream").header("last-event-id", id),
            host.call("GET", format!("/v1/stream?after={id}")),
            host.call("GET", format!("/v1/stream?after={}", seq(chunk))),
            host.call("GET", "/api/background-tasks/stream")
                .header("last-event-id", id),
            // A browser sends both: the header is newer.
            host.call("GET", "/v1/stream?after=0")
                .header("last-event-id", id),
        ];
        for call in targets {
            let mut again = call.open().await;
            for expected in &expected {
                assert_eq!(again.chunk().await.unwrap().1, **expected);
            }
        }
    }
    let mut all = host.stream("/v1/stream?after=0&agentId=a1").await;
    for (_, expected) in seen
        .iter()
        .filter(|(_, chunk)| chunk["payload"]["agentId"] == "a1")
    {
        assert_eq!(all.chunk().await.unwrap().1, *expected);
    }
}

/// Reads a reset, the snapshot after it, and its end.
async fn expect_reset(stream: &mut Open, reason: &str) -> (Value, Vec<Value>, String) {
    let block = stream.block().await.unwrap();
    let reset: Value = serde_json::from_str(block.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(reset["type"], "stream-reset");
    assert_eq!(reset["payload"]["reason"], reason);
    let mut snapshot = Vec::new();
    loop {
        let block = stream.block().await.unwrap();
        match block.strip_prefix("data: ") {
            Some(data) => snapshot.push(serde_json::from_str(data).unwrap()),
            None => {
                return (
                    reset,
                    snapshot,
                    block.strip_prefix("id: ").unwrap().to_owned(),
                );
            }
        }
    }
}

/// S3: never silence.
#[tokio::test]
async fn a_cursor_that_cannot_be_honoured_gets_a_reset_and_a_snapshot() {
    let retention = Retention {
        log_events_max: 1,
        ..Retention::default()
    };
    let config = Config {
        retention,
        ..Config::default()
    };
    let host = Host::with(loopback(), config).await;
    let mut running = host.stream("/v1/stream").await;
    let id = host.dispatch(json!({"toolName": "stuck"})).await["id"].clone();
    running.until("running").await;
    let old = cursor_of_now(&host).await;
    let (epoch, _) = old.rsplit_once('-').unwrap();
    host.run(json!({"toolName": "echo"})).await;
    host.manager().cleanup().await.unwrap();
    let now = cursor_of_now(&host).await;

    let pruned = "the log has been pruned past the cursor";
    let ahead = "the cursor is ahead of the log";
    let other = "the cursor belongs to another log";
    for (after, reason) in [
        (old.clone(), pruned),
        ("0".into(), pruned),
        (format!("{epoch}-99"), ahead),
        (u64::MAX.to_string(), ahead),
        ("elsewhere-1".into(), other),
    ] {
        let call = host
            .call("GET", "/v1/stream")
            .header("last-event-id", after.clone());
        let mut stream = call.open().await;
        stream.block().await;
        stream.block().await;
        let (reset, snapshot, end) = expect_reset(&mut stream, reason).await;
        let oldest = reset["payload"]["oldestCursor"].as_str().unwrap();
        assert!(oldest.starts_with(&format!("{epoch}-")), "{oldest}");
        assert_eq!(types(&snapshot), ["running"], "{after}");
        assert_eq!(snapshot[0]["payload"]["taskId"], id);
        assert_eq!(end, now, "{after}");
        // And from its oldest cursor on nothing is reset.
        let mut stream = host.stream(format!("/v1/stream?after={oldest}")).await;
        assert_eq!(types(&[stream.chunk().await.unwrap().1]), ["completed"]);
    }
}

#[tokio::test]
async fn a_snapshot_shows_what_was_asked_for() {
    let host = Host::start().await;
    let mut watch = host.stream("/v1/stream").await;
    host.dispatch(json!({"toolName": "stuck"})).await;
    watch.until("running").await;
    host.dispatch(json!({"toolName": "ask"})).await;
    watch.until("suspended").await;
    let later = json!({"toolName": "echo", "runAt": "2999-01-01T00:00:00Z"});
    host.dispatch(later).await;
    for (query, expected) in [
        ("", vec!["running"]),
        ("snapshot=running", vec!["running"]),
        ("snapshot=none", vec![]),
        ("snapshot=active", vec!["running", "suspended"]),
        ("snapshot=active&type=started", vec!["started"]),
        (
            "snapshot=active&type=started&type=background-task-suspended",
            vec!["suspended", "started"],
        ),
        ("toolName=ask&snapshot=active", vec!["suspended"]),
        ("toolName=echo", vec![]),
    ] {
        let mut stream = host.stream(format!("/v1/stream?{query}")).await;
        let mut shown = Vec::new();
        while let Some(data) = stream.block().await.unwrap().strip_prefix("data: ") {
            shown.push(serde_json::from_str(data).unwrap());
        }
        assert_eq!(types(&shown), expected, "{query}");
    }
}

/// S6: what is not asked for is not sent, and what is asked for is.
#[tokio::test]
async fn filters_hold_for_news() {
    let host = Host::start().await;
    let mine = json!({
        "toolName": "echo", "agentId": "a", "runId": "r", "threadId": "t", "resourceId": "o",
    });
    let mut streams = Vec::new();
    for query in [
        "agentId=a",
        "runId=r",
        "threadId=t",
        "resourceId=o",
        "type=completed",
    ] {
        streams.push(host.stream(format!("/v1/stream?{query}")).await);
    }
    host.run(json!({"toolName": "broken", "agentId": "b"}))
        .await;
    let id = host.run(mine).await["id"].clone();
    for stream in &mut streams {
        let (chunks, _) = stream.until("completed").await;
        assert!(chunks.iter().all(|chunk| chunk["payload"]["taskId"] == id));
    }
}

/// Our own types come only to those who ask for them.
#[tokio::test]
async fn existing_clients_see_the_seven_types_they_know() {
    let host = Host::start().await;
    let mut stream = host.stream("/api/background-tasks/stream").await;
    let id = host.dispatch(json!({"toolName": "ask"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let (mut chunks, _) = stream.until("suspended").await;
    host.post(format!("/v1/tasks/{id}/resume"), json!({"resumeData": 1}))
        .await
        .expect(200);
    chunks.extend(stream.until("completed").await.0);
    assert_eq!(
        types(&chunks),
        ["running", "suspended", "resumed", "completed"]
    );

    let mut all = host
        .stream("/v1/stream?after=0&type=started&type=queued&type=resumed")
        .await;
    let mut chunks = Vec::new();
    for _ in 0..3 {
        chunks.push(all.chunk().await.unwrap().1);
    }
    assert_eq!(types(&chunks), ["started", "queued", "resumed"]);
}

/// S7: an id alone where the log has moved, a comment where it has not.
#[tokio::test]
async fn a_quiet_stream_shows_that_it_is_alive_and_moves_its_cursor() {
    let host = impatient().await;
    let mut stream = host.stream("/v1/stream?threadId=mine").await;
    let end = stream.block().await.unwrap();
    assert!(end.ends_with("-0"), "{end}");
    assert_eq!(stream.block().await.unwrap(), ": keep-alive");
    host.run(json!({"toolName": "echo", "threadId": "other"}))
        .await;
    let moved = loop {
        let block = stream.block().await.unwrap();
        if block != ": keep-alive" {
            break block;
        }
    };
    assert_eq!(moved, end.replace("-0", "-4"));
    assert_eq!(stream.block().await.unwrap(), ": keep-alive");
}

/// S8: its whole story, whenever it is opened, closed after its end.
#[tokio::test]
async fn a_tasks_story_is_told_from_the_start_and_ends_with_it() {
    let host = Host::start().await;
    let id = host
        .run(json!({"toolName": "gush", "args": {"count": 700, "bytes": 300}}))
        .await;
    let id = id["id"].as_str().unwrap().to_owned();
    let mut story = host.stream(format!("/v1/tasks/{id}/stream")).await;
    let (mut chunks, mut ids) = (Vec::new(), Vec::new());
    while let Some((id, chunk)) = story.chunk().await {
        ids.push(id.unwrap());
        chunks.push(chunk);
    }
    assert!(story.has_ended_well());
    assert_eq!(chunks.len(), 703);
    assert_eq!(types(&chunks[..3]), ["started", "running", "output"]);
    assert_eq!(types(&chunks[702..]), ["completed"]);
    let numbers = chunks[2..702]
        .iter()
        .map(|chunk| &chunk["payload"]["payload"]["n"]);
    assert!(numbers.eq((0..700).map(|n| json!(n)).collect::<Vec<_>>().iter()));

    let mut rest = host
        .stream(format!("/v1/task/stream?id={id}&after={}", ids[700]))
        .await;
    let mut left = Vec::new();
    while let Some((_, chunk)) = rest.chunk().await {
        left.push(chunk);
    }
    assert_eq!(left, chunks[701..]);
    // A browser's EventSource comes again until it is told that there is no more.
    let seen = host
        .call("GET", format!("/v1/tasks/{id}/stream"))
        .header("last-event-id", &ids[702]);
    seen.send().await.expect(204);
    host.get("/v1/tasks/nobody/stream").await.expect(404);
}

#[tokio::test]
async fn a_story_is_told_live() {
    let host = Host::start().await;
    let id = host.dispatch(json!({"toolName": "ask"})).await["id"].clone();
    let id = id.as_str().unwrap();
    let mut story = host.stream(format!("/v1/tasks/{id}/stream")).await;
    let (chunks, _) = story.until("suspended").await;
    assert_eq!(types(&chunks), ["started", "running", "suspended"]);
    host.post(format!("/v1/tasks/{id}/resume"), json!({"resumeData": 1}))
        .await
        .expect(200);
    let (chunks, _) = story.until("completed").await;
    assert_eq!(types(&chunks), ["queued", "resumed", "completed"]);
    assert_eq!(story.block().await, None);
    assert!(story.has_ended_well());
}

/// Events of others may be pruned before a task begins: its own story is whole all the same. When its
/// own beginning is pruned, that is said (S3).
#[tokio::test]
async fn a_story_whose_beginning_is_pruned_says_so() {
    let retention = Retention {
        log_events_max: 4,
        ..Retention::default()
    };
    let config = Config {
        retention,
        ..Config::default()
    };
    let host = Host::with(loopback(), config).await;
    for _ in 0..3 {
        host.run(json!({"toolName": "echo"})).await;
    }
    let task = host.run(json!({"toolName": "echo"})).await;
    let path = format!("/v1/tasks/{}/stream", task["id"].as_str().unwrap());
    host.manager().cleanup().await.unwrap();
    let mut story = host.stream(&path).await;
    let (chunks, _) = story.until("completed").await;
    assert_eq!(
        types(&chunks),
        ["started", "running", "output", "completed"]
    );

    host.run(json!({"toolName": "broken"})).await;
    host.manager().cleanup().await.unwrap();
    let mut story = host.stream(&path).await;
    let (_, snapshot, _) =
        expect_reset(&mut story, "the log has been pruned past the cursor").await;
    assert!(snapshot.is_empty());
    assert_eq!(story.block().await, None);
}

/// All that is ready goes out in few frames, not one for each chunk: that is where the speed is.
#[tokio::test]
async fn ready_chunks_share_a_frame() {
    let host = Host::start().await;
    host.run(json!({"toolName": "gush", "args": {"count": 1000, "bytes": 100}}))
        .await;
    let mut stream = host.stream("/v1/stream?after=0").await;
    stream.until("completed").await;
    assert!(stream.frames() < 30, "{} frames", stream.frames());
}
