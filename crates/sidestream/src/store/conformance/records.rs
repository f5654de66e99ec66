//! Records: tasks that their owner elsewhere runs (WIRE part 3).

use super::*;
use crate::store::Cleanup;

async fn kept(world: &World, record: &Arc<Record>) -> Task {
    let task = world.record(&room("default"), record).await;
    task.expect("it is kept")
}

/// The owner gets its document back exactly, fields that we do not know included.
pub(super) async fn a_record_is_kept_as_it_came(world: &mut World) {
    let document = r#"{ "zebra":1.0, "id":"x", "subagentType":"researcher", "description":"d\u0000\n",
        "status":"running", "createdAt":"yesterday", "updatedAt":"2026-11-20T11:00:00Z",
        "metadata":{"a":[1,2,{"b":null}]}, "result":null, "emoji":"🦀", "big":12345678901234567890 }"#;
    let document = Record::from_document(json(document)).expect("a record");
    let record = Arc::new(document);
    let task = kept(world, &record).await;
    assert!(task.is_external());
    assert_eq!(task.status, Status::Running);
    assert_eq!(task.created_at, world.now(), "its own time cannot be read");
    assert_eq!(task.updated_at, at("2026-11-20T11:00:00Z"));
    let row = world.row(&task).await.expect("it is there");
    let found = row.record.clone().expect("as its owner reported it");
    assert_eq!(found.document(), record.document(), "to the letter");
    assert_eq!(row, task);
    let page = world.list(&ListQuery::new(room("default"), 10)).await;
    assert_eq!(page.tasks, std::slice::from_ref(&row));
    world.audit().await;
    world.reopen().await;
    assert_eq!(world.row(&task).await, Some(row));
}

/// Any status may follow any other: the owner knows. What is said already is no news.
pub(super) async fn a_record_is_replaced_whole(world: &mut World) {
    let words = [
        "completed",
        "running",
        "killed",
        "pending",
        "failed",
        "running",
    ];
    for (n, status) in words.into_iter().enumerate() {
        world.clock.advance_ms(5);
        let more = match n % 2 {
            0 => serde_json::json!({"result": "r", "metadata": {"n": n}}),
            _ => serde_json::json!({"error": "e", "extra": n}),
        };
        let record = record("x", status, &more);
        let task = kept(world, &record).await;
        assert_eq!(task.status, Status::from(record.status()));
        assert_eq!(task.record.as_ref(), Some(&record));
        assert_eq!(task.result.is_some(), n % 2 == 0, "nothing old is left");
        assert_eq!(task.spec.metadata.is_some(), n % 2 == 0);
        assert_eq!(task.error.is_some(), n % 2 == 1);
        assert_eq!(world.row(&task).await.as_ref(), Some(&task));
        let head = world.head().await;
        assert_eq!(kept(world, &record).await, task);
        assert_eq!(world.head().await, head, "said twice, it is news once");
    }
    // Only the kind of subagent differs, or the description: what follows from them does too.
    let renamed = serde_json::json!({"subagentType": "coder", "description": "writes"});
    let task = kept(world, &record("x", "running", &renamed)).await;
    assert_eq!(task.spec.subagent_type.as_deref(), Some("coder"));
    assert_eq!(task.spec.description.as_deref(), Some("writes"));
    let row = world.row(&task).await.expect("it is there");
    assert_eq!(row, task);
    let first = world.log_after(Seq(0), Some(&task)).await.remove(0);
    assert_eq!(
        first.task,
        *row.identity(),
        "what an event shows never changes"
    );
}

/// A record is never claimed, never rescued, and never in the way of what runs here.
pub(super) async fn what_an_owner_elsewhere_runs_takes_no_slot(world: &mut World) {
    for n in 0..20 {
        let status = ["pending", "running"][n % 2];
        kept(
            world,
            &record(&format!("x{n}"), status, &serde_json::json!({})),
        )
        .await;
    }
    let researcher = || NewTask::new("researcher").agent("agent");
    let everything = || Claim {
        limits: Arc::new(Limits {
            total: None,
            per_agent: Some(1),
            per_tool: [(tool("researcher"), 1)].into_iter().collect(),
        }),
        ..claim(&["researcher", "subagent"])
    };
    let claimed = world.try_claim(everything()).await;
    assert!(claimed.tasks.is_empty() && claimed.next_due.is_none());
    world.dispatch(spec("ours", researcher())).await;
    assert_eq!(ids(&world.claim(everything()).await), ["ours"]);
    world.clock.advance_ms(10 * 86_400_000);
    let rescued = world.rescue(rescue()).await;
    assert_eq!(rescued.ended, 1, "only ours");
    assert_eq!(rescued.next, None);
    let gone = Rescue {
        gone: Some(crate::store::Gone {
            prefix: String::new(),
            except: "nobody".into(),
        }),
        ..rescue()
    };
    assert_eq!(world.rescue(gone).await.ended, 0);
}

/// Who runs a task says how it stands, and nobody else.
pub(super) async fn only_the_owner_changes_a_record(world: &mut World) {
    let theirs = kept(world, &record("theirs", "running", &serde_json::json!({}))).await;
    let ours = world.dispatch(spec("ours", NewTask::new("a"))).await;
    let commands = [
        Command::Cancel,
        Command::Retry,
        resume("1"),
        output(Attempt(0), &["1"]),
        complete(Attempt(0), "1"),
        fail(Attempt(0), "no luck"),
        suspend(Attempt(0), "1"),
    ];
    for command in commands {
        let refused = world.refused(&theirs, command).await;
        assert_eq!(refused, Rejection::OwnedElsewhere);
    }
    let report = record("ours", "completed", &serde_json::json!({}));
    let refused = world.record(&room("default"), &report).await;
    assert_eq!(refused.err(), Some(Rejection::OwnedHere));
    assert_eq!(world.row(&ours).await, Some(ours));
    let dispatched = dispatch(&spec("theirs", NewTask::new("a")));
    let refused = world.commit_one(dispatched).await;
    assert_eq!(refused.err(), Some(Rejection::AlreadyExists));
    assert_eq!(world.row(&theirs).await, Some(theirs));
    let elsewhere = world.record(&room("elsewhere"), &report).await;
    assert!(elsewhere.is_ok(), "another room, another task");
}

/// A record may be deleted however it stands, and our own cleaning up leaves it alone.
pub(super) async fn a_record_is_removed_at_its_owners_word_only(world: &mut World) {
    let statuses = ["pending", "running", "completed", "failed", "killed"];
    for status in statuses {
        kept(world, &record(status, status, &serde_json::json!({}))).await;
    }
    world.clock.advance_ms(1_000 * 86_400_000);
    let now = world.now();
    let cleanup = Cleanup {
        completed_before: now,
        failed_before: now,
        untold_before: now,
        limit: 100,
    };
    assert_eq!(world.removed(Request::Cleanup(cleanup)).await, 0);
    for (n, status) in statuses.into_iter().enumerate() {
        let (namespace, id) = (room("default"), task_id(status));
        let request = Request::Delete { namespace, id };
        assert_eq!(world.removed(request).await, 1);
        let page = world.list(&ListQuery::new(room("default"), 10)).await;
        assert_eq!(page.total, 4 - n as u64);
    }
    let anew = kept(world, &record("pending", "running", &serde_json::json!({}))).await;
    assert_eq!(world.row(&anew).await, Some(anew));
}
