//! What a worker does while all is well, and when the server goes away for a while.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sidestream::core::Attempt;
use sidestream::{Context, HandlerError, NewTask, Status, Tool};
use sidestream_client::Error;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use crate::proxy::Way;
use crate::site::{PATIENCE, Site};

fn work<F>(call: impl Fn(Context) -> F + Send + Sync + 'static) -> Tool
where
    F: Future<Output = Result<Value, HandlerError>> + Send + 'static,
{
    Tool::new("work", move |context: Context, _: Value| call(context))
}

/// Tells that it runs, and waits to be stopped.
fn stuck(tell: mpsc::UnboundedSender<Instant>) -> Tool {
    work(move |context| {
        let tell = tell.clone();
        async move {
            tell.send(Instant::now()).unwrap();
            context.cancelled().cancelled().await;
            tell.send(Instant::now()).unwrap();
            Ok(json!("too late"))
        }
    })
}

async fn next<T>(told: &mut mpsc::UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, told.recv())
        .await
        .expect("it is not told")
        .unwrap()
}

/// A handler elsewhere is called as one here would be, and what it does is kept as if it were.
#[tokio::test]
async fn a_worker_elsewhere_does_all_that_one_here_does() {
    let site = Site::open().await;
    let tool = work(|context| async move {
        let task = context.task();
        assert_eq!(task.args.as_str(), r#"{"q":1}"#);
        assert_eq!(task.agent_id.as_ref().unwrap().as_str(), "a1");
        assert_eq!(task.namespace.as_str(), "default");
        assert!(context.time_left() > Duration::from_secs(200));
        match (context.attempt(), context.resume_data::<Value>()?) {
            (Attempt(1), _) => {
                context.output("first").await?;
                Err(HandlerError::retryable("no luck"))
            }
            (Attempt(2), _) => Err(context.suspend(&json!({"may": "I"}))),
            (_, answer) => {
                for n in 0..500 {
                    context.output(&n).await?;
                }
                Ok(json!({"answer": answer}))
            }
        }
    });
    let worker = site
        .worker()
        .tool(tool)
        .tool(Tool::remote("other"))
        .start()
        .await
        .unwrap();
    let mut stream = site
        .client()
        .stream(sidestream_client::StreamRequest::watch(
            sidestream_client::Filter::default().types([sidestream_client::ChunkType::Suspended]),
        ));
    let id = site
        .dispatch(NewTask::new("work").agent("a1").max_retries(1u32))
        .await;
    loop {
        let item = timeout(PATIENCE, stream.next())
            .await
            .expect("it is not suspended");
        if let sidestream_client::Item::Chunk(_) = item.unwrap().unwrap() {
            break;
        }
    }
    let asking = site.manager.get(&id).await.unwrap().unwrap();
    assert_eq!(asking.suspend_payload.unwrap().as_str(), r#"{"may":"I"}"#);
    site.manager.resume(&id, json!("yes")).await.unwrap();
    let task = site.completed(&id).await;
    assert_eq!(task.result.unwrap().as_str(), r#"{"answer":"yes"}"#);
    assert_eq!(task.worker_id.as_ref(), Some(worker.id()));
    assert!(worker.id().as_str().starts_with("afar-"));
    let outputs = site.outputs(&id).await;
    let expected = (0..500).map(|n| (3, n.to_string()));
    let expected: Vec<_> = [(1, "\"first\"".to_owned())]
        .into_iter()
        .chain(expected)
        .collect();
    assert_eq!(outputs, expected);

    let brief = NewTask::new("work")
        .agent("a1")
        .timeout(Duration::from_millis(100));
    drop(brief);
    timeout(PATIENCE, worker.shutdown())
        .await
        .expect("it does not stop");
}

/// R3: within a second, whatever the lease says.
#[tokio::test]
async fn a_cancelled_task_is_stopped_within_a_second() {
    let site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let worker = site
        .worker()
        .tool(stuck(tell))
        .lease(Duration::from_secs(3_600));
    let _worker = worker.start().await.unwrap();
    for _ in 0..3 {
        let id = site.dispatch(NewTask::new("work")).await;
        next(&mut told).await;
        let cancelled = Instant::now();
        site.manager.cancel(&id).await.unwrap();
        let heard = next(&mut told).await - cancelled;
        assert!(heard < Duration::from_secs(1), "{heard:?}");
        assert_eq!(site.end_of(&id).await.status, Status::Cancelled);
    }
}

/// R7: an attempt that takes too long is stopped, and reported as what it is.
#[tokio::test]
async fn an_attempt_that_takes_too_long_times_out() {
    let site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let _worker = site.worker().tool(stuck(tell)).start().await.unwrap();
    let task = NewTask::new("work").timeout(Duration::from_millis(200));
    let id = site.dispatch(task).await;
    let began = next(&mut told).await;
    assert!(next(&mut told).await - began >= Duration::from_millis(150));
    let task = site.end_of(&id).await;
    assert_eq!(task.status, Status::TimedOut);
    assert_eq!(&*task.error.unwrap().message, "Task timed out after 200ms");
}

/// R1, S8: what was said while the server was away is said again, and kept once.
#[tokio::test]
async fn a_worker_goes_on_when_its_server_comes_back() {
    let mut site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let gone_on = Arc::clone(&go);
    let tool = work(move |context| {
        let (tell, go) = (tell.clone(), Arc::clone(&gone_on));
        async move {
            context.output("before").await?;
            context.flush().await?;
            tell.send(()).unwrap();
            go.notified().await;
            for n in 0..3 {
                context.output(&n).await?;
            }
            Ok(json!("done"))
        }
    });
    let _worker = site
        .worker()
        .tool(tool)
        .concurrency(1)
        .start()
        .await
        .unwrap();
    for ends_well in [true, false] {
        let id = site.dispatch(NewTask::new("work")).await;
        next(&mut told).await;
        match ends_well {
            true => site.stop_server().await,
            false => site.crash_server().await,
        }
        go.notify_one();
        // It is claimed when the server is back, too.
        let later = site.dispatch(NewTask::new("work")).await;
        site.start_server().await;
        let task = site.completed(&id).await;
        assert_eq!(task.attempt, Attempt(1));
        let outputs: Vec<_> = site
            .outputs(&id)
            .await
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(outputs, ["\"before\"", "0", "1", "2"]);
        next(&mut told).await;
        go.notify_one();
        site.completed(&later).await;
    }
}

/// R1: a report whose answer was lost is repeated, and heard once.
#[tokio::test]
async fn a_report_whose_answer_is_lost_is_heard_once() {
    let site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let gone_on = Arc::clone(&go);
    let tool = work(move |context| {
        let (tell, go) = (tell.clone(), Arc::clone(&gone_on));
        async move {
            tell.send(()).unwrap();
            go.notified().await;
            for n in 0..3 {
                context.output(&n).await?;
                // Each by a report of its own, of which the answer does not come.
                if n < 2 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Ok(json!("done"))
        }
    });
    let _worker = site
        .worker()
        .tool(tool)
        .concurrency(1)
        .start()
        .await
        .unwrap();
    let id = site.dispatch(NewTask::new("work")).await;
    next(&mut told).await;
    site.proxy.set(Way::LosesAnswers);
    go.notify_one();
    let heard = async {
        while site.outputs(&id).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, heard).await.expect("nothing is heard");
    // It goes on saying the same.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(site.outputs(&id).await.len(), 1);
    site.proxy.set(Way::Open);
    let task = site.completed(&id).await;
    assert_eq!(
        (task.attempt, site.outputs(&id).await.len()),
        (Attempt(1), 3)
    );
}

/// A worker that is told to stop claims no more, lets what runs finish, and hands back what does not.
#[tokio::test]
async fn a_worker_that_is_shut_down_drains() {
    let site = Site::open().await;
    let (tell, mut told) = mpsc::unbounded_channel();
    let tool = work(move |context| {
        let tell = tell.clone();
        async move {
            tell.send(()).unwrap();
            if context.task().agent_id.is_some() {
                context.cancelled().cancelled().await;
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(json!("finished"))
        }
    });
    let worker = site.worker().tool(tool).grace(Duration::from_millis(800));
    let worker = worker.start().await.unwrap();
    let finishes = site.dispatch(NewTask::new("work")).await;
    let stuck = site
        .dispatch(NewTask::new("work").agent("a").max_retries(1u32))
        .await;
    next(&mut told).await;
    next(&mut told).await;
    let began = Instant::now();
    let stopping = async {
        worker.shutdown().await;
        began.elapsed()
    };
    let late = async {
        // Its claim waits at the server, and must not be given this.
        tokio::time::sleep(Duration::from_millis(200)).await;
        site.dispatch(NewTask::new("work")).await
    };
    let (took, late) = timeout(PATIENCE, async { tokio::join!(stopping, late) })
        .await
        .unwrap();
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(
        site.completed(&finishes).await.result.unwrap().as_str(),
        "\"finished\""
    );
    let task = site.manager.get(&stuck).await.unwrap().unwrap();
    let why = format!(
        "worker {} was shut down before attempt 1 ended",
        worker.id()
    );
    assert_eq!(
        (task.status, &*task.error.unwrap().message),
        (Status::Pending, why.as_str())
    );
    let late = site.manager.get(&late).await.unwrap().unwrap();
    assert_eq!(late.status, Status::Pending);
}

/// A server that will never let it work is told apart from one that is away.
#[tokio::test]
async fn a_worker_that_is_refused_says_so() {
    let site = Site::open().await;
    let nothing = site.worker().start().await;
    assert!(matches!(nothing, Err(Error::Configuration(_))));
    let (tell, _told) = mpsc::unbounded_channel();
    let worker = site
        .worker()
        .tool(stuck(tell.clone()))
        .lease(Duration::from_millis(1));
    let worker = worker.start().await.unwrap();
    let refused = timeout(PATIENCE, worker.refused())
        .await
        .expect("it is not refused");
    assert!(refused.to_string().contains("leaseMs is 1"), "{refused}");
    timeout(PATIENCE, worker.shutdown())
        .await
        .expect("it does not stop");
}
