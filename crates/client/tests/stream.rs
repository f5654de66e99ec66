//! The reconnecting stream, against a server that says exactly what its script says, and breaks where
//! its script breaks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidestream_client::{
    Backoff, Client, Error, Filter, Item, SnapshotKind, Status, Stream, StreamRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Answers its connections one after the other with what the script says, then closes them.
struct Script {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

/// Nothing here takes long.
const PATIENCE: Duration = Duration::from_secs(20);

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 1\n\n";

impl Script {
    async fn play(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let mut serving = JoinSet::new();
        let seen = Arc::clone(&requests);
        serving.spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let head = read_head(&mut socket).await;
                seen.lock().unwrap().push(head);
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        Self {
            address,
            requests,
            _serving: serving,
        }
    }

    fn client(&self) -> Client {
        let backoff = Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        };
        Client::builder(&self.address)
            .backoff(backoff)
            .build()
            .unwrap()
    }

    /// The path and query of each request so far.
    fn asked(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let target = |head: &String| head.split(' ').nth(1).unwrap().to_owned();
        requests.iter().map(target).collect()
    }
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn chunk(id: &str, kind: &str, task: &str, seq: u64) -> String {
    let id = if id.is_empty() {
        String::new()
    } else {
        format!("id: {id}\n")
    };
    let payload = format!(r#"{{"taskId":"{task}","toolName":"t","seq":{seq}}}"#);
    format!("{id}data: {{\"type\":\"background-task-{kind}\",\"payload\":{payload}}}\n\n")
}

fn json(status: &str, body: &str) -> String {
    let length = body.len();
    let kind = if status.starts_with('2') {
        "application/json"
    } else {
        "application/problem+json"
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn record(status: &str, seq: u64) -> String {
    let record = format!(
        r#"{{"task":{{"id":"a","status":"{status}","toolName":"t","args":{{}},"createdAt":"2026-11-21T00:00:00.000Z",
        "updatedAt":"2026-11-21T00:00:00.000Z","retryCount":0,"maxRetries":0,"timeoutMs":1,"namespace":"default",
        "priority":0,"attempt":1,"seq":{seq}}}}}"#
    );
    json("200 OK", &record)
}

/// What the stream brings, until so many chunks have come or it has ended; chunks as `TYPE TASK`.
async fn read(stream: &mut Stream, chunks: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.iter().filter(|it: &&String| it.contains(' ')).count() < chunks {
        let item = tokio::time::timeout(PATIENCE, stream.next()).await;
        seen.push(match item.expect("the stream says something") {
            None => break,
            Some(Err(error)) => {
                seen.push(format!("error: {error}"));
                break;
            }
            Some(Ok(Item::Connected | Item::Moved)) => continue,
            Some(Ok(Item::Lost { .. })) => "lost".into(),
            Some(Ok(Item::Chunk(chunk))) => {
                let kind = chunk.chunk_type.unwrap().as_str();
                let kind = kind.trim_start_matches("background-task-");
                let task = chunk.payload.task_id.as_ref();
                format!("{kind} {}", task.map_or("", |id| id.as_str()))
            }
            Some(Ok(other)) => panic!("{other:?} is new here"),
        });
    }
    seen
}

fn story(id: &str) -> StreamRequest {
    StreamRequest::story(id.parse().unwrap())
}

fn watch() -> StreamRequest {
    StreamRequest::watch(Filter::default())
}

#[tokio::test]
async fn a_lost_connection_is_resumed_where_it_was_and_nothing_is_shown_twice() {
    let cut = chunk("e-3", "completed", "b", 3);
    let script = Script::play(vec![
        format!(
            "{STREAM}{}id: e-1\n\n{}{}",
            chunk("", "running", "a", 1),
            chunk("e-2", "output", "a", 2),
            &cut[..cut.len() - 1],
        ),
        format!("{STREAM}{}", cut),
    ])
    .await;
    let mut stream = script.client().stream(watch());
    let seen = read(&mut stream, 3).await;
    assert_eq!(seen, ["running a", "output a", "lost", "completed b"]);
    assert_eq!(script.asked(), ["/v1/stream", "/v1/stream?after=e-2"]);
    assert_eq!(stream.cursor(), Some("e-3"));
}

#[tokio::test]
async fn a_quiet_stream_moves_the_cursor_too() {
    let script = Script::play(vec![
        format!("{STREAM}id: e-5\n\n: nothing\n\nid: e-900\n\n"),
        format!("{STREAM}{}", chunk("e-901", "output", "a", 901)),
    ])
    .await;
    let mut stream = script.client().stream(watch());
    assert_eq!(read(&mut stream, 1).await, ["lost", "output a"]);
    assert_eq!(script.asked()[1], "/v1/stream?after=e-900");
}

#[tokio::test]
async fn a_snapshot_that_was_cut_off_is_void_and_begun_anew() {
    let script = Script::play(vec![
        format!("{STREAM}{}", chunk("", "running", "a", 1)),
        format!("{STREAM}{}id: e-9\n\n", chunk("", "running", "b", 1)),
    ])
    .await;
    let mut stream = script.client().stream(watch());
    let seen = read(&mut stream, 3).await;
    assert_eq!(seen, ["running a", "stream-reset ", "lost", "running b"]);
    assert_eq!(script.asked(), ["/v1/stream", "/v1/stream"]);
}

#[tokio::test]
async fn a_reset_is_passed_on_and_its_old_cursor_forgotten() {
    let reset =
        r#"data: {"type":"stream-reset","payload":{"reason":"pruned","oldestCursor":"e-7"}}"#;
    let script = Script::play(vec![
        format!(
            "{STREAM}{}{reset}\n\n{}",
            chunk("e-1", "output", "a", 1),
            chunk("", "running", "b", 5)
        ),
        format!("{STREAM}{}", chunk("", "running", "b", 5)),
    ])
    .await;
    let mut stream = script.client().stream(watch().after("e-0"));
    let seen = read(&mut stream, 5).await;
    let expected = [
        "output a",
        "stream-reset ",
        "running b",
        "stream-reset ",
        "lost",
        "running b",
    ];
    assert_eq!(seen, expected);
    assert_eq!(script.asked(), ["/v1/stream?after=e-0", "/v1/stream"]);
}

#[tokio::test]
async fn what_the_server_refuses_for_good_ends_the_stream() {
    let statuses = [
        ("400 Bad Request", "invalid"),
        ("401 Unauthorized", "denied"),
        ("403 Forbidden", "denied"),
        ("404 Not Found", "not found"),
    ];
    for (status, expected) in statuses {
        let problem = r#"{"title":"No","detail":"not like this","field":"taskId"}"#;
        let script = Script::play(vec![json(status, problem)]).await;
        let mut stream = script.client().stream(watch());
        let error = stream.next().await.unwrap().unwrap_err();
        let kind = match &error {
            Error::Invalid(_) => "invalid",
            Error::Denied(_) => "denied",
            Error::NotFound(_) => "not found",
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(kind, expected);
        assert_eq!(error.to_string(), "not like this");
        assert_eq!(error.problem().unwrap().field.as_deref(), Some("taskId"));
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let script = Script::play(vec![
        json("503 Service Unavailable", ""),
        json("500 Internal Server Error", "oops"),
        json("429 Too Many Requests", "{}"),
        "HTTP/1.1 200 OK\r\n".into(),
        format!("{STREAM}{}", chunk("e-1", "output", "a", 1)),
    ])
    .await;
    let mut stream = script.client().stream(watch());
    let seen = read(&mut stream, 1).await;
    assert_eq!(seen, ["lost", "lost", "lost", "lost", "output a"]);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_of_ours_ends_it() {
    let html =
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi".to_owned();
    let nonsense = format!("{STREAM}data: not json\n\n");
    for answer in [html, nonsense] {
        let script = Script::play(vec![answer]).await;
        let mut stream = script.client().stream(watch());
        let seen = read(&mut stream, 1).await;
        assert!(seen[0].starts_with("error: http://127.0.0.1:"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_story_ends_when_its_task_has_and_not_when_its_server_stops() {
    let script = Script::play(vec![
        format!("{STREAM}{}", chunk("e-1", "running", "a", 1)),
        record("running", 1),
        format!("{STREAM}{}", chunk("e-2", "failed", "a", 2)),
        // Somebody retried it meanwhile.
        record("completed", 4),
        format!(
            "{STREAM}{}{}",
            chunk("e-3", "running", "a", 3),
            chunk("e-4", "completed", "a", 4)
        ),
        record("completed", 4),
    ])
    .await;
    let mut story = script.client().stream(story("a"));
    let seen = read(&mut story, 9).await;
    let expected = [
        "running a",
        "lost",
        "failed a",
        "lost",
        "running a",
        "completed a",
    ];
    assert_eq!(seen, expected);
    assert_eq!(story.ended_task().unwrap().status, Status::Completed);
    let asked = script.asked();
    assert_eq!(asked[0], "/v1/tasks/a/stream");
    assert_eq!(asked[1], "/v1/tasks/a");
    assert_eq!(asked[4], "/v1/tasks/a/stream?after=e-2");
}

#[tokio::test]
async fn a_story_whose_log_is_pruned_ends_all_the_same() {
    let script = Script::play(vec![
        STREAM.into(),
        record("completed", 4),
        "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".into(),
        record("completed", 4),
    ])
    .await;
    let mut story = script.client().stream(story("a"));
    assert_eq!(read(&mut story, 9).await, ["lost"]);
    assert_eq!(story.ended_task().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn ids_that_no_path_can_carry_go_another_way() {
    for (id, query) in [("", "id="), (".", "id=."), ("..", "id=..")] {
        let script = Script::play(vec![json("404 Not Found", "{}"); 2]).await;
        let client = script.client();
        let mut story = client.stream(story(id));
        assert!(story.next().await.unwrap().is_err());
        assert!(client.cancel(&id.parse().unwrap()).await.is_err());
        let expected =
            ["/v1/task/stream?", "/v1/task/cancel?"].map(|path| format!("{path}{query}"));
        assert_eq!(script.asked(), expected);
    }
    let script = Script::play(vec![json("404 Not Found", "{}")]).await;
    let id = "a/../b ?#ü".parse().unwrap();
    assert_eq!(script.client().get(&id).await.unwrap(), None);
    assert_eq!(script.asked(), ["/v1/tasks/a%2F..%2Fb%20%3F%23%C3%BC"]);
}

#[tokio::test]
async fn waiting_looks_once_and_then_only_when_told() {
    let script = Script::play(vec![
        format!("{STREAM}id: e-1\n\n"),
        record("running", 1),
        format!("{STREAM}{}", chunk("e-2", "cancelled", "a", 2)),
        json("503 Service Unavailable", ""),
        record("cancelled", 2),
    ])
    .await;
    let task = script.client().wait(&"a".parse().unwrap()).await.unwrap();
    assert_eq!(task.status, Status::Cancelled);
    let types =
        "type=background-task-completed&type=background-task-failed&type=background-task-cancelled";
    let asked = script.asked();
    assert_eq!(
        asked[0],
        format!("/v1/stream?taskId=a&snapshot=none&{types}")
    );
    assert_eq!(asked[2], format!("{}&after=e-1", asked[0]));
}

#[tokio::test]
async fn what_is_asked_for_is_sent() {
    let script = Script::play(vec![format!("{STREAM}id: e-1\n\n")]).await;
    let filter = Filter::default()
        .agent("a b".parse().unwrap())
        .run("r&".parse().unwrap())
        .thread("ü".parse().unwrap())
        .resource("x".parse().unwrap())
        .task("1/2".parse().unwrap())
        .tool("t".parse().unwrap());
    let request = StreamRequest::watch(filter).snapshot(SnapshotKind::Active);
    let mut stream = script.client().stream(request);
    assert!(matches!(stream.next().await, Some(Ok(Item::Connected))));
    let expected = "/v1/stream?agentId=a+b&runId=r%26&threadId=%C3%BC&resourceId=x&taskId=1%2F2\
                    &toolName=t&snapshot=active";
    assert_eq!(script.asked(), [expected]);
}
