//! A web page must not drive a server behind its visitor's back.

use serde_json::json;
use sidestream::Config;
use sidestream_server::ServerConfig;

use crate::host::{Host, loopback};

/// DNS rebinding: the page's own name points at this machine, and the browser says so in `Host`.
#[tokio::test]
async fn without_a_key_only_names_of_this_machine_are_answered() {
    let config = ServerConfig {
        allowed_hosts: vec!["box.example".into()],
        ..loopback()
    };
    let host = Host::with(config, Config::default()).await;
    let port = host.address.port();
    let call = || host.call("GET", "/v1/tasks");
    for name in [
        "localhost",
        "LocalHost",
        "127.0.0.1",
        "127.1.2.3",
        "[::1]",
        "box.example",
        "BOX.example",
    ] {
        for name in [
            name.to_owned(),
            format!("{name}:{port}"),
            format!("{name}:80"),
        ] {
            call().header("host", name).send().await.expect(200);
        }
    }
    for name in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "box.example.evil",
        "10.0.0.1",
        "",
        "localhost@evil.example",
        "evil.example:127.0.0.1",
    ] {
        call().header("host", name).send().await.expect(403);
        for (method, target) in [
            ("POST", "/v1/tasks"),
            ("GET", "/v1/stream"),
            ("GET", "/metrics"),
            ("GET", "/api/background-tasks"),
        ] {
            let call = host.call(method, target).header("host", name);
            call.json(&json!({"toolName": "echo"}))
                .send()
                .await
                .expect(403);
        }
    }
    call().without_header("host").send().await.expect(403);
    // The name in the request's target goes before the header.
    let absolute = host.call("GET", "http://evil.example/v1/tasks");
    absolute
        .header("host", "localhost")
        .send()
        .await
        .expect(403);
    assert_eq!(
        call().send().await.json()["total"],
        0,
        "nothing was dispatched"
    );
}

#[tokio::test]
async fn a_page_of_another_origin_is_refused_whatever_it_asks() {
    let host = Host::start().await;
    let echo = json!({"toolName": "echo"});
    let here = host.address;
    let port = here.port();
    let foreign = [
        "https://evil.example".to_owned(),
        "null".into(),
        format!("http://localhost:{port}"),
        "http://127.0.0.1".into(),
        "http://127.0.0.1:1".into(),
        "file://".into(),
        String::new(),
    ];
    for origin in foreign {
        for (method, target) in [
            ("POST", "/v1/tasks"),
            ("GET", "/v1/tasks"),
            ("GET", "/v1/stream"),
            ("DELETE", "/v1/tasks/x"),
            ("GET", "/metrics"),
            ("GET", "/openapi.json"),
            ("GET", "/healthz"),
        ] {
            let call = host
                .call(method, target)
                .json(&echo)
                .header("origin", &origin);
            let refused = call.send().await.expect(403);
            assert_eq!(refused.header("access-control-allow-origin"), None);
        }
        let preflight = host.call("OPTIONS", "/v1/tasks").header("origin", &origin);
        let preflight = preflight.header("access-control-request-method", "POST");
        preflight.send().await.expect(403);
    }
    // A page of our own is no stranger.
    let call = host
        .call("GET", "/v1/tasks")
        .header("origin", format!("http://{here}"));
    assert_eq!(
        call.send().await.expect(200).json()["total"],
        0,
        "nothing was dispatched"
    );
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_use_the_server() {
    let app = "https://app.example";
    let config = ServerConfig {
        allowed_origins: vec![app.into()],
        ..loopback()
    };
    let host = Host::with(config, Config::default()).await;
    let preflight = host.call("OPTIONS", "/v1/tasks").header("origin", app);
    let preflight = preflight.header("access-control-request-method", "POST");
    let preflight = preflight.send().await.expect(204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some(app));
    assert!(
        preflight
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    let headers = preflight.header("access-control-allow-headers").unwrap();
    for needed in [
        "authorization",
        "content-type",
        "last-event-id",
        "idempotency-key",
        "prefer",
    ] {
        assert!(headers.contains(needed), "{needed}");
    }
    for (method, target, status) in [("POST", "/v1/tasks", 201), ("GET", "/v1/tasks/x", 404)] {
        let call = host
            .call(method, target)
            .json(&json!({"toolName": "stuck"}));
        let answer = call.header("origin", app).send().await.expect(status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(app));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    for other in [
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil",
    ] {
        let call = host.call("GET", "/v1/tasks").header("origin", other);
        call.send().await.expect(403);
    }
    // Who is no page gets none of it.
    let plain = host.get("/v1/tasks").await.expect(200);
    assert_eq!(plain.header("access-control-allow-origin"), None);
}
