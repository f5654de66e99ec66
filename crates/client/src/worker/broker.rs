//! The broker of a worker whose tasks come from a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use sidestream::core::wire::worker::{ClaimAnswer, ClaimRequest, Report};
use sidestream::core::{Attempt, Command, Invalid, Rejection, TaskIdentity, ToolName, WorkerId};
use sidestream::worker::broker::{Broker, Claimed, Slots};
use sidestream::{Error as WorkError, StoreError, StoreErrorKind};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::cancellations::Room;
use crate::client::Client;
use crate::error::{Error, Problem};
use crate::stream::Backoff;

/// So many tasks at most are claimed at a time. A server takes no more.
const CLAIM_MAX: u32 = 256;
/// How long a claim waits for a task. A server may allow less.
const WAIT_MS: u64 = 25_000;
/// A report is given up, and repeated, after a sixth of a lease, but within these bounds.
const REPORT_TIMEOUT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// How much longer than it waits a claim may take.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait before a claim is tried again that was not answered.
const AGAIN: Backoff = Backoff {
    first: Duration::from_millis(100),
    max: Duration::from_secs(2),
};
/// An empty answer that comes sooner is followed by a wait of as long.
const HASTE_WAIT: Duration = Duration::from_millis(250);
/// How long a claim may take to be answered once its worker leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Claims from a server, by long poll.
#[derive(Debug)]
pub(super) struct RemoteBroker {
    client: Client,
    claim: ClaimRequest,
    report_timeout: Duration,
    room: Arc<Room>,
    wait_ms: AtomicU64,
    /// So many claims in a row were not answered.
    failures: AtomicU32,
    /// The last claim was answered with nothing, and much too soon: the server stops, or lets none wait.
    is_hasty: AtomicBool,
    /// The last claim was not answered: the server may still have it wait.
    is_in_doubt: AtomicBool,
    why_refused: Mutex<Option<Error>>,
    is_refused: CancellationToken,
}

impl RemoteBroker {
    pub(super) fn new(
        client: Client,
        worker: WorkerId,
        tools: &[ToolName],
        lease_ms: u64,
        room: Arc<Room>,
    ) -> Self {
        let [least, most] = REPORT_TIMEOUT;
        Self {
            client,
            claim: ClaimRequest {
                worker: worker.to_string(),
                tools: tools.iter().map(ToString::to_string).collect(),
                limit: 0,
                lease_ms: Some(lease_ms),
                wait_ms: None,
            },
            report_timeout: Duration::from_millis(lease_ms / 6).clamp(least, most),
            room,
            wait_ms: AtomicU64::new(WAIT_MS),
            failures: AtomicU32::new(0),
            is_hasty: AtomicBool::new(false),
            is_in_doubt: AtomicBool::new(false),
            why_refused: Mutex::new(None),
            is_refused: CancellationToken::new(),
        }
    }

    pub(super) fn server(&self) -> &str {
        self.client.base()
    }

    /// The server will never let this worker work: it claims no more.
    pub(super) fn refuse(&self, error: Error) {
        tracing::error!(%error, "the server refuses");
        self.why_refused.lock().get_or_insert(error);
        self.is_refused.cancel();
    }

    /// Waits for that, and says why.
    pub(super) async fn refused(&self) -> Error {
        loop {
            self.is_refused.cancelled().await;
            if let Some(error) = self.why_refused.lock().take() {
                return error;
            }
            // It has been said already.
            std::future::pending::<()>().await;
        }
    }

    /// Waits after a claim that was not answered, or much too soon.
    async fn pause(&self) {
        if let failures @ 1.. = self.failures.load(Relaxed) {
            tokio::time::sleep(AGAIN.wait(failures - 1)).await;
        }
        if self.is_hasty.load(Relaxed) {
            tokio::time::sleep(HASTE_WAIT).await;
        }
    }

    async fn ask(&self, limit: u32, wait: Duration) -> Result<ClaimAnswer, Error> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let body = ClaimRequest {
            limit,
            wait_ms: Some(wait_ms),
            ..self.claim.clone()
        };
        let http = &self.client.http;
        let request = http.request(Method::POST, &["claims"])?.json(&body);
        let bound = wait + CLAIM_TIMEOUT;
        http.read(http.send_within(request, bound).await?).await
    }

    /// Has this worker's claims that wait answered, so that no task is given to nobody.
    async fn leave(&self) -> Result<(), Error> {
        let left = timeout(LEAVE_TIMEOUT, self.ask(0, Duration::ZERO)).await;
        left.unwrap_or_else(|_| Err(self.client.http.silent()))
            .map(drop)
    }

    async fn claim_or_leave(
        &self,
        limit: u32,
        stop: &CancellationToken,
    ) -> Result<ClaimAnswer, Error> {
        // A connection that was lost may still stand at the server's end, with a claim that waits.
        if self.is_in_doubt.load(Relaxed) {
            self.leave().await?;
        }
        self.is_in_doubt.store(true, Relaxed);
        let wait = Duration::from_millis(self.wait_ms.load(Relaxed));
        let mut answer = std::pin::pin!(self.ask(limit, wait));
        let answered = tokio::select! {
            biased;
            answer = &mut answer => answer,
            () = stop.cancelled() => {
                // It is not given up: it may just have been given tasks.
                let leaving = async {
                    let (answer, _) = tokio::join!(answer, self.leave());
                    answer
                };
                let left = timeout(LEAVE_TIMEOUT, leaving).await;
                left.unwrap_or_else(|_| Err(self.client.http.silent()))
            }
        };
        self.is_in_doubt.store(answered.is_err(), Relaxed);
        answered
    }
}

#[async_trait]
impl Broker for RemoteBroker {
    async fn claim(&self, slots: &Slots, stop: &CancellationToken) -> Result<Claimed, WorkError> {
        let slots = async {
            self.pause().await;
            slots.free().await;
            slots.take(CLAIM_MAX)
        };
        let Some(slots) = stop.run_until_cancelled(slots).await else {
            return Ok(Claimed::nothing());
        };
        if self.is_refused.is_cancelled() {
            return Err(WorkError::ShutDown);
        }
        let limit = slots.left();
        let asked = Instant::now();
        let answer = self.claim_or_leave(limit, stop).await;
        let failures = self.failures.load(Relaxed);
        let failures = answer.as_ref().map_or(failures.saturating_add(1), |_| 0);
        self.failures.store(failures, Relaxed);
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::Invalid(problem)) if problem.field.as_deref() == Some("waitMs") => {
                let wait_ms = self.wait_ms.load(Relaxed);
                self.wait_ms.store(wait_ms / 2, Relaxed);
                return Ok(Claimed::nothing());
            }
            Err(error @ (Error::Invalid(_) | Error::Denied(_) | Error::NotFound(_)))
                if is_said_by_a_server(&error) =>
            {
                self.refuse(error);
                return Err(WorkError::ShutDown);
            }
            Err(error) => return Err(unknown(&error)),
        };
        let is_hasty = answer.tasks.is_empty() && asked.elapsed() < HASTE_WAIT;
        self.is_hasty.store(is_hasty, Relaxed);
        let since = asked + Duration::from_millis(answer.waited_ms);
        let mut tasks = Vec::with_capacity(answer.tasks.len());
        // A server that gives more than was asked for must not be believed in that.
        for (record, slot) in answer.tasks.into_iter().zip(slots) {
            let id = record.id.clone();
            match record.into_task() {
                Ok(task) => {
                    self.room.is(&task.identity().namespace);
                    tasks.push((task, slot));
                }
                Err(error) => tracing::error!(task = %id, %error, "a task cannot be read"),
            }
        }
        Ok(Claimed {
            tasks,
            since,
            began: since,
        })
    }

    async fn report(&self, task: &TaskIdentity, command: Command) -> Result<(), WorkError> {
        let report = Report::of(&command).expect("a worker makes reports only");
        let http = &self.client.http;
        let request = http.task_request(Method::POST, &task.id, &[report.route()]);
        let request = request.map_err(|error| unknown(&error))?.json(&report);
        match http.send_within(request, self.report_timeout).await {
            Ok(_) => Ok(()),
            Err(Error::Rejected(problem)) => Err(stale(&command, &problem).into()),
            Err(Error::NotFound(_)) => Err(Rejection::NotFound(task.id.clone()).into()),
            Err(Error::Invalid(problem)) => {
                let field = problem.field.clone().unwrap_or_else(|| "report".into());
                Err(Invalid::new(field, problem.to_string()).into())
            }
            Err(error) => Err(unknown(&error)),
        }
    }
}

/// What stands between may say 404 for a server that is away for a moment, but not as one of ours does.
fn is_said_by_a_server(error: &Error) -> bool {
    let problem = error.problem();
    problem.is_some_and(|problem| problem.kind.starts_with("urn:sidestream:"))
}

/// The server said that the attempt no longer holds the task.
fn stale(command: &Command, problem: &Problem) -> Rejection {
    let reported = match command {
        Command::Renew { attempt, .. } => *attempt,
        command => command.report().map_or(Attempt(0), |(attempt, _)| attempt),
    };
    match (problem.task_status, problem.current_attempt) {
        (Some(status), Some(current)) => Rejection::StaleAttempt {
            reported,
            current,
            status,
        },
        _ => Rejection::OwnedElsewhere,
    }
}

/// Nobody knows what became of it: a worker says it again.
fn unknown(error: &Error) -> WorkError {
    StoreError::new(StoreErrorKind::OutcomeUnknown, error.to_string()).into()
}
