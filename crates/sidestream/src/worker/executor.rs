//! One attempt, from the claim to its report, as a pipe of verbs.
//!
//! The attempt ends in one of three ways: the handler returns, its time is up, or the task is taken
//! from it (cancelled, lost, shut down). Whichever comes first decides; what the handler returns
//! afterwards is discarded.

use std::sync::Arc;
use std::time::Duration;

use sidestream_core::task::check_payload;
use sidestream_core::{Command, Json, Task, TaskError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;

use crate::chance;
use crate::error::Error;
use crate::store::Request;
use crate::worker::handler::{Context, Emitted, Handler, HandlerError, Outcome};
use crate::worker::{Reason, Running, Shared};

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

/// One attempt, and what runs for it.
struct Execution {
    shared: Arc<Shared>,
    task: Arc<Task>,
    running: Running,
    deadline: Instant,
    outputs: mpsc::Sender<Emitted>,
    handling: Handling,
    writing: JoinHandle<Option<()>>,
    renewing: JoinHandle<Option<()>>,
}

/// Runs a claimed task to the end of its attempt, and reports it.
pub(crate) async fn execute(shared: Arc<Shared>, task: Task, running: Running) {
    let mut execution = Execution::start(shared, Arc::new(task), running);
    let ending = execution.wait_for_end().await;
    execution.finish(ending).await;
}

impl Execution {
    fn start(shared: Arc<Shared>, task: Arc<Task>, running: Running) -> Self {
        let now = Instant::now();
        let deadline = now + Duration::from_millis(task.spec.timeout_ms);
        let (outputs, emitted) = mpsc::channel(OUTPUTS_WAITING_MAX);
        let context = Context::new(
            Arc::clone(&task),
            shared.log.clone(),
            deadline,
            running.stop_token().clone(),
            outputs.clone(),
        );
        let renew = renew(Arc::clone(&shared), Arc::clone(&task), running.clone(), now);
        let write = write_outputs(
            Arc::clone(&shared),
            Arc::clone(&task),
            running.clone(),
            emitted,
        );
        let handle = call(shared.handler_of(&task), context);
        Self {
            deadline,
            outputs,
            renewing: shared.spawner.spawn(renew),
            writing: shared.spawner.spawn(write),
            handling: shared.spawner.spawn(handle),
            shared,
            task,
            running,
        }
    }

    async fn wait_for_end(&mut self) -> Ending {
        tokio::select! {
            biased;
            reason = self.running.taken() => Ending::Taken(reason),
            outcome = &mut self.handling => Ending::Returned(outcome_of(outcome)),
            () = tokio::time::sleep_until(self.deadline) => Ending::TimedOut,
        }
    }

    async fn finish(mut self, ending: Ending) {
        match ending {
            Ending::Returned(outcome) => {
                self.write_rest().await;
                self.report(self.command_for(outcome)).await;
            }
            // The next attempt must not begin while this one still runs.
            Ending::TimedOut if self.task.retry_count < self.task.spec.retry.max_retries => {
                self.stop(Reason::TimedOut).await;
                self.report(self.time_out()).await;
            }
            Ending::TimedOut => {
                self.report(self.time_out()).await;
                self.stop(Reason::TimedOut).await;
            }
            Ending::Taken(Reason::ShutDown) => {
                self.stop(Reason::ShutDown).await;
                self.report(self.command_for(self.shut_down())).await;
            }
            Ending::Taken(reason) => self.stop(reason).await,
        }
    }

    /// What the handler emitted before it returned is in the log before its outcome is.
    async fn write_rest(&self) {
        let (done, written) = oneshot::channel();
        if self.outputs.send(Emitted::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
        // Whoever kept a clone of the context can no longer emit.
        self.writing.abort();
    }

    /// Tells the handler to stop, gives it the grace, then drops it. A handler that blocks its thread
    /// cannot be dropped: it loses its slot all the same, and nothing of it is listened to.
    async fn stop(&mut self, reason: Reason) {
        self.running.take(reason);
        let grace = self.shared.config.grace;
        if tokio::time::timeout(grace, &mut self.handling)
            .await
            .is_err()
        {
            self.handling.abort();
        }
        self.writing.abort();
    }

    /// The command that reports an outcome.
    fn command_for(&self, outcome: Outcome) -> Command {
        let attempt = self.task.attempt;
        match within_limits(outcome) {
            Outcome::Completed(result) => Command::Complete { attempt, result },
            Outcome::Suspended(payload) => Command::Suspend { attempt, payload },
            Outcome::Failed {
                error,
                is_retryable,
            } => Command::Fail {
                attempt,
                error,
                is_retryable,
                jitter: chance::jitter(&*self.shared.chance),
            },
        }
    }

    fn time_out(&self) -> Command {
        Command::TimeOut {
            attempt: self.task.attempt,
            jitter: chance::jitter(&*self.shared.chance),
        }
    }

    /// What becomes of an attempt that the process cannot wait for: the retries decide, as they do when
    /// the process is lost.
    fn shut_down(&self) -> Outcome {
        let (worker, attempt) = (&self.shared.worker, self.task.attempt);
        let message = format!("worker {worker} was shut down before attempt {attempt} ended");
        Outcome::Failed {
            error: TaskError::new(message),
            is_retryable: true,
        }
    }

    /// Reports until the store has taken it or says that the attempt is no longer the task's. Repeating
    /// is harmless: a report taken twice is one.
    async fn report(&self, command: Command) {
        let (id, attempt) = (self.task.id(), self.task.attempt);
        let mut wait = REPORT_AGAIN_AFTER;
        loop {
            match self
                .shared
                .writer
                .submit(request(&self.task, command.clone()))
                .await
            {
                Ok(_) | Err(Error::ShutDown) => return,
                Err(Error::Rejected(rejection)) => {
                    return tracing::debug!(task = %id, %attempt, %rejection, "late report");
                }
                Err(Error::Invalid(error)) => {
                    return tracing::error!(task = %id, %attempt, %error, "report refused");
                }
                Err(error @ (Error::Store(_) | Error::Overloaded { .. })) => {
                    tracing::warn!(task = %id, %attempt, %error, "report repeated");
                }
            }
            tokio::select! {
                biased;
                () = self.running.lost() => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = REPORT_AGAIN_AFTER_MAX.min(wait * 2);
        }
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.renewing.abort();
        self.writing.abort();
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
fn outcome_of(joined: Result<Option<Outcome>, JoinError>) -> Outcome {
    match joined {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Outcome::Failed {
            error: TaskError::new("the worker was stopped"),
            is_retryable: true,
        },
        Err(error) => {
            let message = match error.try_into_panic() {
                Ok(panic) => format!("the handler panicked: {}", panic_text(&*panic)),
                Err(_) => "the handler was dropped".to_owned(),
            };
            Outcome::Failed {
                error: TaskError::new(message),
                is_retryable: true,
            }
        }
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message")
}

fn request(task: &Task, command: Command) -> Request {
    Request::Command {
        namespace: task.identity().namespace.clone(),
        id: task.id().clone(),
        command,
    }
}

/// Keeps the lease. A worker that cannot renew it stops its handler before another can have the task.
async fn renew(shared: Arc<Shared>, task: Arc<Task>, running: Running, claimed: Instant) {
    let lease = Duration::from_millis(shared.config.lease_ms);
    let mut ends = claimed + lease;
    loop {
        tokio::time::sleep(lease / 3).await;
        let asked = Instant::now();
        let command = Command::Renew {
            attempt: task.attempt,
            lease_ms: shared.config.lease_ms,
        };
        match shared.writer.submit(request(&task, command)).await {
            Ok(_) => ends = asked + lease,
            Err(Error::Rejected(_)) => return running.take(Reason::Lost),
            Err(Error::ShutDown) => return,
            Err(error) => {
                tracing::warn!(task = %task.id(), %error, "the lease was not renewed");
                // As soon as another try could come too late.
                if Instant::now() + lease / 3 >= ends {
                    return running.take(Reason::Lost);
                }
            }
        }
    }
}

/// Writes what the handler emits, as much at a time as has gathered.
async fn write_outputs(
    shared: Arc<Shared>,
    task: Arc<Task>,
    running: Running,
    mut emitted: mpsc::Receiver<Emitted>,
) {
    let mut batch = Vec::new();
    while emitted.recv_many(&mut batch, OUTPUTS_WAITING_MAX).await > 0 {
        let (mut payloads, mut flushes) = (Vec::new(), Vec::new());
        for emitted in batch.drain(..) {
            match emitted {
                Emitted::Output(payload) => payloads.push(payload),
                Emitted::Flush(done) => flushes.push(done),
            }
        }
        if !payloads.is_empty() && !write(&shared, &task, &running, payloads).await {
            return;
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

/// Writes outputs until the store has taken them; `false` when the attempt no longer holds the task.
async fn write(shared: &Shared, task: &Task, running: &Running, payloads: Vec<Json>) -> bool {
    let mut wait = REPORT_AGAIN_AFTER;
    loop {
        let command = Command::Output {
            attempt: task.attempt,
            payloads: payloads.clone(),
        };
        match shared.writer.submit(request(task, command)).await {
            Ok(_) => return true,
            Err(Error::Store(error)) if !error.is_outcome_unknown() => {
                tracing::warn!(task = %task.id(), %error, "output repeated");
            }
            Err(Error::Overloaded { .. }) => {}
            // After an unknown outcome a repetition could be told twice; the attempt cannot go on.
            Err(error) => {
                tracing::debug!(task = %task.id(), %error, "output refused");
                running.take(Reason::Lost);
                return false;
            }
        }
        tokio::time::sleep(wait).await;
        wait = REPORT_AGAIN_AFTER_MAX.min(wait * 2);
    }
}
