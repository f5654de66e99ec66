//! A browser's login: a cookie that shows a key, to this server's own pages alone.

use serde_json::{Value, json};
use sidestream_server::Role;

use crate::client::{Answer, Call};
use crate::host::Host;
use crate::keys::{add_key, revoke};

/// A request as a page of the server's own has its browser send it.
fn from_own_page(host: &Host, method: &'static str, target: &str) -> Call {
    let origin = format!("http://{}", host.address);
    let call = host.call(method, target);
    let call = call.header("sec-fetch-site", "same-origin");
    match method {
        "GET" | "HEAD" => call,
        _ => call.header("origin", origin),
    }
}

async fn log_in(host: &Host, key: &str) -> Answer {
    let call = from_own_page(host, "POST", "/v1/session");
    call.json(&json!({"key": key})).send().await
}

/// The part of `Set-Cookie` that the browser sends back.
fn cookie(answer: &Answer) -> String {
    let set = answer.header("set-cookie").unwrap();
    let (pair, _) = set.split_once(';').unwrap();
    pair.to_owned()
}

#[tokio::test]
async fn a_login_is_a_cookie_that_no_script_can_read() {
    let host = Host::start().await;
    let key = add_key(&host, Role::Write, "tenant").await;
    let answer = log_in(&host, &key.text).await.expect(200);
    let shown = json!({
        "role": "write", "namespace": "tenant", "keyId": key.kept.id, "loggedIn": true,
    });
    assert_eq!(answer.json(), shown);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let set = answer.header("set-cookie").unwrap().to_owned();
    let attributes: Vec<_> = set.split("; ").skip(1).collect();
    assert_eq!(attributes, ["Path=/", "HttpOnly", "SameSite=Strict"]);

    // Over TLS, which ends at a proxy, the browser keeps it for TLS.
    let call = host
        .call("POST", "/v1/session")
        .json(&json!({"key": key.text}));
    let call = call.header("host", "tasks.example");
    let secure = call.header("origin", "https://tasks.example").send().await;
    let set = secure.expect(200).header("set-cookie").unwrap().to_owned();
    assert!(
        set.ends_with("; Secure"),
        "it would go over the wire openly"
    );

    let cookie = cookie(&answer);
    let session = from_own_page(&host, "GET", "/v1/session").header("cookie", &cookie);
    assert_eq!(session.send().await.expect(200).json(), shown);
    for (method, target, status) in [
        ("GET", "/v1/tasks", 200),
        ("POST", "/v1/tasks", 201),
        ("GET", "/v1/keys", 403),
    ] {
        let call = from_own_page(&host, method, target).header("cookie", &cookie);
        let call = call.json(&json!({"toolName": "stuck"}));
        call.send().await.expect(status);
    }
    let stream = from_own_page(&host, "GET", "/v1/stream").header("cookie", &cookie);
    assert_eq!(stream.open().await.status, 200);
}

#[tokio::test]
async fn a_logout_ends_the_cookie() {
    let host = Host::start().await;
    let key = add_key(&host, Role::Read, "default").await;
    let cookie = cookie(&log_in(&host, &key.text).await.expect(200));
    // Also that of a key which is valid no longer.
    for cookie in [cookie, "sidestream_session=sk_gone_00".to_owned()] {
        let call = from_own_page(&host, "DELETE", "/v1/session").header("cookie", cookie);
        let ended = call.send().await.expect(204);
        let set = ended.header("set-cookie").unwrap();
        assert!(set.starts_with("sidestream_session=;"), "{set}");
        assert!(set.contains("Max-Age=0") && set.contains("Path=/"), "{set}");
    }
}

#[tokio::test]
async fn a_key_that_opens_nothing_logs_nobody_in() {
    let host = Host::start().await;
    let key = add_key(&host, Role::Admin, "default").await.text;
    let (id, _) = key.rsplit_once('_').unwrap();
    for wrong in ["", "x", id, &format!("{key}0"), "sk_0123456789ab_00"] {
        let refused = log_in(&host, wrong).await.expect(401);
        assert_eq!(
            refused.json()["type"],
            "urn:sidestream:problem:unauthorized"
        );
        assert_eq!(refused.header("set-cookie"), None);
    }
    for (body, status) in [
        (json!({}), 400),
        (json!({"key": 1}), 400),
        (json!({"key": key, "namespace": "other"}), 400),
        (json!("key"), 400),
    ] {
        let call = from_own_page(&host, "POST", "/v1/session").json(&body);
        let refused = call.send().await.expect(status);
        assert_eq!(refused.header("set-cookie"), None);
    }
    let form = from_own_page(&host, "POST", "/v1/session");
    let form = form.text("application/x-www-form-urlencoded", format!("key={key}"));
    form.send().await.expect(415);
    host.call("PUT", "/v1/session").send().await.expect(405);
}

#[tokio::test]
async fn a_session_says_who_looks_however_it_is_shown() {
    let host = Host::start().await;
    let everyone = host.get("/v1/session?namespace=n").await.expect(200).json();
    let expected = json!({"role": "admin", "namespace": "n", "loggedIn": false});
    assert_eq!(everyone, expected, "no key is needed yet");
    let rebound = host
        .call("GET", "/v1/session")
        .header("host", "evil.example");
    rebound.send().await.expect(403);
    // A cookie that another server on this machine has set is no hindrance.
    let call = from_own_page(&host, "GET", "/v1/session");
    let call = call.header("cookie", "sidestream_session=sk_0123456789ab_00");
    assert_eq!(call.send().await.expect(200).json()["loggedIn"], false);

    let key = add_key(&host, Role::Read, "default").await;
    host.get("/v1/session").await.expect(401);
    let shown = host.call("GET", "/v1/session").key(&key.text).send().await;
    let expected = json!({
        "role": "read", "namespace": "default", "keyId": key.kept.id, "loggedIn": false,
    });
    assert_eq!(shown.expect(200).json(), expected);
}

/// Who shows a key itself means that one.
#[tokio::test]
async fn a_key_that_is_shown_goes_before_the_cookie() {
    let host = Host::start().await;
    let write = add_key(&host, Role::Write, "default").await.text;
    let read = add_key(&host, Role::Read, "default").await.text;
    let cookie = format!("sidestream_session={write}");
    let role = async |call: Call| {
        let call = call.header("cookie", &cookie);
        let session: Value = call.send().await.expect(200).json();
        session["role"].as_str().unwrap().to_owned()
    };
    let own = |target: &str| from_own_page(&host, "GET", target);
    assert_eq!(role(own("/v1/session").key(&read)).await, "read");
    assert_eq!(
        role(own(&format!("/v1/session?apiKey={read}"))).await,
        "read"
    );
    assert_eq!(role(own("/v1/session")).await, "write");
    let wrong = own("/v1/session").key("sk_0_0").header("cookie", &cookie);
    wrong.send().await.expect(401);
}

/// A browser shows the cookie unasked: `SameSite` does not keep pages of other ports and neighbouring names
/// from making it do so.
#[tokio::test]
async fn a_cookie_counts_only_for_pages_of_this_very_server() {
    let host = Host::start().await;
    let key = add_key(&host, Role::Admin, "default").await.text;
    let cookie = format!("theme=dark; sidestream_session={key}");
    let own = format!("http://{}", host.address);
    let foreign = "https://evil.example";
    // Sec-Fetch-Site, Origin, and what becomes of a read and of a change.
    let cases: [(Option<&str>, Option<&str>, bool, bool); 12] = [
        (Some("same-origin"), Some(&own), true, true),
        (Some("same-origin"), None, true, true),
        (Some("none"), None, true, false),
        (None, None, true, false),
        (None, Some(&own), true, true),
        (Some("cross-site"), None, false, false),
        (Some("same-site"), None, false, false),
        (Some("cross-site"), Some(&own), false, false),
        (Some("same-site"), Some("http://127.0.0.1:1"), false, false),
        (Some("same-origin"), Some(foreign), false, false),
        (None, Some(foreign), false, false),
        (None, Some("null"), false, false),
    ];
    for (site, origin, may_read, may_change) in cases {
        for (method, target, is_allowed) in [
            ("GET", "/v1/tasks", may_read),
            ("HEAD", "/v1/tasks", may_read),
            ("GET", "/v1/stream", may_read),
            ("GET", "/v1/session", may_read),
            ("GET", "/v1/keys", may_read),
            ("GET", "/api/background-tasks", may_read),
            ("POST", "/v1/tasks", may_change),
            ("POST", "/v1/tasks/x/cancel", may_change),
            ("POST", "/v1/tasks/x/resume", may_change),
            ("DELETE", "/v1/tasks/x", may_change),
            ("PUT", "/v1/tasks/x", may_change),
            ("POST", "/v1/keys", may_change),
        ] {
            let mut call = host.call(method, target).header("cookie", &cookie);
            if let Some(site) = site {
                call = call.header("sec-fetch-site", site);
            }
            if let Some(origin) = origin {
                call = call.header("origin", origin);
            }
            let status = call.open().await.status;
            let refused = status == 403;
            let what = format!("{method} {target} {site:?} {origin:?}: {status}");
            assert_eq!(refused, !is_allowed, "{what}");
            assert_ne!(status, 401, "{what}");
        }
    }
    // A login or logout that another page wants for its visitor.
    for method in ["POST", "DELETE"] {
        let call = host.call(method, "/v1/session").header("origin", foreign);
        let refused = call.json(&json!({"key": key})).send().await.expect(403);
        assert_eq!(refused.header("set-cookie"), None);
    }
}

/// What allows a page of another origin to use the server, with a key of its own, does not lend it the
/// visitor's.
#[tokio::test]
async fn an_allowed_origin_is_not_lent_the_cookie() {
    let app = "https://app.example";
    let config = sidestream_server::ServerConfig {
        allowed_origins: vec![app.into()],
        ..crate::host::loopback()
    };
    let host = Host::with(config, sidestream::Config::default()).await;
    let key = add_key(&host, Role::Admin, "default").await.text;
    for site in [None, Some("same-site"), Some("cross-site")] {
        for (method, target) in [("GET", "/v1/tasks"), ("POST", "/v1/tasks/x/cancel")] {
            let call = host.call(method, target).header("origin", app);
            let mut call = call.header("cookie", format!("sidestream_session={key}"));
            if let Some(site) = site {
                call = call.header("sec-fetch-site", site);
            }
            let refused = call.send().await.expect(403);
            let lent = refused.header("access-control-allow-credentials");
            assert_eq!(lent, None);
        }
    }
    // A proxy that puts its own name into Host: the browser knows that the page is the server's.
    let call = host.call("GET", "/v1/tasks").header("origin", app);
    let call = call.header("cookie", format!("sidestream_session={key}"));
    call.header("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(200);
}

/// The server keeps nothing of a session: so it holds on every server of a database, and over restarts.
#[tokio::test]
async fn a_session_holds_on_another_server_and_ends_with_its_key() {
    let first = Host::start().await;
    let key = add_key(&first, Role::Read, "default").await;
    let cookie = cookie(&log_in(&first, &key.text).await.expect(200));
    let config = crate::host::loopback();
    let second = Host::of(config, first.manager.clone()).await;
    for host in [&first, &second] {
        let call = from_own_page(host, "GET", "/v1/session").header("cookie", &cookie);
        call.send().await.expect(200);
    }
    let stream = from_own_page(&second, "GET", "/v1/stream").header("cookie", &cookie);
    let mut stream = stream.open().await;
    revoke(&first, &key).await;
    while stream.block().await.is_some() {}
    let call = from_own_page(&second, "GET", "/v1/session").header("cookie", &cookie);
    let refused = call.send().await.expect(401);
    assert_eq!(
        refused.json()["type"],
        "urn:sidestream:problem:unauthorized"
    );
}
