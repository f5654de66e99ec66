//! The clusters that other tests rely on do what they are asked.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sidestream_test_postgres::{Cluster, Shared, Stop};

#[test]
fn what_was_committed_outlives_a_crash_of_the_server() {
    let mut cluster = Cluster::start();
    let database = cluster.database();
    cluster.sql(&database, "CREATE TABLE kept AS SELECT 42 AS answer");
    for how in [Stop::Immediate, Stop::Fast] {
        cluster.stop(how);
        cluster.start_again();
        assert_eq!(cluster.sql(&database, "SELECT answer FROM kept"), "42");
    }
    assert!(cluster.log().contains("automatic recovery in progress"));
}

#[test]
fn two_clusters_do_not_meet() {
    let (one, two) = (Cluster::start(), Cluster::start());
    one.sql("postgres", "CREATE TABLE here ()");
    let found = two.sql("postgres", "SELECT to_regclass('here') IS NULL");
    assert_eq!(found, "t");
}

/// A test that is killed leaves nothing behind.
#[test]
fn a_cluster_ends_with_its_process() {
    let mut process = Process::start("a cluster", None);
    assert!(TcpStream::connect(process.address()).is_ok(), "it runs");
    process.kill();
    process.wait_until_all_is_gone();
}

/// Nor does a run that is killed; without nextest it is the process.
#[test]
fn what_a_run_shares_ends_with_it() {
    let mut process = Process::start("what is shared", None);
    assert!(TcpStream::connect(process.address()).is_ok(), "it runs");
    process.kill();
    process.wait_until_all_is_gone();
}

/// The processes of a run find the same cluster, also when the one that started it was killed.
#[test]
fn a_run_shares_one_cluster() {
    // This process is their runner.
    let run = format!("test-{}", std::process::id());
    let start = || Process::start("what is shared", Some(&run));
    let (mut one, two) = (start(), start());
    assert_eq!(one.address(), two.address());
    one.kill();
    assert!(TcpStream::connect(one.address()).is_ok(), "it still runs");
    assert_eq!(start().address(), one.address());
}

const PART: &str = "SIDESTREAM_TEST_PART";

/// A process that starts a cluster; killed when this is dropped.
struct Process {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Process {
    fn start(part: &str, run: Option<&str>) -> Self {
        let this = std::env::current_exe().expect("the test has a file");
        let mut command = Command::new(this);
        command
            .args(["process", "--exact", "--nocapture", "--ignored"])
            .env(PART, part)
            .env_remove("NEXTEST_RUN_ID")
            .envs(run.map(|run| ("NEXTEST_RUN_ID", run)))
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut said = said.lines().map_while(Result::ok);
        let place = said.find_map(|line| {
            let (port, folder) = line.strip_prefix("at ")?.split_once(' ')?;
            Some((port.parse().ok()?, PathBuf::from(folder)))
        });
        let (port, folder) = place.expect("it says where");
        Self {
            child,
            port,
            folder,
        }
    }

    fn address(&self) -> (Ipv4Addr, u16) {
        (Ipv4Addr::LOCALHOST, self.port)
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    fn wait_until_all_is_gone(&self) {
        while TcpStream::connect(self.address()).is_ok() || self.folder.exists() {
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test: what the tests above start and kill.
#[test]
#[ignore = "a process for another test to kill"]
#[allow(
    clippy::print_stdout,
    reason = "it is heard by the test that started it"
)]
fn process() {
    match std::env::var(PART).as_deref() {
        Ok("a cluster") => {
            let cluster = Cluster::start();
            println!("at {} {}", cluster.port(), cluster.folder().display());
            std::thread::park();
        }
        Ok(_) => {
            let shared = Shared::of_this_run();
            println!("at {} {}", shared.port(), shared.folder().display());
            std::thread::park();
        }
        Err(_) => {}
    }
}
