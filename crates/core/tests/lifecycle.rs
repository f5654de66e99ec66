//! What holds for every task, whatever is asked of it in whatever order.

mod samples;

use proptest::prelude::*;
use samples::{Life, Step, any_json, any_spec, any_step, cases, id};
use sidestream_core::lifecycle::decide;
use sidestream_core::{
    Attempt, Command, EventKind, Rejection, ReportNumber, Status, Task, Timestamp,
};

/// Lives a life, and looks at each step: before, the command, its answer, after.
fn live(
    steps: &[Step],
    mut look: impl FnMut(Option<&Task>, &Command, &Result<Vec<EventKind>, Rejection>, &Life),
) -> Life {
    let mut life = Life::default();
    for step in steps {
        life.now = life.now.plus_ms(step.after_ms);
        let command = step.command(life.attempt());
        let before = life.task.clone();
        let answer = life.ask(&command);
        look(before.as_ref(), &command, &answer, &life);
    }
    life
}

/// A life of at most so many steps; it begins with a dispatch more often than not.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let begin = any_spec().prop_map(|spec| Step {
        wish: samples::Wish::Plain(Command::Dispatch(spec)),
        other_attempt: None,
        after_ms: 0,
    });
    let begin = prop::option::weighted(0.9, begin);
    (begin, prop::collection::vec(any_step(), 0..40))
        .prop_map(|(begin, rest)| begin.into_iter().chain(rest).collect())
}

/// The attempt that a report names.
fn reported(command: &Command) -> Option<Attempt> {
    match command {
        Command::Renew { attempt, .. } | Command::ExpireLease { attempt, .. } => Some(*attempt),
        command => command.report().map(|(attempt, _)| attempt),
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// R2: only a retry by hand or an owner elsewhere takes a task from its end.
    #[test]
    fn ended_stays_ended(steps in steps()) {
        live(&steps, |before, command, answer, life| {
            let is_exception = matches!(command, Command::Retry | Command::Record(_));
            let Some(ended) = before.filter(|task| task.status.is_terminal()) else {
                return;
            };
            if is_exception {
                return;
            }
            assert_eq!(life.task.as_ref(), Some(ended), "after {command:?}");
            assert!(answer.as_ref().is_err() || answer.as_ref().is_ok_and(Vec::is_empty));
        });
    }

    /// L3: leases aside.
    #[test]
    fn a_row_is_the_fold_of_its_events(steps in steps()) {
        live(&steps, |_, command, _, life| {
            let row = life.task.clone().map(|task| Task { lease: None, ..task });
            assert_eq!(row, life.fold(), "after {command:?}");
        });
    }

    /// R1: and its worker learns it, unless it says again what is known.
    #[test]
    fn a_stale_attempt_changes_nothing(steps in steps()) {
        live(&steps, |before, command, answer, life| {
            let (Some(before), Some(reported)) = (before, reported(command)) else {
                return;
            };
            let is_current = before.status == Status::Running && before.attempt == reported;
            if is_current {
                return;
            }
            assert_eq!(life.task.as_ref(), Some(before), "after {command:?}");
            match answer {
                Ok(events) => {
                    assert!(events.is_empty());
                    assert_eq!(before.attempt, reported, "another's report is not known");
                }
                Err(Rejection::OwnedElsewhere) => assert!(before.is_external()),
                Err(Rejection::StaleAttempt { reported: named, current, status }) => {
                    assert_eq!((*named, *current), (reported, before.attempt));
                    assert_eq!(*status, before.status);
                }
                Err(other) => panic!("{command:?} got {other}"),
            }
        });
    }

    /// R1: it rises by one with each claim, and with nothing else.
    #[test]
    fn an_attempt_never_goes_back(steps in steps()) {
        live(&steps, |before, command, answer, life| {
            let before = before.map_or(Attempt(0), |task| task.attempt);
            let is_claimed = matches!(command, Command::Claim { .. }) && answer.is_ok();
            let expected = before.0 + u32::from(is_claimed);
            assert_eq!(life.attempt(), Attempt(expected), "after {command:?}");
        });
    }

    /// A refusal, and an answer without news, leave everything as it was; only leases move silently.
    #[test]
    fn nothing_happens_silently(steps in steps()) {
        live(&steps, |before, command, answer, life| {
            if answer.as_ref().is_ok_and(|events| !events.is_empty()) {
                return;
            }
            let plain = |task: &Task| Task { lease: None, ..task.clone() };
            assert_eq!(life.task.as_ref().map(plain), before.map(plain), "{command:?}");
            if !matches!(command, Command::Renew { .. }) {
                assert_eq!(life.task.as_ref(), before, "{command:?}");
            }
        });
    }

    /// What is said again is known already, except for what asks for more each time.
    #[test]
    fn what_is_repeated_changes_nothing(steps in steps()) {
        let mut again = Life::default();
        for step in &steps {
            again.now = again.now.plus_ms(step.after_ms);
            let command = step.command(again.attempt());
            let is_more = matches!(
                command,
                Command::Claim { .. } | Command::Retry | Command::Resume { .. } | Command::Renew { .. } | Command::ExpireLease { .. }
            );
            let is_anonymous = command.report().is_some_and(|(_, n)| n == ReportNumber::NONE);
            let is_more = is_more || is_anonymous && matches!(command, Command::Output { .. });
            if again.ask(&command).is_err() || is_more {
                continue;
            }
            let before = again.task.clone();
            assert_eq!(again.ask(&command), Ok(Vec::new()), "{command:?} again");
            assert_eq!(again.task, before);
        }
    }

    /// A report is known again by its number, whatever has become of the task, until the next attempt
    /// begins; and one that was not accepted is never known.
    #[test]
    fn an_accepted_report_is_known_until_the_next_attempt(steps in steps()) {
        let mut told: Vec<Command> = Vec::new();
        live(&steps, |before, command, answer, life| {
            match command.report() {
                _ if matches!(command, Command::Claim { .. }) && answer.is_ok() => told.clear(),
                Some((_, number)) if number != ReportNumber::NONE => {
                    let attempt = before.map(|task| task.attempt);
                    let is_new = before.is_none_or(|task| number > task.reported);
                    if answer.as_ref().is_ok_and(|events| !events.is_empty()) {
                        assert!(is_new, "{command:?} is told twice");
                        told.push(command.clone());
                    } else if !is_new && attempt == reported(command) {
                        assert_eq!(answer, &Ok(Vec::new()), "{command:?}");
                    }
                }
                _ => {}
            }
            for command in &told {
                let known = decide(&id(), life.task.as_ref(), command, life.now);
                assert!(known.is_ok_and(|change| change.is_none()), "{command:?} again");
            }
        });
    }

    /// The fields of a task say one thing.
    #[test]
    fn a_row_does_not_contradict_itself(steps in steps()) {
        live(&steps, |_, _, _, life| {
            let Some(task) = &life.task else {
                return;
            };
            let is = |status| task.status == status;
            let is_ours = !task.is_external();
            assert_eq!(task.lease.is_some(), is_ours && is(Status::Running));
            assert_eq!(task.deadline().is_some(), is(Status::Running));
            assert_eq!(task.suspended_at.is_some(), is(Status::Suspended));
            assert_eq!(task.suspend_payload.is_some(), is(Status::Suspended));
            assert_eq!(task.completed_at.is_some(), task.status.is_terminal());
            assert!(task.run_at.is_none() || is(Status::Pending));
            assert!(!task.is_resuming || is(Status::Pending));
            if is_ours {
                assert!(task.result.is_none() || is(Status::Completed));
                assert!(task.error.is_some() || !is(Status::Failed) && !is(Status::TimedOut));
                assert_eq!(task.started_at.is_some(), task.attempt > Attempt(0));
                assert_eq!(task.worker_id.is_some(), task.attempt > Attempt(0));
                assert!(task.retry_count <= task.spec.retry.max_retries);
                let last = life.events.last().expect("it was dispatched");
                assert_eq!((task.seq, task.updated_at), (last.seq, last.at));
            }
        });
    }

    /// Any command meets any task, even one that no log leads to, without a panic.
    #[test]
    fn decide_is_total(
        steps in steps(),
        step in any_step(),
        status in prop::sample::select(Status::ALL.to_vec()),
        attempt in prop_oneof![0..3_u32, Just(u32::MAX)],
        has_lease in any::<bool>(),
        has_worker in any::<bool>(),
        now in samples::any_time(),
    ) {
        let mut life = live(&steps, |_, _, _, _| {});
        if let Some(task) = &mut life.task {
            task.status = status;
            task.attempt = Attempt(attempt);
            task.lease = task.lease.take().filter(|_| has_lease);
            task.worker_id = task.worker_id.take().filter(|_| has_worker);
        }
        let command = step.command(life.attempt());
        let once = decide(&id(), life.task.as_ref(), &command, now);
        let twice = decide(&id(), life.task.as_ref(), &command, now);
        prop_assert_eq!(once, twice, "the same arguments give the same answer");
    }

    /// The wait before an attempt is never longer than its bounds, and never in the past.
    #[test]
    fn a_wait_stays_in_its_bounds(spec in any_spec(), number in any::<u32>(), json in any_json()) {
        let mut life = Life { now: Timestamp::from_ms(1_000), ..Life::default() };
        life.ask(&Command::Dispatch(spec.clone())).expect("it is new");
        for retry in 0..spec.retry.max_retries {
            let claim = Command::Claim { worker: "w".parse().expect("an id"), lease_ms: 1 };
            life.ask(&claim).expect("it is pending");
            let fail = Command::Fail {
                attempt: life.attempt(), report: ReportNumber::NONE,
                error: sidestream_core::TaskError::new(json.as_str()),
                is_retryable: true,
                jitter: sidestream_core::Jitter(number),
            };
            life.ask(&fail).expect("it is running");
            let task = life.task.as_ref().expect("it is there");
            let run_at = task.run_at.expect("it waits");
            let bound = u128::from(spec.retry.delay_ms) << retry;
            let bound = bound.min(spec.retry.delay_max_ms.into());
            prop_assert!(run_at >= life.now);
            prop_assert!(run_at.since(life.now).as_millis() <= bound);
        }
    }
}
