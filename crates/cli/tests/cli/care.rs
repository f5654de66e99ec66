//! What a deployment needs over the years: examinations, copies, and their return.

use crate::binary::Home;

const TOOLS: &str = r#"
[tools.count]
command = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
"#;

#[test]
fn a_doctor_finds_nothing_where_all_is_well() {
    let home = Home::with_config(TOOLS);
    let nothing = home.run_to(3, &["doctor"]);
    assert!(
        nothing.stderr.contains("there is no database"),
        "{nothing:?}"
    );
    home.run_to(0, &["run", "count"]);
    let alone = home.run_to(0, &["doctor"]);
    assert!(
        alone.stdout.contains("none runs on this data directory"),
        "{alone:?}"
    );
    let server = home.serve(&[]);
    let beside = home.run_to(0, &["doctor", "--json"]).json();
    let topics: Vec<_> = beside
        .iter()
        .map(|finding| finding["topic"].as_str().unwrap())
        .collect();
    let expected = [
        "server",
        "version",
        "integrity",
        "size",
        "log ahead",
        "room",
        "clock",
        "tools",
    ];
    assert_eq!(topics, expected);
    assert!(
        beside[0]["seen"].as_str().unwrap().contains("answers"),
        "{beside:?}"
    );
    assert_eq!(beside[2]["verdict"], "good");
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_doctor_says_what_does_not_work() {
    let home = Home::new();
    let away = home.run_to(1, &["doctor", "--server", "http://127.0.0.1:1"]);
    assert!(away.stdout.contains("does not answer"), "{away:?}");
    assert!(away.stdout.contains("sidestream serve"), "{away:?}");
}

#[test]
fn a_copy_made_beside_a_server_is_put_back_and_old_cursors_are_told() {
    let home = Home::with_config(TOOLS);
    let server = home.serve(&[]);
    let id = home
        .run_to(0, &["run", "count", "--follow", "--json"])
        .json()[0]["payload"]["taskId"]
        .clone();
    let id = id.as_str().unwrap();
    let backup = home.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let copied = home.run_to(0, &["backup", backup]);
    assert!(
        copied.stderr.contains("holds all up to event"),
        "{copied:?}"
    );
    let twice = home.run_to(3, &["backup", backup]);
    assert!(twice.stderr.contains("is there already"), "{twice:?}");
    assert_eq!(server.stop(), 0);

    let kept = home.run_to(3, &["restore", backup]);
    assert!(kept.stderr.contains("is there already"), "{kept:?}");
    let new = home.path().join("new");
    let restored = home.run_to(
        0,
        &["restore", backup, "--data", new.to_str().unwrap(), "--json"],
    );
    let restored = &restored.json()[0];
    let data = ["--data", new.to_str().unwrap()];
    let task = &home
        .run_to(0, &[&["get", id, "--json"][..], &data].concat())
        .json()[0];
    assert_eq!(task["status"], "completed");

    let _server = home.serve(&data);
    let old = format!("anotherlog-{}", restored["seq"]);
    let story = [&["watch", id, "--after", &old, "--json"][..], &data].concat();
    let chunks = home.run_to(0, &story).json();
    assert_eq!(chunks[0]["type"], "stream-reset", "{chunks:?}");
}
