//! API keys: made offline or by a server, shown once, and worthless when revoked.

use crate::binary::{Home, ended};

#[test]
fn a_key_is_written_alone_and_lets_its_owner_in() {
    let home = Home::with_config("[tools.t]\ncommand = ['true']\n");
    let made = home.run_to(0, &["keys", "add", "--role", "write", "--name", "laptop"]);
    let key = made.stdout.trim_end();
    assert!(
        key.starts_with("sk_") && made.lines().len() == 1,
        "{made:?}"
    );
    assert!(made.stderr.contains("cannot be shown again"));

    let _server = home.serve(&[]);
    let denied = home.run_to(5, &["list"]);
    assert!(denied.stderr.contains("SIDESTREAM_API_KEY"), "{denied:?}");
    let with = |args: &[&str], key: &str| ended(home.command(args).env("SIDESTREAM_API_KEY", key));
    assert_eq!(with(&["run", "t", "--follow"], key).code, 0);
    assert_eq!(with(&["list"], "sk_wrong_key").code, 5);
    assert_eq!(with(&["keys", "list"], key).code, 5);
    assert_eq!(with(&["watch"], "sk_wrong_key").code, 5);
}

#[test]
fn keys_are_listed_without_their_secrets_and_revoked() {
    let home = Home::new();
    let admin = home.run_to(0, &["keys", "add", "--role", "admin"]);
    let admin = admin.stdout.trim_end();
    let offline = home.run_to(0, &["keys", "list", "--json"]).json();
    assert_eq!(offline.len(), 1);
    assert_eq!(offline[0]["role"], "admin");
    assert!(offline[0].get("key").is_none());

    let _server = home.serve(&[]);
    let with = |args: &[&str]| ended(home.command(args).env("SIDESTREAM_API_KEY", admin));
    let made = with(&[
        "keys",
        "add",
        "--role",
        "read",
        "--namespace",
        "other",
        "--json",
    ])
    .json();
    assert_eq!(
        (&made[0]["namespace"], &made[0]["role"]),
        (&"other".into(), &"read".into())
    );
    let reader = made[0]["key"].as_str().unwrap();
    let listed = ended(home.command(&["list"]).env("SIDESTREAM_API_KEY", reader));
    assert_eq!(listed.code, 0, "{listed:?}");
    let text = with(&["keys", "list"]);
    assert_eq!(text.lines().len(), 3, "{text:?}");
    assert!(!text.stdout.contains("sk_"), "a listing shows no secret");

    let id = made[0]["id"].as_str().unwrap();
    assert_eq!(with(&["keys", "revoke", id]).code, 0);
    assert_eq!(with(&["keys", "revoke", "nosuch"]).code, 4);
    let listed = ended(home.command(&["list"]).env("SIDESTREAM_API_KEY", reader));
    assert_eq!(listed.code, 5, "{listed:?}");
}
