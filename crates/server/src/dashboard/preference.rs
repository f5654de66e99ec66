//! What a client says that it would like: the lists of `Accept` and `Accept-Encoding` (RFC 9110, 12.5).

use axum::http::{HeaderMap, HeaderName};

/// Does the header name this, other than to refuse it (`;q=0`)? A wildcard names nothing: a client that
/// takes anything is best served with what is plainest.
pub(super) fn accepts(headers: &HeaderMap, header: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(header).iter();
    let items = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    items.into_iter().any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        is_it && !parts.any(is_refusal)
    })
}

fn is_refusal(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| {
        let name = name.trim_end();
        name.eq_ignore_ascii_case("q")
    });
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::ACCEPT_ENCODING;

    use super::*;

    #[test]
    fn what_is_named_and_not_refused_is_accepted() {
        for (value, is_accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip ; q=1.0", true),
            ("gzip;q=0.001", true),
            ("gzip;q=0", false),
            ("gzip; Q=0.000", false),
            ("x-gzip, gzipped", false),
            ("*", false),
            ("", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static("br"));
            let value = HeaderValue::from_static(value);
            headers.append(ACCEPT_ENCODING, value.clone());
            let found = accepts(&headers, &ACCEPT_ENCODING, "gzip");
            assert_eq!(found, is_accepted, "{value:?}");
        }
    }
}
