//! Agents: they dispatch, answer what is asked, and cancel, at whichever server answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::json;
use sidestream::chance::{Chance, SeededChance};
use sidestream::core::wire::TaskRecord;
use sidestream::{NewTask, Status, TaskId};
use sidestream_client::{Client, Error, ListRequest};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client;
use crate::parts::Work;

const AGENTS: u64 = 16;

/// All the agents, at work.
#[derive(Debug)]
pub(crate) struct Agents {
    office: Arc<Office>,
    at_work: JoinSet<()>,
}

/// What the agents share.
#[derive(Debug)]
struct Office {
    clients: Vec<Client>,
    tasks: u64,
    begun: AtomicU64,
    acknowledged: Mutex<BTreeSet<TaskId>>,
    dispatched: AtomicU64,
    done: AtomicU64,
}

impl Agents {
    pub(crate) fn start(bases: &[String], tasks: u64, chance: &SeededChance) -> Self {
        let office = Arc::new(Office {
            clients: bases.iter().map(|base| client(base)).collect(),
            tasks,
            begun: AtomicU64::new(0),
            acknowledged: Mutex::default(),
            dispatched: AtomicU64::new(0),
            done: AtomicU64::new(0),
        });
        let mut at_work = JoinSet::new();
        for number in 0..AGENTS {
            let agent = Agent {
                office: Arc::clone(&office),
                chance: SeededChance::new(chance.next()),
                number,
            };
            at_work.spawn(agent.run());
        }
        at_work.spawn(answer(Arc::clone(&office)));
        Self { office, at_work }
    }

    pub(crate) fn dispatched(&self) -> u64 {
        self.office.dispatched.load(Relaxed)
    }

    pub(crate) fn are_done(&self) -> bool {
        self.office.done.load(Relaxed) == AGENTS
    }

    /// Every task whose dispatch was acknowledged.
    pub(crate) async fn finish(mut self) -> BTreeSet<TaskId> {
        // Who answers goes on until nothing is left to be answered.
        while let Some(ended) = self.at_work.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *self.office.acknowledged.lock().await)
    }
}

struct Agent {
    office: Arc<Office>,
    chance: SeededChance,
    number: u64,
}

impl Agent {
    async fn run(self) {
        loop {
            let task = self.office.begun.fetch_add(1, Relaxed);
            if task >= self.office.tasks {
                break;
            }
            self.dispatch(task).await;
            sleep(Duration::from_millis(self.below(120))).await;
        }
        self.office.done.fetch_add(1, Relaxed);
    }

    fn below(&self, n: u64) -> u64 {
        self.chance.next() % n
    }

    async fn dispatch(&self, task: u64) {
        let new = match self.below(5) {
            0 => NewTask::new("ask").args(json!(null)),
            _ => NewTask::new("work").args(json!(Work {
                outputs: self.below(6) as u32,
                pause_ms: self.below(8),
                failures: u32::from(self.below(8) == 0),
            })),
        };
        let new = new
            .agent(format!("agent-{}", self.number % 8))
            .thread(format!("thread-{}", self.below(32)))
            .run(format!("run-{}", self.below(16)))
            .max_retries(20u32)
            .idempotency_key(format!("task-{task}"));
        let id = loop {
            match self.client().dispatch(&new).await {
                Ok(sent) => break sent.task().expect("it is queued").id.clone(),
                Err(error) => forgive(&error).await,
            }
        };
        self.office.acknowledged.lock().await.insert(id.clone());
        self.office.dispatched.fetch_add(1, Relaxed);
        if self.below(12) == 0 {
            sleep(Duration::from_millis(self.below(50))).await;
            // Whether it has ended by then is chance too.
            let _ = self.client().cancel(&id).await;
        }
    }

    fn client(&self) -> &Client {
        &self.office.clients[self.below(self.office.clients.len() as u64) as usize]
    }
}

/// Gives what is suspended its answer, until all have been dispatched and nothing is left.
async fn answer(office: Arc<Office>) {
    for client in office.clients.iter().cycle() {
        let has_all = office.done.load(Relaxed) == AGENTS;
        let request = ListRequest {
            statuses: vec![Status::Suspended, Status::Pending, Status::Running],
            limit: Some(200),
            ..ListRequest::default()
        };
        match client.list(&request).await {
            Ok(page) if page.total == 0 && has_all => return,
            Ok(page) => {
                let is_suspended = |task: &&TaskRecord| task.status == Status::Suspended;
                for task in page.tasks.iter().filter(is_suspended) {
                    let _ = client.resume(&task.id, &json!(7).into()).await;
                }
            }
            Err(error) => forgive(&error).await,
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A server, or the database, may be away for a moment.
async fn forgive(error: &Error) {
    let is_passing = matches!(
        error,
        Error::Unreachable { .. } | Error::Lost { .. } | Error::Unavailable(_)
    );
    assert!(is_passing, "{error:?}");
    sleep(Duration::from_millis(20)).await;
}
