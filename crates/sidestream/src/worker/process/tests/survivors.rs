//! What becomes of programs when we ourselves are killed, or a thread of ours ends.

use super::*;

/// A worker spawns it.
#[test]
fn the_future_can_be_sent_to_another_thread() {
    fn is_send<T: Send>(_: T) {}
    let (kept, never) = (Kept::default(), CancellationToken::new());
    is_send(run(&shell("true"), &invocation("{}"), &kept, &never));
}

/// A program must not be tied to the thread that happened to start it: a runtime's thread may end.
#[test]
fn a_program_outlives_the_thread_that_started_it() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let go = directory.path().join("go");
    named_pipe(&go);
    let program = shell(&format!(
        "echo up; read -r line < '{}'; echo $line",
        go.display()
    ));
    let (invocation, never) = (invocation("{}"), CancellationToken::new());
    let kept = Kept::default();
    let mut running = Box::pin(run(&program, &invocation, &kept, &never));

    std::thread::scope(|scope| {
        let start = async {
            tokio::select! {
                _ = &mut running => panic!("it waits for us"),
                () = kept.arrived.notified() => {}
            }
        };
        scope.spawn(|| runtime.block_on(within_bound(start)));
    });
    answer(&go, "still here\n");
    let result = runtime.block_on(within_bound(running));
    assert_eq!(result, Ok(Some(Json::string("up\nstill here"))));
}

#[cfg(target_os = "linux")]
mod on_linux {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Names the script that the process below is to run.
    const SCRIPT: &str = "SIDESTREAM_TEST_SCRIPT";
    const INSTALLATION: &str = "SIDESTREAM_TEST_INSTALLATION";

    /// Not a test: the process that the tests below start, to kill it.
    #[test]
    #[ignore = "started by other tests"]
    fn somebody_who_runs_a_program() {
        let Ok(script) = std::env::var(SCRIPT) else {
            return;
        };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let invocation = Invocation {
            installation: std::env::var(INSTALLATION).expect("it is set"),
            ..invocation("{}")
        };
        let (kept, never) = (Kept::default(), CancellationToken::new());
        let _ = runtime.block_on(run(&shell(&script), &invocation, &kept, &never));
    }

    /// This program, told to run only one of the tests here.
    fn this_test(name: &str) -> Command {
        let name = format!("{}::{name}", module_path!());
        let (_, name) = name.split_once("::").expect("a crate's name in front");
        let mut command = Command::new(std::env::current_exe().expect("we are a program"));
        command
            .args(["--ignored", "--exact", name])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn somebody_who_runs(script: &Program, installation: &str) -> Child {
        this_test("somebody_who_runs_a_program")
            .env(SCRIPT, &script.arguments[1])
            .env(INSTALLATION, installation)
            .spawn()
            .expect("it starts")
    }

    /// SIGKILL leaves no time to tidy up: the kernel must do it.
    #[tokio::test]
    async fn if_we_are_killed_the_program_dies_with_us() {
        let mut witness = Witness::new();
        let script = witness.shell("echo up >&3; exec sleep 60");
        let mut parent = somebody_who_runs(&script, "test");
        assert_eq!(witness.line().await, "up");
        parent.kill().expect("it is killed");
        parent.wait().expect("it is collected");
        assert!(witness.end().await.is_empty());
    }

    #[tokio::test]
    async fn what_a_killed_manager_left_behind_is_found_at_the_next_start() {
        let mut witness = Witness::new();
        let script = "setsid sh -c 'trap \"\" TERM HUP; echo up >&3; sleep 60; sleep 60' & wait";
        let script = witness.shell(script);
        let installation = invocation("{}").installation;
        let mut parent = somebody_who_runs(&script, &installation);
        assert_eq!(witness.line().await, "up");
        parent.kill().expect("it is killed");
        parent.wait().expect("it is collected");

        // Another installation's, though its name begins the same.
        assert_eq!(kill_leftovers(&installation[..installation.len() - 1]), 0);
        // The shell and its sleep; the sleep may just not have begun.
        let killed = kill_leftovers(&installation);
        assert!((1..=3).contains(&killed), "{killed}");
        assert!(witness.end().await.is_empty());
        assert_eq!(kill_leftovers(&installation), 0);
    }

    /// Two workers of one database may share a machine.
    #[tokio::test]
    async fn a_neighbours_programs_are_no_leftovers() {
        let mut witness = Witness::new();
        let script = witness.shell("echo up >&3; exec sleep 60");
        let installation = invocation("{}").installation;
        let mut neighbour = somebody_who_runs(&script, &installation);
        assert_eq!(witness.line().await, "up");
        assert_eq!(kill_leftovers(&installation), 0);
        neighbour.kill().expect("it is killed");
        neighbour.wait().expect("it is collected");
        assert!(witness.end().await.is_empty());
    }

    /// Not a test: the process that the test below starts.
    #[test]
    #[ignore = "started by another test"]
    fn somebody_who_kills_leftovers() {
        if let Ok(installation) = std::env::var(INSTALLATION) {
            assert_eq!(kill_leftovers(&installation), 0);
        }
    }

    /// A program may start a manager of its own installation: it carries the mark it looks for.
    #[test]
    fn nobody_kills_itself_as_a_leftover() {
        let installation = invocation("{}").installation;
        let token = marked::token(&installation, uuid::Uuid::from_u128(7));
        let status = this_test("somebody_who_kills_leftovers")
            .env(INSTALLATION, &installation)
            .env(marked::MARK, token)
            .status();
        assert!(status.expect("it starts").success());
    }
}
