//! One attempt, from the claim to its report, as a pipe of verbs.
//!
//! The attempt ends in one of three ways: the handler returns, its time is up, or the task is taken
//! from it (cancelled, lost, shut down). Whichever comes first decides; what the handler returns
//! afterwards is discarded.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use sidestream_core::task::{PAYLOAD_BYTES_MAX, check_payload};
use sidestream_core::{Command, Json, Rejection, ReportNumber, Status, Task, TaskError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::chance;
use crate::error::Error;
use crate::worker::handler::{Context, Emitted, Handler, HandlerError, Outcome};
use crate::worker::running::{Reason, Running};
use crate::worker::{Parts, Span};

/// So many outputs of one attempt wait for the log before its handler does.
const OUTPUTS_WAITING_MAX: usize = 256;
/// The first wait before a report is repeated that the store could not take; it doubles.
const REPORT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// The longest such wait.
const REPORT_AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);

/// How an attempt came to its end.
enum Ending {
    /// The handler returned.
    Returned(Outcome),
    /// Its time is up.
    TimedOut,
    /// The task is no longer its own, or the process shuts down.
    Taken(Reason),
}

/// The handler, as it runs; `None` once the process is being stopped without ceremony.
type Handling = JoinHandle<Option<Outcome>>;

/// Numbers the reports of an attempt, so that one that is repeated is known as the same. Each is made when
/// the one before has been answered.
#[derive(Debug, Default)]
struct Reports(AtomicU32);

impl Reports {
    fn number(&self, command: Command) -> Command {
        let last = ReportNumber(self.0.fetch_add(1, Relaxed));
        command.numbered(last.next())
    }
}

/// One attempt.
struct Execution {
    parts: Arc<Parts>,
    task: Arc<Task>,
    running: Running,
    deadline: Instant,
    reports: Reports,
    outputs: mpsc::Sender<Emitted>,
}

/// Runs a claimed task to the end of its attempt, and reports it. The handler has a task of its own, since it
/// may block its thread or panic; all else of the attempt is this future.
pub(crate) async fn execute(parts: Arc<Parts>, task: Task, span: Span, running: Running) {
    let (execution, mut handling, emitted) = Execution::start(parts, task, span, running);
    let work = async {
        let ending = execution.wait_for_end(&mut handling).await;
        execution.finish(ending, handling).await;
    };
    // They end the attempt by what they tell `running`.
    let beside = async {
        tokio::join!(execution.renew(span), execution.write_outputs(emitted));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = work => {}
        () = beside => {}
    }
}

impl Execution {
    fn start(
        parts: Arc<Parts>,
        task: Task,
        span: Span,
        running: Running,
    ) -> (Self, Handling, mpsc::Receiver<Emitted>) {
        let task = Arc::new(task);
        let now = Instant::now();
        // The claim's answer came too late.
        if now >= span.give_up_at {
            running.take(Reason::Lost);
        } else if now >= span.deadline {
            running.take(Reason::TimedOut);
        }
        let (outputs, emitted) = mpsc::channel(OUTPUTS_WAITING_MAX);
        let context = Context::new(
            Arc::clone(&task),
            parts.log.clone(),
            span.deadline,
            running.stop_token().clone(),
            outputs.clone(),
        );
        let handle = call(parts.handler_of(&task), context);
        let handling = parts.spawner.spawn(handle);
        let execution = Self {
            deadline: span.deadline,
            reports: Reports::default(),
            outputs,
            parts,
            task,
            running,
        };
        (execution, handling, emitted)
    }

    async fn wait_for_end(&self, handling: &mut Handling) -> Ending {
        tokio::select! {
            biased;
            reason = self.running.taken() => Ending::Taken(reason),
            outcome = outcome_of(handling) => Ending::Returned(outcome),
            () = tokio::time::sleep_until(self.deadline) => Ending::TimedOut,
        }
    }

    async fn finish(&self, ending: Ending, handling: Handling) {
        match ending {
            Ending::Returned(outcome) => {
                let outcome = match self.write_rest().await {
                    true => outcome,
                    false => self.given_up(),
                };
                self.report(self.command_for(outcome)).await;
            }
            Ending::TimedOut | Ending::Taken(Reason::TimedOut) => {
                self.running.take(Reason::TimedOut);
                self.time_out(handling).await;
            }
            Ending::Taken(Reason::ShutDown) => {
                tokio::join!(self.stop(handling), self.write_rest());
                self.report(self.command_for(self.shut_down())).await;
            }
            Ending::Taken(Reason::Lost) => {
                self.stop(handling).await;
                self.report(self.command_for(self.given_up())).await;
            }
            Ending::Taken(Reason::Cancelled) => self.stop(handling).await,
        }
    }

    /// The last attempt is over at once for everyone who looks. Any other first stops, so that the next
    /// does not begin while it still runs.
    async fn time_out(&self, handling: Handling) {
        let command = Command::TimeOut {
            attempt: self.task.attempt,
            report: ReportNumber::NONE,
            jitter: chance::jitter(&*self.parts.chance),
        };
        if self.task.retry_count < self.task.spec.retry.max_retries {
            tokio::join!(self.stop(handling), self.write_rest());
            self.report(command).await;
        } else {
            let report = async {
                self.write_rest().await;
                self.report(command).await;
            };
            tokio::join!(report, self.stop(handling));
        }
    }

    /// What the handler emitted is in the log before its outcome is: `false` when that cannot be said. From
    /// then on whoever kept a clone of the context can no longer emit.
    async fn write_rest(&self) -> bool {
        let (done, written) = oneshot::channel();
        let sent = self.outputs.send(Emitted::End(done)).await;
        sent.is_ok() && written.await.is_ok()
    }

    /// The handler has been told to stop: gives it the grace, then drops it. A handler that blocks its
    /// thread cannot be dropped: it loses its slot all the same, and nothing of it is listened to.
    async fn stop(&self, mut handling: Handling) {
        let grace = self.parts.config.grace;
        if tokio::time::timeout(grace, &mut handling).await.is_err() {
            handling.abort();
        }
    }

    /// The command that reports an outcome.
    fn command_for(&self, outcome: Outcome) -> Command {
        let (attempt, report) = (self.task.attempt, ReportNumber::NONE);
        match within_limits(outcome) {
            Outcome::Completed(result) => Command::Complete {
                attempt,
                report,
                result,
            },
            Outcome::Suspended(payload) => Command::Suspend {
                attempt,
                report,
                payload,
            },
            Outcome::Failed {
                error,
                is_retryable,
            } => Command::Fail {
                attempt,
                report,
                error,
                is_retryable,
                jitter: chance::jitter(&*self.parts.chance),
            },
        }
    }

    /// What becomes of an attempt that the process cannot wait for: the retries decide, as they do when
    /// the process is lost.
    fn shut_down(&self) -> Outcome {
        let (worker, attempt) = (&self.parts.worker, self.task.attempt);
        let message = format!("worker {worker} was shut down before attempt {attempt} ended");
        Outcome::Failed {
            error: TaskError::new(message),
            is_retryable: true,
        }
    }

    /// What becomes of an attempt of which the worker cannot say that it still holds the task. Sooner than the end of its lease; if it has ended, this is stale.
    fn given_up(&self) -> Outcome {
        let (worker, attempt) = (&self.parts.worker, self.task.attempt);
        let message =
            format!("worker {worker} gave up attempt {attempt}: its lease was not confirmed");
        Outcome::Failed {
            error: TaskError::new(message),
            is_retryable: true,
        }
    }

    /// Reports the end of the attempt.
    async fn report(&self, command: Command) {
        let command = self.reports.number(command);
        let told = self.tell(command).await;
        let (id, attempt) = (self.task.id(), self.task.attempt);
        match told {
            Err(Some(Error::Rejected(rejection))) => {
                tracing::debug!(task = %id, %attempt, %rejection, "late report");
            }
            Err(Some(Error::Invalid(error))) => {
                tracing::error!(task = %id, %attempt, %error, "report refused");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Keeps the lease. A worker that cannot renew it, whether the store fails or hangs, stops its handler
    /// before another can have the task.
    async fn renew(&self, mut span: Span) {
        let (parts, task, running) = (&self.parts, &self.task, &self.running);
        let mut doubts = parts.running.doubts();
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(span.renew_at) => {}
                // Asked at once. The sender is gone only with the whole worker.
                _ = doubts.changed() => {}
            }
            let asked = Instant::now();
            let command = Command::Renew {
                attempt: task.attempt,
                lease_ms: parts.config.lease_ms,
            };
            let renewing = parts.broker.report(task.identity(), command);
            match tokio::time::timeout_at(span.give_up_at, renewing).await {
                Ok(Ok(())) => span = span.renewed(asked, parts.config.lease()),
                Ok(Err(Error::Rejected(rejection))) => return running.take(taken_by(&rejection)),
                Err(_) => return running.take(Reason::Lost),
                Ok(Err(Error::ShutDown)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(task = %task.id(), %error, "the lease was not renewed");
                    span.renew_at = asked + parts.config.lease() / 12;
                }
            }
        }
    }

    /// Writes what the handler emits, as much at a time as has gathered, until the end.
    async fn write_outputs(&self, mut emitted: mpsc::Receiver<Emitted>) {
        let mut batch = Vec::new();
        while emitted.recv_many(&mut batch, OUTPUTS_WAITING_MAX).await > 0 {
            let (mut waiting, mut flushes, mut end) = (VecDeque::new(), Vec::new(), None);
            for emitted in batch.drain(..) {
                match emitted {
                    Emitted::Output(payload, room) => waiting.push_back((payload, room)),
                    Emitted::Flush(done) => flushes.push(done),
                    Emitted::End(done) => {
                        end = Some(done);
                        break;
                    }
                }
            }
            while !waiting.is_empty() {
                let (payloads, _room) = one_report(&mut waiting);
                let command = self.reports.number(Command::Output {
                    attempt: self.task.attempt,
                    report: ReportNumber::NONE,
                    payloads,
                });
                if let Err(refusal) = self.tell(command).await {
                    tracing::debug!(task = %self.task.id(), ?refusal, "output refused");
                    return self.running.take(Reason::Lost);
                }
            }
            let is_end = end.is_some();
            for done in flushes.into_iter().chain(end) {
                let _ = done.send(());
            }
            if is_end {
                return;
            }
        }
    }

    /// Reports until the store has taken it or says that the attempt is no longer the task's. Repeating is
    /// harmless, whatever became of the first time: by its number a report taken twice is one.
    ///
    /// # Errors
    /// Why it was refused, or `None` when the attempt was given up before there was an answer.
    async fn tell(&self, command: Command) -> Result<(), Option<Error>> {
        let (broker, task) = (&self.parts.broker, &self.task);
        let mut wait = REPORT_AGAIN_AFTER;
        loop {
            match broker.report(task.identity(), command.clone()).await {
                Ok(()) => return Ok(()),
                Err(error @ (Error::Store(_) | Error::Overloaded { .. })) => {
                    let attempt = task.attempt;
                    tracing::warn!(task = %task.id(), %attempt, %error, "report repeated");
                }
                Err(refusal) => return Err(Some(refusal)),
            }
            tokio::select! {
                biased;
                () = self.running.lost() => return Err(None),
                () = tokio::time::sleep(wait) => {}
            }
            wait = REPORT_AGAIN_AFTER_MAX.min(wait * 2);
        }
    }
}

/// A result or payload that is too large fails the attempt, for good: the next would be no smaller.
fn within_limits(outcome: Outcome) -> Outcome {
    let (field, json) = match &outcome {
        Outcome::Completed(Some(result)) => ("result", result),
        Outcome::Suspended(payload) => ("suspendPayload", payload),
        _ => return outcome,
    };
    match check_payload(field, json) {
        Ok(()) => outcome,
        Err(error) => HandlerError::permanent(error.to_string()).into(),
    }
}

async fn call(handler: Option<Arc<dyn Handler>>, context: Context) -> Outcome {
    if context.cancelled().is_cancelled() {
        let error = TaskError::new("the attempt was over before it began");
        return Outcome::Failed {
            error,
            is_retryable: true,
        };
    }
    let Some(handler) = handler else {
        let tool = &context.task().tool_name;
        let error = TaskError::new(format!("this worker has no tool {tool}"));
        return Outcome::Failed {
            error,
            is_retryable: true,
        };
    };
    handler.call(context).await
}

/// What came of the handler: a panic fails its attempt and nothing else.
async fn outcome_of(handling: &mut Handling) -> Outcome {
    let failed = |message: String| Outcome::Failed {
        error: TaskError::new(message),
        is_retryable: true,
    };
    match handling.await {
        Ok(Some(outcome)) => outcome,
        // The whole process is being stopped where it stands: it has nothing more to say.
        Ok(None) => std::future::pending().await,
        Err(error) => failed(match error.try_into_panic() {
            Ok(panic) => format!("the handler panicked: {}", panic_text(&*panic)),
            Err(_) => "the handler was dropped".to_owned(),
        }),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

/// Why a renewal was refused.
fn taken_by(rejection: &Rejection) -> Reason {
    match rejection {
        Rejection::StaleAttempt {
            status: Status::Cancelled,
            ..
        } => Reason::Cancelled,
        _ => Reason::Lost,
    }
}

/// As many outputs as make one report, and the room that they take until it is answered: no more bytes than
/// one output may have.
fn one_report<Room>(waiting: &mut VecDeque<(Json, Room)>) -> (Vec<Json>, Vec<Room>) {
    let mut bytes = 0;
    let fits = |(payload, _): &(Json, Room)| {
        let is_first = bytes == 0;
        bytes += payload.bytes();
        is_first || bytes <= PAYLOAD_BYTES_MAX
    };
    let count = waiting.iter().map(fits).take_while(|it| *it).count();
    waiting.drain(..count).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server takes bodies of 2 MiB: no report may be larger, unless one output is.
    #[test]
    fn outputs_are_told_in_order_and_in_parts_of_bounded_size() {
        let sizes = [1, 300, 200, 600, 512, 10, 10];
        let output = |kib: &usize| Json::string(&"x".repeat((kib << 10) - 2));
        let outputs: Vec<Json> = sizes.iter().map(output).collect();
        let mut waiting: VecDeque<(Json, ())> = outputs.iter().map(|it| (it.clone(), ())).collect();
        let mut reports = Vec::new();
        while !waiting.is_empty() {
            reports.push(one_report(&mut waiting).0);
        }
        let kib = |json: &Json| json.bytes() >> 10;
        let told: Vec<Vec<usize>> = reports
            .iter()
            .map(|r| r.iter().map(kib).collect())
            .collect();
        assert_eq!(told, [vec![1, 300, 200], vec![600], vec![512, 10, 10]]);
        assert_eq!(reports.concat(), outputs);
    }
}
