//! `docs/state-machine.md` shows what the code does: every command against every status.
//!
//! `UPDATE_DOCS=1 cargo test -p sidestream-core --test state_machine` rewrites the table.

use std::fmt::Write as _;
use std::sync::Arc;

use sidestream_core::command::Loss;
use sidestream_core::lifecycle::{Change, LeaseChange, apply, decide};
use sidestream_core::task::TaskDefaults;
use sidestream_core::{
    Attempt, Command, Event, EventKind, Jitter, Json, Namespace, NewTask, Record, Rejection,
    ReportNumber, Seq, Spec, Status, Task, TaskError, TaskId, Timestamp, WorkerId,
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
const BEGIN: &str = "<!-- The table is made by crates/core/tests/state_machine.rs. -->\n";
const END: &str = "<!-- End of the table. -->\n";
const LEASE_MS: u64 = 30_000;
const AGAIN: &str = "what led here, again";
const KNOWN: &str = "any report with a number that was accepted";

/// A document that has gone stale misleads those who trust it.
#[test]
fn the_document_shows_what_the_code_does() {
    let document = std::fs::read_to_string(DOCUMENT).expect("the document can be read");
    let (before, rest) = document.split_once(BEGIN).expect("the table's beginning");
    let (shown, after) = rest.split_once(END).expect("the table's end");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let document = format!("{before}{BEGIN}{table}{END}{after}");
        std::fs::write(DOCUMENT, document).expect("the document can be written");
        return;
    }
    assert_eq!(shown, table, "UPDATE_DOCS=1 rewrites it");
}

/// The columns.
#[derive(Clone, Copy)]
enum Standing {
    /// There is no such task.
    None,
    /// Dispatched here.
    Here(Status),
    /// Kept for an owner elsewhere.
    Elsewhere,
}

/// The rows: a command in some circumstances.
struct Row {
    name: &'static str,
    /// How often the task may be retried.
    max_retries: u32,
    command: fn(&Met) -> Command,
}

/// A task, as a command meets it.
struct Met {
    task: Option<Task>,
    /// What made it stand so.
    last: Command,
    /// All that led there.
    commands: Vec<Command>,
}

impl Met {
    fn attempt(&self) -> Attempt {
        self.task.as_ref().map_or(Attempt(1), |task| task.attempt)
    }
}

fn table() -> String {
    let columns: Vec<(String, Standing)> = std::iter::once(("no task".into(), Standing::None))
        .chain(Status::ALL.map(|status| (status.to_string(), Standing::Here(status))))
        .chain([("a record".into(), Standing::Elsewhere)])
        .collect();
    let mut table = String::from("| |");
    for (name, _) in &columns {
        write!(table, " {name} |").expect("a text can be written to");
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(columns.len()));
    table.push('\n');
    for row in rows() {
        write!(table, "| {} |", row.name).expect("a text can be written to");
        for (_, standing) in &columns {
            write!(table, " {} |", cell(&row, *standing)).expect("a text can be written to");
        }
        table.push('\n');
    }
    table
}

fn rows() -> Vec<Row> {
    let row = |name, max_retries, command| Row {
        name,
        max_retries,
        command,
    };
    vec![
        row("dispatch", 0, |met| {
            let known = met.task.as_ref().map(|task| Arc::clone(&task.spec));
            Command::Dispatch(known.unwrap_or_else(|| spec(0)))
        }),
        row("dispatch another under this id", 0, |_| {
            let other = NewTask::new("another");
            Command::Dispatch(checked(other))
        }),
        row("claim", 0, |_| claim()),
        row("renew", 0, |met| Command::Renew {
            attempt: met.attempt(),
            lease_ms: LEASE_MS,
        }),
        row("output", 0, |met| Command::Output {
            attempt: met.attempt(),
            report: ReportNumber::NONE,
            payloads: vec![Json::string("o")],
        }),
        row("suspend", 0, |met| suspend(met.attempt(), "another")),
        row("resume", 0, |_| Command::Resume {
            data: Json::string("d"),
        }),
        row("complete", 0, |met| complete(met.attempt(), "another")),
        row("fail, retries left", 2, |met| {
            fail(met.attempt(), "another", true)
        }),
        row("fail, none left", 0, |met| {
            fail(met.attempt(), "another", true)
        }),
        row("fail, not retryable", 2, |met| {
            fail(met.attempt(), "another", false)
        }),
        row("time out, retries left", 2, |met| time_out(met.attempt())),
        row("time out, none left", 0, |met| time_out(met.attempt())),
        row("expire lease, retries left", 2, |met| {
            expire(met.attempt(), Loss::LeaseEnded)
        }),
        row("expire lease, none left", 0, |met| {
            expire(met.attempt(), Loss::LeaseEnded)
        }),
        row("any report of another attempt", 2, |met| {
            complete(Attempt(met.attempt().0 + 1), "r")
        }),
        row(AGAIN, 0, |met| met.last.clone()),
        row(KNOWN, 2, |met| {
            suspend(met.attempt(), "another").numbered(ReportNumber(1))
        }),
        row("cancel", 0, |_| Command::Cancel),
        row("retry", 0, |_| Command::Retry),
        row("record", 0, |_| record("completed")),
    ]
}

fn cell(row: &Row, standing: Standing) -> String {
    let met = match (row.name, standing) {
        (KNOWN, Standing::Here(status)) => met_after_report(status, row.max_retries),
        _ => met(standing, row.max_retries),
    };
    if met.task.is_none() && row.name == AGAIN {
        return "–".into();
    }
    let command = (row.command)(&met);
    let change = decide(&id(), met.task.as_ref(), &command, at(LEASE_MS));
    match change {
        Err(rejection) => format!("`{}`", name(&rejection)),
        Ok(change) if change.is_none() => "no change".into(),
        Ok(change) => {
            let mut task = met.task;
            let is_report = change
                .events
                .iter()
                .any(|kind| matches!(kind, EventKind::Recorded(_)));
            apply_all(&mut task, change, at(LEASE_MS));
            match task {
                Some(_) if is_report => "**as reported**".into(),
                Some(task) => format!("**{}**", task.status),
                None => "nothing".into(),
            }
        }
    }
}

/// `StaleAttempt`, of `StaleAttempt { … }`.
fn name(rejection: &Rejection) -> String {
    let debug = format!("{rejection:?}");
    let letters = debug.chars().take_while(char::is_ascii_alphabetic);
    letters.collect()
}

/// Whatever a worker reports of an attempt that is not its own gets the same answer: the row "any
/// report of another attempt" stands for all of them.
#[test]
fn every_report_of_another_attempt_is_stale() {
    let reports: [fn(Attempt) -> Command; 8] = [
        |attempt| Command::Renew {
            attempt,
            lease_ms: LEASE_MS,
        },
        |attempt| Command::Output {
            attempt,
            report: ReportNumber::NONE,
            payloads: Vec::new(),
        },
        |attempt| suspend(attempt, "s"),
        |attempt| complete(attempt, "r"),
        |attempt| fail(attempt, "e", true),
        |attempt| fail(attempt, "e", false),
        time_out,
        |attempt| expire(attempt, Loss::ProcessGone),
    ];
    for status in Status::ALL {
        let met = met(Standing::Here(status), 2);
        for report in reports {
            for other in [met.attempt().0.wrapping_sub(1), met.attempt().0 + 1] {
                let command = report(Attempt(other));
                let answer = decide(&id(), met.task.as_ref(), &command, at(LEASE_MS));
                let expected = Rejection::StaleAttempt {
                    reported: Attempt(other),
                    current: met.attempt(),
                    status,
                };
                assert_eq!(answer, Err(expected), "{command:?} while {status}");
            }
        }
    }
}

/// A lease that was renewed in the meantime is left alone, unless the process is known to be gone.
#[test]
fn a_lease_that_has_not_ended_is_not_expired() {
    let met = met(Standing::Here(Status::Running), 0);
    let answer = |loss, ms| {
        let command = expire(met.attempt(), loss);
        decide(&id(), met.task.as_ref(), &command, at(ms))
    };
    let held = answer(Loss::LeaseEnded, LEASE_MS - 1);
    assert_eq!(held, Err(Rejection::LeaseHeld));
    assert!(answer(Loss::LeaseEnded, LEASE_MS).is_ok());
    assert!(answer(Loss::ProcessGone, 0).is_ok());
}

/// A task that stands so, by the commands that lead there.
fn met(standing: Standing, max_retries: u32) -> Met {
    let status = match standing {
        Standing::None => {
            return Met {
                task: None,
                last: Command::Cancel,
                commands: Vec::new(),
            };
        }
        Standing::Elsewhere => return after(vec![record("running")]),
        Standing::Here(status) => status,
    };
    let first = Attempt(1);
    let mut commands = vec![Command::Dispatch(spec(max_retries)), claim()];
    match status {
        Status::Pending => commands.truncate(1),
        Status::Running => {}
        Status::Suspended => commands.push(suspend(first, "s")),
        Status::Completed => commands.push(complete(first, "r")),
        Status::Failed => commands.push(fail(first, "e", false)),
        Status::TimedOut => {
            for attempt in 1..=max_retries {
                commands.extend([fail(Attempt(attempt), "e", true), claim()]);
            }
            commands.push(time_out(Attempt(max_retries + 1)));
        }
        Status::Cancelled => commands.push(Command::Cancel),
    }
    let met = after(commands);
    assert_eq!(met.task.as_ref().map(|task| task.status), Some(status));
    met
}

/// A task that stands so, and whose latest attempt has made a report: an output, its first.
fn met_after_report(status: Status, max_retries: u32) -> Met {
    let output = |attempt| {
        let payloads = vec![Json::string("o")];
        let report = ReportNumber(1);
        Command::Output {
            attempt,
            report,
            payloads,
        }
    };
    let mut met = met(Standing::Here(status), max_retries);
    if status == Status::Pending {
        met.commands.extend([claim(), fail(Attempt(1), "e", true)]);
    }
    let last_claim = met
        .commands
        .iter()
        .rposition(|command| matches!(command, Command::Claim { .. }))
        .expect("it was claimed");
    let attempt = after(met.commands[..=last_claim].to_vec()).attempt();
    met.commands.insert(last_claim + 1, output(attempt));
    let met = after(met.commands);
    assert_eq!(met.task.as_ref().map(|task| task.status), Some(status));
    met
}

fn after(commands: Vec<Command>) -> Met {
    let mut task = None;
    for command in &commands {
        let change = decide(&id(), task.as_ref(), command, at(0)).expect("it is allowed");
        apply_all(&mut task, change, at(0));
    }
    let last = commands.last().expect("there is one").clone();
    Met {
        task,
        last,
        commands,
    }
}

fn apply_all(task: &mut Option<Task>, change: Change, at: Timestamp) {
    for kind in change.events {
        let seq = task.as_ref().map_or(Seq(0), |task| task.seq).next();
        let report = change.report;
        let event = Event {
            seq,
            at,
            report,
            kind,
        };
        apply(task, &Namespace::default(), &event);
    }
    if let Some(task) = task {
        match change.lease {
            LeaseChange::Keep => {}
            LeaseChange::Hold(lease) => task.lease = Some(lease),
            LeaseChange::Release => task.lease = None,
        }
    }
}

fn id() -> TaskId {
    TaskId::new("t").expect("an id")
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).expect("small"))
}

fn spec(max_retries: u32) -> Arc<Spec> {
    checked(NewTask::new("tool").max_retries(max_retries))
}

fn checked(new: NewTask) -> Arc<Spec> {
    let spec = new.into_spec(Namespace::default(), id(), TaskDefaults::default());
    Arc::new(spec.expect("it can be accepted"))
}

fn claim() -> Command {
    Command::Claim {
        worker: WorkerId::new("w").expect("an id"),
        lease_ms: LEASE_MS,
    }
}

fn suspend(attempt: Attempt, payload: &str) -> Command {
    let payload = Json::string(payload);
    Command::Suspend {
        attempt,
        report: ReportNumber::NONE,
        payload,
    }
}

fn complete(attempt: Attempt, result: &str) -> Command {
    let result = Some(Json::string(result));
    Command::Complete {
        attempt,
        report: ReportNumber::NONE,
        result,
    }
}

fn fail(attempt: Attempt, message: &str, is_retryable: bool) -> Command {
    Command::Fail {
        attempt,
        report: ReportNumber::NONE,
        error: TaskError::new(message),
        is_retryable,
        jitter: Jitter(0),
    }
}

fn time_out(attempt: Attempt) -> Command {
    let jitter = Jitter(0);
    Command::TimeOut {
        attempt,
        report: ReportNumber::NONE,
        jitter,
    }
}

fn expire(attempt: Attempt, loss: Loss) -> Command {
    Command::ExpireLease {
        attempt,
        loss,
        jitter: Jitter(0),
    }
}

fn record(status: &str) -> Command {
    let document = serde_json::json!({
        "id": "t", "subagentType": "s", "description": "d", "status": status,
        "createdAt": "2026-11-21T00:00:00.000Z", "updatedAt": "2026-11-21T00:00:00.000Z",
    });
    let record = Record::from_document(Json::from(document)).expect("a record");
    Command::Record(Arc::new(record))
}
