//! Against a server that runs on the data directory.

use rustix::process::Signal;

use crate::binary::{Home, Running, signal};

const TOOLS: &str = r#"
[tools.count]
command = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
[tools.forever]
command = ["sh", "-c", "echo up; sleep 600"]
[tools.fails]
command = ["false"]
"#;

#[test]
fn the_server_of_the_data_directory_is_found() {
    let home = Home::with_config(TOOLS);
    let server = home.serve(&[]);
    let id = home.run_to(0, &["run", "count", "--agent", "a1"]);
    let id = id.id();
    let story = home.run_to(0, &["watch", id]);
    assert!(story.stdout.contains("✔ completed: 3"), "{story:?}");
    let task = &home.run_to(0, &["get", id, "--json"]).json()[0];
    assert_eq!(
        (&task["status"], &task["agentId"]),
        (&"completed".into(), &"a1".into())
    );
    assert_eq!(server.stop(), 0);
    assert!(!home.data().join("server.json").exists());
    // The same command, now on the data itself.
    let again = &home.run_to(0, &["get", id, "--json"]).json()[0];
    assert_eq!(again, task);
}

#[test]
fn a_followed_task_ends_the_program_as_it_ends() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    let followed = home.run_to(0, &["run", "count", "--follow"]);
    assert_eq!(followed.stdout, "1\n2\n3\n");
    let failed = home.run_to(1, &["run", "fails", "--follow"]);
    assert!(failed.stderr.contains("✖ failed"), "{failed:?}");
    let chunks = home.run_to(0, &["run", "count", "-f", "--json"]).json();
    assert_eq!(chunks.len(), 6, "{chunks:?}");
    home.run_to(0, &["run", "count"]);
}

#[test]
fn a_task_goes_on_when_its_follower_leaves_and_can_be_cancelled_retried_and_deleted() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    let mut follower = Running::start(home.command(&["run", "forever", "--follow"]));
    assert!(follower.out.until("up").is_some());
    signal(&follower.child, Signal::INT);
    assert_eq!(follower.wait(), 130);
    assert!(follower.err.until("the task goes on").is_some());

    let tasks = home.run_to(0, &["list", "--json"]).json();
    assert_eq!(tasks[0]["status"], "running");
    let id = tasks[0]["id"].as_str().unwrap();
    home.run_to(4, &["delete", id]);
    let cancelled = home.run_to(0, &["cancel", id]);
    assert_eq!(cancelled.stdout, format!("{id}  cancelled\n"));
    home.run_to(0, &["retry", id]);
    let both = home.run_to(4, &["cancel", "nosuch", id]);
    assert_eq!(both.stdout, format!("{id}  cancelled\n"));
    assert!(
        both.stderr.contains("task nosuch does not exist"),
        "{both:?}"
    );
    home.run_to(0, &["delete", id]);
    home.run_to(4, &["get", id]);
}

#[test]
fn a_server_runs_no_commands_of_its_clients_unless_it_is_told_to() {
    let home = Home::new();
    let server = home.serve(&[]);
    let refused = home.run_to(2, &["run", "--", "echo", "hi"]);
    assert!(refused.stderr.contains("--allow-commands"), "{refused:?}");
    assert_eq!(server.stop(), 0);
    let _server = home.serve(&["--allow-commands", "true"]);
    assert_eq!(home.run_to(0, &["run", "--", "echo", "hi"]).stdout, "hi\n");
}

#[test]
fn a_second_server_on_one_directory_is_refused() {
    let home = Home::new();
    let _server = home.serve(&[]);
    let second = home.run_to(3, &["serve"]);
    assert!(second.stderr.contains("is in use by process"), "{second:?}");
    let offline = home.run_to(3, &["run", "--server", "http://127.0.0.1:1", "x"]);
    assert!(offline.stderr.contains("hint:"), "{offline:?}");
}

#[test]
fn an_address_that_is_taken_or_open_to_all_is_refused() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = home.run_to(3, &["serve", "--listen", &address]);
    assert!(refused.stderr.contains("cannot listen on"), "{refused:?}");
    assert!(!refused.stderr.contains("tasks are run"), "{refused:?}");
    let refused = home.run_to(2, &["serve", "--listen", "0.0.0.0:0"]);
    assert!(
        refused.stderr.contains("no API key protects it"),
        "{refused:?}"
    );
    let refused = home.run_to(2, &["serve", "--log", "what=is=this"]);
    assert!(refused.stderr.contains("server.log is"), "{refused:?}");
}

#[test]
fn a_server_that_is_disabled_takes_nothing() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&["--enabled", "false"]);
    assert_eq!(home.run_to(0, &["list", "--json"]).stdout, "");
    let refused = home.run_to(3, &["run", "count"]);
    assert!(refused.stderr.contains("disabled"), "{refused:?}");
}

#[test]
fn a_task_that_a_killed_server_was_running_is_run_again() {
    let home = Home::with_config(
        "[tools.once]\ncommand = ['sh', '-c', 'test -e ran && exit 0; touch ran; sleep 600']\n\
         max_retries = 1\nretry_delay_ms = 1\n",
    );
    let server = home.serve(&[]);
    let id = home.run_to(0, &["run", "once"]);
    let deadline = std::time::Duration::from_millis(20);
    while !home.path().join("ran").exists() {
        // Nothing tells when a file appears.
        #[expect(clippy::disallowed_methods, reason = "a process outside is waited for")]
        std::thread::sleep(deadline);
    }
    server.kill();
    let _server = home.serve(&[]);
    let story = home.run_to(0, &["watch", id.id()]);
    assert!(
        story.stdout.contains("was lost during attempt 1"),
        "{story:?}"
    );
    assert!(story.stdout.contains("started (attempt 2)"), "{story:?}");
}

/// What a killed server left behind must not lead to another's data.
#[test]
fn the_address_of_a_server_that_was_killed_is_not_believed() {
    let (home, other) = (Home::with_config(TOOLS), Home::with_config(TOOLS));
    let server = home.serve(&[]);
    home.run_to(0, &["run", "count", "--follow"]);
    let said = std::fs::read_to_string(home.data().join("server.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let address = said["url"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .to_owned();
    server.kill();
    assert!(home.data().join("server.json").exists());

    let _other = other.serve(&["--listen", &address]);
    assert_eq!(other.run_to(0, &["list", "--json"]).stdout, "");
    assert_eq!(home.run_to(0, &["list", "--json"]).lines().len(), 1);
}
