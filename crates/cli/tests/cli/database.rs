//! Servers that share a PostgreSQL database.

use sidestream_test_postgres::{Cluster, Pooler, PoolerOptions};

use crate::binary::{Home, Running};

const TOOLS: &str = r#"
[tools.count]
command = ["sh", "-c", "for i in 1 2 3; do echo $i; done"]
[tools.ask]
command = ["sh", "-c", "sleep 600"]
"#;

/// The environment of someone whose data is in a database.
fn home(cluster: &Cluster) -> (Home, String) {
    let home = Home::with_config(TOOLS);
    let url = cluster.url(&cluster.database());
    (home, url)
}

#[test]
fn what_one_server_is_told_the_other_shows() {
    let cluster = Cluster::start();
    let (home, url) = home(&cluster);
    let database = ["--database-url", url.as_str()];
    let one = home.serve(&database);
    let other = home.serve(&database);
    let mut watch = home.command(&["watch", "--server", &other.url]);
    let watch = Running::start({
        watch.env_remove("SIDESTREAM_DATA");
        watch
    });
    // It has connected once it shows what has already begun.
    let first = home.run_to(0, &["run", "ask", "--server", &one.url]);
    let first = first.id();
    assert!(watch.out.until("▶ started").is_some());
    let id = home.run_to(0, &["run", "count", "--server", &one.url]);
    assert!(watch.out.until("✔ completed: 3").is_some());

    // The same tasks, wherever one looks.
    let there = home
        .run_to(0, &["get", id.id(), "--json", "--server", &other.url])
        .json();
    let here = home
        .run_to(0, &[&["get", id.id(), "--json"][..], &database].concat())
        .json();
    assert_eq!((&there[0]["status"], &there), (&"completed".into(), &here));
    let story = home.run_to(0, &[&["watch", id.id()][..], &database].concat());
    assert!(story.stdout.contains("✔ completed: 3"), "{story:?}");
    home.run_to(0, &["cancel", first, "--server", &other.url]);
    let cancelled = home.run_to(1, &[&["watch", first][..], &database].concat());
    assert!(cancelled.stdout.contains("cancelled"), "{cancelled:?}");
    assert_eq!(one.stop(), 0);
    assert_eq!(other.stop(), 0);
}

#[test]
fn a_task_of_a_killed_server_is_ended_by_another_when_its_lease_is() {
    let cluster = Cluster::start();
    let (home, url) = home(&cluster);
    let settings = ["--database-url", url.as_str(), "--lease-ms", "1000"];
    let one = home.serve(&settings);
    let id = home.run_to(0, &["run", "ask", "--server", &one.url]);
    let mut story = home.command(&["watch", id.id(), "--database-url", &url]);
    let story = Running::start({
        story.env_remove("SIDESTREAM_DATA");
        story
    });
    assert!(story.out.until("▶ started").is_some());
    let other = home.serve(&settings);
    // A server that starts disturbs nobody.
    let task = &home
        .run_to(0, &["get", id.id(), "--json", "--server", &other.url])
        .json()[0];
    assert_eq!(task["status"], "running");
    one.kill();
    let lost = story.out.until("✖ failed").expect("it is ended");
    assert!(lost.contains("was lost"), "{lost}");
}

/// As the operating guide says: with the two keys it works, and without them the message names them.
#[test]
fn behind_a_proxy_that_pools_by_transaction() {
    let cluster = Cluster::start();
    let options = PoolerOptions {
        server_connections: 2,
        prepared_max: 0,
    };
    let pooler = Pooler::before(cluster.port(), &options);
    let (url, direct) = (pooler.url("postgres"), cluster.url("postgres"));
    let database = ["--database-url", url.as_str()];
    let refused = Home::new().run_to(3, &[&["serve"][..], &database].concat());
    let advice = "store.database_prepared = false";
    assert!(refused.stderr.contains(advice), "{refused:?}");
    let keys = "database_prepared = false\ndatabase_listen_url";
    let home = Home::with_config(&format!("[store]\n{keys} = \"{direct}\"\n{TOOLS}"));
    let one = home.serve(&database);
    let other = home.serve(&database);
    let id = home.run_to(0, &["run", "count", "--server", &one.url]);
    let story = home.run_to(0, &["watch", id.id(), "--server", &other.url]);
    assert!(story.stdout.contains("✔ completed: 3"), "{story:?}");
    let listed = home.run_to(0, &[&["list", "--json"][..], &database].concat());
    assert_eq!(listed.json()[0]["status"], "completed", "{listed:?}");
    let findings = home.run_to(1, &[&["doctor", "--json"][..], &database].concat());
    for finding in findings.json() {
        // The clusters of tests do not wait for the disk.
        let is_good = finding["verdict"] == "good" || finding["topic"] == "durability";
        assert!(is_good, "{finding}");
    }
    assert_eq!((one.stop(), other.stop()), (0, 0));
}

#[test]
fn a_database_is_examined_and_its_log_named_anew() {
    let cluster = Cluster::start();
    let (home, url) = home(&cluster);
    let database = ["--database-url", url.as_str()];
    let name = url
        .rsplit(['/', '?'])
        .nth(1)
        .expect("it ends with the database and a query");
    let empty = home.run_to(3, &[&["doctor"][..], &database].concat());
    assert!(
        empty.stderr.contains("has no tables of Sidestream"),
        "{empty:?}"
    );
    home.run_to(0, &[&["run", "count"][..], &database].concat());

    let findings = home
        .run_to(1, &[&["doctor", "--json"][..], &database].concat())
        .json();
    let bad: Vec<_> = findings
        .iter()
        .filter(|it| it["verdict"] != "good")
        .collect();
    // The clusters of tests do not wait for the disk.
    assert_eq!(bad.len(), 1, "{findings:?}");
    assert_eq!(bad[0]["topic"], "durability");
    cluster.sql(name, "DROP INDEX sidestream.tasks_in_line");
    let findings = home.run_to(1, &[&["doctor"][..], &database].concat());
    assert!(
        findings.stdout.contains("tasks_in_line missing"),
        "{findings:?}"
    );

    let restored = home
        .run_to(0, &[&["restore", "--json"][..], &database].concat())
        .json();
    let (epoch, seq) = (&restored[0]["epoch"], &restored[0]["seq"]);
    assert_eq!(
        cluster.sql(name, "SELECT epoch FROM sidestream.head"),
        epoch.as_str().unwrap()
    );
    assert!(seq.as_u64().unwrap() > 0);
    let copied = home.run_to(2, &[&["backup", "x.db"][..], &database].concat());
    assert!(copied.stderr.contains("pg_dump"), "{copied:?}");
}

#[test]
fn a_database_that_cannot_be_used_is_named_and_its_password_is_not() {
    let home = Home::new();
    let url = "postgresql://me:secret@127.0.0.1:1/nowhere";
    let refused = home.run_to(3, &["list", "--database-url", url]);
    assert!(refused.stderr.contains("127.0.0.1"), "{refused:?}");
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
    let refused = home.run_to(3, &["list", "--database-url", "mysql://me:secret@host/db"]);
    assert!(!refused.stderr.contains("secret"), "{refused:?}");
    let shown = home.run_to(0, &["config", "check", "--database-url", url]);
    assert!(
        shown
            .stdout
            .contains("postgresql://me:***@127.0.0.1:1/nowhere"),
        "{shown:?}"
    );
    let words = "host=h user=u password='a b' dbname=d";
    let shown = home.run_to(0, &["config", "check", "--database-url", words]);
    assert!(
        shown.stdout.contains("host=h user=u password=*** dbname=d"),
        "{shown:?}"
    );
}
