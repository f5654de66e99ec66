//! L2 under everything that can happen: 64 writers in 4 processes, whose network stalls and breaks, which
//! are killed, and whose sessions are ended; 8 readers in 2 processes, each of which must see every
//! place of the log once and in order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sidestream::store::Store;
use sidestream_test_postgres::{Cluster, Options};
use tokio::time::Instant;

use crate::faults::Dice;
use crate::processes::Process;
use crate::support::{Seen, blocking, fresh, places};
use crate::work::audit;

const WRITING: u64 = 4;
const READING: u64 = 2;

/// How long it goes on, in seconds: 30, or what this variable says.
const SECONDS: &str = "SIDESTREAM_ORDER_SECONDS";

fn seconds() -> u64 {
    let given = std::env::var(SECONDS).ok();
    given.map_or(30, |text| text.parse().expect("a number of seconds"))
}

/// Ends one session in so many; says how many it has ended.
fn end_sessions(cluster: &Cluster, one_in: u64) -> u64 {
    let ended = cluster.sql(
        "postgres",
        &format!(
            "SELECT count(*) FROM (
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND application_name LIKE 'sidestream%'
                    AND random() < 1.0 / {one_in}
            ) AS ended"
        ),
    );
    ended.parse().expect("a number")
}

/// Waits until no session of a killed process does anything any more.
fn come_to_rest(cluster: &Cluster) {
    loop {
        let busy = cluster.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                AND backend_type = 'client backend' AND state <> 'idle'
                AND backend_xid IS NOT NULL",
        );
        if busy == "0" {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_reader_sees_every_place_once_and_in_order() {
    let settings = vec!["max_connections=300".to_owned()];
    let cluster = Arc::new(Cluster::start_with(Options {
        settings,
        ..Options::default()
    }));
    let (url, store) = fresh(&cluster).await;
    let run = {
        let (url, cluster) = (url.clone(), Arc::clone(&cluster));
        move || disturb(&cluster, &url)
    };
    let (readers, said) = blocking(run).await;
    blocking({
        let cluster = Arc::clone(&cluster);
        move || come_to_rest(&cluster)
    })
    .await;
    let head = store.head().await.expect("the store works").seq;
    let read = blocking(move || finish(readers, head.0)).await;

    // Everybody takes locks in one order: the server never has to end one of two that wait for each
    // other.
    let deadlocks = {
        let cluster = Arc::clone(&cluster);
        let sql = "SELECT sum(deadlocks) FROM pg_stat_database";
        blocking(move || cluster.sql("postgres", sql)).await
    };
    assert_eq!(deadlocks, "0", "nobody waited in a circle");
    let committed = places(&*store).await;
    let dense: BTreeSet<u64> = (1..=head.0).collect();
    assert!(committed == dense, "the log has no hole");
    assert_eq!(read.len(), 8, "every reader has said what it saw");
    for seen in &read {
        assert_eq!(seen.check(&committed), Ok(()));
    }
    let rows = audit(&*store).await;
    assert!(rows.len() > 100, "only {} tasks", rows.len());
    let answered = answered(&said);
    assert!(answered.len() > 500, "only {} answers", answered.len());
    let log = ids_by_place(&*store).await;
    for (place, id) in &answered {
        assert_eq!(log.get(place), Some(id), "what was answered is in the log");
    }
    println_numbers(head.0, answered.len(), rows.len());
}

/// Starts everybody, and lets them go on while processes are killed and sessions ended. Returns the
/// readers, and what the writers said.
fn disturb(cluster: &Cluster, url: &str) -> (Vec<Process>, Vec<String>) {
    let dice = Dice::new(7);
    let start = |part, seed| Process::start(part, url, cluster.port(), seed);
    let readers = (0..READING).map(|n| start("read", 500 + n)).collect();
    let mut writers: Vec<Process> = (1..=WRITING).map(|n| start("write", n)).collect();
    let (mut said, mut started) = (Vec::new(), WRITING);
    let until = Instant::now() + Duration::from_secs(seconds());
    let mut sessions = 0;
    while Instant::now() < until {
        // The processes work meanwhile: there is nothing to wait for but time.
        cluster.sql("postgres", "SELECT pg_sleep(0.7)");
        sessions += end_sessions(cluster, 12);
        if dice.falls(4) {
            let victim = writers.remove(dice.below(writers.len() as u64) as usize);
            said.extend(victim.kill());
            started += 1;
            writers.push(start("write", started));
        }
    }
    for writer in writers {
        said.extend(writer.kill());
    }
    assert!(sessions > 0, "no session was ended");
    (readers, said)
}

/// Tells the readers where the log ends; what each of them has seen.
fn finish(readers: Vec<Process>, end: u64) -> Vec<Seen> {
    let mut all = Vec::new();
    for mut reader in readers {
        reader.tell(&end.to_string());
        for line in reader.wait() {
            if let Some(places) = line.strip_prefix("read ") {
                let mut seen = Seen::default();
                seen.see(places.split(' ').filter_map(|place| place.parse().ok()));
                all.push(seen);
            }
        }
    }
    all
}

/// What the writers were answered: which task's event is at which place.
fn answered(said: &[String]) -> BTreeMap<u64, String> {
    let mut answered = BTreeMap::new();
    for line in said {
        let Some((place, id)) = line.strip_prefix("at ").and_then(|it| it.split_once(' ')) else {
            continue;
        };
        let place = place.parse().expect("a place");
        let twice = answered.insert(place, id.to_owned());
        assert_eq!(twice, None, "place {place} was given out twice");
    }
    answered
}

async fn ids_by_place(store: &dyn Store) -> BTreeMap<u64, String> {
    let mut ids = BTreeMap::new();
    let mut query = sidestream::store::LogQuery {
        after: sidestream::core::Seq(0),
        limit: 5_000,
        bytes_max: sidestream::store::LogQuery::BYTES_MAX,
        task: None,
    };
    loop {
        let page = store.log(&query).await.expect("the log is read");
        for entry in page.entries {
            ids.insert(entry.event.seq.0, entry.task.id.as_str().to_owned());
        }
        if page.through >= page.head.seq {
            return ids;
        }
        query.after = page.through;
    }
}

#[allow(clippy::print_stdout, reason = "the numbers are the evidence")]
fn println_numbers(events: u64, answered: usize, tasks: usize) {
    println!("{events} events of {tasks} tasks, {answered} of them answered");
}
