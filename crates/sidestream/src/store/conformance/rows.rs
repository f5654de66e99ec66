//! The rows: what the events amount to (L3).

use super::*;
use crate::store::Prune;

/// What a random walk through the commands leaves; the audit does the comparing (L3).
pub(super) async fn a_row_is_the_fold_of_its_events(world: &mut World) {
    for seed in 0..4 {
        let mut random = Random(seed);
        for _ in 0..250 {
            let request = any_request(world, &mut random).await;
            // Most are refused: the walk asks for anything at any time.
            drop(world.commit_one(request).await);
            world
                .clock
                .advance_ms(i64::try_from(random.below(3_000)).expect("small"));
        }
        world.audit().await;
    }
}

/// Any request for any of a few tasks; a report's attempt is mostly the right one.
async fn any_request(world: &World, random: &mut Random) -> Request {
    let id = format!("t{}", random.below(8));
    let task = world.get(&room("default"), &task_id(&id)).await;
    let Some(task) = task else {
        if random.one_in(6) {
            return any_record(&id, random);
        }
        let new = NewTask::new("a")
            .agent(format!("agent-{}", random.below(2)))
            .thread("thread")
            .max_retries(u32::try_from(random.below(3)).expect("small"));
        return dispatch(&spec(&id, new));
    };
    if task.is_external() && random.one_in(2) {
        return any_record(&id, random);
    }
    let attempt = match random.below(8) {
        0 => Attempt(task.attempt.0.wrapping_sub(1)),
        1 => Attempt(task.attempt.0 + 1),
        _ => task.attempt,
    };
    let number = ReportNumber(u32::try_from(random.below(6)).expect("small"));
    match random.below(16) {
        0..4 => Request::Claim(Claim {
            limit: 2,
            lease_ms: 1 + random.below(10_000),
            ..claim(&["a"])
        }),
        4 | 5 => asked(&task, output(attempt, &["1", "2"]).numbered(number)),
        6 => asked(&task, suspend(attempt, r#"{"ask":1}"#)),
        7 => asked(&task, resume(r#"{"yes":1}"#)),
        8 => asked(&task, complete(attempt, r#"{"r":1}"#).numbered(number)),
        9 => asked(&task, fail(attempt, "no luck").numbered(number)),
        10 => asked(&task, time_out(attempt)),
        11 => asked(&task, Command::Cancel),
        12 => asked(&task, Command::Retry),
        13 => {
            let lease_ms = random.below(20_000);
            asked(&task, Command::Renew { attempt, lease_ms })
        }
        14 => Request::Rescue(rescue()),
        _ => {
            let identity = task.identity();
            let (namespace, id) = (identity.namespace.clone(), identity.id.clone());
            Request::Delete { namespace, id }
        }
    }
}

fn any_record(id: &str, random: &mut Random) -> Request {
    let statuses = ["pending", "running", "completed", "failed", "killed"];
    let status = random.pick(&statuses).expect("there are five");
    let more = serde_json::json!({"n": random.below(3), "result": "r"});
    Request::Record {
        namespace: room("default"),
        record: record(id, status, &more),
    }
}

/// Who has the answer to a request need not ask again.
pub(super) async fn an_answer_shows_the_row(world: &mut World) {
    let new = NewTask::new("a").max_retries(1_u32).thread("thread");
    let task = world.dispatch(spec("t", new)).await;
    assert_eq!(world.row(&task).await.as_ref(), Some(&task));
    world.clock.advance_ms(5);
    let task = world.claim(claim(&["a"])).await.remove(0);
    assert_eq!(world.row(&task).await.as_ref(), Some(&task));
    let renew = Command::Renew {
        attempt: Attempt(1),
        lease_ms: 90_000,
    };
    let commands = [
        output(Attempt(1), &["1", "2"]),
        renew,
        suspend(Attempt(1), "{}"),
        resume("[]"),
        Command::Cancel,
        Command::Retry,
    ];
    for command in commands {
        world.clock.advance_ms(5);
        let task = world.must(&task, command).await;
        assert_eq!(world.row(&task).await, Some(task));
    }
    let external = record("x", "running", &serde_json::json!({}));
    let task = world.record(&room("default"), &external).await;
    let task = task.expect("it is kept");
    assert_eq!(world.row(&task).await, Some(task));
}

/// Pruning the log forgets the past, not the present: a task goes on as if nothing had been.
pub(super) async fn a_row_outlives_its_events(world: &mut World) {
    let new = || NewTask::new("a").args(json(r#"{"q":1}"#)).thread("thread");
    let asking = world.running("asking", new()).await;
    let asking = world
        .must(&asking, suspend(Attempt(1), r#"{"ask":1}"#))
        .await;
    let pending = world.dispatch(spec("pending", new())).await;
    let document = record("recorded", "running", &serde_json::json!({"extra": 1}));
    let recorded = world.record(&room("default"), &document).await;
    let recorded = recorded.expect("it is kept");
    world.clock.advance_ms(10);
    let prune = Prune {
        before: world.now(),
        events_max: 1_000,
        limit: 1_000,
    };
    assert_eq!(world.removed(Request::Prune(prune)).await, 5);
    for task in [&pending, &asking, &recorded] {
        assert_eq!(world.row(task).await.as_ref(), Some(task));
    }
    let page = world.list(&ListQuery::new(room("default"), 10)).await;
    assert_eq!(page.total, 3);
    world.must(&asking, resume("1")).await;
    let mut claimed = world.claim(claim(&["a"])).await;
    claimed.sort_by_key(|task| task.id().clone());
    assert_eq!(ids(&claimed), ["asking", "pending"]);
    assert_eq!(claimed[1].spec, pending.spec);
    world.must(&asking, complete(Attempt(2), "1")).await;
}
