//! S4 and S5: a slow reader costs only its own reads, and one that leaves costs nothing more.

use super::support::*;
use super::*;

/// S4: past the ring there is the log: a reader that sleeps gets every event, in order, and nobody waits
/// for it.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything_and_holds_up_nobody() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells").thread("t1")).await;
    let thread = Filter::default().thread(ThreadId::new("t1").unwrap());
    let mut slow = [
        process.open(StreamOptions::default()).await,
        process.open(of(thread)).await,
        process
            .open(of(Filter::default().task(task.id().clone())))
            .await,
    ];
    let mut quick = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut quick).await, ["running", "|"]);
    for n in 0..3_000 {
        process.output(&task, [n]).await;
        assert_eq!(
            next_chunk(&mut quick).await.payload().expect("it is plain")["payload"],
            n
        );
    }
    for stream in &mut slow {
        assert_eq!(next_chunk(stream).await.chunk_type, Running);
        assert_eq!(next(stream).await.chunk, None);
        for n in 0..3_000 {
            assert_eq!(
                next_chunk(stream).await.payload().expect("it is plain")["payload"],
                n
            );
        }
    }
}

/// S5: nothing is left of a stream that is dropped, whatever it was doing.
#[tokio::test(start_paused = true)]
async fn dropping_a_stream_frees_it_at_once() {
    let process = process().await;
    let mut streams = Vec::new();
    for nth in 0..100 {
        let thread = ThreadId::new(format!("t{nth}")).unwrap();
        streams.push(process.open(of(Filter::default().thread(thread))).await);
    }
    for stream in streams.iter_mut().take(50) {
        // In the midst of waiting.
        assert_eq!(ready(stream).await, ["|"]);
    }
    assert_eq!(process.manager.stats().streams_open, 100);
    drop(streams);
    assert_eq!(process.manager.stats().streams_open, 0);
}

/// S5: so it is when its token is cancelled, or the manager shut down: it ends, and says so.
#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_ends_and_so_does_one_of_a_process_that_stops() {
    let process = process().await;
    let options = StreamOptions {
        cancel: Some(Default::default()),
        ..StreamOptions::default()
    };
    let mut cancelled = process.open(options.clone()).await;
    let mut stopped = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut cancelled).await, ["|"]);
    assert_eq!(ready(&mut stopped).await, ["|"]);
    options.cancel.unwrap().cancel();
    assert_eq!(end(&mut cancelled).await, []);
    assert_eq!(process.manager.stats().streams_open, 1);
    assert_eq!(ready(&mut stopped).await, [""; 0]);
    process.manager.shutdown().await;
    assert_eq!(end(&mut stopped).await, []);
    assert_eq!(process.manager.stats().streams_open, 0);
}
