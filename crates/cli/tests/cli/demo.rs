//! The demo is the product's first test: it must end well, in time, on any directory.

use std::time::Duration;

use crate::binary::{Home, ended};

/// Once built; on a machine that does other things, too.
const TIME_MAX: Duration = Duration::from_secs(20);

#[test]
fn it_runs_on_the_repository_and_all_ends_as_it_should() {
    let home = Home::new();
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let started = tokio::time::Instant::now();
    let shown = ended(home.command(&["demo"]).current_dir(repository));
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(
        started.elapsed() < TIME_MAX,
        "it took {:?}",
        started.elapsed()
    );
    let parts = [
        "hash_files   ✔ completed",
        "count_lines  ✔ completed",
        "survey       ✔ completed",
        "publish      ‖ suspended",
        "publish      ● approves",
        "upload       ↻ failed (attempt 2)",
        "upload       ✔ completed",
        "deep_scan    ■ cancelled",
        "audit        ✖ failed: Task timed out after 1500ms",
        "checksum     ● kill -9",
        "was killed by SIGKILL; will be tried again",
        "checksum     ✔ completed",
        "Stored are 8 tasks",
        "replayed from the log",
        "✔ All 8 tasks ended as they should have",
    ];
    for part in parts {
        assert!(
            shown.stdout.contains(part),
            "{part:?} is missing in\n{}",
            shown.stdout
        );
    }
    assert!(!home.data().exists(), "the demo has a database of its own");
}

#[test]
fn with_json_only_chunks_are_data_and_each_is_told_once() {
    let home = Home::new();
    let chunks = home.run_to(0, &["demo", "--json"]).json();
    let seqs: Vec<_> = chunks
        .iter()
        .map(|chunk| chunk["payload"]["seq"].as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (1..=seqs.len() as u64).collect();
    assert_eq!(seqs, expected, "the log without a hole, in its order");
    let ends = chunks.iter().filter(|chunk| {
        let kind = chunk["type"]
            .as_str()
            .unwrap()
            .trim_start_matches("background-task-");
        ["completed", "failed", "cancelled"].contains(&kind)
    });
    assert_eq!(ends.count(), 8);
}
