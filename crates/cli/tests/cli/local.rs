//! Where no server runs, the data directory itself is opened.

use std::process::Stdio;

use rustix::process::Signal;

use crate::binary::{Home, Running, ended, signal};

#[test]
fn a_command_is_run_as_a_task_and_what_it_writes_is_passed_on() {
    let home = Home::new();
    let script = "echo one; echo two >&2; echo '{\"n\":3}'";
    let ran = home.run_to(0, &["run", "--", "sh", "-c", script]);
    assert_eq!(ran.stdout, "one\n{\"n\":3}\n");
    assert!(
        ran.stderr.contains("two\n") && ran.stderr.contains("✔ completed"),
        "{ran:?}"
    );

    let listed = home.run_to(0, &["list", "--json"]).json();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["status"], "completed");
    assert_eq!(listed[0]["result"], serde_json::json!({"n": 3}));
    assert_eq!(listed[0]["description"], format!("sh -c {script}"));
}

#[test]
fn a_command_runs_where_it_is_said_and_with_what_is_said() {
    let home = Home::new();
    let mut command = home.command(&["run", "--", "sh", "-c", "pwd; echo $ONLY_HERE"]);
    let ran = ended(command.env("ONLY_HERE", "here"));
    let pwd = home.path().canonicalize().unwrap();
    assert_eq!(ran.lines(), [pwd.to_str().unwrap(), "here"]);
}

#[test]
fn a_command_that_fails_ends_the_program_so() {
    let home = Home::new();
    let ran = home.run_to(
        1,
        &["run", "--max-retries", "1", "--", "sh", "-c", "exit 7"],
    );
    assert!(
        ran.stderr.contains("✖ failed: `sh` ended with exit code 7"),
        "{ran:?}"
    );
    let tasks = home.run_to(0, &["list", "--json"]).json();
    assert_eq!(
        (&tasks[0]["status"], &tasks[0]["attempt"]),
        (&"failed".into(), &2.into())
    );
    home.run_to(1, &["run", "--timeout-ms", "50", "--", "sleep", "60"]);
    let tasks = home.run_to(0, &["list", "--json", "-n", "1"]).json();
    assert_eq!(tasks[0]["status"], "timed_out");
}

/// More text than a result can hold: the end of it is the result.
#[test]
fn a_command_that_says_much_completes() {
    let home = Home::new();
    let script = "seq 150000; echo done";
    home.run_to(0, &["run", "--", "sh", "-c", script]);
    let tasks = home.run_to(0, &["list", "--json"]).json();
    assert_eq!(tasks[0]["status"], "completed");
    let result = tasks[0]["result"].as_str().unwrap();
    assert!(result.contains(" bytes cut]…") && result.ends_with("\n150000\ndone"));
}

#[test]
fn ctrl_c_cancels_a_task_that_runs_here() {
    let home = Home::new();
    let mut running = Running::start(home.command(&["run", "--", "sh", "-c", "echo up; sleep 60"]));
    assert!(running.out.until("up").is_some());
    signal(&running.child, Signal::INT);
    assert_eq!(running.wait(), 1);
    assert!(running.err.until("cancelled").is_some());
    let tasks = home.run_to(0, &["list", "--json"]).json();
    assert_eq!(tasks[0]["status"], "cancelled");
}

#[test]
fn a_tool_of_the_file_is_run_with_its_arguments() {
    let home = Home::with_config(
        "[tools.greet]\ncommand = ['sh', '-c', 'read args; echo \"$0 $args\"', 'tool']\nargs = ['{name}']\n",
    );
    let ran = home.run_to(0, &["run", "greet", "--args", r#"{"name": "x"}"#]);
    assert_eq!(ran.stdout, "tool {\"name\": \"x\"}\n");

    std::fs::write(home.path().join("args.json"), r#"{"name": "y"}"#).unwrap();
    let ran = home.run_to(0, &["run", "greet", "--args", "@args.json"]);
    assert_eq!(ran.stdout, "tool {\"name\": \"y\"}\n");

    let mut command = home.command(&["run", "greet", "--args", "-"]);
    let file = std::fs::File::open(home.path().join("args.json")).unwrap();
    assert_eq!(ended(command.stdin(Stdio::from(file))).stdout, ran.stdout);
}

#[test]
fn one_idempotency_key_is_one_task() {
    let home = Home::new();
    let run = |home: &Home| {
        home.run_to(
            0,
            &[
                "run",
                "--idempotency-key",
                "k",
                "--",
                "sh",
                "-c",
                "echo ran >> ran",
            ],
        )
    };
    run(&home);
    let again = run(&home);
    assert!(again.stderr.contains("made before"), "{again:?}");
    assert_eq!(
        std::fs::read_to_string(home.path().join("ran")).unwrap(),
        "ran\n"
    );
}

#[test]
fn what_happened_can_be_looked_at_without_a_server() {
    let home = Home::new();
    home.run_to(0, &["run", "--agent", "a1", "--", "echo", "hello"]);
    home.run_to(1, &["run", "--agent", "a2", "--", "false"]);
    let tasks = home.run_to(0, &["list", "--json", "--oldest-first"]).json();
    let id = tasks[0]["id"].as_str().unwrap();

    let text = home.run_to(0, &["list"]);
    assert_eq!(text.lines().len(), 3, "{text:?}");
    assert!(text.lines()[0].starts_with("ID "));
    assert!(text.lines()[1].contains("failed") && text.lines()[2].contains("completed"));
    assert_eq!(text.stderr, "2 tasks\n");
    let of_agent = home.run_to(0, &["list", "--agent", "a1", "--json"]).json();
    assert_eq!(of_agent.len(), 1);
    let failed = home
        .run_to(0, &["list", "--status", "failed", "--json"])
        .json();
    assert_eq!(failed.len(), 1);

    let got = home.run_to(0, &["get", id]);
    assert!(got.stdout.contains("status        completed\n"), "{got:?}");
    let story = home.run_to(0, &["watch", id]);
    assert!(
        story.stdout.contains("│ hello\n") && story.lines().len() == 4,
        "{story:?}"
    );
    let story = home.run_to(0, &["watch", id, "--json"]).json();
    let types: Vec<_> = story
        .iter()
        .map(|chunk| chunk["type"].as_str().unwrap())
        .collect();
    let expected =
        ["started", "running", "output", "completed"].map(|it| format!("background-task-{it}"));
    assert_eq!(types, expected);
    let log = home
        .run_to(0, &["watch", "--after", "0", "--agent", "a2", "--json"])
        .json();
    assert_eq!(log.len(), 2, "{log:?}");

    home.run_to(3, &["watch"]);
}

#[test]
fn tasks_are_changed_without_a_server_too() {
    let home = Home::new();
    home.run_to(1, &["run", "--", "false"]);
    let tasks = home.run_to(0, &["list", "--json"]).json();
    let id = tasks[0]["id"].as_str().unwrap();
    let retried = home.run_to(0, &["retry", id]);
    assert_eq!(retried.stdout, format!("{id}  pending\n"));
    assert!(retried.stderr.contains("no server runs"), "{retried:?}");
    home.run_to(4, &["delete", id]);
    home.run_to(4, &["resume", id]);
    assert_eq!(
        home.run_to(0, &["cancel", id, "--json"]).json()[0]["status"],
        "cancelled"
    );
    home.run_to(0, &["delete", id]);
    let gone = home.run_to(4, &["get", id]);
    assert!(gone.stderr.contains("does not exist"), "{gone:?}");
}

/// Each line: what is said, and how it ends.
#[test]
fn what_cannot_be_done_ends_with_its_code_and_a_reason() {
    let home = Home::with_config("[tools.known]\ncommand = ['true']\n");
    let table: &[(i32, &[&str], &str)] = &[
        (3, &["list"], "no server runs on the data directory"),
        (3, &["get", "x"], "there is no database in it"),
        (2, &[], "Usage"),
        (2, &["run"], "required"),
        (2, &["run", "known", "--", "x"], "cannot be used"),
        (2, &["run", "known", "--args", "{"], "--args is not JSON"),
        (
            2,
            &["run", "known", "--args", "@nowhere"],
            "nowhere cannot be read",
        ),
        (2, &["run", "knwon"], "there are known"),
        (2, &["run", "known", "--timeout-ms", "0"], "timeoutMs is 0"),
        (
            2,
            &["run", "known", "--timeout-ms", "-1"],
            "unexpected argument",
        ),
        (
            2,
            &["run", "known", "--max-retries", "99999"],
            "maxRetries is 99999",
        ),
        (2, &["run", "known", "--agent", ""], "agentId is empty"),
        (
            2,
            &["list", "--status", "done"],
            "status is none of pending",
        ),
        (2, &["watch", "--type", "x"], "type is none of"),
        (2, &["watch", "--after", "x"], "cursor is neither"),
        (
            2,
            &["keys", "add", "--role", "king"],
            "none of read, write, worker, admin",
        ),
        (4, &["keys", "revoke", "x"], "there is no key x"),
        (4, &["cancel", "x"], "task x does not exist"),
        (
            2,
            &["--server", "nonsense", "list"],
            "is no server's address",
        ),
        (
            3,
            &["--server", "http://127.0.0.1:1", "list"],
            "cannot be reached",
        ),
        (
            3,
            &["--server", "http://127.0.0.1:1", "watch"],
            "cannot be reached",
        ),
        (2, &["config", "check", "nowhere.toml"], "cannot be read"),
        (2, &["completions", "nosuchshell"], "invalid value"),
        (2, &["demo", "nowhere"], "there is no file to work on"),
    ];
    for (at, (code, args, said)) in table.iter().enumerate() {
        let ended = home.run_to(*code, args);
        assert!(
            ended.stderr.contains(said),
            "line {at}: sidestream {args:?}: {ended:?}"
        );
        assert_eq!(ended.stdout, "", "line {at}: an error is not data");
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let home = Home::new();
    let mut command = home.command(&["completions", "bash"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn every_shell_has_its_completions() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.run_to(0, &["completions", shell]);
        assert!(script.stdout.contains("sidestream"), "{shell}");
    }
}
