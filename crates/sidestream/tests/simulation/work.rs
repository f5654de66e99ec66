//! What tasks do: a plan in their arguments, an act for each attempt, and the handler that follows it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use sidestream::core::WorkerId;
use sidestream::{Context, Handler, HandlerError, Json, Outcome, TaskId, Tool};

use crate::dice::Dice;
use crate::referee::Referee;

/// What a task does, attempt by attempt; the last act is repeated.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    acts: Vec<Act>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Act {
    /// So many outputs,
    outputs: u64,
    /// and so long before each, and before the end.
    pause_ms: u64,
    /// Waits until each output is in the log.
    is_flushing: bool,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    Complete,
    CompleteWithoutResult,
    Suspend,
    Fail,
    FailForGood,
    Panic,
    /// Waits until it is told to stop, then says that it has completed.
    HangUntilTold,
    /// Does not listen.
    HangDeaf,
}

impl Plan {
    pub(crate) fn random(dice: &Dice) -> Self {
        const ANY: [End; 12] = [
            End::Complete,
            End::Complete,
            End::Complete,
            End::CompleteWithoutResult,
            End::Suspend,
            End::Suspend,
            End::Fail,
            End::Fail,
            End::FailForGood,
            End::Panic,
            End::HangUntilTold,
            End::HangDeaf,
        ];
        let count = dice.between(1, 4);
        let mut acts: Vec<Act> = (0..count)
            .map(|_| Act {
                outputs: match dice.below(8) {
                    0 => dice.between(2, 5),
                    1 | 2 => 1,
                    3 if dice.is(60) => dice.between(257, 300),
                    _ => 0,
                },
                pause_ms: *dice.pick(&[0, 0, 1, 20, 300, 1_500]),
                is_flushing: dice.is(200),
                end: *dice.pick(&ANY),
            })
            .collect();
        for act in &mut acts {
            if act.outputs > 100 {
                act.pause_ms = 0;
                act.is_flushing = false;
            }
        }
        // Else it would never end.
        let last = acts.last_mut().expect("at least one");
        if last.end == End::Suspend {
            last.end = End::Complete;
        }
        Self { acts }
    }

    /// What the handler does in the end.
    pub(crate) fn end(&self, attempt: u32) -> End {
        self.act(attempt).end
    }

    fn act(&self, attempt: u32) -> Act {
        let index = (attempt as usize - 1).min(self.acts.len() - 1);
        self.acts[index]
    }
}

/// A process, as its handlers know it.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) number: u64,
    pub(crate) is_alive: AtomicBool,
    pub(crate) worker: std::sync::OnceLock<WorkerId>,
    pub(crate) concurrency: u32,
}

/// An output, as it says itself whose it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Emitted {
    pub(crate) attempt: u32,
    pub(crate) nth: u64,
}

/// A result, or the payload of a suspension, as it says itself whose it is.
pub(crate) fn signed(task: &TaskId, attempt: u32) -> Json {
    Json::from(serde_json::json!({"task": task.as_str(), "attempt": attempt}))
}

pub(crate) fn failure(attempt: u32) -> String {
    format!("attempt {attempt} fails as planned")
}

pub(crate) fn failure_for_good(attempt: u32) -> String {
    format!("attempt {attempt} fails for good as planned")
}

pub(crate) fn panic_message(attempt: u32) -> String {
    format!("attempt {attempt} panics as planned")
}

/// The tools of a process. Those that are limited say how many may run at once, everywhere.
pub(crate) fn tools(mark: &Arc<Mark>, referee: &Arc<Referee>) -> Vec<Tool> {
    let tool = |name: &str| {
        let handler = Follower {
            mark: Arc::clone(mark),
            referee: Arc::clone(referee),
        };
        Tool::from_handler(name, handler)
    };
    vec![
        tool("single").concurrency(1),
        tool("double").concurrency(2),
        tool("many"),
    ]
}

pub(crate) const TOOLS: [&str; 3] = ["single", "double", "many"];

pub(crate) fn tool_limit(name: &str) -> u64 {
    match name {
        "single" => 1,
        "double" => 2,
        _ => u64::MAX,
    }
}

struct Follower {
    mark: Arc<Mark>,
    referee: Arc<Referee>,
}

impl Handler for Follower {
    fn call(&self, context: Context) -> BoxFuture<'static, Outcome> {
        let (mark, referee) = (Arc::clone(&self.mark), Arc::clone(&self.referee));
        Box::pin(async move { follow(&mark, &referee, &context).await })
    }
}

async fn follow(mark: &Arc<Mark>, referee: &Arc<Referee>, context: &Context) -> Outcome {
    let execution = referee.execution_began(mark, context);
    let plan: Plan = context.task().args.parse().expect("args are a plan");
    let attempt = context.attempt().0;
    let act = plan.act(attempt);
    let pause = Duration::from_millis(act.pause_ms);
    for nth in 0..act.outputs {
        tokio::time::sleep(pause).await;
        execution.emits(nth);
        match context.output(&Emitted { attempt, nth }).await {
            Ok(()) => execution.emitted(nth),
            // Told to stop: an honest handler does.
            Err(error) => return HandlerError::retryable(error.to_string()).into(),
        }
        if act.is_flushing && context.flush().await.is_ok() {
            execution.flushed(nth);
        }
    }
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let signed = signed(context.task_id(), attempt);
    match act.end {
        End::Complete => Outcome::Completed(Some(signed)),
        End::CompleteWithoutResult => Outcome::Completed(None),
        End::Suspend => Outcome::Suspended(signed),
        End::Fail => HandlerError::retryable(failure(attempt)).into(),
        End::FailForGood => HandlerError::permanent(failure_for_good(attempt)).into(),
        // Without the hook, which is for panics that nobody planned.
        End::Panic => std::panic::resume_unwind(Box::new(panic_message(attempt))),
        End::HangUntilTold => {
            context.cancelled().cancelled().await;
            Outcome::Completed(Some(signed))
        }
        End::HangDeaf => {
            tokio::time::sleep(Duration::from_secs(86_400)).await;
            Outcome::Completed(Some(signed))
        }
    }
}
