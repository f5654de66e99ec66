//! Three servers on one PostgreSQL database, sixteen workers (inside them, elsewhere in Rust, and in Python),
//! agents and a hundred watchers, while servers and workers are killed with `kill -9` and the database is restarted twice:
//! every acknowledged task ends once, no limit is ever exceeded, and each watcher saw every event once.
//!
//! `SIDESTREAM_TEST_TASKS` says how many tasks; 20,000 is the full story.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a test tells how it went")]

mod agents;
mod parts;
mod verdict;
mod watchers;

use std::time::Duration;

use sidestream::chance::{Chance, SeededChance, SystemChance};
use sidestream::store::Store;
use sidestream::{ListQuery, Namespace, PostgresOptions, PostgresStore, Status};
use sidestream_client::Client;
use sidestream_test_postgres::{Cluster, Options, Stop};
use tokio::time::{Instant, sleep, timeout};

use agents::Agents;
use parts::{Part, Process};
use watchers::Watchers;

/// How many tasks are dispatched unless the environment says otherwise.
const TASKS: u64 = 1_000;
const SERVERS: u64 = 3;
/// Beside the worker of each server: three processes of as many workers each as [`parts::WORKERS`] says, and
/// four of one. Sixteen workers in all.
const WORKER_PROCESSES: [Part; 7] = [
    Part::Worker,
    Part::Python,
    Part::Worker,
    Part::Python,
    Part::Worker,
    Part::Python,
    Part::Python,
];
/// A bound for what must come sooner or later: only a failure takes so long.
const AT_MOST: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_told_twice_whatever_dies() {
    if parts::play().await {
        return;
    }
    let seed = std::env::var("SIDESTREAM_SEED").ok();
    let seed = seed.map_or_else(|| SystemChance.next(), |text| text.parse().unwrap());
    let tasks = std::env::var("SIDESTREAM_TEST_TASKS").ok();
    let tasks = tasks.map_or(TASKS, |text| text.parse().unwrap());
    eprintln!("SIDESTREAM_SEED={seed}");
    let chance = SeededChance::new(seed);

    let mut cluster = Cluster::start_with(Options {
        settings: vec!["max_connections=200".to_owned()],
        ..Options::default()
    });
    let url = cluster.url(&cluster.database());
    let mut servers: Vec<Process> = (0..SERVERS)
        .map(|_| Process::start(Part::Server, &url, None))
        .collect();
    let bases: Vec<String> = servers.iter().map(Process::base).collect();
    let places = bases.iter().cycle();
    let mut workers: Vec<Process> = { places.zip(WORKER_PROCESSES) }
        .map(|(base, part)| Process::start(part, base, None))
        .collect();
    let watchers = Watchers::start(&bases, &chance);
    let agents = Agents::start(&bases, tasks, &chance);

    let mut killed = (0, 0);
    let mut restarts = 0;
    let mut turns = ["a server", "a worker", "nobody"].into_iter().cycle();
    let begun = Instant::now();
    while !agents.are_done() {
        sleep(Duration::from_millis(700 + chance.next() % 1_000)).await;
        match turns.next() {
            Some("a server") => {
                let n = (chance.next() % SERVERS) as usize;
                servers[n].kill();
                sleep(Duration::from_millis(chance.next() % 1_000)).await;
                servers[n] = Process::start(Part::Server, &url, Some(&bases[n]));
                killed.0 += 1;
            }
            Some("a worker") => {
                // In turn, so that one of each kind is among them.
                let n = killed.1 % WORKER_PROCESSES.len();
                workers[n].kill();
                let base = &bases[(chance.next() % SERVERS) as usize];
                workers[n] = Process::start(WORKER_PROCESSES[n], base, None);
                killed.1 += 1;
            }
            _ => {}
        }
        let progress = agents.dispatched() * 3 / tasks.max(1);
        if restarts < progress.min(2) {
            let how = [Stop::Immediate, Stop::Fast][restarts as usize];
            cluster.stop(how);
            cluster.start_again();
            restarts += 1;
        }
        assert!(begun.elapsed() < AT_MOST * 5, "the agents are not done");
    }
    let acknowledged = agents.finish().await;
    let store = PostgresStore::open(&url, PostgresOptions::default());
    let store = store.await.unwrap();
    let took = begun.elapsed();
    let end = wait_until_all_ended(&store).await;

    let notes = timeout(AT_MOST, watchers.finish(end)).await;
    let notes = notes.expect("every watcher reaches the end of the log");
    let log = verdict::read_log(&store, end).await;
    let story = verdict::story(&log);
    verdict::every_task_ended_once(&acknowledged, &story);
    verdict::outputs_came_once_and_in_order(&log);
    verdict::limits_held(&log);
    verdict::rows_agree(&store, &story).await;
    let done = verdict::every_kind_of_worker_did_its_part(&log);
    let seen = verdict::watchers_saw_everything(&log, &notes);
    let resumed: u64 = notes.iter().map(|notes| notes.resumed).sum();
    eprintln!(
        "{} tasks, {} events in {took:.1?}; {} servers and {} workers' processes killed, {restarts} restarts of \
         the database; {} watchers saw {seen} events and resumed {resumed} times; {done:?}",
        acknowledged.len(),
        end,
        killed.0,
        killed.1,
        notes.len(),
    );
    assert_eq!(restarts, 2, "the database was restarted in the middle");
    assert!(
        killed.0 > 0 && killed.1 > 1,
        "some of each kind were killed"
    );
    // Those that are left end well.
    for process in servers.iter_mut().chain(&mut workers) {
        process.kill();
    }
}

/// The end of the log, once nothing more can come.
async fn wait_until_all_ended(store: &PostgresStore) -> u64 {
    let mut query = ListQuery::new(Namespace::default(), 0);
    query.statuses = vec![Status::Pending, Status::Running, Status::Suspended];
    let begun = Instant::now();
    loop {
        let left = store.list(&query).await.unwrap().total;
        if left == 0 {
            return store.head().await.unwrap().seq.0;
        }
        assert!(begun.elapsed() < AT_MOST, "{left} tasks do not end");
        sleep(Duration::from_millis(100)).await;
    }
}

/// A client of a server that may be gone at times.
fn client(base: &str) -> Client {
    let backoff = sidestream_client::Backoff {
        first: Duration::from_millis(20),
        max: Duration::from_millis(300),
    };
    let client = Client::builder(base).backoff(backoff);
    client
        .request_timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}
