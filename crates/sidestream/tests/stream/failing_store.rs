//! What a stream does while its store cannot be read, and after.

use super::support::*;
use super::*;

/// A store that cannot be read is reported, each time, and when it can be the stream goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_failing_store_is_reported_and_the_stream_goes_on() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    let options = StreamOptions {
        ends_with_task: true,
        ..of(Filter::default().task(task.id().clone()))
    };
    let mut stream = process.open(options).await;
    let failing = Faults {
        fails_reads: 1_000,
        ..Faults::NONE
    };
    let fails = async |stream: &mut ChunkStream| {
        process.store.set_faults(failing);
        for _ in 0..3 {
            let next = timeout(HOUR, stream.next()).await;
            assert!(next.expect("it stays silent").unwrap().is_err());
        }
        process.store.set_faults(Faults::NONE);
    };
    // In the snapshot,
    fails(&mut stream).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    // past the ring,
    process.output(&task, 0..10).await;
    fails(&mut stream).await;
    assert_eq!(
        ready(&mut stream).await,
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    // when it is to begin anew,
    process.output(&task, 0..10).await;
    process.prune_but(2).await;
    fails(&mut stream).await;
    assert_eq!(ready(&mut stream).await, ["stream-reset", "running", "|"]);
    // and at the end.
    process.complete(&task).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);
    fails(&mut stream).await;
    assert_eq!(end(&mut stream).await, []);

    process.store.set_faults(failing);
    assert!(
        process
            .manager
            .stream(StreamOptions::default())
            .await
            .is_err()
    );
}

/// S3: who has been shown a part of a snapshot whose rest cannot be read is told so, and shown another.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_breaks_off_is_begun_anew() {
    let process = process().await;
    let mut tasks = Vec::new();
    for _ in 0..100 {
        tasks.push(process.run(NewTask::new("many")).await);
    }
    let breaking = Faults {
        breaks_snapshots: 1_000,
        ..Faults::NONE
    };
    process.store.set_faults(breaking);
    let mut stream = process.open(StreamOptions::default()).await;
    let mut resets = 0;
    for round in 0..20 {
        let shown = loop {
            match timeout(HOUR, stream.next()).await.expect("it stays silent") {
                Some(Ok(item)) => {
                    let chunk = item.chunk.expect("the snapshot has no end");
                    resets += usize::from(chunk.chunk_type == StreamReset);
                }
                Some(Err(error)) => break error,
                None => panic!("the stream has ended"),
            }
        };
        assert_eq!(shown.kind(), StoreErrorKind::Unavailable);
        assert_eq!(stream.cursor(), None);
        assert_eq!(resets, round, "each but the first begins with a reset");
    }
    process.complete(&tasks[0]).await;
    process.store.set_faults(Faults::NONE);
    let first = next_chunk(&mut stream).await;
    assert_eq!(first.chunk_type, StreamReset);
    let reason = &first.payload().expect("it is plain")["reason"];
    assert_eq!(reason, "the snapshot could not be read to its end");
    for task in &tasks[1..] {
        let chunk = next_chunk(&mut stream).await;
        assert_eq!(chunk.chunk_type, Running);
        assert_eq!(chunk.task_id(), Some(task.id()));
    }
    process.complete(&tasks[1]).await;
    assert_eq!(ready(&mut stream).await, ["|", "completed"]);
}

/// The attempts of a task retried by hand are told apart, and its story goes on after its end.
#[tokio::test(start_paused = true)]
async fn a_task_that_is_retried_goes_on_being_told() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(of(all().task(task.id().clone()))).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.manager.cancel(task.id()).await.unwrap();
    process.manager.retry(task.id()).await.unwrap();
    let task = process.claim(&task).await;
    assert_eq!(task.attempt, Attempt(2));
    assert_eq!(
        ready(&mut stream).await,
        ["cancelled", "retrying", "running"]
    );
}
