//! S2 and S8: who comes back, or comes late, gets exactly what it has not seen.

use super::support::*;
use super::*;

/// S2: whoever gives a cursor gets exactly what followed: at each place of a story, in this process and
/// in another, with the log named or not.
#[tokio::test(start_paused = true)]
async fn a_stream_resumes_exactly_at_every_cursor_of_a_story() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let elsewhere = process_on(&database, small_ring()).await;
    let task = here.run(NewTask::new("tells").thread("t1")).await;
    here.output(&task, [1, 2, 3]).await;
    here.suspend(&task).await;
    here.run(NewTask::new("noise")).await;
    here.manager.resume(task.id(), json!(true)).await.unwrap();
    let task = here.claim(&task).await;
    here.output(&task, [4]).await;
    here.complete(&task).await;

    let filter = || all().thread(ThreadId::new("t1").unwrap());
    let mut story = here.open(after("0", filter())).await;
    let mut told: Vec<(String, Option<Cursor>)> = Vec::new();
    while told.len() < 10 {
        let item = next(&mut story).await;
        told.push((item.chunk.unwrap().json().to_string(), item.cursor));
    }
    for (nth, (_, cursor)) in told.iter().enumerate() {
        let cursor = cursor.as_ref().unwrap();
        for process in [&here, &elsewhere] {
            for place in [cursor.to_string(), cursor.seq.to_string()] {
                let mut resumed = process.open(after(&place, filter())).await;
                assert_eq!(resumed.cursor().map(|cursor| cursor.seq), Some(cursor.seq));
                for (json, _) in &told[nth + 1..] {
                    assert_eq!(**next_chunk(&mut resumed).await.json(), **json);
                }
                assert_eq!(ready(&mut resumed).await, [""; 0]);
            }
        }
    }
}

/// S2: what one process writes, the streams of another bring at once, and without being polled for.
#[tokio::test(start_paused = true)]
async fn streams_of_other_processes_see_it_too() {
    let database = database();
    let here = process_on(&database, RingLimits::default()).await;
    let elsewhere = process_on(&database, RingLimits::default()).await;
    let mut stream = elsewhere.open(StreamOptions::default()).await;
    assert_eq!(next(&mut stream).await.chunk, None);
    let began = Instant::now();
    here.run(NewTask::new("runs")).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    assert_eq!(began.elapsed(), Duration::ZERO);

    // And where the bell does not ring, a little later.
    elsewhere.store.set_faults(Faults {
        drops_bells: 1_000,
        ..Faults::NONE
    });
    here.run(NewTask::new("runs")).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    assert!(began.elapsed() <= SECOND, "{:?}", began.elapsed());
}

/// S8: all of a task's output can be replayed, by who comes late, and again, while it still goes on.
#[tokio::test(start_paused = true)]
async fn a_late_reader_replays_all_output_from_the_start() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    for page in 0..15 {
        process.output(&task, page * 100..(page + 1) * 100).await;
    }
    for _ in 0..2 {
        let mut story = process
            .open(after("0", Filter::default().task(task.id().clone())))
            .await;
        assert_eq!(next_chunk(&mut story).await.chunk_type, Running);
        for n in 0..1_500 {
            assert_eq!(
                next_chunk(&mut story).await.payload().expect("it is plain")["payload"],
                n
            );
        }
        assert_eq!(ready(&mut story).await, [""; 0]);
    }
}
