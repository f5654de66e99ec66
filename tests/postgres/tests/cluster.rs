//! The clusters that other tests rely on do what they are asked.

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
