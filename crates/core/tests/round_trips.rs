//! What is written can be read, and is the same; what cannot be read is an error, never a panic.

mod samples;

use std::sync::Arc;

use proptest::prelude::*;
use samples::{Life, any_json, any_record, any_spec, any_text, any_time, any_worker, cases};
use sidestream_core::event::StoredKind;
use sidestream_core::record::{is_record, should_expire};
use sidestream_core::task::ERROR_BYTES_MAX;
use sidestream_core::wire::TaskRecord;
use sidestream_core::wire::worker::Report;
use sidestream_core::{
    Attempt, ChunkType, Command, Cursor, Epoch, EventKind, Filter, Jitter, Json, Record,
    ReportNumber, RetryPolicy, Seq, TaskError, Timestamp,
};

fn any_error() -> impl Strategy<Value = TaskError> {
    (any_text(), prop::option::of(any_text())).prop_map(|(message, stack)| {
        let error = TaskError::new(message);
        match stack {
            Some(stack) => error.with_stack(stack),
            None => error,
        }
    })
}

fn any_attempt() -> impl Strategy<Value = Attempt> {
    any::<u32>().prop_map(Attempt)
}

/// Anything that a worker may report.
fn any_report() -> impl Strategy<Value = Command> {
    let attempt = (1..=u32::MAX).prop_map(Attempt);
    let report = any::<u32>().prop_map(ReportNumber);
    let what = prop_oneof![
        any::<u64>().prop_map(|lease_ms| Command::Renew {
            attempt: Attempt(1),
            lease_ms,
        }),
        prop::collection::vec(any_json(), 1..4).prop_map(|payloads| Command::Output {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            payloads,
        }),
        any_json().prop_map(|payload| Command::Suspend {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            payload,
        }),
        prop::option::of(any_json()).prop_map(|result| Command::Complete {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            result,
        }),
        (any_error(), any::<bool>()).prop_map(|(error, is_retryable)| Command::Fail {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            error,
            is_retryable,
            jitter: Jitter(7),
        }),
        Just(Command::TimeOut {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            jitter: Jitter(7),
        }),
    ];
    (what, attempt, report).prop_map(|(mut command, number, report)| {
        match &mut command {
            Command::Renew { attempt, .. }
            | Command::Output { attempt, .. }
            | Command::Suspend { attempt, .. }
            | Command::Complete { attempt, .. }
            | Command::Fail { attempt, .. }
            | Command::TimeOut { attempt, .. } => *attempt = number,
            _ => unreachable!("only reports are made"),
        }
        command.numbered(report)
    })
}

/// What a server reads of what a worker sent.
fn received(report: &Report) -> Report {
    fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
        serde_json::from_str(json).expect("what is sent can be read")
    }
    let json = serde_json::to_string(report).expect("a report is JSON");
    match report.route() {
        "renew" => Report::Renew(read(&json)),
        "output" => Report::Output(read(&json)),
        "complete" => Report::Complete(read(&json)),
        "fail" => Report::Fail(read(&json)),
        "suspend" => Report::Suspend(read(&json)),
        other => panic!("no route {other}"),
    }
}

/// Every kind of event but the dispatch, whose body is its task's row.
fn any_kind() -> impl Strategy<Value = EventKind> {
    let a = any_attempt;
    prop_oneof![
        (a(), any_worker(), any::<bool>()).prop_map(|(attempt, worker, is_resumed)| {
            EventKind::Started {
                attempt,
                worker,
                is_resumed,
            }
        }),
        (a(), any_json()).prop_map(|(attempt, payload)| EventKind::Output { attempt, payload }),
        (a(), any_json()).prop_map(|(attempt, payload)| EventKind::Suspended { attempt, payload }),
        any_json().prop_map(|data| EventKind::Resumed { data }),
        (a(), prop::option::of(any_json()))
            .prop_map(|(attempt, result)| EventKind::Completed { attempt, result }),
        (a(), any_error(), any_time()).prop_map(|(attempt, error, next_attempt_at)| {
            EventKind::Retrying {
                attempt,
                error,
                next_attempt_at,
            }
        }),
        (a(), any_error()).prop_map(|(attempt, error)| EventKind::Failed { attempt, error }),
        (a(), any_error()).prop_map(|(attempt, error)| EventKind::TimedOut { attempt, error }),
        Just(EventKind::Cancelled),
        Just(EventKind::Retried),
        any_record().prop_map(EventKind::Recorded),
    ]
}

fn any_epoch() -> impl Strategy<Value = Epoch> {
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').collect();
    prop::collection::vec(prop::sample::select(letters), 1..=64)
        .prop_map(|letters| Epoch::new(&String::from_iter(letters)).expect("letters and digits"))
}

fn any_filter() -> impl Strategy<Value = Filter> {
    fn id<T: std::str::FromStr + std::fmt::Debug>() -> impl Strategy<Value = Option<T>> {
        prop::option::of(any_text().prop_filter_map("an id", |text| text.parse().ok()))
    }
    let types = prop::collection::vec(prop::sample::select(ChunkType::ALL.to_vec()), 0..4);
    (id(), id(), id(), id(), id(), id(), types).prop_map(
        |(agent_id, run_id, thread_id, resource_id, task_id, tool_name, types)| Filter {
            agent_id,
            run_id,
            thread_id,
            resource_id,
            task_id,
            tool_name,
            types,
        },
    )
}

proptest! {
    #![proptest_config(cases(500))]

    /// What a worker says is what the server hears.
    #[test]
    fn a_report(command in any_report()) {
        let sent = Report::of(&command).expect("it is a report");
        let heard = received(&sent).into_command(0, Jitter(7)).expect("it is a fit report");
        prop_assert_eq!(format!("{heard:?}"), format!("{command:?}"));
    }

    /// A worker elsewhere is given the task that one here would be.
    #[test]
    fn a_claimed_task(spec in any_spec(), worker in any_worker(), data in any_json()) {
        let mut life = Life::default();
        let claim = || Command::Claim { worker: worker.clone(), lease_ms: 1 };
        let suspend = Command::Suspend {
            attempt: Attempt(1),
            report: ReportNumber::NONE,
            payload: data.clone(),
        };
        let resume = Command::Resume { data };
        for command in [Command::Dispatch(spec), claim(), suspend, resume, claim()] {
            life.ask(&command).expect("it is allowed");
        }
        let mut task = life.task.expect("it is there");
        let sent = serde_json::to_string(&TaskRecord::claimed(&task)).expect("it is JSON");
        let record: TaskRecord = serde_json::from_str(&sent).expect("it can be read");
        let found = record.into_task().expect("it is a fit task");
        // What is not its worker's business.
        task.lease = None;
        let waits = Arc::make_mut(&mut task.spec);
        waits.retry = RetryPolicy { max_retries: waits.retry.max_retries, ..RetryPolicy::default() };
        prop_assert_eq!(found, task);
    }

    /// Times, to the millisecond, from the first to the last that there is.
    #[test]
    fn a_timestamp(at in any_time()) {
        let text = at.to_string();
        prop_assert_eq!(text.parse::<Timestamp>(), Ok(at), "{}", text);
        prop_assert!(text.ends_with('Z') && text.contains('.'));
        let written = serde_json::to_string(&at).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Timestamp>(&written).expect("a time"), at);
        prop_assert_eq!(Timestamp::from_ms(at.ms()), at);
    }

    /// Sums stay in range, and differences are never negative.
    #[test]
    fn times_do_not_overflow(at in any_time(), ms in any::<i64>(), other in any_time()) {
        let later = at.plus_ms(ms);
        prop_assert!(!later.to_string().is_empty());
        prop_assert!(other >= at || other.since(at).is_zero());
    }

    /// A place in a stream, with and without the log's name.
    #[test]
    fn a_cursor(epoch in prop::option::of(any_epoch()), seq in any::<u64>()) {
        let cursor = Cursor { epoch, seq: Seq(seq) };
        prop_assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
    }

    /// Nothing that a client sends as a cursor does more than be refused.
    #[test]
    fn anything_as_a_cursor(text in any_text(), tail in "[-0-9a-z+ ]{0,24}") {
        for text in [text.clone(), tail.clone(), format!("{text}-{tail}")] {
            if let Ok(cursor) = text.parse::<Cursor>() {
                let again = cursor.to_string().parse::<Cursor>();
                prop_assert_eq!(again, Ok(cursor));
            }
        }
    }

    /// What a watcher wants.
    #[test]
    fn a_filter(filter in any_filter()) {
        let text = serde_json::to_string(&filter).expect("JSON");
        prop_assert!(!text.contains("null"));
        prop_assert_eq!(serde_json::from_str::<Filter>(&text).expect("a filter"), filter);
    }

    /// An event as a store keeps it: a number, an attempt, and text.
    #[test]
    fn an_event(kind in any_kind()) {
        let stored = kind.to_stored();
        prop_assert_eq!(stored.attempt, kind.attempt().unwrap_or_default());
        let read = EventKind::from_stored(stored.clone(), || unreachable!("it is no dispatch"));
        let read = read.expect("it can be read");
        prop_assert_eq!(&read, &kind);
        prop_assert_eq!(read.to_stored(), stored);
    }

    /// A dispatch is read from its task's row.
    #[test]
    fn a_dispatch(spec in any_spec()) {
        let kind = EventKind::Dispatched(Arc::clone(&spec));
        let read = EventKind::from_stored(kind.to_stored(), || Some(spec));
        prop_assert_eq!(read.expect("it can be read"), kind.clone());
        prop_assert!(EventKind::from_stored(kind.to_stored(), || None).is_err());
    }

    /// Whatever a damaged database holds is refused.
    #[test]
    fn anything_as_an_event(
        code in 0..16_u8,
        attempt in any_attempt(),
        body in prop::option::of(any_json()),
    ) {
        let stored = StoredKind { code, attempt, body };
        if let Ok(kind) = EventKind::from_stored(stored.clone(), || None) {
            prop_assert_eq!(kind.to_stored().code, code);
        }
        prop_assert!(code < 12 || EventKind::from_stored(stored, || None).is_err());
    }

    /// An error is kept whole, or cut between two letters.
    #[test]
    fn an_error(error in any_error(), letter in any::<char>(), n in 65_530..65_540_usize) {
        let text = serde_json::to_string(&error).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<TaskError>(&text).expect("an error"), error);
        let long: String = std::iter::repeat_n(letter, n).collect();
        let kept = TaskError::new(&long);
        prop_assert!(kept.message.len() <= ERROR_BYTES_MAX && long.starts_with(&*kept.message));
        prop_assert!(kept.message.len() + 4 > ERROR_BYTES_MAX.min(long.len()));
    }

    /// JSON passes through to the letter.
    #[test]
    fn json(json in any_json()) {
        let text = json.as_str();
        prop_assert_eq!(Json::from_text(text).expect("JSON"), json.clone());
        let inside = format!("{{\"a\":{text}}}");
        let map: std::collections::BTreeMap<String, Json> =
            serde_json::from_str(&inside).expect("JSON");
        prop_assert_eq!(map["a"].as_str(), text);
        prop_assert_eq!(serde_json::to_string(&map).expect("JSON"), inside);
    }

    /// An owner's document is kept as it came.
    #[test]
    fn a_record(record in any_record()) {
        let again = Record::from_document(record.document().clone()).expect("a record");
        prop_assert_eq!(&again, &*record);
        prop_assert!(is_record(&serde_json::Value::Object(record.to_map())));
        prop_assert_eq!(&Record::from_map(record.to_map()).expect("a record"), &*record);
    }

    /// Nothing that an owner sends does more than be refused.
    #[test]
    fn anything_as_a_record(document in any_json(), now in any_time(), field in any_json()) {
        drop(Record::from_document(document.clone()));
        if let Ok(value) = document.parse::<serde_json::Value>() {
            prop_assert!(!is_record(&value) || Record::from_document(document).is_ok());
        }
        let mut map = serde_json::Map::new();
        map.insert("status".into(), "completed".into());
        if let Ok(time) = field.parse() {
            map.insert("completedAt".into(), time);
        }
        let ended_at = record_time(&map);
        prop_assert!(ended_at || !should_expire(&map, Some(0), now));
    }
}

/// Is there a value that could be a time?
fn record_time(map: &serde_json::Map<String, serde_json::Value>) -> bool {
    let at = map.get("completedAt");
    at.is_some_and(|at| at.is_string() || at.is_number())
}

/// The ends of what a time may be can be written.
#[test]
fn the_first_and_the_last_moment_can_be_written() {
    let last = Timestamp::from_ms(i64::MAX);
    assert_eq!(last.to_string(), "9999-12-30T22:00:00.000Z");
    let first = Timestamp::from_ms(i64::MIN);
    assert_eq!(first.to_string(), "-009999-01-02T01:59:59.000Z");
    let beyond = "9999-12-30T22:00:00.999Z".parse::<Timestamp>();
    assert_eq!(beyond, Ok(last), "what can be read is brought into range");
}
