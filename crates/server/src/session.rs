//! A browser's session: a cookie by which a page of this server shows its visitor's API key.
//!
//! A browser can set no header on an event stream, and a script has no safe place for a secret. So the key
//! is kept where no script can read it: in a cookie that is `HttpOnly` and that no other site's page makes the
//! browser send (`SameSite=Strict`). The cookie holds the key itself and the server keeps nothing: so a
//! session holds on every server of one database and over restarts, and ends with its key, or with the
//! browser.
//!
//! A browser shows a cookie unasked, so it counts only where the request comes from a page of this server:
//! see [`check_same_origin`](crate::origin::check_same_origin).

use axum::http::header::{COOKIE, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};

/// The cookie's name. A cookie has no port: servers on several ports of one machine share it.
pub(crate) const NAME: &str = "sidestream_session";
/// So many cookies of our name are tried. A browser sends one; more can come from other paths or domains.
const TRIED_MAX: usize = 4;

/// The keys that the request's cookies hold.
pub(crate) fn keys(headers: &HeaderMap) -> impl Iterator<Item = String> {
    let values = headers.get_all(COOKIE).iter();
    let cookies = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    cookies
        .filter_map(|cookie| {
            let (name, value) = cookie.trim().split_once('=')?;
            (name == NAME).then_some(value)
        })
        .filter_map(decoded)
        .take(TRIED_MAX)
}

/// The header that begins a session with this key.
pub(crate) fn begun(key: &str, request: &HeaderMap) -> HeaderValue {
    let value: String = form_urlencoded::byte_serialize(key.as_bytes()).collect();
    cookie(&value, "", request)
}

/// The header that ends the session.
pub(crate) fn ended(request: &HeaderMap) -> HeaderValue {
    cookie("", "; Max-Age=0", request)
}

fn cookie(value: &str, lifetime: &str, request: &HeaderMap) -> HeaderValue {
    // Whether there is TLS before us only the browser knows: its page's origin tells.
    let origin = request.get(ORIGIN).map(HeaderValue::as_bytes);
    let is_secure = origin.is_some_and(|origin| origin.starts_with(b"https://"));
    let secure = if is_secure { "; Secure" } else { "" };
    let text = format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict{lifetime}{secure}");
    let mut header = HeaderValue::try_from(text).expect("an encoded value fits into a header");
    header.set_sensitive(true);
    header
}

fn decoded(value: &str) -> Option<String> {
    let pair = format!("key={value}");
    let (_, key) = form_urlencoded::parse(pair.as_bytes()).next()?;
    (!key.is_empty()).then(|| key.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(cookies: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            let value = HeaderValue::try_from(*cookie).expect("it fits");
            headers.append(COOKIE, value);
        }
        keys(&headers).collect()
    }

    #[test]
    fn a_key_comes_back_from_the_cookie_that_was_set() {
        for key in ["sk_0123456789ab_ff", "a b;c=d,\"é\u{7}%&+\\"] {
            let set = begun(key, &HeaderMap::new());
            let set = set.to_str().expect("it is text");
            let (pair, _) = set.split_once("; ").expect("attributes follow");
            assert_eq!(sent(&["theme=dark", &format!("a=b; {pair}; c")]), [key]);
        }
    }

    #[test]
    fn no_other_cookie_is_taken_for_a_session() {
        assert!(
            sent(&["xsidestream_session=a; Sidestream_Session=b; sidestream_session"]).is_empty()
        );
        assert!(sent(&["sidestream_session=; =x; ;"]).is_empty());
        let many = ["sidestream_session=k"; 9];
        assert_eq!(sent(&many).len(), TRIED_MAX);
    }
}
