//! `config check`, and a configuration that cannot be accepted.

use crate::binary::{Home, ended};

#[test]
fn what_holds_is_shown_with_who_said_so() {
    let home =
        Home::with_config("[manager]\nlease_ms = 20_000\n\n[tools.t]\ncommand = ['true', 'x']\n");
    let mut command = home.command(&["config", "check", "--json"]);
    let checked = ended(
        command
            .env("SIDESTREAM_CONCURRENCY", "7")
            .env("SIDESTREAM_LEASE", "1"),
    );
    assert_eq!(checked.code, 0, "{checked:?}");
    let said = |key: &str| {
        let lines = checked.json();
        let line = lines
            .iter()
            .find(|line| line["key"] == key)
            .unwrap()
            .clone();
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        (text("value"), text("origin"))
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(said("manager.lease_ms"), pair("20000", "sidestream.toml:2"));
    assert_eq!(
        said("manager.concurrency"),
        pair("7", "SIDESTREAM_CONCURRENCY")
    );
    assert_eq!(said("manager.backpressure"), pair("\"queue\"", "default"));
    assert_eq!(
        said("tools.t.command"),
        pair("[\"true\", \"x\"]", "sidestream.toml:5")
    );
    assert!(
        checked.stderr.contains("did you mean SIDESTREAM_LEASE_MS?"),
        "{checked:?}"
    );

    let text = home.run_to(0, &["config", "check"]);
    assert!(text.lines()[0].starts_with("KEY "), "{text:?}");
    assert!(
        text.stderr.contains("sidestream.toml is acceptable"),
        "{text:?}"
    );
}

#[test]
fn every_command_that_needs_the_configuration_refuses_a_wrong_one() {
    let home = Home::with_config("[manager]\nlaese_ms = 1\n[server]\nlisten = 1\n");
    for args in [
        &["config", "check"][..],
        &["serve"],
        &["list"],
        &["run", "x"],
    ] {
        let refused = home.run_to(2, args);
        let said = &refused.stderr;
        assert!(
            said.contains("sidestream.toml:2:1: unknown key `manager.laese_ms`"),
            "{refused:?}"
        );
        assert!(said.contains("did you mean `lease_ms`?"), "{refused:?}");
        assert!(
            said.contains("sidestream.toml:4:10: server.listen is 1"),
            "{refused:?}"
        );
    }
    // Another file is another matter.
    std::fs::write(home.path().join("good.toml"), "").unwrap();
    home.run_to(0, &["config", "check", "good.toml"]);
    home.run_to(0, &["--config", "good.toml", "config", "check"]);
}
