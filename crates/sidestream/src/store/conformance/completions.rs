//! Ends that an agent is told: once, and not lost (R6).

use super::*;
use crate::store::Told;

async fn acknowledge(world: &World, namespace: &str, thread: &str, told: Told) -> u64 {
    let request = Request::Acknowledge {
        namespace: room(namespace),
        thread: ThreadId::new(thread).expect("a thread's id"),
        told,
    };
    world.removed(request).await
}

/// The ids of what a thread has not been told.
async fn untold(world: &World, thread: &str) -> Vec<String> {
    let tasks = world.untold(&room("default"), thread).await;
    tasks.iter().map(|task| task.id().to_string()).collect()
}

/// R6: every kind of end, oldest first, as long as nobody has acknowledged it.
pub(super) async fn an_end_is_told_until_it_is_acknowledged(world: &mut World) {
    let new = || NewTask::new("a").thread("thread");
    let ends = [
        ("completed", complete(Attempt(1), "1")),
        ("failed", fail(Attempt(1), "no luck")),
        ("timed-out", time_out(Attempt(1))),
        ("cancelled", Command::Cancel),
    ];
    let specs = ends.iter().rev().map(|(id, _)| spec(id, new()));
    world.dispatch_all(specs).await;
    world.dispatch(spec("unthreaded", NewTask::new("a"))).await;
    let tasks = world.claim(claim(&["a"])).await;
    assert!(untold(world, "thread").await.is_empty());
    let mut ended = Vec::new();
    for (id, end) in ends {
        let task = tasks.iter().find(|task| task.id().as_str() == id);
        ended.push(world.must(task.expect("it was claimed"), end).await);
    }
    let unthreaded = &tasks[4];
    world.must(unthreaded, Command::Cancel).await;
    let expected = ["completed", "failed", "timed-out", "cancelled"];
    assert_eq!(untold(world, "thread").await, expected);
    assert_eq!(
        untold(world, "thread").await,
        expected,
        "reading tells nobody"
    );
    let rows = world.untold(&room("default"), "thread").await;
    assert_eq!(rows, ended);
    let thread = ThreadId::new("thread").expect("a thread's id");
    let two = world
        .store()
        .completions(&room("default"), &thread, 2)
        .await;
    assert_eq!(ids(&two.expect("the store works")), expected[..2]);

    let up_to = Told::UpTo(ended[1].seq);
    assert_eq!(
        acknowledge(world, "default", "thread", up_to.clone()).await,
        2
    );
    assert_eq!(untold(world, "thread").await, expected[2..]);
    assert_eq!(acknowledge(world, "default", "thread", up_to).await, 0);
    let these = Told::These(vec![
        (ended[3].id().clone(), ended[3].seq),
        (ended[0].id().clone(), ended[0].seq),
        (task_id("nobody"), Seq(1)),
    ]);
    assert_eq!(
        acknowledge(world, "default", "thread", these.clone()).await,
        1
    );
    assert_eq!(untold(world, "thread").await, ["timed-out"]);
    assert_eq!(acknowledge(world, "default", "thread", these).await, 0);
    let everything = Told::UpTo(Seq(1_000_000));
    assert_eq!(acknowledge(world, "default", "thread", everything).await, 1);
    assert!(untold(world, "thread").await.is_empty());
}

/// R6: one thread's acknowledgement is not another's, nor that of its namesake in another room.
pub(super) async fn an_end_is_told_in_its_own_thread(world: &mut World) {
    let ended = async |namespace: &str, id: &str, thread: &str| {
        let new = NewTask::new("a").thread(thread);
        let task = world.dispatch(spec_in(&room(namespace), id, new)).await;
        world.must(&task, Command::Cancel).await
    };
    let here = ended("default", "here", "thread").await;
    let there = ended("default", "there", "thread-2").await;
    let elsewhere = ended("default-2", "here", "thread").await;
    assert_eq!(untold(world, "thread").await, ["here"]);
    assert_eq!(untold(world, "thread-2").await, ["there"]);
    assert!(untold(world, "thre").await.is_empty());
    let these = |task: &Task| Told::These(vec![(task.id().clone(), task.seq)]);
    let told = these(&there);
    assert_eq!(acknowledge(world, "default", "thread", told).await, 0);
    let told = these(&elsewhere);
    assert_eq!(acknowledge(world, "default", "thread", told).await, 0);
    let everything = || Told::UpTo(Seq(1_000_000));
    assert_eq!(
        acknowledge(world, "default-2", "thread-2", everything()).await,
        0
    );
    assert_eq!(
        acknowledge(world, "default-2", "thread", everything()).await,
        1
    );
    assert_eq!(untold(world, "thread").await, ["here"]);
    assert_eq!(untold(world, "thread-2").await, ["there"]);
    let told = these(&here);
    assert_eq!(acknowledge(world, "default", "thread", told).await, 1);
}

/// R6: a task that is tried again and ends again is told again; what was told of the first end says
/// nothing about the second.
pub(super) async fn a_task_that_ended_anew_is_told_anew(world: &mut World) {
    let new = NewTask::new("a").thread("thread");
    let task = world.dispatch(spec("t", new)).await;
    let first = world.must(&task, Command::Cancel).await;
    let told = |task: &Task| Told::These(vec![(task.id().clone(), task.seq)]);
    assert_eq!(
        acknowledge(world, "default", "thread", told(&first)).await,
        1
    );
    world.must(&task, Command::Retry).await;
    assert!(untold(world, "thread").await.is_empty(), "it has not ended");
    let everything = Told::UpTo(Seq(1_000_000));
    assert_eq!(acknowledge(world, "default", "thread", everything).await, 0);
    let second = world.must(&task, Command::Cancel).await;
    assert_eq!(untold(world, "thread").await, ["t"]);
    assert_eq!(
        acknowledge(world, "default", "thread", told(&first)).await,
        0
    );
    let early = Told::UpTo(Seq(second.seq.0 - 1));
    assert_eq!(acknowledge(world, "default", "thread", early).await, 0);
    assert_eq!(untold(world, "thread").await, ["t"]);
    assert_eq!(
        acknowledge(world, "default", "thread", told(&second)).await,
        1
    );

    let new = NewTask::new("a").thread("thread");
    let task = world.dispatch(spec("untold", new)).await;
    world.must(&task, Command::Cancel).await;
    world.must(&task, Command::Retry).await;
    assert!(untold(world, "thread").await.is_empty(), "it goes on");
    let claimed = world.claim(claim(&["a"])).await;
    world.must(&claimed[0], complete(Attempt(1), "1")).await;
    assert_eq!(untold(world, "thread").await, ["untold"], "told once");
}

/// Who deletes a task no longer wants to hear of it; another task under its name is untold.
pub(super) async fn a_deleted_task_is_not_told(world: &mut World) {
    let new = || NewTask::new("a").thread("thread");
    let task = world.dispatch(spec("t", new())).await;
    let ended = world.must(&task, Command::Cancel).await;
    world.delete(&task).await.expect("it has ended");
    assert!(untold(world, "thread").await.is_empty());
    let told = Told::These(vec![(ended.id().clone(), ended.seq)]);
    assert_eq!(acknowledge(world, "default", "thread", told).await, 0);
    let task = world.dispatch(spec("t", new())).await;
    let told = world.must(&task, Command::Cancel).await;
    assert_eq!(untold(world, "thread").await, ["t"]);
    let everything = Told::UpTo(told.seq);
    assert_eq!(acknowledge(world, "default", "thread", everything).await, 1);
    world.delete(&task).await.expect("it has ended");
    let task = world.dispatch(spec("t", new())).await;
    world.must(&task, Command::Cancel).await;
    assert_eq!(untold(world, "thread").await, ["t"], "it is another task");
}
