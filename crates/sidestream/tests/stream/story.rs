//! A stream of one task ends when all of its story is told.

use super::support::*;
use super::*;

fn story_of(id: &TaskId, types: &[ChunkType]) -> StreamOptions {
    StreamOptions {
        ends_with_task: true,
        ..after(
            "0",
            Filter::default()
                .task(id.clone())
                .types(types.iter().copied()),
        )
    }
}

/// A task's story ends after its last chunk, not before, and not never: whatever of it is asked for.
#[tokio::test(start_paused = true)]
async fn a_story_ends_when_all_of_it_is_told() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut others = of(Filter::default()
        .task(task.id().clone())
        .tool(ToolName::new("other").unwrap()));
    others.ends_with_task = true;
    let mut streams = [
        process.open(story_of(task.id(), &ChunkType::ALL)).await,
        process.open(story_of(task.id(), &[Output])).await,
        process.open(story_of(task.id(), &[Cancelled])).await,
        process.open(others).await,
    ];
    for stream in &mut streams {
        // It has looked once, and the task goes on.
        ready(stream).await;
    }
    process.output(&task, [1]).await;
    process.suspend(&task).await;
    process
        .manager
        .resume(task.id(), json!(true))
        .await
        .unwrap();
    let task = process.claim(&task).await;
    process.complete(&task).await;
    let told: [&[ChunkType]; 4] = [
        &[Output, Suspended, Queued, Resumed, Completed],
        &[Output],
        &[],
        &[],
    ];
    for (stream, told) in streams.iter_mut().zip(told) {
        assert_eq!(end(stream).await, told);
    }
    let mut late = process
        .open(story_of(task.id(), &[Started, Completed]))
        .await;
    assert_eq!(end(&mut late).await, [Started, Completed]);
}

/// A task that is deleted right after its end has its story told to that end.
#[tokio::test(start_paused = true)]
async fn a_story_ends_with_its_end_though_the_task_is_gone() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(story_of(task.id(), &[])).await;
    assert_eq!(next_chunk(&mut stream).await.chunk_type, Running);
    // While the stream asks whether the task has ended, it ends, and is deleted.
    let delays = Faults {
        delays: 1_000,
        delay_max: SECOND,
        ..Faults::NONE
    };
    process.store.set_faults(delays);
    let finished = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        process.store.set_faults(Faults::NONE);
        process.complete(&task).await;
        process.manager.delete(task.id()).await.unwrap();
    };
    let (told, ()) = tokio::join!(end(&mut stream), finished);
    assert_eq!(told, [Completed]);
    // Of one that never was there is nothing to tell.
    let nobody = TaskId::new("nobody").unwrap();
    assert_eq!(
        end(&mut process.open(story_of(&nobody, &[])).await).await,
        []
    );
}

/// A story whose end has been pruned ends as well.
#[tokio::test(start_paused = true)]
async fn a_story_ends_though_its_end_has_been_pruned() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells")).await;
    let mut stream = process.open(story_of(task.id(), &[])).await;
    assert_eq!(ready(&mut stream).await, ["running"]);
    process.complete(&task).await;
    let loud = process.run(NewTask::new("loud")).await;
    process.output(&loud, 0..20).await;
    process.prune_but(2).await;
    assert_eq!(end(&mut stream).await, [StreamReset]);
}
