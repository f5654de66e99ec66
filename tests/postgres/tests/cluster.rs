//! The clusters that other tests rely on do what they are asked.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sidestream_test_postgres::{Cluster, Stop};

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

const KILLED: &str = "SIDESTREAM_TEST_KILLED";

/// A test that is killed leaves nothing behind.
#[test]
fn a_cluster_ends_with_its_process() {
    let this = std::env::current_exe().expect("the test has a file");
    let mut child = Command::new(this)
        .args(["process", "--exact", "--nocapture", "--ignored"])
        .env(KILLED, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let said = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut said = said.lines().map_while(Result::ok);
    let place = said.find_map(|line| {
        let (port, folder) = line.strip_prefix("at ")?.split_once(' ')?;
        Some((port.parse::<u16>().ok()?, PathBuf::from(folder)))
    });
    let (port, folder) = place.expect("it says where");
    let address = (Ipv4Addr::LOCALHOST, port);
    assert!(TcpStream::connect(address).is_ok(), "it runs");
    child.kill().expect("it is killed");
    child.wait().expect("it has ended");
    while TcpStream::connect(address).is_ok() || folder.exists() {
        std::thread::yield_now();
    }
}

/// Not a test: what the test above starts and kills.
#[test]
#[ignore = "a process for another test to kill"]
#[allow(
    clippy::print_stdout,
    reason = "it is heard by the test that started it"
)]
fn process() {
    if std::env::var_os(KILLED).is_some() {
        let cluster = Cluster::start();
        println!("at {} {}", cluster.port(), cluster.folder().display());
        std::thread::park();
    }
}
