//! What goes in: arguments, flags, environment, directory.

use super::*;

fn flags(templates: &[&str]) -> Vec<FlagTemplate> {
    let parsed = templates.iter().map(|it| it.parse());
    parsed
        .collect::<Result<_, _>>()
        .expect("they are templates")
}

/// What a program gets for these templates: its arguments, as it sees them.
async fn arguments_of(templates: &[&str], args: &str) -> Result<Vec<String>, Failure> {
    let mut program = python("import json, sys; print(json.dumps(sys.argv[1:]))");
    program.flags = flags(templates);
    let (result, _) = ended(&program, args).await;
    Ok(result?.expect("a result").parse().expect("a list of texts"))
}

async fn refusal_of(templates: &[&str], args: &str) -> Failure {
    let refused = arguments_of(templates, args).await.expect_err("refused");
    assert_eq!(refused.cause, Cause::Arguments);
    assert!(!refused.is_retryable());
    refused
}

#[tokio::test]
async fn the_arguments_are_one_line_of_json_on_stdin() {
    let args = r#"{"q": "ä", "n": 1.0, "big": 123456789012345678901234567890}"#;
    let read = shell("read -r line && echo \"$line\"");
    assert_eq!(result_of(&read, args).await, args);
    assert_eq!(result_of(&shell("cat"), args).await, args);
}

#[tokio::test]
async fn flags_are_filled_from_the_arguments() {
    let templates = [
        "--name={name}",
        "--range={from}-{to}",
        "--all={all}",
        "-v",
        "--{{}}",
    ];
    let args = r#"{"name": "Ada", "from": 1.50, "to": [1, "x"], "all": {"a": true}}"#;
    let expected = [
        "--name=Ada",
        r#"--range=1.50-[1, "x"]"#,
        r#"--all={"a": true}"#,
        "-v",
        "--{}",
    ];
    let seen = arguments_of(&templates, args).await.expect("they fit");
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_hostile_value_is_one_argument_and_nothing_else() {
    for value in [
        "'; rm -rf / #",
        "$(touch /tmp/x) `id` $HOME",
        "two\nlines\r\n",
        "--force",
        "-rf",
        "{name} {{x}}",
        "\" \\ \t *",
        "",
    ] {
        let args = serde_json::json!({ "name": value }).to_string();
        let seen = arguments_of(&["--name={name}", "--last"], &args).await;
        let expected = vec![format!("--name={value}"), "--last".into()];
        assert_eq!(seen, Ok(expected));
    }
}

/// `{file}` is an element of its own: a value `-rf` must not turn it into an option.
#[tokio::test]
async fn a_value_is_never_read_as_an_option() {
    let args = r#"{"file": "-rf"}"#;
    let refused = refusal_of(&["{file}"], args).await;
    assert!(
        refused.message.contains("`{file}` begins with `-`"),
        "{refused}"
    );
    let seen = arguments_of(&["--", "{file}"], args).await;
    assert_eq!(seen, Ok(vec!["--".into(), "-rf".into()]));
    let seen = arguments_of(&["{file}"], r#"{"file": "a-b"}"#).await;
    assert_eq!(seen, Ok(vec!["a-b".into()]));
}

#[tokio::test]
async fn a_missing_value_drops_an_optional_flag_and_refuses_another() {
    let templates = ["--name={name?}", "--size={size?}", "--kept={kept?}"];
    let seen = arguments_of(&templates, r#"{"size": null, "kept": "null"}"#).await;
    assert_eq!(seen, Ok(vec!["--kept=null".into()]));
    let seen = arguments_of(&["--n={name}"], r#"{"name": null}"#).await;
    assert_eq!(seen, Ok(vec!["--n=null".into()]));

    assert_eq!(
        refusal_of(&["--name={name}"], "{}").await.to_string(),
        "`python3` cannot be given these arguments: `name` is missing; `--name={name}` needs it"
    );
    refusal_of(&["--name={name}"], "[1]").await;
}

#[tokio::test]
async fn a_value_that_no_argument_can_hold_is_refused() {
    let refused = refusal_of(&["--name={name}"], r#"{"name": "a\u0000b"}"#).await;
    assert!(refused.message.contains("`name` holds a NUL"), "{refused}");

    let long = serde_json::json!({ "name": "x".repeat(4 << 20) }).to_string();
    let refused = refusal_of(&["--name={name}"], &long).await;
    assert!(refused.message.contains("too long"), "{refused}");
}

#[test]
fn a_broken_template_says_what_is_wrong() {
    for (text, problem) in [
        ("--a={a", "`{` without `}`"),
        ("--a=a}", "`}` without `{`"),
        ("--a={}", "needs the name"),
        ("--a={?}", "needs the name"),
        ("--a={b{c}", "needs the name"),
    ] {
        let error = text.parse::<FlagTemplate>().expect_err(text).to_string();
        assert!(error.contains(problem) && error.contains(text), "{error}");
    }
    let from_json: Result<FlagTemplate, _> = serde_json::from_str(r#""--a={a""#);
    assert!(from_json.is_err());
}

/// Runs `env` and gives what it prints.
async fn environment_of(program: &Program, invocation: &Invocation) -> BTreeMap<String, String> {
    let (kept, never) = (Kept::default(), CancellationToken::new());
    let result = within_bound(run(program, invocation, &kept, &never)).await;
    result.expect("it succeeds");
    let outputs = kept.outputs.lock();
    let lines = outputs.iter().map(|it| it.parse().expect("text"));
    lines
        .map(|line: String| line.split_once('=').map(|(a, b)| (a.into(), b.into())))
        .collect::<Option<_>>()
        .expect("names and values")
}

/// Names a variable of ours that is not passed on unless somebody asks for it.
fn ours() -> String {
    let mut names = std::env::vars().map(|(name, _)| name);
    let is_ours = |name: &String| !Program::ENV_ALLOWED.contains(&name.as_str());
    names.find(is_ours).expect("a variable besides the allowed")
}

#[tokio::test]
async fn only_allowed_variables_are_passed_on() {
    let mut program = Program::new("env", [""; 0]);
    program.env.insert("GREETING".into(), "a = b".into());
    program.env.insert("SIDESTREAM_ATTEMPT".into(), "99".into());
    let invocation = Invocation {
        attempt: 3,
        resume_data: Some(Json::from_text(r#"{"ok": true}"#).expect("JSON")),
        ..invocation("{}")
    };
    let mut seen = environment_of(&program, &invocation).await;

    let token = seen.remove("SIDESTREAM_TOKEN").expect("a token");
    assert!(token.starts_with(&invocation.installation), "{token}");
    let passed_on = Program::ENV_ALLOWED
        .iter()
        .filter_map(|name| Some(((*name).into(), std::env::var(name).ok()?)));
    let mut expected: BTreeMap<String, String> = passed_on.collect();
    for (name, value) in [
        ("GREETING", "a = b"),
        ("SIDESTREAM_TASK_ID", "task-1"),
        ("SIDESTREAM_ATTEMPT", "3"),
        ("SIDESTREAM_RESUME_DATA", r#"{"ok": true}"#),
    ] {
        expected.insert(name.into(), value.into());
    }
    assert!(expected.contains_key("PATH"));
    assert!(!expected.contains_key(&ours()));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn the_allow_list_can_be_changed() {
    let mut program = Program::new("/usr/bin/env", [""; 0]);
    program.env_allowed = vec![ours()];
    let seen = environment_of(&program, &invocation("{}")).await;
    assert!(seen.contains_key(&ours()));
    assert!(!seen.contains_key("PATH"));
}

#[tokio::test]
async fn each_attempt_has_its_own_token_and_resume_data_only_if_resumed() {
    let program = Program::new("env", [""; 0]);
    let invocation = invocation("{}");
    let first = environment_of(&program, &invocation).await;
    let second = environment_of(&program, &invocation).await;
    assert_ne!(first["SIDESTREAM_TOKEN"], second["SIDESTREAM_TOKEN"]);
    assert!(!first.contains_key("SIDESTREAM_RESUME_DATA"));
}

#[tokio::test]
async fn it_runs_in_its_working_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path().canonicalize().expect("it exists");
    let here = format!("\"{}\"", here.display());
    let mut program = shell("pwd -P");
    program.working_directory = Some(directory.path().into());
    assert_eq!(result_of(&program, "{}").await, here);

    // A relative path to the program starts there too.
    std::os::unix::fs::symlink("/bin/sh", directory.path().join("mine")).expect("a link");
    program.command = "./mine".into();
    assert_eq!(result_of(&program, "{}").await, here);

    program.working_directory = Some(directory.path().join("gone"));
    let failure = failure_of(&program, "{}").await;
    assert_eq!(failure.cause, Cause::NotRunnable);
    assert!(
        failure.message.contains("no working directory"),
        "{failure}"
    );
}

/// A terminal's password prompt would stop a background program for ever.
#[tokio::test]
async fn it_has_a_session_of_its_own() {
    let program = python("import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())");
    assert_eq!(result_of(&program, "{}").await, r#""True""#);
}
