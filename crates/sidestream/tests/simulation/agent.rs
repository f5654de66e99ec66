//! Agents: they dispatch, cancel, resume, retry and delete, wait for ends and take note of them; and they
//! repeat themselves when they do not know what came of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sidestream::store::Told;
use sidestream::{Dispatched, Error, Namespace, NewTask, Status, Task, TaskId, ThreadId};
use tokio::time::{sleep, timeout};

use crate::dice::Dice;
use crate::referee::short;
use crate::work::{Plan, TOOLS};
use crate::world::{Part, Process, World};

/// So long an agent waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn threads() -> [ThreadId; 2] {
    ["t1", "t2"].map(|name| ThreadId::new(name).expect("a fit id"))
}

struct Agent {
    world: Arc<World>,
    dice: Dice,
    number: u64,
    namespace: Namespace,
    /// What it has asked for under a key or as a tool call, to be repeated.
    calls: Vec<NewTask>,
    /// Tasks it was told were dispatched.
    dispatched: Vec<TaskId>,
}

pub(crate) async fn act(world: Arc<World>, dice: Dice, number: u64) {
    let namespace = dice.pick(&World::namespaces()).clone();
    let mut agent = Agent {
        world,
        dice,
        number,
        namespace,
        calls: Vec::new(),
        dispatched: Vec::new(),
    };
    while agent.world.part() == Part::Bustle {
        sleep(agent.pause()).await;
        agent.step().await;
    }
    // R2: what was acknowledged is there.
    let referee = &agent.world.referee;
    for id in &agent.dispatched {
        if !referee.was_dispatched(&agent.namespace, id) {
            referee.accuse(format!(
                "R2: {} was acknowledged, and is not there",
                short(id)
            ));
        }
    }
}

impl Agent {
    fn pause(&self) -> Duration {
        match self.dice.below(4) {
            0 => Duration::ZERO,
            1 | 2 => self.dice.ms(1, 300),
            _ => self.dice.ms(300, 2_000),
        }
    }

    async fn step(&mut self) {
        let Some(process) = self.world.some_process(&self.dice) else {
            return;
        };
        match self.dice.below(20) {
            0..9 => self.dispatch(process).await,
            9 => self.dispatch_many(&process).await,
            10..12 => self.resume(&process).await,
            12 | 13 => self.cancel(&process).await,
            14 => self.retry(&process).await,
            15 => self.delete(&process).await,
            16 | 17 => self.wait(&process).await,
            18 => self.take_note(&process).await,
            _ => self.clean_up(&process).await,
        }
    }

    fn new_task(&self) -> NewTask {
        let dice = &self.dice;
        let plan = serde_json::to_value(Plan::random(dice)).expect("a plan is JSON");
        let mut task = NewTask::new(*dice.pick(&TOOLS))
            .args(plan)
            .max_retries(dice.below(4) as u32)
            .timeout(Duration::from_millis(
                *dice.pick(&[150, 1_000, 1_000, 4_000, 20_000]),
            ));
        if dice.is(800) {
            task = task.agent(format!("a{}", dice.below(2)));
        }
        if dice.is(700) {
            task = task.thread(dice.pick(&threads()).as_str());
        }
        if dice.is(300) {
            task = task.resource("u1");
        }
        if dice.is(200) {
            task = task.priority(dice.between(0, 4) as i16 - 2);
        }
        if dice.is(150) {
            let at = self.world.referee.now().plus(dice.ms(0, 8_000));
            task = task.run_at(at);
        }
        match dice.below(3) {
            0 => task,
            1 => task.idempotency_key(format!("k{}-{}", self.number, self.calls.len())),
            _ => task
                .run(format!("r{}", self.number))
                .tool_call(format!("c{}", self.calls.len())),
        }
    }

    /// Dispatches, and where the answer is lost and it can be told apart, again elsewhere.
    async fn dispatch(&mut self, mut process: Arc<Process>) {
        let is_repetition = !self.calls.is_empty() && self.dice.is(250);
        let task = match is_repetition {
            true => self.dice.pick(&self.calls).clone(),
            false => self.new_task(),
        };
        let has_key = task.idempotency_key.is_some() || task.tool_call_id.is_some();
        if has_key && !is_repetition {
            self.calls.push(task.clone());
        }
        for _ in 0..5 {
            let answer = timeout(PATIENCE, self.on(&process).dispatch(task.clone())).await;
            match answer {
                Ok(Ok(dispatched)) => return self.note_dispatched(&dispatched),
                Ok(Err(error @ (Error::Invalid(_) | Error::Rejected(_)))) => {
                    let referee = &self.world.referee;
                    return referee.accuse(format!("a fit dispatch is refused: {error}"));
                }
                Ok(Err(Error::Store(_) | Error::ShutDown | Error::Overloaded { .. })) | Err(_) => {}
                Ok(Err(error)) => panic!("an error of a new kind: {error}"),
            }
            if !has_key || self.world.part() != Part::Bustle {
                return;
            }
            sleep(self.dice.ms(0, 2_000)).await;
            match self.world.some_process(&self.dice) {
                Some(other) => process = other,
                None => return,
            }
        }
    }

    async fn dispatch_many(&mut self, process: &Process) {
        let tasks: Vec<_> = (0..self.dice.between(2, 6))
            .map(|_| self.new_task())
            .collect();
        let manager = self.on(process);
        let Ok(answers) = timeout(PATIENCE, manager.dispatch_all(tasks)).await else {
            return;
        };
        for answer in answers.into_iter().flatten() {
            self.note_dispatched(&answer);
        }
    }

    fn note_dispatched(&mut self, dispatched: &Dispatched) {
        if let Some(id) = dispatched.id() {
            self.dispatched.push(id.clone());
        }
    }

    async fn resume(&self, process: &Process) {
        if let Some(id) = self.some_task(|status| status == Status::Suspended) {
            let data = serde_json::json!(self.dice.below(100));
            let call = self.on(process);
            let answer = self.answer(call.resume(&id, data)).await;
            self.check(answer, "resume", &id, |task| {
                task.status != Status::Suspended
            });
        }
    }

    /// R3: once the answer is here everyone who looks sees that it is cancelled. (Unless it has been
    /// retried by then, which the referee knows.)
    async fn cancel(&self, process: &Process) {
        if let Some(id) = self.some_task(|status| !status.is_terminal()) {
            let call = self.on(process);
            let answer = self.answer(call.cancel(&id)).await;
            self.check(answer, "cancel", &id, |task| {
                task.status == Status::Cancelled
            });
        }
    }

    async fn retry(&self, process: &Process) {
        let may = |status: Status| status.is_terminal() && status != Status::Completed;
        if let Some(id) = self.some_task(may) {
            let call = self.on(process);
            let answer = self.answer(call.retry(&id)).await;
            self.check(answer, "retry", &id, |task| !task.status.is_terminal());
        }
    }

    async fn delete(&self, process: &Process) {
        if let Some(id) = self.some_task(Status::is_terminal) {
            let manager = self.on(process);
            let _ = self.answer(manager.delete(&id)).await;
        }
    }

    /// Waits for an end, which must be told when it is there.
    async fn wait(&self, process: &Arc<Process>) {
        let Some(id) = self.dispatched.last().cloned() else {
            return;
        };
        let (referee, number) = (&self.world.referee, self.number);
        let began = referee.now();
        referee.note(format_args!("a{number} waits for {}", short(&id)));
        let manager = self.on(process);
        match timeout(self.dice.ms(100, 15_000), manager.wait(&id)).await {
            Ok(Ok(task)) => {
                let is_end = task.status.is_terminal();
                if !is_end
                    || referee
                        .chunk(task.seq)
                        .is_none_or(|c| !c.chunk_type.is_terminal())
                {
                    referee.accuse(format!("wait gives {} while {}", short(&id), task.status));
                }
            }
            Ok(Err(_)) => {}
            Err(_) => {
                let ended = referee.ended_at(&self.namespace, &id);
                let is_late = ended.is_some_and(|at| referee.is_settled(at.max(began)));
                if is_late && process.serves() {
                    referee.accuse(format!("wait does not end, though {} has", short(&id)));
                }
            }
        }
    }

    /// R6: takes note of ends, and perhaps dies before it says so.
    async fn take_note(&self, process: &Process) {
        let thread = self.dice.pick(&threads()).clone();
        let manager = self.on(process);
        let completions = manager.completions(&thread, 5);
        let Ok(Ok(tasks)) = timeout(PATIENCE, completions).await else {
            return;
        };
        let Some(last) = tasks.last() else { return };
        let told = match self.dice.below(3) {
            0 => return,
            1 => Told::UpTo(last.seq),
            _ => Told::These(tasks.iter().map(|t| (t.id().clone(), t.seq)).collect()),
        };
        let _ = self.answer(manager.acknowledge(&thread, told)).await;
    }

    async fn clean_up(&self, process: &Process) {
        let manager = self.on(process);
        let _ = self.answer(manager.cleanup()).await;
    }

    fn on(&self, process: &Process) -> sidestream::TaskManager {
        process.manager.in_namespace(self.namespace.clone())
    }

    /// A task of the agent's namespace, by what the referee knows.
    fn some_task(&self, is_wanted: impl Fn(Status) -> bool) -> Option<TaskId> {
        let tasks = self.world.referee.tasks_that(is_wanted);
        let own: Vec<_> = tasks
            .into_iter()
            .filter(|(ns, _)| *ns == self.namespace)
            .collect();
        match own.as_slice() {
            [] => None,
            own => Some(self.dice.pick(own).1.clone()),
        }
    }

    async fn answer<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Option<Result<T, Error>> {
        timeout(PATIENCE, call).await.ok()
    }

    /// What was answered must be so; what is refused was so before.
    fn check(
        &self,
        answer: Option<Result<Task, Error>>,
        what: &str,
        id: &TaskId,
        is_so: impl Fn(&Task) -> bool,
    ) {
        let referee = &self.world.referee;
        let (number, id) = (self.number, short(id));
        match answer {
            Some(Ok(task)) => {
                referee.note(format_args!("a{number} {what} {id}: {}", task.status));
                if !is_so(&task) {
                    referee.accuse(format!("{what} is answered with {}", task.status));
                }
            }
            Some(Err(Error::Invalid(error))) => {
                referee.accuse(format!("{what} is refused: {error}"));
            }
            Some(Err(error)) => referee.note(format_args!("a{number} {what} {id}: {error}")),
            None => referee.note(format_args!("a{number} {what} {id}: no answer")),
        }
    }
}
