//! API keys: who may do what, where (E2), and what happens to one that is revoked.

use std::sync::Arc;

use serde_json::{Value, json};
use sidestream::chance::SystemChance;
use sidestream::store::Request;
use sidestream::{MemoryStore, Namespace, TaskManager};
use sidestream_server::{BindError, NewKey, Role, Server, ServerConfig};

use crate::client::{PATIENCE, call};
use crate::host::{Host, loopback};

pub(crate) async fn add_key(host: &Host, role: Role, namespace: &str) -> NewKey {
    let namespace = Namespace::new(namespace).unwrap();
    let now = host.store.now();
    let key = NewKey::make("test", role, namespace, now, &SystemChance).unwrap();
    let request = Request::AddKey(key.kept.clone());
    host.manager().writer().submit(request).await.unwrap();
    // The server looks twice a second.
    while host
        .call("GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .status
        != 200
    {}
    key
}

pub(crate) async fn revoke(host: &Host, key: &NewKey) {
    let id = key.kept.id.clone();
    let request = Request::RevokeKey { id };
    host.manager().writer().submit(request).await.unwrap();
}

#[tokio::test]
async fn each_role_may_do_what_it_says_and_no_more() {
    use Role::{Admin, Read, Worker, Write};
    let host = Host::start().await;
    let mut keys = Vec::new();
    for role in Role::ALL {
        keys.push((role, add_key(&host, role, "default").await.text));
    }
    let echo = json!({"toolName": "echo"});
    let record = json!({"subagentType": "s", "description": "d"});
    let claim = json!({"worker": "w", "tools": ["afar"]});
    let report = json!({"attempt": 1});
    let everyone = &[Read, Write, Worker, Admin][..];
    let writers = &[Write, Admin][..];
    let none = Value::Null;
    for (method, target, body, allowed) in [
        ("GET", "/v1/tasks", &none, everyone),
        ("GET", "/v1/tasks/x", &none, everyone),
        ("GET", "/v1/task?id=x", &none, everyone),
        ("GET", "/v1/tasks/x/stream", &none, everyone),
        ("GET", "/v1/threads/t/completions", &none, everyone),
        ("GET", "/api/background-tasks", &none, everyone),
        ("GET", "/api/background-tasks/x", &none, everyone),
        ("POST", "/v1/tasks", &echo, writers),
        ("POST", "/v1/tasks/x/cancel", &none, writers),
        (
            "POST",
            "/v1/tasks/x/resume",
            &json!({"resumeData": 1}),
            writers,
        ),
        ("POST", "/v1/tasks/x/retry", &none, writers),
        ("DELETE", "/v1/tasks/x", &none, writers),
        ("DELETE", "/v1/task?id=x", &none, writers),
        (
            "POST",
            "/v1/threads/t/completions/ack",
            &json!({"seq": 0}),
            writers,
        ),
        ("PUT", "/v1/tasks/y", &record, &[Write, Worker, Admin]),
        ("POST", "/v1/claims", &claim, &[Worker, Admin]),
        ("POST", "/v1/tasks/x/renew", &report, &[Worker, Admin]),
        ("POST", "/v1/tasks/x/output", &report, &[Worker, Admin]),
        ("POST", "/v1/tasks/x/complete", &report, &[Worker, Admin]),
        ("POST", "/v1/tasks/x/fail", &report, &[Worker, Admin]),
        ("POST", "/v1/task/suspend?id=x", &report, &[Worker, Admin]),
        ("GET", "/v1/keys", &none, &[Admin]),
        ("POST", "/v1/keys", &json!({"role": "read"}), &[Admin]),
        ("DELETE", "/v1/keys/x", &none, &[Admin]),
        ("GET", "/metrics", &none, &[Admin]),
    ] {
        for (role, key) in &keys {
            let mut call = host.call(method, target).key(key);
            if !body.is_null() {
                call = call.json(body);
            }
            let status = call.send().await.status;
            let is_allowed = allowed.contains(role);
            assert_eq!(
                status != 403,
                is_allowed,
                "{role}: {method} {target}: {status}"
            );
            assert_ne!(status, 401);
        }
        let refused = host.call(method, target).send().await.expect(401);
        assert_eq!(
            refused.header("www-authenticate"),
            Some("Bearer realm=\"sidestream\"")
        );
    }
    for (_, key) in &keys {
        let stream = host.call("GET", "/v1/stream").key(key).open().await;
        assert_eq!(stream.status, 200);
    }
    for open in ["/", "/healthz", "/readyz", "/openapi.json"] {
        host.get(open).await.expect(200);
    }
}

#[tokio::test]
async fn a_key_is_shown_in_one_of_two_ways() {
    let host = Host::start().await;
    let key = add_key(&host, Role::Write, "default").await.text;
    host.get(format!("/v1/tasks?apiKey={key}"))
        .await
        .expect(200);
    let lower = host
        .call("GET", "/v1/tasks")
        .header("authorization", format!("bearer  {key}"));
    lower.send().await.expect(200);
    let (id, _) = key.rsplit_once('_').unwrap();
    let nobody = "sk_0123456789ab_00".to_owned();
    for wrong in [
        &format!("{key}0"),
        id,
        &format!("{id}_"),
        "",
        "sk_",
        &nobody,
        &key[3..],
    ] {
        host.call("GET", "/v1/tasks")
            .key(wrong)
            .send()
            .await
            .expect(401);
    }
    for wrong in [key.clone(), format!("Basic {key}"), "Bearer".into()] {
        let call = host.call("GET", "/v1/tasks").header("authorization", wrong);
        call.send().await.expect(401);
    }
    // What is wrong with a key is never its text.
    let refused = host
        .get(format!("/v1/tasks?apiKey={key}x"))
        .await
        .expect(401);
    assert!(!refused.text().contains(&key));
}

/// E2: a tenant sees, streams, counts and commands only its own.
#[tokio::test]
async fn a_tenant_sees_nothing_of_another() {
    let host = Host::start().await;
    let a = add_key(&host, Role::Admin, "a").await.text;
    let b = add_key(&host, Role::Admin, "a-b").await.text;
    let mut others = host.call("GET", "/v1/stream?after=0").key(&b).open().await;
    let call = host
        .call("POST", "/v1/tasks")
        .key(&a)
        .json(&json!({"toolName": "echo", "threadId": "t"}));
    let task = call
        .header("prefer", "wait=20")
        .send()
        .await
        .expect(201)
        .json()["task"]
        .clone();
    assert_eq!(task["namespace"], "a");
    let id = task["id"].as_str().unwrap();

    let as_b = |method, target: String| host.call(method, target).key(&b).send();
    let list = as_b("GET", "/v1/tasks".into()).await.json();
    assert_eq!(list, json!({"tasks": [], "total": 0}));
    let list = as_b("GET", "/api/background-tasks".into()).await.json();
    assert_eq!(list, json!({"tasks": [], "total": 0}));
    for (method, target) in [
        ("GET", format!("/v1/tasks/{id}")),
        ("GET", format!("/v1/tasks/{id}/stream")),
        ("GET", format!("/api/background-tasks/{id}")),
        ("POST", format!("/v1/tasks/{id}/cancel")),
        ("POST", format!("/v1/tasks/{id}/retry")),
        ("DELETE", format!("/v1/tasks/{id}")),
    ] {
        as_b(method, target).await.expect(404);
    }
    let untold = as_b("GET", "/v1/threads/t/completions".into()).await.json();
    assert_eq!(untold, json!({"tasks": []}));
    // The numbers are of all namespaces, and the keys of others are nobody's business.
    as_b("GET", "/metrics".into()).await.expect(403);
    let keys = as_b("GET", "/v1/keys".into()).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    let call = host.call("POST", "/v1/keys").key(&b);
    call.json(&json!({"role": "read", "namespace": "a"}))
        .send()
        .await
        .expect(403);
    let id_of_a = a.split('_').nth(1).unwrap();
    as_b("DELETE", format!("/v1/keys/{id_of_a}"))
        .await
        .expect(404);
    // The namespace is the key's, whatever else is said.
    as_b("GET", "/v1/tasks?namespace=a".into())
        .await
        .expect(403);
    let call = host
        .call("GET", "/v1/tasks")
        .key(&b)
        .header("sidestream-namespace", "a");
    call.send().await.expect(403);
    as_b("GET", "/v1/tasks?namespace=a-b".into())
        .await
        .expect(200);

    // Nothing of a's task came to b's stream: the first chunk is b's own.
    let call = host
        .call("POST", "/v1/tasks")
        .key(&b)
        .json(&json!({"toolName": "echo"}));
    let own = call.send().await.expect(201).json()["task"]["id"].clone();
    assert_eq!(others.chunk().await.unwrap().1["payload"]["taskId"], own);
}

/// Without keys a namespace is only a choice.
#[tokio::test]
async fn who_needs_no_key_may_choose_a_namespace() {
    let host = Host::start().await;
    let call = host
        .call("POST", "/v1/tasks")
        .header("sidestream-namespace", "a");
    let task = call
        .json(&json!({"toolName": "stuck"}))
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!(task["task"]["namespace"], "a");
    for (target, total) in [
        ("/v1/tasks", 0),
        ("/v1/tasks?namespace=a", 1),
        ("/v1/tasks?namespace=a-b", 0),
    ] {
        assert_eq!(
            host.get(target).await.expect(200).json()["total"],
            total,
            "{target}"
        );
    }
    let empty = host
        .call("GET", "/v1/tasks")
        .header("sidestream-namespace", "");
    assert_eq!(empty.send().await.expect(200).json()["total"], 0);
}

/// S5: within a second, on what is asked and on streams that are open.
#[tokio::test]
async fn a_revoked_key_stops_working() {
    let host = Host::start().await;
    let kept = add_key(&host, Role::Read, "default").await;
    let lost = add_key(&host, Role::Write, "default").await;
    let mut streams = Vec::new();
    for (key, target) in [
        (&lost, "/v1/stream"),
        (&lost, "/api/background-tasks/stream"),
        (&kept, "/v1/stream"),
    ] {
        streams.push(host.call("GET", target).key(&key.text).open().await);
    }
    let began = tokio::time::Instant::now();
    revoke(&host, &lost).await;
    let ends = async {
        for stream in &mut streams[..2] {
            while stream.block().await.is_some() {}
            assert!(stream.has_ended_well());
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ends).await;
    ended.expect("a stream goes on");
    assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
    host.call("GET", "/v1/tasks")
        .key(&lost.text)
        .send()
        .await
        .expect(401);
    host.call("GET", "/v1/tasks")
        .key(&kept.text)
        .send()
        .await
        .expect(200);
    // The other one's stream goes on.
    host.manager()
        .dispatch(sidestream::NewTask::new("stuck"))
        .await
        .unwrap();
    assert!(streams[2].chunk().await.is_some());
}

/// Whoever has begun to use keys must not find the door open again.
#[tokio::test]
async fn the_first_key_closes_the_door_for_good() {
    let host = Host::start().await;
    let mut stream = host.stream("/v1/stream").await;
    stream.block().await.unwrap();
    let made = host
        .post("/v1/keys", json!({"role": "admin", "name": "me"}))
        .await
        .expect(201)
        .json();
    assert_eq!(stream.block().await, None, "a stream without a key ends");
    host.get("/v1/tasks").await.expect(401);

    let key = made["key"].as_str().unwrap();
    let listed = host
        .call("GET", "/v1/keys")
        .key(key)
        .send()
        .await
        .expect(200);
    assert!(!listed.text().contains(key), "the key is shown once");
    let expected = json!({"id": made["id"], "name": "me", "role": "admin", "namespace": "default",
        "createdAt": made["createdAt"]});
    assert_eq!(listed.json(), json!({"keys": [expected]}));

    let other = json!({"role": "read", "namespace": "elsewhere"});
    host.call("POST", "/v1/keys")
        .key(key)
        .json(&other)
        .send()
        .await
        .expect(201);
    let id = made["id"].as_str().unwrap();
    host.call("DELETE", format!("/v1/keys/{id}"))
        .key(key)
        .send()
        .await
        .expect(204);
    host.call("GET", "/v1/tasks")
        .key(key)
        .send()
        .await
        .expect(401);
    host.get("/v1/tasks").await.expect(401);
}

#[tokio::test]
async fn without_a_key_only_this_machine_may_be_listened_to() {
    let manager = TaskManager::builder(MemoryStore::new())
        .start()
        .await
        .unwrap();
    let store = Arc::clone(manager.store());
    let config = || ServerConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..ServerConfig::default()
    };
    let refused = Server::bind(config(), Some(manager.clone()), Arc::clone(&store)).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, BindError::NoKeys { .. }));
    let why = refused.to_string();
    assert!(
        why.contains("no API key") && why.contains("sidestream keys add"),
        "{why}"
    );

    let key = NewKey::make(
        "",
        Role::Write,
        Namespace::default(),
        store.now(),
        &SystemChance,
    )
    .unwrap();
    let add = Request::AddKey(key.kept.clone());
    manager.writer().submit(add).await.unwrap();
    let host = Host::of(config(), Some(manager.clone())).await;
    let address = format!("127.0.0.1:{}", host.address.port())
        .parse()
        .unwrap();
    call(address, "GET", "/v1/tasks").send().await.expect(401);
    call(address, "GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .expect(200);
    // With the last key gone nobody gets in, and a new server does not start.
    revoke(&host, &key).await;
    while call(address, "GET", "/v1/tasks")
        .key(&key.text)
        .send()
        .await
        .status
        != 401
    {}
    call(address, "GET", "/v1/tasks").send().await.expect(401);
    assert!(Server::bind(config(), Some(manager), store).await.is_err());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let host = Host::start().await;
    let config = ServerConfig {
        listen: host.address,
        ..loopback()
    };
    let refused = Server::bind(config, None, Arc::new(MemoryStore::new()))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with(&format!("cannot listen on {}", host.address))
    );
}
