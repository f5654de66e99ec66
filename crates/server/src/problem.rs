//! What can go wrong, as a client sees it: problem details (RFC 9457), and one table from kinds of error
//! to statuses.

use axum::Json as JsonBody;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sidestream::core::{Attempt, Invalid, Rejection};
use sidestream::{Error, Status, StoreError, StoreErrorKind};
use utoipa::ToSchema;

use crate::openapi::schema::StatusSchema;

/// What kind of thing went wrong: named for what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    StaleAttempt,
    TooLarge,
    UriTooLong,
    UnsupportedMediaType,
    AtCapacity,
    Bug,
    Disabled,
    Unavailable,
    Full,
}

impl Kind {
    /// Every kind.
    #[cfg(test)]
    const ALL: [Self; 16] = [
        Self::Invalid,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::StaleAttempt,
        Self::TooLarge,
        Self::UriTooLong,
        Self::UnsupportedMediaType,
        Self::AtCapacity,
        Self::Bug,
        Self::Disabled,
        Self::Unavailable,
        Self::Full,
    ];

    /// The one table: the status, the word in `type`, and the title.
    pub(crate) fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::Invalid => (S::BAD_REQUEST, "invalid", "A value cannot be accepted"),
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized", "A valid API key is needed"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "This is not allowed"),
            Self::NotFound => (S::NOT_FOUND, "not-found", "There is no such thing"),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method does not fit the route",
            ),
            Self::RequestTimeout => (
                S::REQUEST_TIMEOUT,
                "request-timeout",
                "The request took too long to arrive",
            ),
            Self::Conflict => (S::CONFLICT, "conflict", "The task does not allow this now"),
            Self::StaleAttempt => (
                S::CONFLICT,
                "stale-attempt",
                "The attempt no longer holds the task",
            ),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too-large", "The body is too large"),
            Self::UriTooLong => (S::URI_TOO_LONG, "uri-too-long", "The URL is too long"),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The body is not JSON",
            ),
            Self::AtCapacity => (S::TOO_MANY_REQUESTS, "at-capacity", "No slot is free"),
            Self::Bug => (S::INTERNAL_SERVER_ERROR, "internal", "A mistake of ours"),
            Self::Disabled => (
                S::SERVICE_UNAVAILABLE,
                "disabled",
                "Background tasks are disabled",
            ),
            Self::Unavailable => (
                S::SERVICE_UNAVAILABLE,
                "unavailable",
                "Not possible now: try again",
            ),
            Self::Full => (
                S::INSUFFICIENT_STORAGE,
                "storage-full",
                "There is no room left to store this",
            ),
        }
    }
}

/// Something that went wrong, with its detail.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) detail: String,
    /// The values that cannot be accepted, if that is what is wrong.
    pub(crate) invalid: Vec<Invalid>,
    /// How the task stands, and its latest attempt, where a report came too late.
    pub(crate) standing: Option<(Status, Attempt)>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            invalid: Vec::new(),
            standing: None,
        }
    }

    /// Says that there is no such thing.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, what)
    }

    /// Several values that cannot be accepted.
    pub(crate) fn invalid(invalid: Vec<Invalid>) -> Self {
        let details: Vec<_> = invalid.iter().map(Invalid::to_string).collect();
        Self {
            invalid,
            ..Self::new(Kind::Invalid, details.join("; "))
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(vec![invalid])
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let kind = match rejection {
            Rejection::Invalid(invalid) => return invalid.into(),
            Rejection::StaleAttempt {
                current, status, ..
            } => {
                return Self {
                    standing: Some((status, current)),
                    ..Self::new(Kind::StaleAttempt, rejection.to_string())
                };
            }
            Rejection::NotFound(_) => Kind::NotFound,
            Rejection::AtCapacity { .. } => Kind::AtCapacity,
            Rejection::AlreadyExists
            | Rejection::AlreadyEnded(_)
            | Rejection::NotSuspended(_)
            | Rejection::NotPending(_)
            | Rejection::NotRetryable(_)
            | Rejection::NotEnded(_)
            | Rejection::LeaseHeld
            | Rejection::OwnedElsewhere
            | Rejection::OwnedHere => Kind::Conflict,
            // One that is new: the task does not allow it.
            _ => Kind::Conflict,
        };
        Self::new(kind, rejection.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            StoreErrorKind::Full => Kind::Full,
            StoreErrorKind::Locked
            | StoreErrorKind::Unavailable
            | StoreErrorKind::OutcomeUnknown => Kind::Unavailable,
            StoreErrorKind::NewerVersion
            | StoreErrorKind::Damaged
            | StoreErrorKind::WrongPlace
            | StoreErrorKind::Bug => Kind::Bug,
            _ => Kind::Bug,
        };
        tracing::error!(%error, kind = ?error.kind(), "the store could not do it");
        Self::new(kind, error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::Rejected(rejection) => rejection.into(),
            Error::Store(error) => error.into(),
            error @ (Error::ShutDown | Error::Overloaded { .. }) => {
                Self::new(Kind::Unavailable, error.to_string())
            }
            error => Self::new(Kind::Bug, error.to_string()),
        }
    }
}

/// What is wrong, for programs and for people.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProblemDetails {
    /// Names the kind of problem: `urn:sidestream:problem:` and a word.
    r#type: String,
    /// The kind in words.
    title: String,
    /// The status of the answer.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// The field or parameter that cannot be accepted; the first of `errors`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    field: Option<String>,
    /// Every field or parameter that cannot be accepted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(inline, required = false)]
    errors: Vec<FieldError>,
    /// Of a report that came too late: how the task stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StatusSchema>, nullable = false)]
    task_status: Option<Status>,
    /// Of a report that came too late: the number of the task's latest attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    current_attempt: Option<Attempt>,
}

/// A field or parameter that cannot be accepted.
#[derive(Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// Which.
    field: String,
    /// Why not.
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, word, title) = self.kind.row();
        let errors = self.invalid.iter().map(|invalid| FieldError {
            field: invalid.field.clone(),
            detail: invalid.to_string(),
        });
        let body = ProblemDetails {
            r#type: format!("urn:sidestream:problem:{word}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            field: self.invalid.first().map(|invalid| invalid.field.clone()),
            errors: errors.collect(),
            task_status: self.standing.map(|(status, _)| status),
            current_attempt: self.standing.map(|(_, attempt)| attempt),
        };
        let mut response = (status, JsonBody(body)).into_response();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, json);
        match self.kind {
            Kind::Unauthorized => {
                let scheme = HeaderValue::from_static("Bearer realm=\"sidestream\"");
                headers.insert(WWW_AUTHENTICATE, scheme);
            }
            Kind::AtCapacity | Kind::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        // For routes that must say it in words of their own: see `compat`.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    const HEADING: &str = "| `type` | status | title |\n|---|---|---|\n";

    /// What a caller can do about an error is in its status.
    #[test]
    fn each_error_has_its_status() {
        let id = sidestream::TaskId::new("x").expect("a fit id");
        let at_capacity = Rejection::AtCapacity {
            scope: "tasks".into(),
            running: 1,
            limit: 1,
        };
        let invalid = Invalid::new("toolName", "is empty");
        let store = |kind| Error::from(StoreError::new(kind, "it says why"));
        for (error, status) in [
            (Error::from(invalid.clone()), 400),
            (Rejection::Invalid(invalid).into(), 400),
            (Rejection::NotFound(id).into(), 404),
            (Rejection::AlreadyExists.into(), 409),
            (Rejection::OwnedHere.into(), 409),
            (Rejection::LeaseHeld.into(), 409),
            (at_capacity.into(), 429),
            (store(StoreErrorKind::Bug), 500),
            (store(StoreErrorKind::Damaged), 500),
            (store(StoreErrorKind::Unavailable), 503),
            (store(StoreErrorKind::OutcomeUnknown), 503),
            (store(StoreErrorKind::Full), 507),
            (Error::ShutDown, 503),
            (Error::Overloaded { waiting: 1 }, 503),
        ] {
            let message = error.to_string();
            let problem = Problem::from(error);
            assert_eq!(problem.kind.row().0.as_u16(), status, "{message}");
            assert_eq!(problem.detail, message);
        }
    }

    /// `UPDATE_DOCS=1` rewrites the table in `docs/errors.md`.
    #[test]
    fn the_table_of_problems_is_documented() {
        let rows = Kind::ALL.map(|kind| {
            let (status, word, title) = kind.row();
            format!(
                "| `urn:sidestream:problem:{word}` | {} | {title} |\n",
                status.as_u16()
            )
        });
        let document = std::fs::read_to_string(DOCUMENT).expect("docs/errors.md is there");
        let (before, rest) = document.split_once(HEADING).expect("it has the table");
        let (_, after) = rest.split_once("\n\n").expect("text follows the table");
        let expected = format!("{before}{HEADING}{}\n{after}", rows.concat());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(DOCUMENT, &expected).expect("docs/errors.md can be written");
        } else {
            assert!(
                document == expected,
                "docs/errors.md is stale: rewrite it with UPDATE_DOCS=1"
            );
        }
    }
}
