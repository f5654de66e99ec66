//! A worker of its own process, for a server that leaves tools to others.

use rustix::process::Signal;

use crate::binary::{Home, Running, ended, signal};

/// The same file for both: the server leaves to others what the worker has a command for.
const TOOLS: &str = r#"
[manager]
grace_ms = 500
[tools.count]
remote = true
command = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
max_retries = 1
[tools.forever]
remote = true
command = ["sh", "-c", "echo up; sleep 600"]
max_retries = 1
[tools.elsewhere]
remote = true
"#;

fn work(home: &Home, args: &[&str], key: &str) -> Running {
    let mut command = home.command(&[&["worker"], args].concat());
    command.env("SIDESTREAM_API_KEY", key);
    Running::start(command)
}

#[test]
fn a_worker_runs_the_servers_tools_until_it_is_told_to_stop() {
    let home = Home::with_config(TOOLS);
    let key = home.run_to(0, &["keys", "add", "--role", "worker"]);
    let admin = home.run_to(0, &["keys", "add", "--role", "admin"]);
    let (key, admin) = (key.stdout.trim_end(), admin.stdout.trim_end());
    let server = home.serve(&[]);
    let mut worker = work(&home, &["--name", "afar", "--concurrency", "2"], key);
    let line = worker.err.until("sidestream works for http://").unwrap();
    assert!(line.contains(" as afar-"), "{line}");

    let with = |args: &[&str]| ended(home.command(args).env("SIDESTREAM_API_KEY", admin));
    let followed = with(&["run", "count", "--follow"]);
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "1\n2\n3\n"));
    let mut command = home.command(&["run", "forever", "--follow"]);
    command.env("SIDESTREAM_API_KEY", admin);
    let stuck = Running::start(command);
    assert!(stuck.out.until("up").is_some());

    // What does not end within the grace goes the way its retries say.
    signal(&worker.child, Signal::TERM);
    assert_eq!(worker.wait(), 0);
    let tasks = with(&["list", "--json"]).json();
    assert_eq!(
        (&tasks[0]["toolName"], &tasks[0]["status"]),
        (&"forever".into(), &"pending".into())
    );
    let why = tasks[0]["error"]["message"].as_str().unwrap();
    assert!(
        why.contains("was shut down before attempt 1 ended"),
        "{why}"
    );
    let id = tasks[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(with(&["cancel", &id]).code, 0);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_worker_that_cannot_work_says_why() {
    let home = Home::with_config(TOOLS);
    let nowhere = home.run_to(3, &["worker"]);
    assert!(
        nowhere.stderr.contains("name one: --server URL"),
        "{nowhere:?}"
    );
    let idle = Home::with_config("[tools.elsewhere]\nremote = true\n");
    let idle = idle.run_to(2, &["worker", "--server", "http://127.0.0.1:1"]);
    assert!(idle.stderr.contains("there is no tool to run"), "{idle:?}");

    let key = home.run_to(0, &["keys", "add", "--role", "read"]);
    let _server = home.serve(&[]);
    for key in ["", "sk_wrong_key", key.stdout.trim_end()] {
        let refused = ended(home.command(&["worker"]).env("SIDESTREAM_API_KEY", key));
        assert_eq!(refused.code, 5, "{refused:?}");
    }
}
