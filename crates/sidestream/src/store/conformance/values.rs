//! Values: whatever is allowed is kept to the letter; what is not changes nothing (E1).

use super::*;
use sidestream_core::task::{PAYLOAD_BYTES_MAX, TIMEOUT_MS_MAX};

/// Ids are any text, and different texts are different ids.
pub(super) async fn ids_of_any_shape_are_kept_apart(world: &mut World) {
    let long = "x".repeat(1_000);
    let longest = "é".repeat(512);
    let names = [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "🦀",
        "👩‍👩‍👧",
        "a",
        "A",
        "ä",
        "a\u{308}",
        "%",
        "_",
        "a%",
        "'",
        "\"",
        "null",
        "0",
        "00",
        " ",
        "a ",
        " a",
        "\n",
        "\t",
        "-1",
        "a'; DROP TABLE tasks; --",
        "\u{feff}",
        "\u{202e}abc",
        "1e3",
        "true",
        &long,
        &longest,
    ];
    let mut expected = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let namespace = room(name);
        let mut new = NewTask::new("a").args(json(&format!("[{n}]")));
        if !name.is_empty() {
            new = NewTask {
                tool_name: (*name).into(),
                ..new
            };
            new = new.agent(*name).run(*name).thread(*name).resource(*name);
            new = new.tool_call(*name);
        }
        let task = world.dispatch(spec_in(&namespace, name, new)).await;
        expected.push(task);
    }
    for (n, name) in names.iter().enumerate() {
        let mut new = NewTask::new("b");
        new.idempotency_key = (!name.is_empty()).then(|| (*name).into());
        let here = world.dispatch(spec(name, new)).await;
        assert_eq!(here.id().as_str(), *name);
        let found = world.get(&room(name), &task_id(name)).await;
        assert_eq!(found.as_ref(), Some(&expected[n]));
        let page = world.list(&ListQuery::new(room(name), 100)).await;
        assert_eq!(page.tasks, [expected[n].clone()], "{name:?}");
    }
    let here = world.list(&ListQuery::new(room("default"), 1_000)).await;
    assert_eq!(ids(&here.tasks), names);
    for name in names {
        if name.is_empty() {
            continue;
        }
        let mut query = ListQuery::new(room(name), 10);
        query.agent_id = Some(agent(name));
        query.tool_name = Some(tool(name));
        query.thread_id = name.parse().ok();
        assert_eq!(world.list(&query).await.total, 1, "{name:?}");
        let one = Claim {
            namespace: Some(room(name)),
            worker: worker(name),
            ..claim(&[name])
        };
        let claimed = world.claim(one).await;
        assert_eq!(ids(&claimed), [name]);
        let ended = world.must(&claimed[0], complete(Attempt(1), "1")).await;
        assert_eq!(ended.worker_id, Some(worker(name)));
        assert_eq!(world.untold(&room(name), name).await, [ended]);
    }
}

/// A JSON text of so many bytes.
fn large(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// One mebibyte, wherever a payload may be.
pub(super) async fn large_payloads_are_kept(world: &mut World) {
    let text = large(PAYLOAD_BYTES_MAX);
    let new = NewTask::new("a").args(json(&text));
    let task = world.running("t", new).await;
    assert_eq!(task.identity().args.bytes(), PAYLOAD_BYTES_MAX);
    world.must(&task, output(Attempt(1), &[&text, &text])).await;
    world.must(&task, suspend(Attempt(1), &text)).await;
    world.must(&task, resume(&text)).await;
    let claimed = world.claim(claim(&["a"])).await;
    assert_eq!(claimed[0].resume_data, Some(json(&text)));
    let ended = world.must(&task, complete(Attempt(2), &text)).await;
    assert_eq!(ended.result, Some(json(&text)));
    let log = world.log_after(Seq(0), Some(&task)).await;
    assert_eq!(log.len(), 8);
    let message = "y".repeat(65_536);
    let failed = world.running("u", NewTask::new("a")).await;
    let failed = world.must(&failed, fail(Attempt(1), &message)).await;
    let error = failed.error.clone().expect("why");
    assert_eq!(&*error.message, message);
    world.reopen().await;
    assert_eq!(world.row(&task).await, Some(ended));
    assert_eq!(world.row(&failed).await, Some(failed));
}

/// E1: what is too large is refused by name, and nothing is changed.
pub(super) async fn too_large_payloads_change_nothing(world: &mut World) {
    let text = large(PAYLOAD_BYTES_MAX + 1);
    let task = world.running("t", NewTask::new("a")).await;
    let asking = world.running("asking", NewTask::new("a")).await;
    let asking = world.must(&asking, suspend(Attempt(1), "1")).await;
    let refusals = [
        (&task, output(Attempt(1), &["1", &text]), "payload"),
        (&task, suspend(Attempt(1), &text), "suspendPayload"),
        (&task, complete(Attempt(1), &text), "result"),
        (&asking, resume(&text), "resumeData"),
    ];
    for (task, command, field) in refusals {
        match world.refused(task, command).await {
            Rejection::Invalid(invalid) => assert_eq!(invalid.field, field),
            other => panic!("expected a bad value, got {other:?}"),
        }
    }
}

/// JSON is passed through: spaces, order, repeated names, and numbers that no machine can hold.
pub(super) async fn json_is_kept_to_the_letter(world: &mut World) {
    let texts = [
        "null",
        "\"\"",
        "1.0",
        "1e400",
        "-0",
        "123456789012345678901234567890.10",
        r#"{"b":1,"a":2,"b":3}"#,
        "{ \"a\" :\n\t[ 1 , 2 ] }",
        r#""\u0000 \ud83e\udd80 🦀 \/""#,
        "\"\u{7f}\u{2028}\"",
        r#"["' -- ; ?1 $1 :a"]"#,
    ];
    for (n, text) in texts.into_iter().enumerate() {
        let mut new = NewTask::new("a").args(json(text)).thread("thread");
        let metadata = format!("{{\"m\": {text}}}");
        new.metadata = Some(json(&metadata));
        let id = format!("t{n}");
        let task = world.running(&id, new).await;
        assert_eq!(task.identity().args.as_str(), text);
        world.must(&task, output(Attempt(1), &[text])).await;
        let asking = world.must(&task, suspend(Attempt(1), text)).await;
        assert_eq!(
            asking.suspend_payload.map(|p| p.to_string()).as_deref(),
            Some(text)
        );
        world.must(&task, resume(text)).await;
        world.claim(claim(&["a"])).await;
        let ended = world.must(&task, complete(Attempt(2), text)).await;
        let row = world.row(&task).await.expect("it is there");
        assert_eq!(row, ended);
        assert_eq!(
            row.result.map(|result| result.to_string()).as_deref(),
            Some(text)
        );
        let kept = row.spec.metadata.as_ref().map(ToString::to_string);
        assert_eq!(kept, Some(metadata));
    }
    // No result is not the result `null`.
    let task = world.running("nothing", NewTask::new("a")).await;
    let nothing = Command::Complete {
        attempt: Attempt(1),
        report: ReportNumber::NONE,
        result: None,
    };
    let ended = world.must(&task, nothing).await;
    assert_eq!(ended.result, None);
    assert_eq!(world.row(&task).await, Some(ended));
    world.audit().await;
    world.reopen().await;
}

/// Texts for people are any text, NUL included.
pub(super) async fn texts_of_any_shape_are_kept(world: &mut World) {
    let texts = ["", "\0", "a\0b", "🦀\r\n\t", "'\"\\", "\u{feff}\u{fffd}"];
    for (n, text) in texts.into_iter().enumerate() {
        let mut new = NewTask::new("a");
        new.description = Some(text.into());
        new.subagent_type = Some(text.into());
        new.idempotency_key = Some(format!("{n}{text}"));
        let task = world.running(&format!("t{n}"), new.clone()).await;
        assert_eq!(task.spec.description.as_deref(), Some(text));
        let repeated = dispatch(&spec(&format!("u{n}"), new));
        let answer = world.commit_one(repeated).await;
        assert!(matches!(
            answer,
            Ok(Answer::Dispatched { is_new: false, .. })
        ));
        let error = TaskError::new(text).with_stack(text);
        let failure = Command::Fail {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            error: error.clone(),
            is_retryable: false,
            jitter: Jitter(0),
        };
        let ended = world.must(&task, failure).await;
        assert_eq!(ended.error, Some(error));
        assert_eq!(world.row(&task).await, Some(ended));
    }
    world.audit().await;
    world.reopen().await;
}

/// The first and the last of what a number may be.
pub(super) async fn numbers_are_kept_to_their_bounds(world: &mut World) {
    let far = Timestamp::from_ms(i64::MAX);
    let long_ago = Timestamp::from_ms(i64::MIN);
    let mut first = NewTask::new("a").priority(i16::MIN).run_at(long_ago);
    first.timeout_ms = Some(1);
    let mut last = NewTask::new("a").priority(i16::MAX).run_at(far);
    last.timeout_ms = Some(TIMEOUT_MS_MAX);
    last.max_retries = Some(1_000);
    let first = world.dispatch(spec("first", first)).await;
    let last = world.dispatch(spec("last", last)).await;
    assert_eq!(world.row(&first).await, Some(first));
    assert_eq!(world.row(&last).await.as_ref(), Some(&last));
    let claimed = world
        .try_claim(Claim {
            lease_ms: u64::MAX,
            limit: u32::MAX,
            ..claim(&["a"])
        })
        .await;
    assert_eq!(claimed.next_due, Some(far));
    let lease = claimed.tasks[0].lease.clone().expect("it is held");
    assert_eq!(lease.until, far, "the last moment there is");
    let forever = Rescue {
        overtime_ms: u64::MAX,
        limit: u32::MAX,
        ..rescue()
    };
    world.clock.advance_ms(1_000_000);
    assert_eq!(world.rescue(forever).await.ended, 0);
    world.clock.set(at("1969-12-31T23:59:59.001Z"));
    let early = world.dispatch(spec("early", NewTask::new("b"))).await;
    assert_eq!(early.created_at.ms(), -999);
    assert_eq!(world.row(&early).await, Some(early));
    let claimed = world.claim(claim(&["b"])).await;
    assert_eq!(claimed.len(), 1, "before 1970 is as good a time as any");
    world.clock.set(far);
    assert_eq!(world.rescue(rescue()).await.ended, 2);
}
