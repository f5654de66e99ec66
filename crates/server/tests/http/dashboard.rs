//! The dashboard's page and its files, as a browser asks for them.

use sidestream::Config;
use sidestream_server::{Role, ServerConfig};

use crate::host::{Host, loopback};
use crate::keys::add_key;

/// What a browser says when its user goes somewhere.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const PAGES: [&str; 6] = ["/", "/task", "/waiting", "/runs", "/run", "/login"];
const ASSETS: [(&str, &str); 4] = [
    ("/assets/app.js", "text/javascript; charset=utf-8"),
    ("/assets/app.css", "text/css; charset=utf-8"),
    ("/assets/icon.svg", "image/svg+xml"),
    ("/assets/licenses.txt", "text/plain; charset=utf-8"),
];

/// The page has no data, so it needs no key, and comes whatever name leads here.
#[tokio::test]
async fn a_browser_gets_the_page_at_each_of_its_addresses() {
    let host = Host::start().await;
    add_key(&host, Role::Read, "default").await;
    let mut pages = Vec::new();
    for path in PAGES {
        let call = host.call("GET", format!("{path}?status=running"));
        let call = call
            .header("accept", BROWSER)
            .header("host", "tasks.example");
        // So comes who follows a link in a chat.
        let answer = call.header("sec-fetch-site", "cross-site").send().await;
        let answer = answer.expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(answer.text().contains("/assets/app.js"), "{path}");
        pages.push(answer.text());
    }
    pages.dedup();
    assert_eq!(pages.len(), 1, "the page itself finds out what to show");
}

#[tokio::test]
async fn who_asks_for_no_page_is_welcomed_in_words() {
    let host = Host::start().await;
    for accept in ["*/*", "application/json", "text/plain", "text/html;q=0"] {
        let call = host.call("GET", "/").header("accept", accept);
        let answer = call.send().await.expect(200);
        assert!(answer.text().starts_with("This is Sidestream"), "{accept}");
        assert_eq!(answer.header("vary"), Some("accept"));
    }
    let plain = host.get("/").await.expect(200);
    assert!(plain.text().starts_with("This is Sidestream"));
}

/// No script within the page, nothing of other sites, in nobody's frame.
#[tokio::test]
async fn the_page_can_reach_nothing_but_its_server() {
    let host = Host::start().await;
    let files = ASSETS.map(|(path, _)| path);
    for path in PAGES.into_iter().chain(files) {
        let call = host.call("GET", path).header("accept", BROWSER);
        let answer = call.send().await.expect(200);
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|it| it == part), "{path}: {part}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("permissions-policy").is_some());
        assert_eq!(answer.header("set-cookie"), None);
    }
    let page = host.call("GET", "/").header("accept", BROWSER).send().await;
    let page = page.text();
    for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
        assert!(!page.contains(inline), "the policy would refuse {inline}");
    }
    let scripts = page.matches("<script").count();
    assert_eq!(scripts, page.matches(" src=\"/assets/").count());
}

#[tokio::test]
async fn a_copy_that_still_holds_is_not_sent_again() {
    let host = Host::start().await;
    for path in ["/login", "/assets/app.js"] {
        let mut tags = Vec::new();
        for encoding in ["gzip, deflate, br", "identity"] {
            let call = || host.call("GET", path).header("accept-encoding", encoding);
            let first = call().send().await.expect(200);
            assert_eq!(first.header("cache-control"), Some("no-cache"));
            assert_eq!(first.header("vary"), Some("accept-encoding"));
            let tag = first.header("etag").unwrap().to_owned();
            assert!(tag.starts_with('"'), "a strong one: {tag}");
            for known in [
                tag.clone(),
                format!("W/{tag}"),
                format!("\"other\", {tag}"),
                "*".to_owned(),
            ] {
                let again = call().header("if-none-match", &known).send().await;
                let again = again.expect(304);
                assert_eq!(again.header("etag"), Some(tag.as_str()));
                assert!(again.body.is_empty());
                assert!(again.header("content-security-policy").is_some());
            }
            let other = call().header("if-none-match", "\"other\"").send().await;
            assert_eq!(other.expect(200).body, first.body);
            tags.push(tag);
        }
        tags.dedup();
        assert_eq!(tags.len(), 2, "{path}: other bytes, another tag");
    }
}

#[tokio::test]
async fn each_file_comes_as_what_it_is_and_compressed_where_that_is_read() {
    let host = Host::start().await;
    for (path, content_type) in ASSETS {
        let plain = host.get(path).await.expect(200);
        assert_eq!(plain.header("content-type"), Some(content_type));
        assert_eq!(plain.header("content-encoding"), None);
        let call = host.call("GET", path).header("accept-encoding", "gzip");
        let compressed = call.send().await.expect(200);
        assert_eq!(compressed.header("content-encoding"), Some("gzip"));
        assert_eq!(compressed.header("content-type"), Some(content_type));
        let mut decoder = flate2::read::GzDecoder::new(compressed.body.as_slice());
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut decoder, &mut bytes).unwrap();
        assert_eq!(bytes, plain.body);

        let head = host.call("HEAD", path);
        let head = head.header("connection", "close").open().await;
        assert_eq!(head.status, 200);
        let length = plain.body.len().to_string();
        assert_eq!(head.header("content-length"), Some(length.as_str()));
        assert_eq!(head.header("etag"), plain.header("etag"));
        head.expect_no_body().await;
        host.call("POST", path).send().await.expect(405);
    }
    for unknown in [
        "/assets/",
        "/assets/index.html",
        "/assets/APP.js",
        "/assets/..%2fapp.js",
        "/assets/x/app.js",
    ] {
        let problem = host.get(unknown).await.expect(404).json();
        assert_eq!(problem["type"], "urn:sidestream:problem:not-found");
    }
}

#[tokio::test]
async fn a_dashboard_can_be_turned_off() {
    let config = ServerConfig {
        dashboard: false,
        ..loopback()
    };
    let host = Host::with(config, Config::default()).await;
    let call = host.call("GET", "/").header("accept", BROWSER);
    let answer = call.send().await.expect(200);
    assert!(answer.text().starts_with("This is Sidestream"));
    for gone in ["/task", "/login", "/assets/app.js"] {
        host.get(gone).await.expect(404);
    }
    host.get("/v1/tasks").await.expect(200);
}
