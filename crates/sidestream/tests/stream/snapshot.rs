//! S1: a stream opens with a snapshot, and goes on with everything after it.

use super::support::*;
use super::*;

/// S1: how things stand, the moment of that, and from there on everything.
#[tokio::test(start_paused = true)]
async fn a_stream_opens_with_what_runs_and_goes_on_with_what_happens() {
    let process = process().await;
    let running = process.run(NewTask::new("runs")).await;
    let suspended = process.run(NewTask::new("asks")).await;
    process.suspend(&suspended).await;
    process.dispatch(NewTask::new("waits")).await;
    let head = process.manager.head().await.unwrap().seq;

    let mut streams = Vec::new();
    for snapshot in [
        SnapshotKind::Running,
        SnapshotKind::Active,
        SnapshotKind::None,
    ] {
        streams.push(
            process
                .open(StreamOptions {
                    snapshot,
                    ..of(all())
                })
                .await,
        );
    }
    process.output(&running, [7]).await;
    process.complete(&running).await;
    process
        .manager
        .resume(suspended.id(), json!(true))
        .await
        .unwrap();
    process.claim(&suspended).await;

    let news = ["7", "completed", "queued", "resumed"];
    let snapshots: [&[&str]; 3] = [
        &["running", "|"],
        &["running", "suspended", "started", "|"],
        &["|"],
    ];
    for (stream, snapshot) in streams.iter_mut().zip(snapshots) {
        assert_eq!(stream.cursor(), None);
        assert_eq!(ready(stream).await, [snapshot, &news].concat());
        let cursor = Cursor::new(Epoch::new("k3v9").unwrap(), Seq(head.0 + 4));
        assert_eq!(stream.cursor(), Some(&cursor));
    }
}

/// S1: the snapshot is of the moment of opening, however late it is read, and however often the task has
/// changed since; what it waits for is shown as well.
#[tokio::test(start_paused = true)]
async fn a_snapshot_shows_its_own_moment_however_late_it_is_read() {
    let process = process().await;
    let tasks = [NewTask::new("a"), NewTask::new("b")];
    let [running, suspended] = tasks.map(|task| process.run(task));
    let (running, suspended) = (running.await, suspended.await);
    process.suspend(&suspended).await;
    let options = StreamOptions {
        snapshot: SnapshotKind::Active,
        ..StreamOptions::default()
    };
    let mut stream = process.open(options).await;
    process.complete(&running).await;
    process.manager.delete(running.id()).await.unwrap();
    process
        .manager
        .resume(suspended.id(), json!(true))
        .await
        .unwrap();
    process.claim(&suspended).await;

    let first = next_chunk(&mut stream).await;
    assert_eq!(
        (first.chunk_type, first.task_id()),
        (Running, Some(running.id()))
    );
    let second = next_chunk(&mut stream).await;
    assert_eq!(
        second.payload().expect("it is plain")["suspendPayload"],
        "may I?"
    );
    assert_eq!(second.payload().expect("it is plain")["attempt"], 1);
    assert_eq!(ready(&mut stream).await, ["|", "completed", "resumed"]);
}

/// S1: a snapshot of many pages is one moment all the same.
#[tokio::test(start_paused = true)]
async fn a_snapshot_of_many_pages_is_one_moment() {
    let process = process().await;
    let mut tasks = Vec::new();
    for _ in 0..700 {
        tasks.push(process.run(NewTask::new("many")).await);
    }
    let mut stream = process.open(StreamOptions::default()).await;
    let mut seen = 0;
    while next(&mut stream).await.chunk.is_some() {
        // Others end while it is being shown.
        process.complete(&tasks[699 - seen]).await;
        seen += 1;
    }
    assert_eq!(seen, 700);
    for _ in 0..700 {
        assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);
    }
}
