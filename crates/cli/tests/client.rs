//! The client against the real server, call by call: what its own tests play from a script.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;
use sidestream::{Context, HandlerError, MemoryStore, TaskManager, Tool};
use sidestream_client::{
    Client, Dispatched, Error, Filter, Item, Json, ListRequest, NewTask, Status, StreamRequest,
};
use sidestream_server::{Server, ServerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Running {
    client: Client,
    _serving: JoinSet<()>,
}

async fn serve() -> Running {
    let echo = Tool::new(
        "echo",
        |context: Context, args: serde_json::Value| async move {
            context.output(&args).await?;
            Ok::<_, HandlerError>(args)
        },
    );
    let ask = Tool::new("ask", |context: Context, _: serde_json::Value| async move {
        match context.resume_data::<String>()? {
            Some(answer) => Ok(answer),
            None => Err(context.suspend("well?")),
        }
    });
    let forever = Tool::new(
        "forever",
        |context: Context, _: serde_json::Value| async move {
            context.cancelled().cancelled().await;
            Ok::<_, HandlerError>(())
        },
    );
    let manager = TaskManager::builder(MemoryStore::new()).tools([echo, ask, forever]);
    let manager = manager.start().await.unwrap();
    let config = ServerConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        ..ServerConfig::default()
    };
    let store = manager.store().clone();
    let server = Server::bind(config, Some(manager), store).await.unwrap();
    let client = Client::new(format!("http://{}", server.local_addr())).unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(server.run(CancellationToken::new()));
    Running {
        client,
        _serving: serving,
    }
}

fn call(tool: &str) -> NewTask {
    NewTask::new(tool).args(json!({"q": 1}))
}

async fn dispatch(client: &Client, task: NewTask) -> sidestream::TaskId {
    client.dispatch(&task).await.unwrap().id().unwrap().clone()
}

#[tokio::test]
async fn a_task_is_dispatched_waited_for_listed_retried_and_deleted() {
    let Running { client, _serving } = serve().await;
    let task = call("echo").agent("a1").idempotency_key("k");
    let first = client.dispatch(&task).await.unwrap();
    assert!(matches!(first, Dispatched::New(_)));
    let again = client.dispatch(&task).await.unwrap();
    assert!(matches!(again, Dispatched::Known(_)));
    let id = first.id().unwrap();
    assert_eq!(again.id(), Some(id));

    let ended = client.wait(id).await.unwrap();
    assert_eq!(ended.status, Status::Completed);
    assert_eq!(client.get(id).await.unwrap(), Some(ended));
    let page = client.list(&ListRequest::default()).await.unwrap();
    assert_eq!(
        (page.total, page.tasks.len(), page.next_cursor),
        (1, 1, None)
    );
    assert!(matches!(client.retry(id).await, Err(Error::Rejected(_))));
    client.delete(id).await.unwrap();
    assert_eq!(client.get(id).await.unwrap(), None);
    assert!(matches!(client.delete(id).await, Err(Error::NotFound(_))));
    assert!(matches!(client.wait(id).await, Err(Error::NotFound(_))));
    assert!(client.is_healthy().await);
}

#[tokio::test]
async fn pages_follow_one_another_to_the_last() {
    let Running { client, _serving } = serve().await;
    for _ in 0..5 {
        dispatch(&client, call("echo")).await;
    }
    let mut list = ListRequest {
        limit: Some(2),
        is_descending: true,
        ..ListRequest::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = client.list(&list).await.unwrap();
        assert_eq!(page.total, 5);
        ids.extend(page.tasks.into_iter().map(|task| task.id));
        list.cursor = page.next_cursor;
        if list.cursor.is_none() {
            break;
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_suspended_task_is_resumed_and_a_running_one_cancelled() {
    let Running { client, _serving } = serve().await;
    let mut news = client.stream(StreamRequest::watch(Filter::default()));
    while !matches!(news.next().await.unwrap().unwrap(), Item::Moved) {}
    let asks = dispatch(&client, call("ask")).await;
    loop {
        if let Item::Chunk(chunk) = news.next().await.unwrap().unwrap()
            && let Some(payload) = &chunk.payload.suspend_payload
        {
            assert_eq!(payload.as_str(), "\"well?\"");
            break;
        }
    }
    client.resume(&asks, &Json::string("yes")).await.unwrap();
    let ended = client.wait(&asks).await.unwrap();
    assert_eq!(ended.result.unwrap().as_str(), "\"yes\"");

    let forever = dispatch(&client, call("forever")).await;
    assert_eq!(
        client.cancel(&forever).await.unwrap().status,
        Status::Cancelled
    );
    assert!(matches!(
        client.resume(&forever, &Json::string("x")).await,
        Err(Error::Rejected(_))
    ));
    assert_eq!(
        client.retry(&forever).await.unwrap().status,
        Status::Pending
    );
}

#[tokio::test]
async fn a_story_is_whole_and_ends() {
    let Running { client, _serving } = serve().await;
    let id = dispatch(&client, call("echo")).await;
    let mut story = client.stream(StreamRequest::story(id));
    let mut types = Vec::new();
    while let Some(item) = story.next().await {
        if let Item::Chunk(chunk) = item.unwrap() {
            types.push(
                chunk
                    .chunk_type
                    .unwrap()
                    .as_str()
                    .trim_start_matches("background-task-"),
            );
        }
    }
    assert_eq!(types, ["started", "running", "output", "completed"]);
    assert_eq!(story.ended_task().unwrap().status, Status::Completed);
}

#[tokio::test]
async fn an_end_is_told_until_it_is_acknowledged() {
    let Running { client, _serving } = serve().await;
    // An id that no path can carry.
    for thread in ["t/1", "..", "."] {
        let id = dispatch(&client, call("echo").thread(thread)).await;
        client.wait(&id).await.unwrap();
        let thread = thread.parse().unwrap();
        let untold = client.completions(&thread).await.unwrap().tasks;
        assert_eq!(untold.len(), 1);
        assert_eq!(untold[0].id, id);
        assert_eq!(client.acknowledge(&thread, &untold).await.unwrap(), 1);
        assert_eq!(client.acknowledge(&thread, &untold).await.unwrap(), 0);
        assert_eq!(client.completions(&thread).await.unwrap().tasks, []);
    }
}

#[tokio::test]
async fn a_record_is_kept_for_its_owner_whatever_its_id() {
    let Running { client, _serving } = serve().await;
    for id in ["mine", "a/b", "", ".", "..", "🙂"] {
        let document = json!({"id": id, "subagentType": "researcher", "description": "d", "status": "running"});
        let document = Json::from(document);
        let id = id.parse().unwrap();
        let kept = client.record(&id, &document).await.unwrap();
        assert_eq!((&kept.id, kept.status), (&id, Status::Running));
        let found = client.get(&id).await.unwrap().unwrap();
        assert_eq!(&*found.tool_name, "researcher");
        assert!(matches!(client.cancel(&id).await, Err(Error::Rejected(_))));
    }
}

#[tokio::test]
async fn what_cannot_be_accepted_is_named() {
    let Running { client, _serving } = serve().await;
    let error = client.dispatch(&call("nosuch")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    assert_eq!(error.problem().unwrap().field.as_deref(), Some("toolName"));
    let role = client.add_key("x", "king", None).await.unwrap_err();
    assert_eq!(role.problem().unwrap().field.as_deref(), Some("role"));

    let key = client.add_key("x", "read", None).await.unwrap();
    // From the first key on, one is needed.
    assert!(matches!(
        client.list(&ListRequest::default()).await,
        Err(Error::Denied(_))
    ));
    let reader = Client::builder(client.base())
        .api_key(key.key.unwrap())
        .build()
        .unwrap();
    assert_eq!(reader.list(&ListRequest::default()).await.unwrap().total, 0);
    assert!(matches!(
        reader.dispatch(&call("echo")).await,
        Err(Error::Denied(_))
    ));
    assert!(matches!(reader.keys().await, Err(Error::Denied(_))));
}

#[test]
fn what_is_no_address_or_key_is_refused_at_once() {
    for base in [
        "",
        "127.0.0.1:7600",
        "ftp://x",
        "http://",
        "http://x/?a=b",
        "http://u@x",
    ] {
        let refused = Client::new(base);
        assert!(matches!(refused, Err(Error::Configuration(_))), "{base:?}");
    }
    let refused = Client::builder("http://x").api_key("a\nb").build();
    assert!(matches!(refused, Err(Error::Configuration(_))));
    assert_eq!(
        Client::new("http://x/base").unwrap().base(),
        "http://x/base"
    );
}
