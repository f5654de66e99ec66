//! S7: the cursor moves on a quiet stream, too.

use super::support::*;
use super::*;

/// S7: a quiet stream's cursor goes on with the log, so that it can be resumed after what it did not ask
/// for has been pruned.
#[tokio::test(start_paused = true)]
async fn the_cursor_moves_on_a_quiet_stream() {
    let process = process().await;
    let thread = Filter::default().thread(ThreadId::new("quiet").unwrap());
    let agent = Filter::default().agent(AgentId::new("quiet").unwrap());
    for filter in [thread, agent] {
        let options = StreamOptions {
            keep_alive: Some(15 * SECOND),
            ..of(filter.clone())
        };
        let mut stream = process.open(options).await;
        assert_eq!(next(&mut stream).await.chunk, None);
        let loud = process.run(NewTask::new("loud")).await;
        process.output(&loud, 0..100).await;
        let head = process.manager.head().await.unwrap().seq;

        let began = Instant::now();
        let mut cursor = None;
        while cursor
            .as_ref()
            .is_none_or(|cursor: &Cursor| cursor.seq < head)
        {
            let item = next(&mut stream).await;
            assert_eq!(item.chunk, None);
            cursor = item.cursor;
        }
        assert!(began.elapsed() <= 30 * SECOND, "{:?}", began.elapsed());
        assert_eq!(stream.cursor(), cursor.as_ref());

        process.complete(&loud).await;
        process.prune_but(1).await;
        let mut resumed = process
            .open(after(&cursor.unwrap().to_string(), filter))
            .await;
        assert_eq!(ready(&mut resumed).await, [""; 0]);
    }
}

/// S7: a keep-alive comes when nothing else does, and not before.
#[tokio::test(start_paused = true)]
async fn a_keep_alive_comes_only_after_silence() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let options = StreamOptions {
        keep_alive: Some(15 * SECOND),
        ..StreamOptions::default()
    };
    let mut stream = process.open(options).await;
    assert_eq!(ready(&mut stream).await, ["running", "|"]);
    for n in 0..5 {
        tokio::time::sleep(10 * SECOND).await;
        process.output(&task, [n]).await;
        assert_eq!(next_chunk(&mut stream).await.chunk_type, Output);
    }
    let began = Instant::now();
    assert_eq!(next(&mut stream).await.chunk, None);
    assert_eq!(began.elapsed().as_secs(), 15);
}
