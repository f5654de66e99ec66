//! The simulated world: one database, processes that come and go, and everyone who uses them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use sidestream::core::task::TaskDefaults;
use sidestream::core::{Epoch, RetryPolicy};
use sidestream::store::Store;
use sidestream::stream::RingLimits;
use sidestream::testing::{Faults, FaultyStore, RuntimeClock, SeededChance, WitnessedStore};
use sidestream::{Config, ListQuery, MemoryStore, Namespace, Retention, TaskManager, Timestamp};

use crate::dice::Dice;
use crate::planted::{Planted, PlantedStore};
use crate::referee::{Referee, Rules, Seen};
use crate::work::{Mark, tools};

/// The simulated world begins at a full million of seconds.
const START_MS: i64 = 1_800_000_000_000;

/// What a run is like, drawn from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) processes: usize,
    pub(crate) is_exclusive: bool,
    /// How long agents dispatch, and chaos reigns.
    pub(crate) lasts: Duration,
    pub(crate) agents: u64,
    pub(crate) readers: u64,
    pub(crate) config: Config,
}

impl Settings {
    pub(crate) fn random(dice: &Dice) -> Self {
        let processes = dice.between(1, 3) as usize;
        let retention = Retention {
            completed: dice.ms(5_000, 60_000),
            failed: dice.ms(5_000, 60_000),
            untold: dice.ms(10_000, 120_000),
            log: dice.ms(10_000, 90_000),
            log_events_max: *dice.pick(&[20, 100, 400, 10_000, 10_000]),
            every: dice.ms(2_000, 20_000),
        };
        let ring = RingLimits {
            chunks: *dice.pick(&[1, 4, 32, 4_096]),
            bytes: *dice.pick(&[2_000, 1 << 20]),
        };
        let defaults = TaskDefaults {
            timeout_ms: 5_000,
            retry: RetryPolicy {
                max_retries: 0,
                delay_ms: dice.between(0, 1_000),
                delay_max_ms: dice.between(500, 3_000),
            },
        };
        Self {
            processes,
            is_exclusive: processes == 1 && dice.is(500),
            lasts: dice.ms(15_000, 45_000),
            agents: dice.between(1, 3),
            readers: dice.between(2, 5),
            config: Config {
                concurrency: dice.between(1, 5) as u32,
                concurrency_per_agent: *dice.pick(&[None, Some(1), Some(2), Some(4)]),
                defaults,
                lease_ms: dice.between(1_500, 15_000),
                grace: dice.ms(50, 1_000),
                retention,
                ring,
                ..Config::default()
            },
        }
    }
}

/// Which part of its story a run has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Everyone does as he likes.
    Bustle,
    /// Nothing new is begun, nothing fails, and what was begun comes to its end.
    Ending,
    /// All has ended; streams are read to their end.
    Still,
}

pub(crate) struct World {
    pub(crate) settings: Settings,
    pub(crate) referee: Arc<Referee>,
    /// The database, as nobody's faults disturb it.
    pub(crate) database: Arc<dyn Store>,
    planted: Option<Planted>,
    slots: Mutex<Vec<Option<Arc<Process>>>>,
    started: AtomicU64,
    part: AtomicU8,
    /// So many agents, and chaos, may still change something.
    busy: AtomicU64,
    chance: Dice,
}

/// A process: a manager with a worker, and its connection to the database.
pub(crate) struct Process {
    pub(crate) mark: Arc<Mark>,
    pub(crate) manager: TaskManager,
    pub(crate) connection: Arc<FaultyStore>,
    pub(crate) is_stopping: AtomicBool,
}

impl Process {
    /// Does it serve, as far as its clients can know?
    pub(crate) fn serves(&self) -> bool {
        self.mark.is_alive.load(SeqCst) && !self.is_stopping.load(SeqCst)
    }
}

impl World {
    pub(crate) fn new(dice: &Dice, planted: Option<Planted>, keeps_trace: bool) -> Self {
        let settings = Settings::random(dice);
        let clock = RuntimeClock::starting_at(Timestamp::from_ms(START_MS));
        let rules = Rules {
            per_agent: settings.config.concurrency_per_agent,
            lease_ms: settings.config.lease_ms,
            grace: settings.config.grace,
            is_exclusive: settings.is_exclusive,
        };
        let referee = Arc::new(Referee::new(clock, rules, keeps_trace));
        let memory = MemoryStore::with_clock(Arc::new(clock))
            .with_epoch(Epoch::new("sim").expect("letters"))
            .exclusive(settings.is_exclusive);
        let witness = Arc::clone(&referee) as Arc<dyn sidestream::testing::Witness>;
        Self {
            database: Arc::new(WitnessedStore::new(Arc::new(memory), witness)),
            slots: Mutex::new((0..settings.processes).map(|_| None).collect()),
            settings,
            referee,
            planted,
            started: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            part: AtomicU8::new(0),
            chance: dice.another(),
        }
    }

    pub(crate) fn part(&self) -> Part {
        match self.part.load(SeqCst) {
            0 => Part::Bustle,
            1 => Part::Ending,
            _ => Part::Still,
        }
    }

    pub(crate) fn enter(&self, part: Part) {
        self.referee.note(format_args!("== {part:?}"));
        self.part.store(part as u8, SeqCst);
    }

    /// Of an actor that changes things: what it does, noted until it is done.
    pub(crate) async fn busy(self: Arc<Self>, actor: impl Future<Output = ()>) {
        self.busy.fetch_add(1, SeqCst);
        actor.await;
        self.busy.fetch_sub(1, SeqCst);
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(SeqCst) > 0
    }

    pub(crate) fn namespaces() -> [Namespace; 2] {
        [
            Namespace::default(),
            Namespace::new("default-2").expect("a fit name"),
        ]
    }

    /// A process that serves, if there is one.
    pub(crate) fn some_process(&self, dice: &Dice) -> Option<Arc<Process>> {
        let processes: Vec<_> = self
            .processes()
            .into_iter()
            .filter(|p| p.serves())
            .collect();
        match processes.as_slice() {
            [] => None,
            processes => Some(Arc::clone(dice.pick(processes))),
        }
    }

    pub(crate) fn processes(&self) -> Vec<Arc<Process>> {
        self.slots.lock().iter().flatten().cloned().collect()
    }

    pub(crate) fn process_in(&self, slot: usize) -> Option<Arc<Process>> {
        self.slots.lock()[slot].clone()
    }

    /// Starts a process where none is.
    pub(crate) async fn start(&self, slot: usize) {
        if self.process_in(slot).is_some() {
            return;
        }
        let number = self.started.fetch_add(1, SeqCst) + 1;
        let config = self.settings.config.clone();
        let mark = Arc::new(Mark {
            number,
            is_alive: AtomicBool::new(true),
            worker: std::sync::OnceLock::new(),
            concurrency: config.concurrency,
        });
        let chance = || Arc::new(SeededChance::new(self.chance.seed()));
        let database: Arc<dyn Store> = match self.planted {
            None => Arc::clone(&self.database),
            Some(planted) => {
                let database = Arc::clone(&self.database);
                Arc::new(PlantedStore::new(planted, database, chance()))
            }
        };
        let connection = Arc::new(FaultyStore::new(database, chance()));
        let started = TaskManager::builder_on(Arc::clone(&connection) as Arc<dyn Store>)
            .tools(tools(&mark, &self.referee))
            .config(config)
            .chance(chance())
            .process(number)
            .start();
        let manager = started.await.expect("a store without faults can be used");
        let _ = mark.worker.set(manager.worker_id().clone());
        self.referee
            .note(format_args!("p{number} starts as {}", manager.worker_id()));
        self.referee.stir();
        if self.settings.is_exclusive {
            self.referee.check_former_ended(manager.worker_id());
        }
        self.slots.lock()[slot] = Some(Arc::new(Process {
            mark,
            manager,
            connection,
            is_stopping: AtomicBool::new(false),
        }));
    }

    /// Ends a process where it stands.
    pub(crate) fn kill(&self, slot: usize) {
        if let Some(process) = self.slots.lock()[slot].take() {
            self.referee
                .note(format_args!("p{} is killed", process.mark.number));
            process.mark.is_alive.store(false, SeqCst);
            process.connection.cut();
            process.manager.kill();
            self.referee.stir();
        }
    }

    /// Ends a process in good order.
    pub(crate) async fn shut_down(&self, slot: usize) {
        let Some(process) = self.process_in(slot) else {
            return;
        };
        let (referee, number) = (&self.referee, process.mark.number);
        referee.note(format_args!("p{number} shuts down"));
        let began = referee.now();
        process.is_stopping.store(true, SeqCst);
        process.manager.shutdown().await;
        let took = referee.now().since(began);
        let may_take = self.settings.config.grace * 4 + Duration::from_millis(1_100);
        if took > may_take {
            referee.accuse(format!("R7: p{number} took {took:?} to shut down"));
        }
        referee.check_shut_down(&process.mark);
        process.mark.is_alive.store(false, SeqCst);
        self.slots.lock()[slot] = None;
        referee.note(format_args!("p{number} is down"));
        referee.stir();
    }

    /// Sets what goes wrong for a process, and says whether all is well.
    pub(crate) fn set_faults(&self, slot: usize, faults: Faults) {
        if let Some(process) = self.process_in(slot) {
            process.connection.set_faults(faults);
        }
    }

    /// What the watchman does all the time.
    pub(crate) fn watch(&self) {
        let processes = self.processes();
        let serving = processes.iter().filter(|process| process.serves());
        let seen: Vec<Seen> = serving
            .map(|process| {
                let stats = process.manager.stats();
                Seen {
                    number: process.mark.number,
                    head: stats.head,
                    has_free_slot: stats.running < self.settings.config.concurrency as usize,
                }
            })
            .collect();
        self.referee.watch(&seen);
    }

    /// What the watchman does now and then.
    pub(crate) async fn compare(&self) {
        for namespace in Self::namespaces() {
            let query = ListQuery::new(namespace.clone(), usize::MAX);
            let page = self
                .database
                .list(&query)
                .await
                .expect("memory can be read");
            self.referee.compare_rows(&namespace, &page.tasks);
            for thread in crate::agent::threads() {
                let ended = self.database.completions(&namespace, &thread, usize::MAX);
                let ended = ended.await.expect("memory can be read");
                self.referee
                    .compare_completions(&namespace, &thread, &ended);
            }
        }
    }
}
