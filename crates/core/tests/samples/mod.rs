//! Anything that may be asked of a task, and anything that may come of it.

#![allow(dead_code, reason = "each test uses its part")]

use std::sync::Arc;

use proptest::prelude::*;
use sidestream_core::command::Loss;
use sidestream_core::lifecycle::{LeaseChange, apply, decide};
use sidestream_core::task::TaskDefaults;
use sidestream_core::{
    Attempt, Command, Event, EventKind, Jitter, Json, Namespace, NewTask, Record, Rejection,
    ReportNumber, RetryPolicy, Seq, Spec, Task, TaskError, TaskId, Timestamp, WorkerId,
};

/// So many cases. What fails is printed, shrunk; it becomes a test of its own.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

/// A task and all that happened to it.
#[derive(Debug, Default)]
pub(crate) struct Life {
    pub(crate) task: Option<Task>,
    pub(crate) events: Vec<Event>,
    pub(crate) now: Timestamp,
}

impl Life {
    /// Carries out a command as a store does. Gives the events it led to.
    pub(crate) fn ask(&mut self, command: &Command) -> Result<Vec<EventKind>, Rejection> {
        let change = decide(&id(), self.task.as_ref(), command, self.now)?;
        for kind in &change.events {
            let event = Event {
                report: change.report,
                seq: Seq(self.events.len() as u64 + 1),
                at: self.now,
                kind: kind.clone(),
            };
            apply(&mut self.task, &Namespace::default(), &event);
            self.events.push(event);
        }
        if let Some(task) = &mut self.task {
            match change.lease {
                LeaseChange::Keep => {}
                LeaseChange::Hold(lease) => task.lease = Some(lease),
                LeaseChange::Release => task.lease = None,
            }
        }
        Ok(change.events)
    }

    /// What the events amount to.
    pub(crate) fn fold(&self) -> Option<Task> {
        let mut task = None;
        for event in &self.events {
            apply(&mut task, &Namespace::default(), event);
        }
        task
    }

    pub(crate) fn attempt(&self) -> Attempt {
        self.task.as_ref().map_or(Attempt(0), |task| task.attempt)
    }
}

/// What is asked next: which command, of the current attempt or of another, and how much later.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) wish: Wish,
    pub(crate) other_attempt: Option<u32>,
    pub(crate) after_ms: i64,
}

#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Plain(Command),
    /// Of an attempt that the step chooses.
    Report(fn(Attempt, Json, u32) -> Command, Json, u32),
}

impl Step {
    pub(crate) fn command(&self, current: Attempt) -> Command {
        match &self.wish {
            Wish::Plain(command) => command.clone(),
            Wish::Report(report, json, number) => {
                let attempt = self.other_attempt.map_or(current, Attempt);
                let command = report(attempt, json.clone(), *number);
                command.numbered(ReportNumber(number >> 16 & 7))
            }
        }
    }
}

const REPORTS: [fn(Attempt, Json, u32) -> Command; 9] = [
    |attempt, _, number| Command::Renew {
        attempt,
        lease_ms: u64::from(number),
    },
    |attempt, json, number| Command::Output {
        attempt,
        report: ReportNumber::NONE,
        payloads: vec![json; number as usize % 3],
    },
    |attempt, payload, _| Command::Suspend {
        attempt,
        report: ReportNumber::NONE,
        payload,
    },
    |attempt, json, number| Command::Complete {
        attempt,
        report: ReportNumber::NONE,
        result: (number % 3 > 0).then_some(json),
    },
    |attempt, json, number| Command::Fail {
        attempt,
        report: ReportNumber::NONE,
        error: TaskError::new(json.as_str()),
        is_retryable: true,
        jitter: Jitter(number),
    },
    |attempt, json, number| Command::Fail {
        attempt,
        report: ReportNumber::NONE,
        error: TaskError::new("no").with_stack(json.as_str()),
        is_retryable: false,
        jitter: Jitter(number),
    },
    |attempt, _, number| Command::TimeOut {
        attempt,
        report: ReportNumber::NONE,
        jitter: Jitter(number),
    },
    |attempt, _, number| Command::ExpireLease {
        attempt,
        loss: Loss::LeaseEnded,
        jitter: Jitter(number),
    },
    |attempt, _, number| Command::ExpireLease {
        attempt,
        loss: Loss::ProcessGone,
        jitter: Jitter(number),
    },
];

pub(crate) fn id() -> TaskId {
    TaskId::new("t").expect("an id")
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let after_ms = prop_oneof![Just(0), 0..100_000_i64];
    let other_attempt = prop_oneof![4 => Just(None), 1 => (0..6_u32).prop_map(Some)];
    (any_wish(), other_attempt, after_ms).prop_map(|(wish, other_attempt, after_ms)| Step {
        wish,
        other_attempt,
        after_ms,
    })
}

fn any_wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        1 => any_spec().prop_map(Command::Dispatch).prop_map(Wish::Plain),
        4 => any_claim().prop_map(Wish::Plain),
        1 => any_json().prop_map(|data| Wish::Plain(Command::Resume { data })),
        1 => Just(Wish::Plain(Command::Cancel)),
        1 => Just(Wish::Plain(Command::Retry)),
        1 => any_record().prop_map(Command::Record).prop_map(Wish::Plain),
        8 => (prop::sample::select(REPORTS.to_vec()), any_json(), any::<u32>())
            .prop_map(|(report, json, number)| Wish::Report(report, json, number)),
    ]
}

fn any_claim() -> impl Strategy<Value = Command> {
    let lease_ms = prop_oneof![0..100_000_u64, any::<u64>()];
    (any_worker(), lease_ms).prop_map(|(worker, lease_ms)| Command::Claim { worker, lease_ms })
}

pub(crate) fn any_worker() -> impl Strategy<Value = WorkerId> {
    any_text().prop_filter_map("an id", |text| WorkerId::new(text).ok())
}

pub(crate) fn any_spec() -> impl Strategy<Value = Arc<Spec>> {
    let retry = (0..4_u32, any::<u64>(), any::<u64>());
    (0..3_u8, retry, any_json()).prop_map(|(kind, (max_retries, delay_ms, delay_max_ms), args)| {
        let new = NewTask::new(format!("tool-{kind}")).args(args);
        let defaults = TaskDefaults {
            timeout_ms: 200,
            retry: RetryPolicy {
                max_retries,
                delay_ms,
                delay_max_ms,
            },
        };
        let spec = new.into_spec(Namespace::default(), id(), defaults);
        Arc::new(spec.expect("it can be accepted"))
    })
}

pub(crate) fn any_record() -> impl Strategy<Value = Arc<Record>> {
    let statuses = vec!["pending", "running", "completed", "failed", "killed"];
    let status = prop::sample::select(statuses);
    let kind = any_text();
    // What a JavaScript owner can have written: no number that is out of range.
    let result =
        any_json().prop_filter_map("a value", |json| json.parse::<serde_json::Value>().ok());
    (status, kind, any_time(), result).prop_map(|(status, kind, updated_at, result)| {
        let document = serde_json::json!({
            "id": "t", "subagentType": kind, "description": "d", "status": status,
            "createdAt": "2026-11-21T00:00:00.000Z", "updatedAt": updated_at,
            "result": result, "unknown": [1],
        });
        let record = Record::from_document(Json::from(document));
        Arc::new(record.expect("a record"))
    })
}

pub(crate) fn any_time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        any::<i64>(),
        -100_000_000_000_000..100_000_000_000_000_i64,
        Just(i64::MIN),
        Just(i64::MAX),
        Just(0),
    ]
    .prop_map(Timestamp::from_ms)
}

pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let letters = prop::collection::vec(any::<char>(), 0..8);
    letters.prop_map(String::from_iter)
}

/// JSON as people send it: with spaces, escapes, and numbers of any size.
pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("1.0".to_owned()),
        Just("-1e400".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any_text().prop_map(|text| serde_json::to_string(&text).expect("a text")),
        Just("\"\\u0000\\/\"".to_owned()),
    ];
    let text = leaf.prop_recursive(3, 12, 4, |inner| {
        let space = prop::sample::select(vec!["", " ", "\n", "\r\n\t"]);
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..4), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (any_text(), inner, space).prop_map(|(key, value, space)| {
                let key = serde_json::to_string(&key).expect("a text");
                format!("{{{key}:{space}{value}}}")
            }),
        ]
    });
    text.prop_map(|text| Json::from_text(text).expect("JSON"))
}
