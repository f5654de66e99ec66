//! The layers, and what they refuse.

use std::fs;

use super::keys::TOOL_KEYS;
use super::*;

fn sources(toml: &str) -> (tempfile::TempDir, Sources) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join(FILE_NAME), toml).expect("it can be written");
    let sources = Sources {
        directory: directory.path().to_owned(),
        home_data: Some("/home/data".into()),
        ..Sources::default()
    };
    (directory, sources)
}

fn settings(toml: &str) -> Settings {
    let (_directory, sources) = sources(toml);
    sources.resolve().expect("it is acceptable")
}

fn faults(toml: &str) -> Vec<String> {
    let (_directory, sources) = sources(toml);
    let faults = sources.resolve().expect_err("it is not acceptable");
    faults.iter().map(Fault::to_string).collect()
}

fn flag(name: &str) -> &'static Key {
    let found = KEYS.iter().find(|key| key.name == name);
    found.expect("it is a key")
}

/// A default that the guide tells and the code does not keep would be a lie.
#[test]
fn the_defaults_are_those_of_the_code() {
    let settings = settings("");
    assert_eq!(settings.manager, Config::default());
    assert_eq!(settings.server, ServerConfig::default());
    assert!(settings.is_enabled && !settings.allow_commands);
    let (store, expected) = (settings.store, SqliteOptions::default());
    assert_eq!(store.synchronous, expected.synchronous);
    assert_eq!(store.readers, expected.readers);
    assert_eq!(store.size_bytes_max, expected.size_bytes_max);
    assert_eq!(settings.data, PathBuf::from("/home/data"));

    let program = Program::new("", [""; 0]);
    let of = |name: &str| keys::find("tools", name).map(Key::default_value);
    let texts = |texts: &[&str]| Some(Value::Texts(texts.iter().map(|it| (*it).into()).collect()));
    assert_eq!(of("env_allow"), texts(&Program::ENV_ALLOWED));
    assert_eq!(
        of("output_bytes_max"),
        Some(Value::Number(program.output_bytes_max as u64))
    );
    assert_eq!(
        of("line_bytes_max"),
        Some(Value::Number(program.line_bytes_max as u64))
    );
    let grace_ms = u64::try_from(program.stop_grace.as_millis()).expect("it is short");
    assert_eq!(of("grace_ms"), Some(Value::Number(grace_ms)));
}

#[test]
fn no_two_keys_share_a_flag_or_a_variable() {
    let mut flags: Vec<_> = KEYS.iter().map(Key::flag).collect();
    flags.sort();
    flags.dedup();
    assert_eq!(flags.len(), KEYS.len());
}

#[test]
fn the_first_layer_that_speaks_wins() {
    let (directory, mut sources) =
        sources("[manager]\nconcurrency = 1\nlease_ms = 1_000\ngrace_ms = 3\n");
    let said = |sources: &Sources, path: &str| {
        let settings = sources.resolve().expect("it is acceptable");
        let mut effective = settings.effective.into_iter();
        let found = effective.find(|it| it.path == path).expect("it is a key");
        (found.value.to_string(), found.origin.to_string())
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(
        said(&sources, "manager.lease_ms"),
        pair("1000", "sidestream.toml:3")
    );
    sources
        .environment
        .insert("SIDESTREAM_LEASE_MS".into(), "2_000".into());
    assert_eq!(
        said(&sources, "manager.lease_ms"),
        pair("2000", "SIDESTREAM_LEASE_MS")
    );
    sources.flags.push((flag("lease_ms"), "3000".into()));
    assert_eq!(
        said(&sources, "manager.lease_ms"),
        pair("3000", "--lease-ms")
    );
    assert_eq!(said(&sources, "manager.max_retries"), pair("0", "default"));
    drop(directory);
}

#[test]
fn every_key_can_be_said_in_every_layer() {
    for key in KEYS {
        let text = match key.kind {
            keys::Kind::Flag => "true".to_owned(),
            keys::Kind::Number { max, .. } => max.to_string(),
            keys::Kind::Word(words) => words[words.len() - 1].to_owned(),
            keys::Kind::Address => "localhost:1".to_owned(),
            _ => "a".to_owned(),
        };
        let (_directory, mut sources) = sources("");
        sources.flags.push((key, text.clone()));
        let settings = sources
            .resolve()
            .unwrap_or_else(|faults| panic!("{faults:?}"));
        let by_flag = settings
            .effective
            .into_iter()
            .find(|it| it.path == key.path());
        let value = by_flag.expect("it is a key").value;

        let toml = format!("[{}]\n{} = {value}\n", key.section, key.name);
        let settings = self::settings(&toml);
        let by_file = settings
            .effective
            .into_iter()
            .find(|it| it.path == key.path());
        assert_eq!(by_file.expect("it is a key").value, value, "{toml}");
    }
}

#[test]
fn a_relative_path_in_the_file_starts_at_the_file() {
    let (directory, mut sources) = sources("[store]\ndata = 'here'\n");
    sources.file = Some(directory.path().join(FILE_NAME));
    let data = |sources: &Sources| sources.resolve().expect("it is acceptable").data;
    assert_eq!(data(&sources), directory.path().join("here"));
    sources
        .environment
        .insert("SIDESTREAM_DATA".into(), "there".into());
    assert_eq!(data(&sources), PathBuf::from("there"));
}

#[test]
fn a_tool_is_read_with_all_its_keys() {
    let toml = "[tools.a]\ncommand = ['p', 'q']\nremote = true\nargs = ['--n={n}']\nenv = { A = 'b' }\nenv_allow = ['PATH']\n\
                cwd = 'sub'\ntimeout_ms = 1\nmax_retries = 2\nretry_delay_ms = 3\nretry_delay_max_ms = 4\n\
                concurrency = 5\noutput_bytes_max = 6\nline_bytes_max = 7\ngrace_ms = 8\n";
    for key in TOOL_KEYS {
        assert!(
            toml.contains(&format!("\n{} = ", key.name)),
            "{} is missing here",
            key.name
        );
    }
    let settings = settings(toml);
    let shown = format!("{:?}", settings.tools["a"]);
    for part in [
        "\"a\"",
        "is_remote: true",
        "timeout_ms: Some(1)",
        "max_retries: Some(2)",
        "concurrency: Some(5)",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

/// A tool that workers elsewhere run needs no command; and the server that has one leaves it alone.
#[test]
fn a_remote_tool_is_left_to_others() {
    let settings =
        settings("[tools.a]\nremote = true\n\n[tools.b]\nremote = true\ncommand = ['p']\n");
    let (a, b) = (&settings.tools["a"], &settings.tools["b"]);
    assert!(!a.tool.can_run() && b.tool.can_run());
    assert!(!a.to_serve().can_run() && !b.to_serve().can_run());
}

/// Each line: what the file says, and what is said about it.
#[test]
fn what_cannot_be_accepted_is_named_with_its_place_and_limit() {
    let table = [
        (
            "[manager]\nlease = 5\n",
            "sidestream.toml:2:1: unknown key `manager.lease`; did you mean `lease_ms`?",
        ),
        (
            "[manager]\nconcurency = 5\n",
            "sidestream.toml:2:1: unknown key `manager.concurency`; did you mean `concurrency`?",
        ),
        (
            "[manager]\nlisten = 'x'\n",
            "sidestream.toml:2:1: unknown key `manager.listen`; it belongs in [server]",
        ),
        (
            "listen = 'x'\n",
            "sidestream.toml:1:1: unknown key `listen`; it belongs in [server]",
        ),
        (
            "[manger]\n",
            "sidestream.toml:1:2: unknown key `manger`; did you mean [manager]?",
        ),
        ("[zzz]\n", "sidestream.toml:1:2: unknown key `zzz`"),
        (
            "manager = 1\n",
            "sidestream.toml:1:11: `manager` is not a table: write [manager]",
        ),
        (
            "[manager]\nlease_ms = 'soon'\n",
            "sidestream.toml:2:12: manager.lease_ms is \"soon\", not a whole number between 100 and 86,400,000",
        ),
        (
            "[manager]\n  lease_ms = 99\n",
            "sidestream.toml:2:14: manager.lease_ms is 99, not a whole number between 100 and 86,400,000",
        ),
        (
            "[manager]\nlease_ms = -1\n",
            "sidestream.toml:2:12: manager.lease_ms is -1, not a whole number between 100 and 86,400,000",
        ),
        (
            "[manager]\nlease_ms = 1.5\n",
            "sidestream.toml:2:12: manager.lease_ms is 1.5, not a whole number between 100 and 86,400,000",
        ),
        (
            "[manager]\nmax_retries = 99999999999999999999999\n",
            "sidestream.toml:2:15: manager.max_retries is 99999999999999999999999, not a whole number between \
             0 and 1,000",
        ),
        (
            "[manager]\nbackpressure = 'drop'\n",
            "sidestream.toml:2:16: manager.backpressure is \"drop\", not one of queue, reject, fallback-sync",
        ),
        (
            "[manager]\nenabled = 'yes'\n",
            "sidestream.toml:2:11: manager.enabled is \"yes\", not true or false",
        ),
        (
            "[server]\nlisten = 7600\n",
            "sidestream.toml:2:10: server.listen is 7600, not an IP address and a port, such as 127.0.0.1:7600",
        ),
        (
            "[server]\nallowed_hosts = ['a', 1]\n",
            "sidestream.toml:2:17: server.allowed_hosts is a list, not a list of texts",
        ),
        (
            "[store]\ndata = ''\n",
            "sidestream.toml:2:8: store.data is \"\", not a path",
        ),
        (
            "[tools.a]\ntimeout_ms = 1\n",
            "sidestream.toml:1:8: tools.a has no `command`",
        ),
        (
            "[tools.a]\ncommand = []\n",
            "sidestream.toml:2:11: tools.a.command is an empty list, not a list of texts that begins with a program",
        ),
        (
            "[tools.a]\ncommand = 'ls -l'\n",
            "sidestream.toml:2:11: tools.a.command is \"ls -l\", not a list of texts that begins with a program",
        ),
        (
            "[tools.a]\ncommand = ['ls']\nargs = ['--x={x']\n",
            "sidestream.toml:3: tools.a.args: flag template `--x={x`: a `{` without `}`; write `{{` for a brace",
        ),
        (
            "[tools.a]\ncommand = ['ls']\ntimeout = 1\n",
            "sidestream.toml:3:1: unknown key `tools.a.timeout`; did you mean `timeout_ms`?",
        ),
        (
            "[tools]\na = 1\n",
            "sidestream.toml:2:5: `tools.a` is not a table: write [tools.a]",
        ),
        (
            "[tools.'']\ncommand = ['ls']\n",
            "sidestream.toml:1:8: the tool's name is empty",
        ),
    ];
    for (toml, expected) in table {
        assert_eq!(faults(toml), [expected], "{toml}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let toml = "[manager]\nlease = 5\nconcurrency = 0\n[server]\nlisten = 1\n";
    assert_eq!(faults(toml).len(), 3, "{:#?}", faults(toml));
}

#[test]
fn what_is_no_toml_is_named_with_its_place() {
    let faults = faults("[manager]\nlease_ms = \n");
    assert!(faults[0].starts_with("sidestream.toml:2:1"), "{faults:?}");
}

#[test]
fn flags_and_variables_are_checked_like_the_file() {
    let (_directory, mut sources) = sources("");
    sources
        .environment
        .insert("SIDESTREAM_LISTEN".into(), "here".into());
    sources.flags.push((flag("lease_ms"), "1".into()));
    let faults = sources.resolve().expect_err("neither is acceptable");
    let faults: Vec<_> = faults.iter().map(Fault::to_string).collect();
    let expected = [
        "SIDESTREAM_LISTEN: server.listen is \"here\", not an IP address and a port, such as 127.0.0.1:7600",
        "--lease-ms: manager.lease_ms is \"1\", not a whole number between 100 and 86,400,000",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn a_variable_that_means_nothing_is_told() {
    let (_directory, mut sources) = sources("");
    for name in ["SIDESTREAM_LEASE", "SIDESTREAM_QQQ", "SIDESTREAM_URL"] {
        sources.environment.insert(name.into(), "1".into());
    }
    let warnings = sources.resolve().expect("it is acceptable").warnings;
    let expected = [
        "SIDESTREAM_LEASE is ignored: did you mean SIDESTREAM_LEASE_MS?",
        "SIDESTREAM_QQQ is ignored: no setting has that name",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_file_that_is_asked_for_must_be_there() {
    let (_directory, mut sources) = sources("");
    sources.file = Some("nowhere.toml".into());
    let faults = sources.resolve().expect_err("it is not there");
    assert!(
        faults[0]
            .to_string()
            .starts_with("nowhere.toml: the file cannot be read")
    );
}
