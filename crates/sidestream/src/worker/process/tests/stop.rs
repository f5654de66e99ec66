//! Stopping: cancellation, dropping, grace.

use super::*;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(200);

/// Runs until the first output, then cancels. Gives the failure.
async fn cancelled(program: &Program) -> Failure {
    let (kept, cancel) = (Kept::default(), CancellationToken::new());
    let cancelling = async {
        kept.arrived.notified().await;
        cancel.cancel();
    };
    let invocation = invocation("{}");
    let running = run(program, &invocation, &kept, &cancel);
    let (result, ()) = within_bound(async { tokio::join!(running, cancelling) }).await;
    result.expect_err("it is stopped")
}

/// Runs until the first output, then drops the future.
async fn dropped(program: &Program) {
    let (kept, never) = (Kept::default(), CancellationToken::new());
    let invocation = invocation("{}");
    let running = run(program, &invocation, &kept, &never);
    within_bound(async {
        tokio::select! {
            _ = running => panic!("it ended by itself"),
            () = kept.arrived.notified() => {}
        }
    })
    .await;
}

/// Starts a child of the shell that waits, then says that all is up.
const WITH_CHILD: &str = "sh -c 'echo child >&3; exec sleep 60' & echo up; wait";

#[tokio::test]
async fn cancelling_ends_the_program_and_its_children() {
    let mut witness = Witness::new();
    let mut program = witness.shell(WITH_CHILD);
    // Who does not ignore SIGTERM is gone long before.
    program.stop_grace = LONG;
    let failure = cancelled(&program).await;
    assert_eq!(failure.cause, Cause::Cancelled);
    assert!(!failure.is_retryable());
    witness.end().await;
}

#[tokio::test]
async fn when_it_returns_the_processes_are_gone() {
    let program = shell("echo $$; exec sleep 60");
    let (kept, cancel) = (Kept::default(), CancellationToken::new());
    let cancelling = async {
        kept.arrived.notified().await;
        cancel.cancel();
    };
    let invocation = invocation("{}");
    let running = run(&program, &invocation, &kept, &cancel);
    let _ = within_bound(async { tokio::join!(running, cancelling) }).await;
    let id = kept.texts().remove(0);
    assert_eq!(state(&id), None);
}

#[tokio::test]
async fn a_program_may_use_its_grace() {
    let mut witness = Witness::new();
    // More than a pipe holds: nobody wants it any more, but it must not block the program.
    let mut program = witness.python(
        "flood = lambda: os.write(1, b'x' * 1_000_000)
on_term(flood, lambda: tell('tidied'), lambda: os._exit(0))
up_and_wait()",
    );
    program.stop_grace = LONG;
    assert_eq!(cancelled(&program).await.cause, Cause::Cancelled);
    assert_eq!(witness.end().await, ["tidied"]);
}

#[tokio::test]
async fn a_child_may_use_the_grace_though_its_parent_is_gone() {
    let mut witness = Witness::new();
    let mut program = witness.python(
        "if os.fork(): signal.pause()
on_term(lambda: tell('tidied'), lambda: os._exit(0))
up_and_wait()",
    );
    program.stop_grace = LONG;
    cancelled(&program).await;
    assert_eq!(witness.end().await, ["tidied"]);
}

/// Closed pipes say that nothing more will come, not that the program has ended.
#[tokio::test]
async fn a_program_without_output_may_use_its_grace() {
    let mut witness = Witness::new();
    let mut program = witness.python(
        "import time
on_term(lambda: time.sleep(0.3), lambda: tell('tidied'), lambda: os._exit(0))
os.close(1)
os.close(2)
tell('up')
while True: signal.pause()",
    );
    program.stop_grace = LONG;
    let (kept, cancel) = (Kept::default(), CancellationToken::new());
    let invocation = invocation("{}");
    let cancelling = async {
        assert_eq!(witness.line().await, "up");
        cancel.cancel();
    };
    let running = run(&program, &invocation, &kept, &cancel);
    let (_, ()) = within_bound(async { tokio::join!(running, cancelling) }).await;
    assert_eq!(witness.end().await, ["tidied"]);
}

#[tokio::test]
async fn who_ignores_sigterm_is_killed_after_the_grace() {
    let mut witness = Witness::new();
    let mut program = witness.shell("trap '' TERM; echo up; sleep 60; sleep 60");
    program.stop_grace = SHORT;
    let started = tokio::time::Instant::now();
    assert_eq!(cancelled(&program).await.cause, Cause::Cancelled);
    assert!(started.elapsed() >= SHORT, "it had no grace");
    witness.end().await;
}

#[tokio::test]
async fn a_stopped_program_can_be_ended() {
    let mut witness = Witness::new();
    let mut program = witness.shell("echo up; kill -STOP $$; sleep 60");
    program.stop_grace = LONG;
    cancelled(&program).await;
    witness.end().await;
}

#[tokio::test]
async fn a_cancelled_token_starts_nothing() {
    // It would be told that there is no such program.
    let program = Program::new("no-such-program-7531", [""; 0]);
    let (kept, cancel) = (Kept::default(), CancellationToken::new());
    cancel.cancel();
    let result = within_bound(run(&program, &invocation("{}"), &kept, &cancel)).await;
    assert_eq!(result.expect_err("it is stopped").cause, Cause::Cancelled);
}

/// Takes nothing, ever.
struct Stuck(Notify);

impl Sink for Stuck {
    async fn output(&self, _: Json) -> Result<(), Closed> {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_stuck_sink_does_not_keep_it_from_stopping() {
    let mut witness = Witness::new();
    let program = witness.shell("while :; do echo more; done");
    let (stuck, cancel) = (Stuck(Notify::new()), CancellationToken::new());
    let cancelling = async {
        stuck.0.notified().await;
        cancel.cancel();
    };
    let invocation = invocation("{}");
    let running = run(&program, &invocation, &stuck, &cancel);
    let (result, ()) = within_bound(async { tokio::join!(running, cancelling) }).await;
    assert_eq!(result.expect_err("it is stopped").cause, Cause::Cancelled);
    witness.end().await;
}

#[tokio::test]
async fn dropping_ends_the_program_and_its_children() {
    let mut witness = Witness::new();
    let mut program = witness.shell(WITH_CHILD);
    program.stop_grace = LONG;
    dropped(&program).await;
    witness.end().await;
}

#[tokio::test]
async fn dropping_kills_who_ignores_sigterm_after_the_grace() {
    let mut witness = Witness::new();
    let mut program = witness.python("on_term(lambda: tell('told')); up_and_wait()");
    program.stop_grace = SHORT;
    dropped(&program).await;
    assert_eq!(witness.end().await, ["told"]);
}

/// Nobody is left then who could wait for the grace.
#[test]
fn the_end_of_the_runtime_kills_at_once() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut witness = Witness::new();
    let mut program = witness.shell("trap '' TERM; echo up; sleep 60; sleep 60");
    program.stop_grace = LONG;
    runtime.block_on(dropped(&program));
    runtime.shutdown_background();
    let another = tokio::runtime::Runtime::new().expect("a runtime");
    another.block_on(witness.end());
}

#[cfg(target_os = "linux")]
mod on_linux {
    use super::*;

    /// A session of its own puts it out of reach of a signal to the group; the token finds it.
    #[tokio::test]
    async fn who_has_left_the_group_is_told_to_end() {
        let mut witness = Witness::new();
        let mut program = witness.python(
            "if os.fork(): signal.pause()
os.setsid()
on_term(lambda: tell('told'), lambda: os._exit(0))
up_and_wait()",
        );
        program.stop_grace = LONG;
        cancelled(&program).await;
        assert_eq!(witness.end().await, ["told"]);
    }

    #[tokio::test]
    async fn who_has_left_the_group_and_ignores_sigterm_is_killed() {
        let mut witness = Witness::new();
        let mut program = witness.python(
            "script = 'trap \"\" TERM; echo up; sleep 60; sleep 60'
outside('sh', '-c', script, stdout=None).wait()",
        );
        program.stop_grace = SHORT;
        cancelled(&program).await;
        witness.end().await;
    }

    /// It holds no output of ours, and on dropping nobody waits: only its environment tells.
    #[tokio::test]
    async fn dropping_ends_who_has_left_the_group() {
        let mut witness = Witness::new();
        let mut program = witness.python(
            "outside('sh', '-c', 'trap \"\" TERM; echo up >&3; sleep 60; sleep 60')
up_and_wait()",
        );
        program.stop_grace = SHORT;
        dropped(&program).await;
        witness.end().await;
    }

    /// To some programs a second SIGTERM means: now, without tidying.
    #[tokio::test]
    async fn nobody_is_told_twice() {
        let mut witness = Witness::new();
        let mut program = witness.python("on_term(lambda: tell('told')); up_and_wait()");
        program.stop_grace = SHORT;
        cancelled(&program).await;
        assert_eq!(witness.end().await, ["told"]);
    }
}
