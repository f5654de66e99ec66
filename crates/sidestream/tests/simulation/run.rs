//! One run, from its seed to its end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Once, mpsc};
use std::time::Duration;

use tokio::time::sleep;

use crate::actors::Actors;
use crate::dice::Dice;
use crate::planted::Planted;
use crate::world::{Part, World};
use crate::{agent, chaos, reader};

/// The watchman looks so often,
const WATCH_EVERY: Duration = Duration::from_millis(200);
/// and compares all rows each so many looks.
const COMPARE_EVERY: u32 = 10;
/// In simulated time: so long after the last disturbance all has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(30 * 60);
/// In real time: so long a run may take. A spinning one would never end.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// How a run went.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) violation: Option<String>,
    pub(crate) hash: u64,
    pub(crate) trace: String,
    pub(crate) tasks: usize,
    pub(crate) events: u64,
    pub(crate) executions: usize,
}

impl Report {
    pub(crate) fn expect_no_violation(&self) {
        if let Some(violation) = &self.violation {
            eprintln!("{}", self.trace);
            panic!(
                "{violation}\n\nagain: SIDESTREAM_SEED={} cargo nextest run -p sidestream --test simulation one_seed\n",
                self.seed
            );
        }
    }
}

thread_local! {
    /// The panics that nobody planned, of this thread's run; `None` where none runs.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Lives one life.
pub(crate) fn run(seed: u64, planted: Option<Planted>, keeps_trace: bool) -> Report {
    note_panics();
    let _dog = WatchDog::new(seed);
    PANICS.set(Some(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime can be made");
    let life = || runtime.block_on(live(seed, planted, keeps_trace));
    let lived = catch_unwind(AssertUnwindSafe(life));
    drop(runtime);
    let panics = PANICS.replace(None).unwrap_or_default();
    let mut report = lived.unwrap_or_else(|_| Report {
        seed,
        violation: Some(format!("the simulation itself panicked: {panics:?}")),
        hash: 0,
        trace: String::new(),
        tasks: 0,
        events: 0,
        executions: 0,
    });
    if let Some(panic) = panics.into_iter().next() {
        report.violation = Some(format!("a panic that nobody planned: {panic}"));
    }
    report
}

async fn live(seed: u64, planted: Option<Planted>, keeps_trace: bool) -> Report {
    let dice = Dice::new(seed);
    let world = Arc::new(World::new(&dice, planted, keeps_trace));
    world
        .referee
        .note(format_args!("seed {seed}: {:?}", world.settings));
    for slot in 0..world.settings.processes {
        world.start(slot).await;
    }
    let mut actors = Actors::new(dice.another());
    for number in 0..world.settings.agents {
        let agent = agent::act(Arc::clone(&world), dice.another(), number);
        actors.add(Arc::clone(&world).busy(agent));
    }
    for number in 0..world.settings.readers {
        actors.add(reader::read(Arc::clone(&world), dice.another(), number));
    }
    let chaos = chaos::reign(Arc::clone(&world), dice.another());
    actors.add(Arc::clone(&world).busy(chaos));
    actors.add(bring_to_an_end(Arc::clone(&world), dice.another()));

    let mut actors = pin!(actors);
    let mut looks = 0;
    let is_broken = loop {
        tokio::select! {
            biased;
            () = &mut actors => break world.referee.violation().is_some(),
            () = sleep(WATCH_EVERY) => {}
        }
        looks += 1;
        world.watch();
        if looks % COMPARE_EVERY == 0 {
            world.compare().await;
        }
        let has_panicked =
            PANICS.with_borrow(|panics| panics.as_ref().is_some_and(|p| !p.is_empty()));
        if has_panicked || world.referee.violation().is_some() {
            break true;
        }
    };
    if !is_broken {
        world.compare().await;
    }
    let (hash, trace) = world.referee.trace();
    let (tasks, events, executions) = world.referee.counts();
    Report {
        seed,
        violation: world.referee.violation(),
        hash,
        trace,
        tasks,
        events,
        executions,
    }
}

/// When the bustle is over: somebody resumes what is suspended, and all ends (R2).
async fn bring_to_an_end(world: Arc<World>, dice: Dice) {
    sleep(world.settings.lasts).await;
    world.enter(Part::Ending);
    let referee = &world.referee;
    let began = referee.now();
    loop {
        sleep(Duration::from_millis(500)).await;
        let left = referee.tasks_that(|status| !status.is_terminal());
        let Some((_, first)) = left.first() else {
            match world.is_busy() {
                true => continue,
                false => break,
            }
        };
        if referee.now().since(began) > ENDS_WITHIN {
            let count = left.len();
            referee.accuse(format!(
                "R2: {count} tasks do not end, {} among them",
                first
            ));
        }
        let suspended = referee.tasks_that(|status| status == sidestream::Status::Suspended);
        for (namespace, id) in suspended {
            if let Some(process) = world.some_process(&dice) {
                let manager = process.manager.in_namespace(namespace);
                let _ = manager.resume(&id, serde_json::json!("at last")).await;
            }
        }
    }
    // Handlers that were given up may take their grace still.
    sleep(world.settings.config.grace + Duration::from_secs(5)).await;
    referee.check_nothing_runs();
    for process in world.processes() {
        let stats = process.manager.stats();
        if stats.running > 0 || stats.writes_waiting > 0 {
            referee.accuse(format!("all has ended, but: {stats:?}"));
        }
    }
    world.enter(Part::Still);
}

/// Panics of a run's thread are noted, as handlers' would otherwise be caught and forgotten; those that
/// handlers plan do not come this way.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_noted = PANICS.with_borrow_mut(|panics| match panics {
                Some(panics) => {
                    panics.push(info.to_string());
                    true
                }
                None => false,
            });
            if !is_noted {
                default(info);
            }
        }));
    });
}

/// Barks when a run does not end in real time.
struct WatchDog {
    _is_over: mpsc::Sender<()>,
}

impl WatchDog {
    fn new(seed: u64) -> Self {
        let (is_over, over) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if let Err(mpsc::RecvTimeoutError::Timeout) = over.recv_timeout(HANGS_AFTER) {
                eprintln!("seed {seed} hangs: its clock stands still, and something spins");
                std::process::abort();
            }
        });
        Self { _is_over: is_over }
    }
}
