//! `watch` outlives the server it watches.

use rustix::process::Signal;

use crate::binary::{Home, Running, signal};

const TOOLS: &str =
    "[tools.say]\ncommand = ['echo', 'said']\n[tools.other]\ncommand = ['echo', 'other']\n";

/// The server comes back on another port: it is found by its data directory.
#[test]
fn a_watcher_goes_on_after_the_server_restarts_and_sees_each_event_once() {
    let home = Home::with_config(TOOLS);
    let server = home.serve(&[]);
    let mut watcher =
        Running::start(home.command(&["watch", "--json", "--tool", "say", "--after", "0"]));
    let mut dispatched = vec![home.run_to(0, &["run", "say"]).id().to_owned()];
    home.run_to(0, &["run", "other", "--follow"]);
    let mut seen = vec![watcher.out.until("background-task-completed").unwrap()];

    assert_eq!(server.stop(), 0);
    assert!(watcher.err.until("connecting again").is_some());
    let server = home.serve(&[]);
    dispatched.push(home.run_to(0, &["run", "say"]).id().to_owned());
    seen.push(watcher.out.until("background-task-completed").unwrap());

    server.kill();
    assert!(watcher.err.until("connecting again").is_some());
    let _server = home.serve(&[]);
    dispatched.push(home.run_to(0, &["run", "say"]).id().to_owned());
    seen.push(watcher.out.until("background-task-completed").unwrap());

    for (seen, id) in seen.iter().zip(&dispatched) {
        assert!(seen.contains(id.as_str()), "{seen}");
    }
    signal(&watcher.child, Signal::TERM);
    assert_eq!(watcher.wait(), 0);
    assert_eq!(watcher.out.rest(), [""; 0], "nothing is seen twice");
    assert!(watcher.err.until("go on from here with --after").is_some());
}

#[test]
fn a_cursor_goes_on_where_another_watcher_stopped() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    home.run_to(0, &["run", "say", "--follow"]);
    let mut first = Running::start(home.command(&["watch", "--json", "--after", "0"]));
    assert!(first.out.until("background-task-completed").is_some());
    signal(&first.child, Signal::INT);
    assert_eq!(first.wait(), 0);
    let note = first.err.until("--after").unwrap();
    let cursor = note.split_whitespace().last().unwrap();

    home.run_to(0, &["run", "other", "--follow"]);
    let second = Running::start(home.command(&["watch", "--json", "--after", cursor]));
    let line = second.out.until("background-task").unwrap();
    assert!(line.contains("\"other\""), "{line}");
}

#[test]
fn lines_for_people_are_in_columns_and_filters_hold() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    let watcher = Running::start(
        home.command(&["watch", "--agent", "a1", "--type", "output", "--after", "0"]),
    );
    home.run_to(0, &["run", "other", "--agent", "a2", "--follow"]);
    let id = home.run_to(0, &["run", "say", "--agent", "a1"]);
    let line = watcher.out.until("").unwrap();
    let id = id.id();
    let short = &id[id.len() - 8..];
    assert!(
        line.ends_with(&format!("  {short}  a1  say  │ said")),
        "{line:?}"
    );
}
