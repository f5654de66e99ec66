//! S3: a cursor that cannot be honoured is never met with silence.

use super::support::*;
use super::*;

async fn reset(process: &Process, cursor: &str) -> (serde_json::Value, ChunkStream) {
    let mut stream = process.open(after(cursor, Filter::default())).await;
    let first = next_chunk(&mut stream).await;
    assert_eq!(first.chunk_type, StreamReset);
    (first.payload().expect("it is plain"), stream)
}

/// S3: an old cursor gets `stream-reset` and a fresh snapshot.
#[tokio::test(start_paused = true)]
async fn a_pruned_cursor_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    let running = process.run(NewTask::new("runs")).await;
    process.output(&running, 0..10).await;
    process.prune_but(3).await;

    let (payload, mut stream) = reset(&process, "k3v9-8").await;
    assert_eq!(payload["reason"], "the log has been pruned past the cursor");
    assert_eq!(payload["oldestCursor"], "k3v9-9");
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.complete(&running).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Completed);

    // The oldest cursor is still honoured.
    let mut stream = process.open(after("k3v9-9", Filter::default())).await;
    assert_eq!(ready(&mut stream).await, ["7", "8", "9", "completed"]);
}

/// S3: a cursor of a lost future, as after an older copy was restored.
#[tokio::test(start_paused = true)]
async fn a_cursor_from_the_future_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    process.run(NewTask::new("runs")).await;
    for cursor in ["k3v9-3", "3", "k3v9-18446744073709551615"] {
        let (payload, mut stream) = reset(&process, cursor).await;
        assert_eq!(payload["reason"], "the cursor is ahead of the log");
        assert_eq!(ready(&mut stream).await, ["running", "|"]);
    }
}

/// S3: a cursor of another log, though its number would do.
#[tokio::test(start_paused = true)]
async fn a_cursor_of_another_log_is_told_and_gets_a_fresh_snapshot() {
    let process = process().await;
    process.run(NewTask::new("runs")).await;
    let (payload, mut stream) = reset(&process, "other-1").await;
    assert_eq!(payload["reason"], "the cursor belongs to another log");
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
}

/// S3: who reads too slowly for the retention is told as well, and loses no more than that.
#[tokio::test(start_paused = true)]
async fn a_reader_overtaken_by_the_pruning_is_told() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("runs")).await;
    let mut stream = process.open(StreamOptions::default()).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    process.output(&task, 0..20).await;
    process.prune_but(10).await;
    assert_eq!(ready(&mut stream).await, ["stream-reset", "running", "|"]);
    process.output(&task, [20]).await;
    assert_eq!(ready(&mut stream).await, ["20"]);
}

/// S3: what was pruned before a process had read it is no silent gap, and no end of the process.
#[tokio::test(start_paused = true)]
async fn a_process_overtaken_by_the_pruning_goes_on() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let cut_off = process_on(&database, RingLimits::default()).await;
    let mut wide = cut_off.open(StreamOptions::default()).await;
    let thread = ThreadId::new("t1").unwrap();
    let mut narrow = cut_off.open(of(Filter::default().thread(thread))).await;
    assert_eq!(ready(&mut wide).await, ["|"]);
    assert_eq!(ready(&mut narrow).await, ["|"]);

    cut_off.store.set_faults(Faults {
        fails_reads: 1_000,
        ..Faults::NONE
    });
    let task = here.run(NewTask::new("runs").thread("t1")).await;
    here.output(&task, 0..20).await;
    here.prune_but(5).await;
    tokio::time::sleep(3 * SECOND).await;
    cut_off.store.set_faults(Faults::NONE);
    // A commit of its own, for which it must know what came before.
    cut_off.dispatch(NewTask::new("waits")).await;

    for stream in [&mut wide, &mut narrow] {
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(ready(stream).await, ["stream-reset", "running", "|"]);
    }
    here.complete(&task).await;
    assert_eq!(next_chunk(&mut wide).await.chunk_type, Completed);
    assert_eq!(next_chunk(&mut narrow).await.chunk_type, Completed);
}

/// S3, S7: silence is no reason to be told to begin anew: a quiet thread has missed nothing, however much
/// has happened elsewhere and been pruned.
#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_not_overtaken_by_what_it_did_not_ask_for() {
    let process = process_on(&database(), small_ring()).await;
    let quiet = process.run(NewTask::new("quiet").thread("t1")).await;
    let thread = ThreadId::new("t1").unwrap();
    let mut stream = process.open(of(Filter::default().thread(thread))).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    let loud = process.run(NewTask::new("loud")).await;
    for n in 0..20 {
        process.output(&loud, [n]).await;
    }
    process.prune_but(2).await;
    process.complete(&quiet).await;
    assert_eq!(ready(&mut stream).await, ["completed"]);
}
