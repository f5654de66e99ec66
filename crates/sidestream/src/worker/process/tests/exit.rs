//! How a program ends, or does not begin.

use super::*;

#[tokio::test]
async fn a_failure_names_the_program_the_exit_code_and_what_it_said() {
    let failure = failure_of(&shell("echo out; echo 'no such row' >&2; exit 3"), "{}").await;
    assert_eq!(failure.cause, Cause::Exit { code: 3 });
    assert!(failure.is_retryable());
    assert_eq!(
        failure.to_string(),
        "`/bin/sh` ended with exit code 3: no such row"
    );
}

#[tokio::test]
async fn a_failure_quotes_only_the_end_of_stderr() {
    let script = "import sys; sys.stderr.write('ü' * 100_000 + 'the end\\n'); sys.exit(1)";
    let message = failure_of(&python(script), "{}").await.to_string();
    let quoted = message
        .strip_prefix("`python3` ended with exit code 1: ")
        .expect("its name");
    assert!(
        quoted.starts_with("…ü") && quoted.ends_with("üthe end"),
        "{quoted}"
    );
    assert!((2000..=2048).contains(&quoted.len()), "{}", quoted.len());
}

#[tokio::test]
async fn a_failure_names_the_signal() {
    let failure = failure_of(&shell("kill -KILL $$"), "{}").await;
    assert_eq!(failure.cause, Cause::Signal { number: 9 });
    assert_eq!(failure.to_string(), "`/bin/sh` was killed by SIGKILL");
    assert!(failure.is_retryable());
    assert!(
        failure_of(&shell("kill -ABRT $$"), "{}")
            .await
            .to_string()
            .contains("SIGABRT")
    );
}

#[tokio::test]
async fn a_permanent_exit_code_is_not_retryable() {
    assert!(!failure_of(&shell("exit 65"), "{}").await.is_retryable());
    assert!(failure_of(&shell("exit 75"), "{}").await.is_retryable());
}

#[tokio::test]
async fn a_program_that_cannot_be_run_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    std::fs::write(&text, "not a program").expect("it is written");
    for (command, problem) in [
        ("no-such-program-7531", "no such program"),
        ("/no/such/program", "no such program"),
        ("", "no such program"),
        (text.to_str().expect("UTF-8"), "ermission denied"),
        (
            directory.path().to_str().expect("UTF-8"),
            "ermission denied",
        ),
    ] {
        let failure = failure_of(&Program::new(command, [""; 0]), "{}").await;
        assert_eq!(failure.cause, Cause::NotRunnable, "{failure}");
        assert!(!failure.is_retryable());
        let named = failure
            .message
            .starts_with(&format!("`{command}` cannot be run: "));
        assert!(named && failure.message.contains(problem), "{failure}");
    }
}

#[tokio::test]
async fn resume_data_that_no_variable_can_hold_is_refused() {
    let invocation = Invocation {
        resume_data: Some(Json::string(&"x".repeat(4 << 20))),
        ..invocation("{}")
    };
    let (kept, never) = (Kept::default(), CancellationToken::new());
    let result = within_bound(run(&shell("true"), &invocation, &kept, &never)).await;
    let failure = result.expect_err("it is refused");
    assert_eq!(failure.cause, Cause::Arguments);
    assert!(
        failure.message.contains("resume data is too long"),
        "{failure}"
    );
}

/// A background process that inherited stdout must not keep the attempt from ending.
#[tokio::test]
async fn who_lingers_in_the_group_is_killed_and_what_it_wrote_is_kept() {
    let mut witness = Witness::new();
    let program = witness.python(
        "here, there = os.pipe()
script = f'echo from child; echo >&{there}; exec sleep 60'
subprocess.Popen(['/bin/sh', '-c', script], pass_fds=[3, there])
os.read(here, 1)
print('from parent')",
    );
    let (result, outputs) = ended(&program, "{}").await;
    assert_eq!(result, Ok(Some(Json::string("from child\nfrom parent"))));
    assert_eq!(outputs, [r#""from child""#, r#""from parent""#]);
    assert!(witness.end().await.is_empty());
}

/// Takes a while for each output.
#[derive(Default)]
struct Slow(Kept);

impl Sink for Slow {
    async fn output(&self, output: Json) -> Result<(), Closed> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.0.output(output).await
    }
}

/// With a slow sink there is always something left to be read from a process that writes on and on.
async fn is_not_read_for_ever(start: &str) {
    let mut witness = Witness::new();
    let program = witness.python(&format!("{start}; print('ok')"));
    let (slow, never) = (Slow::default(), CancellationToken::new());
    let result = within_bound(run(&program, &invocation("{}"), &slow, &never)).await;
    assert!(result.is_ok(), "{result:?}");
    witness.end().await;
}

#[tokio::test]
async fn who_writes_on_in_the_group_is_not_read_for_ever() {
    // Without a mark, so that it is the signal to the group that ends it.
    is_not_read_for_ever("subprocess.Popen(['yes', 'x' * 8000], pass_fds=[3], env={})").await;
}

/// Even when nothing can reach it: here a process that has left the group *and* lost its mark.
#[tokio::test]
async fn who_lingers_out_of_reach_does_not_keep_the_attempt() {
    let witness = Witness::new();
    let program = witness.python("print(outside('sleep', '60', stdout=None, env={}).pid)");
    assert!(
        was_alive(&result_of(&program, "{}").await),
        "it was not out of reach"
    );
}

#[tokio::test]
async fn the_rest_of_the_group_is_killed_even_if_it_holds_no_output() {
    let mut witness = Witness::new();
    let program = witness.shell("sleep 60 >/dev/null 2>&1 & echo 1");
    assert_eq!(result_of(&program, "{}").await, "1");
    assert!(witness.end().await.is_empty());
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;

    #[tokio::test]
    async fn who_lingers_outside_of_the_group_is_killed() {
        let mut witness = Witness::new();
        let program = witness.python("print(outside('sleep', '60', stdout=None).pid)");
        result_of(&program, "{}").await;
        witness.end().await;
    }

    #[tokio::test]
    async fn who_writes_on_outside_of_the_group_is_not_read_for_ever() {
        is_not_read_for_ever("outside('yes', 'x' * 8000, stdout=None)").await;
    }

    /// A retry must not meet the remains of the attempt before it.
    #[tokio::test]
    async fn after_a_failure_those_who_left_the_group_are_killed() {
        let mut witness = Witness::new();
        let program = witness.python("outside('sleep', '60'); sys.exit(1)");
        let failure = failure_of(&program, "{}").await;
        assert_eq!(failure.cause, Cause::Exit { code: 1 });
        witness.end().await;
    }

    /// A build server, say, that the program has left behind on purpose.
    #[tokio::test]
    async fn after_a_success_those_who_left_the_group_for_good_stay() {
        let witness = Witness::new();
        let program = witness.python("print(outside('sleep', '60').pid)");
        assert!(was_alive(&result_of(&program, "{}").await));
    }

    #[tokio::test]
    async fn a_slow_sink_does_not_make_them_look_as_if_they_held_the_output() {
        let witness = Witness::new();
        let program = witness.python("print(200 * 'x\\n', outside('sleep', '60').pid)");
        let (slow, never) = (Slow::default(), CancellationToken::new());
        let result = within_bound(run(&program, &invocation("{}"), &slow, &never)).await;
        assert_eq!(slow.0.texts().len(), 201);
        let id = result.expect("it succeeds").expect("its id");
        assert!(was_alive(id.as_str()));
    }
}
