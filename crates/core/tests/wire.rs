//! What clients see: chunks as existing clients know them (WIRE part 1), and task records (part 2).

mod samples;

use std::sync::Arc;

use proptest::prelude::*;
use samples::{Life, any_step, cases};
use sidestream_core::task::TaskDefaults;
use sidestream_core::wire::{SnapshotTask, TaskRecord};
use sidestream_core::{
    Attempt, Chunk, ChunkType, Command, EventKind, Jitter, Json, LogEntry, Namespace, NewTask,
    ReportNumber, RetryPolicy, Status, Task, TaskError,
};

/// Seen on the wire of the system that Sidestream replaces.
const RUNNING: &str = r#"{"type":"background-task-running","payload":{"taskId":"97d42982-e9d1-4007-bc91-82a89d518d76","toolName":"research","toolCallId":"call-1","agentId":"agent-1","runId":"run-1","startedAt":"2026-11-21T00:10:24.219Z","args":{"q":"x1"}}}"#;
const OUTPUT: &str = r#"{"type":"background-task-output","payload":{"taskId":"97d42982-e9d1-4007-bc91-82a89d518d76","toolName":"research","toolCallId":"call-1","agentId":"agent-1","runId":"run-1","payload":{"type":"tool-output","runId":"run-1","from":"AGENT","payload":{"output":{"step":1},"toolCallId":"call-1","toolName":"research"}}}}"#;
const TIMED_OUT: &str = r#"{"type":"background-task-failed","payload":{"taskId":"556a041f-fda7-4a80-8b5a-39f087be8090","toolName":"research","toolCallId":"call-5","agentId":"agent-1","runId":"run-1","completedAt":"2026-11-21T00:10:24.725Z","error":{"message":"Task timed out after 200ms"}}}"#;

/// A task of the examples, at the time of the examples.
fn life(id: &str, call: &str, at: &str) -> Life {
    let new = NewTask::new("research")
        .args(json(r#"{"q":"x1"}"#))
        .tool_call(call)
        .agent("agent-1")
        .run("run-1");
    dispatched(id, new, at)
}

fn dispatched(id: &str, new: NewTask, at: &str) -> Life {
    let defaults = TaskDefaults {
        timeout_ms: 200,
        retry: RetryPolicy::default(),
    };
    let id = id.parse().expect("an id");
    let spec = new.into_spec(Namespace::default(), id, defaults);
    let spec = Arc::new(spec.expect("it can be accepted"));
    let mut life = Life {
        now: at.parse().expect("a time"),
        ..Life::default()
    };
    life.ask(&Command::Dispatch(spec)).expect("it is new");
    life
}

fn json(text: &str) -> Json {
    Json::from_text(text).expect("JSON")
}

/// Carries out a command that leads to an event, and shows that event.
fn shown(life: &mut Life, command: &Command) -> Chunk {
    life.ask(command).expect("it is allowed");
    last(life)
}

fn last(life: &Life) -> Chunk {
    let event = life.events.last().expect("something happened").clone();
    let task = life.task.as_ref().expect("it is there");
    let task = Arc::clone(task.identity());
    Chunk::of_entry(&LogEntry { task, event })
}

fn claim() -> Command {
    let worker = "w".parse().expect("an id");
    Command::Claim {
        worker,
        lease_ms: 30_000,
    }
}

/// The example, letter by letter, and after it what is ours.
fn assert_is(chunk: &Chunk, example: &str, ours: &str) {
    let open = example.strip_suffix("}}").expect("an example is whole");
    assert_eq!(**chunk.json(), format!("{open},{ours}}}}}"));
}

#[test]
fn chunks_are_those_that_existing_clients_know() {
    let id = "97d42982-e9d1-4007-bc91-82a89d518d76";
    let mut task = life(id, "call-1", "2026-11-21T00:10:24.219Z");
    let running = shown(&mut task, &claim());
    assert_is(&running, RUNNING, r#""seq":2,"attempt":1"#);
    let emitted = r#"{"type":"tool-output","runId":"run-1","from":"AGENT","payload":{"output":{"step":1},"toolCallId":"call-1","toolName":"research"}}"#;
    let output = Command::Output {
        attempt: Attempt(1),
        report: ReportNumber::NONE,
        payloads: vec![json(emitted)],
    };
    let output = shown(&mut task, &output);
    assert_is(&output, OUTPUT, r#""seq":3,"attempt":1"#);

    let id = "556a041f-fda7-4a80-8b5a-39f087be8090";
    let mut task = life(id, "call-5", "2026-11-21T00:10:24.525Z");
    task.ask(&claim()).expect("it is pending");
    task.now = task.now.plus_ms(200);
    let late = Command::TimeOut {
        attempt: Attempt(1),
        report: ReportNumber::NONE,
        jitter: Jitter(0),
    };
    let late = shown(&mut task, &late);
    assert_is(&late, TIMED_OUT, r#""seq":3,"attempt":1"#);
}

/// The snapshot's chunk of a running task is the one that said so, without its place in the log.
#[test]
fn a_snapshot_shows_a_running_task_as_its_event_did() {
    let id = "97d42982-e9d1-4007-bc91-82a89d518d76";
    let mut task = life(id, "call-1", "2026-11-21T00:10:24.219Z");
    task.ask(&claim()).expect("it is pending");
    let task = task.task.expect("it is there");
    let snapshot = Chunk::of_snapshot(&SnapshotTask {
        identity: Arc::clone(task.identity()),
        status: task.status,
        attempt: task.attempt,
        since: task.started_at.expect("it runs"),
        suspend_payload: None,
    });
    let snapshot = snapshot.expect("it has not ended");
    assert_is(&snapshot, RUNNING, r#""attempt":1"#);
    assert_eq!(snapshot.seq, None);
}

/// The fields of each type, beside those that every payload has (WIRE part 1).
#[test]
fn each_type_has_its_fields() {
    let whole = || {
        let mut task = life("t", "call-1", "2026-11-21T00:00:00.000Z");
        task.ask(&claim()).expect("it is pending");
        task
    };
    let attempt = Attempt(1);
    let suspend = || Command::Suspend {
        attempt,
        report: ReportNumber::NONE,
        payload: json(r#"{"ask":1}"#),
    };
    let error = TaskError::new("no luck").with_stack("at line 1");
    let fail = Command::Fail {
        attempt,
        report: ReportNumber::NONE,
        error,
        is_retryable: false,
        jitter: Jitter(0),
    };
    let complete = |result: Option<&str>| Command::Complete {
        attempt,
        report: ReportNumber::NONE,
        result: result.map(json),
    };
    let seen = [
        (last(&whole()), "running", "startedAt args"),
        (
            shown(&mut whole(), &complete(Some("[1]"))),
            "completed",
            "completedAt result",
        ),
        (
            shown(&mut whole(), &complete(None)),
            "completed",
            "completedAt",
        ),
        (shown(&mut whole(), &fail), "failed", "completedAt error"),
        (
            shown(&mut whole(), &Command::Cancel),
            "cancelled",
            "completedAt",
        ),
        (
            shown(&mut whole(), &suspend()),
            "suspended",
            "suspendPayload suspendedAt args",
        ),
    ];
    for (chunk, name, fields) in seen {
        assert_fields(&chunk, name, fields);
    }
    let mut resumed = whole();
    resumed.ask(&suspend()).expect("it runs");
    let data = json("[1]");
    let queued = shown(&mut resumed, &Command::Resume { data });
    assert_eq!(queued.chunk_type, ChunkType::Queued);
    assert!(
        !queued.chunk_type.is_default(),
        "existing clients know seven"
    );
    let again = shown(&mut resumed, &claim());
    assert_fields(&again, "resumed", "startedAt args");
}

fn assert_fields(chunk: &Chunk, name: &str, fields: &str) {
    assert_eq!(chunk.chunk_type.as_str(), format!("background-task-{name}"));
    assert!(chunk.chunk_type.is_default());
    let payload = chunk.payload().expect("it is plain");
    let payload = payload.as_object().expect("an object");
    let mut found: Vec<&str> = payload.keys().map(String::as_str).collect();
    let ours = "taskId toolName toolCallId agentId runId seq attempt";
    let mut expected: Vec<&str> = ours.split(' ').chain(fields.split(' ')).collect();
    if name == "cancelled" {
        expected.retain(|field| *field != "attempt");
    }
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{name}");
    assert!(payload.values().all(|value| !value.is_null()));
}

/// A chunk is one line of an event stream: whatever line breaks come in, none goes out.
#[test]
fn a_chunk_is_one_line() {
    let text = "{\n \"a\" :\r\n [ \"x\\ny\" ] }";
    let new = NewTask::new("a\nb").args(json(text)).agent("\u{2028}\r");
    let mut task = dispatched("t\n", new, "2026-11-21T00:00:00.000Z");
    let running = shown(&mut task, &claim());
    assert!(!running.json().contains(['\n', '\r']), "{}", running.json());
    let payload = running.payload().expect("it is plain");
    assert_eq!(payload["args"]["a"][0], "x\ny", "what was meant is kept");
    assert_eq!(payload["taskId"], "t\n");
    assert_eq!(payload["toolName"], "a\nb");
}

/// A cursor that can no longer be honoured is told to everyone.
#[test]
fn a_stream_reset_names_its_reason() {
    let reset = Chunk::stream_reset("pruned", "k3v9-41");
    let expected =
        r#"{"type":"stream-reset","payload":{"reason":"pruned","oldestCursor":"k3v9-41"}}"#;
    assert_eq!(&**reset.json(), expected);
    assert!(reset.chunk_type.is_default() && reset.task.is_none());
}

/// Types are known by their whole name, and by the short one that people write.
#[test]
fn a_type_is_read_by_both_its_names() {
    for chunk_type in ChunkType::ALL {
        let name = chunk_type.as_str();
        assert_eq!(ChunkType::parse(name), Ok(chunk_type));
        let short = name.strip_prefix("background-task-").unwrap_or(name);
        assert_eq!(ChunkType::parse(short), Ok(chunk_type));
    }
    let error = ChunkType::parse("finished").expect_err("there is none");
    assert!(error.to_string().contains("background-task-completed"));
    assert_eq!(
        ChunkType::ALL.iter().filter(|ty| ty.is_default()).count(),
        8
    );
}

/// What is absent is left out; nothing is ever `null`.
#[test]
fn a_task_record_leaves_out_what_is_not_there() {
    let mut plain = dispatched("t", NewTask::new("research"), "2026-11-21T00:10:24.219Z");
    let record = written(&plain);
    let expected = r#"{"id":"t","status":"pending","toolName":"research","args":{},"createdAt":"2026-11-21T00:10:24.219Z","retryCount":0,"maxRetries":0,"timeoutMs":200,"updatedAt":"2026-11-21T00:10:24.219Z","namespace":"default","priority":0,"attempt":0,"seq":1}"#;
    assert_eq!(record, expected);
    plain.ask(&claim()).expect("it is pending");
    plain.now = plain.now.plus_ms(1);
    let done = Command::Complete {
        attempt: Attempt(1),
        report: ReportNumber::NONE,
        result: Some(json("[1, 2]")),
    };
    plain.ask(&done).expect("it runs");
    let expected = r#"{"id":"t","status":"completed","toolName":"research","args":{},"result":[1, 2],"createdAt":"2026-11-21T00:10:24.219Z","startedAt":"2026-11-21T00:10:24.219Z","completedAt":"2026-11-21T00:10:24.220Z","retryCount":0,"maxRetries":0,"timeoutMs":200,"updatedAt":"2026-11-21T00:10:24.220Z","namespace":"default","priority":0,"attempt":1,"workerId":"w","seq":3}"#;
    assert_eq!(written(&plain), expected);
}

fn written(life: &Life) -> String {
    let task = life.task.as_ref().expect("it is there");
    serde_json::to_string(&TaskRecord::from(task)).expect("a record is JSON")
}

/// Who rebuilds a task from chunks alone ends with the status that the store has.
fn follow(known: Status, chunk: &Chunk) -> Status {
    match chunk.chunk_type {
        ChunkType::Running | ChunkType::Resumed => Status::Running,
        ChunkType::Output => known,
        ChunkType::Completed => Status::Completed,
        ChunkType::Cancelled => Status::Cancelled,
        ChunkType::Failed => Status::Failed,
        ChunkType::Suspended => Status::Suspended,
        ChunkType::Started | ChunkType::Retrying | ChunkType::Queued => Status::Pending,
        ChunkType::StreamReset => unreachable!("no event looks so"),
    }
}

proptest! {
    #![proptest_config(cases(200))]

    /// Whatever happens, each event is a JSON object on one line, says whose it is, and tells a reader
    /// where the task stands.
    #[test]
    fn every_event_can_be_shown(steps in prop::collection::vec(any_step(), 0..30)) {
        let mut life = Life::default();
        let mut status = Status::Pending;
        for step in &steps {
            life.now = life.now.plus_ms(step.after_ms);
            let command = step.command(life.attempt());
            let from = life.events.len();
            if life.ask(&command).is_err() {
                continue;
            }
            let task: &Task = life.task.as_ref().expect("it is there");
            for event in &life.events[from..] {
                let entry = LogEntry { task: Arc::clone(task.identity()), event: event.clone() };
                let chunk = Chunk::of_entry(&entry);
                prop_assert!(!chunk.json().contains(['\n', '\r']));
                let whole: Result<Json, _> = serde_json::from_str(chunk.json());
                prop_assert!(whole.is_ok(), "{}", chunk.json());
                prop_assert_eq!(chunk.task_id(), Some(task.id()));
                prop_assert_eq!(chunk.seq, Some(event.seq));
                prop_assert_eq!(chunk.chunk_type, ChunkType::of(&event.kind));
                status = follow(status, &chunk);
            }
            let expected = match task.status {
                Status::TimedOut => Status::Failed,
                status => status,
            };
            prop_assert_eq!(status, expected);
        }
    }

    /// A record that is written is read as it was.
    #[test]
    fn a_task_record_is_read_as_it_was_written(steps in prop::collection::vec(any_step(), 0..30)) {
        let mut life = Life::default();
        for step in &steps {
            life.now = life.now.plus_ms(step.after_ms);
            drop(life.ask(&step.command(life.attempt())));
        }
        let Some(task) = &life.task else {
            return Ok(());
        };
        let record = TaskRecord::from(task);
        let text = serde_json::to_string(&record).expect("a record is JSON");
        let read: TaskRecord = serde_json::from_str(&text).expect("it can be read");
        // What came as text may come back with other spaces, and `null` is nothing at all.
        let again = serde_json::to_string(&read).expect("a record is JSON");
        let is_null = |json: &Option<Json>| json.as_ref().is_some_and(|json| json.as_str() == "null");
        if !is_null(&record.result) && !is_null(&record.suspend_payload) {
            prop_assert_eq!(&read, &record);
            prop_assert_eq!(again, text);
        }
    }

    /// What a snapshot shows is JSON too, for every task that has not ended.
    #[test]
    fn every_standing_task_can_be_shown(
        status in prop::sample::select(Status::ALL.to_vec()),
        since in samples::any_time(),
        payload in prop::option::of(samples::any_json()),
        attempt in 0..3_u32,
    ) {
        let life = dispatched("t", NewTask::new("a"), "2026-11-21T00:00:00.000Z");
        let identity = Arc::clone(life.task.expect("it is there").identity());
        let task = SnapshotTask {
            identity,
            status,
            attempt: Attempt(attempt),
            since,
            suspend_payload: payload,
        };
        match Chunk::of_snapshot(&task) {
            None => prop_assert!(status.is_terminal()),
            Some(chunk) => {
                prop_assert!(!status.is_terminal());
                let whole: Result<Json, _> = serde_json::from_str(chunk.json());
                prop_assert!(whole.is_ok(), "{}", chunk.json());
                let kind = follow(Status::Pending, &chunk);
                prop_assert_eq!(kind, status);
            }
        }
    }
}

/// Ours: only a stream that asks for it by its type is sent it.
#[test]
fn what_is_dispatched_is_shown_to_those_who_ask() {
    let task = life("t", "call-1", "2026-11-21T00:00:00.000Z");
    let started = last(&task);
    assert_eq!(started.chunk_type, ChunkType::Started);
    assert!(!started.chunk_type.is_default());
    let expected = r#"{"type":"background-task-started","payload":{"taskId":"t","toolName":"research","toolCallId":"call-1","agentId":"agent-1","runId":"run-1","at":"2026-11-21T00:00:00.000Z","seq":1}}"#;
    assert_eq!(&**started.json(), expected);
    assert!(matches!(task.events[0].kind, EventKind::Dispatched(_)));
}

/// E1: what was accepted is passed on as it came, though not every reader can hold it.
#[test]
fn what_no_value_can_hold_is_an_error_and_no_panic() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for text in ["1e999", r#""\ud800""#, &deep] {
        let new = NewTask::new("a").args(json(text));
        let mut task = dispatched("t", new, "2026-11-21T00:00:00.000Z");
        let running = shown(&mut task, &claim());
        assert!(running.json().contains(text));
        assert!(running.payload().is_err(), "{text}");
    }
}
