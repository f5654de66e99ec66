//! Tasks that are under way, by their numbers: whoever sees one complete says so, and whoever waits for it goes on.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// The one of this process: handlers are plain functions, and have nothing else to find it by.
pub(crate) static FLIGHT: Flight = Flight::new();

/// What a handler tells.
pub(crate) struct Flight {
    waiting: OnceLock<Mutex<HashMap<u64, oneshot::Sender<()>>>>,
    completed: AtomicUsize,
    twice: AtomicUsize,
    begun: OnceLock<mpsc::UnboundedSender<Instant>>,
}

impl Flight {
    const fn new() -> Self {
        Self {
            waiting: OnceLock::new(),
            completed: AtomicUsize::new(0),
            twice: AtomicUsize::new(0),
            begun: OnceLock::new(),
        }
    }

    fn waiting(&self) -> &Mutex<HashMap<u64, oneshot::Sender<()>>> {
        self.waiting.get_or_init(Mutex::default)
    }

    /// A handler has begun.
    pub(crate) fn began(&self) {
        if let Some(begun) = self.begun.get() {
            let _ = begun.send(Instant::now());
        }
    }

    /// This task has completed.
    pub(crate) fn completed(&self, number: u64) {
        self.completed.fetch_add(1, Ordering::Relaxed);
        let waiting = self
            .waiting()
            .lock()
            .expect("nobody panics with it")
            .remove(&number);
        match waiting {
            Some(waiting) => drop(waiting.send(())),
            None => drop(self.twice.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Waits until exactly so many have completed. The database is not asked before: asking costs it what it could
    /// work with.
    pub(crate) async fn reached(&self, tasks: usize) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.completed.load(Ordering::Relaxed) < tasks
            && begun.elapsed() < Duration::from_secs(200)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let completed = self.completed.load(Ordering::Relaxed);
        anyhow::ensure!(
            completed == tasks,
            "{completed} of {tasks} tasks were completed"
        );
        Ok(())
    }

    /// Keeps so many going until all have completed: the next is dispatched as soon as one has. `dispatchers` is one
    /// for each that may dispatch at once. Returns how long each took.
    pub(crate) async fn keep<D, F>(
        &'static self,
        tasks: usize,
        dispatchers: Vec<D>,
    ) -> anyhow::Result<Vec<f64>>
    where
        D: FnMut(u64) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let next = Arc::new(AtomicU64::new(0));
        let tasks = u64::try_from(tasks)?;
        let mut lanes = JoinSet::new();
        for mut dispatch in dispatchers {
            let next = Arc::clone(&next);
            lanes.spawn(async move {
                let mut ms = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= tasks {
                        return Ok(ms);
                    }
                    let (tell, told) = oneshot::channel();
                    self.waiting()
                        .lock()
                        .expect("nobody panics with it")
                        .insert(number, tell);
                    let begun = Instant::now();
                    dispatch(number).await?;
                    told.await?;
                    ms.push(begun.elapsed().as_secs_f64() * 1_000.0);
                }
            });
        }
        let mut all = Vec::new();
        while let Some(lane) = lanes.join_next().await {
            let lane: anyhow::Result<Vec<f64>> = lane?;
            all.extend(lane?);
        }
        let twice = self.twice.load(Ordering::Relaxed);
        anyhow::ensure!(twice == 0, "{twice} tasks were completed twice");
        Ok(all)
    }

    /// One after the other, with pauses: how long each took from its dispatch to its handler's first line.
    pub(crate) async fn pickups<F>(
        &self,
        samples: usize,
        mut dispatch: impl FnMut(u64) -> F,
    ) -> anyhow::Result<Vec<f64>>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let (tell, mut told) = mpsc::unbounded_channel();
        anyhow::ensure!(self.begun.set(tell).is_ok(), "pickups are taken once");
        let mut ms = Vec::with_capacity(samples);
        for number in 0..u64::try_from(samples)? {
            tokio::time::sleep(Duration::from_millis(3)).await;
            let dispatched = Instant::now();
            dispatch(number).await?;
            let begun = told.recv().await.expect("the sender is static");
            ms.push(begun.saturating_duration_since(dispatched).as_secs_f64() * 1_000.0);
        }
        Ok(ms)
    }
}
