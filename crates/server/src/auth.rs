//! Who asks, in which namespace, and whether the role allows it.
//!
//! Every handler says in its signature what it needs: someone who [`Reads`], [`Writes`], [`Works`],
//! [`Reports`] or [`Administers`]. What it gets speaks for the caller's namespace only, so that no handler can reach another
//! (E2).

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sidestream::core::Invalid;
use sidestream::{Namespace, TaskManager};
use tokio_util::sync::CancellationToken;

use crate::App;
use crate::keys::{Grant, Role};
use crate::origin;
use crate::params::Params;
use crate::problem::{Kind, Problem};
use crate::session;

/// The header by which a request without a key chooses its namespace.
pub(crate) const NAMESPACE_HEADER: &str = "sidestream-namespace";

/// What is said of a key that opens nothing.
pub(crate) const NOT_VALID: &str = "the API key is not valid, or is revoked";

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Speaks for the caller's namespace; `None` when background tasks are disabled.
    pub(crate) manager: Option<TaskManager>,
    pub(crate) namespace: Namespace,
    pub(crate) role: Role,
    pub(crate) key_id: Option<Arc<str>>,
    /// Is it by the cookie of a login?
    pub(crate) is_logged_in: bool,
    /// Cancelled when the caller's streams must end.
    pub(crate) ends: CancellationToken,
}

impl Caller {
    /// The manager, for what cannot be done without.
    pub(crate) fn manager(&self) -> Result<&TaskManager, Problem> {
        self.manager.as_ref().ok_or_else(|| {
            Problem::new(
                Kind::Disabled,
                "background tasks are disabled on this server",
            )
        })
    }

    /// May the caller do what concerns the whole server?
    pub(crate) fn is_operator(&self) -> bool {
        self.role == Role::Admin
            && (self.key_id.is_none() || self.namespace == Namespace::default())
    }
}

macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident is $($role:ident)|+;)*) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name(pub(crate) Caller);

        impl std::ops::Deref for $name {
            type Target = Caller;
            fn deref(&self) -> &Caller {
                &self.0
            }
        }

        impl<S: Sync> FromRequestParts<S> for $name {
            type Rejection = Problem;
            async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
                let caller = parts.extensions.get::<Caller>();
                let caller = caller.expect("every request is authenticated first").clone();
                let allowed = [$(Role::$role),+];
                if allowed.contains(&caller.role) {
                    return Ok(Self(caller));
                }
                let needed = allowed.map(Role::as_str).join(" or ");
                let detail = format!("the key has the role {}; this needs {needed}", caller.role);
                Err(Problem::new(Kind::Forbidden, detail))
            }
        })*
    };
}

callers! {
    /// Someone who may look and watch.
    Reads is Read | Write | Worker | Admin;
    /// Someone who may dispatch and command tasks.
    Writes is Write | Admin;
    /// Someone who may report how a task stands.
    Reports is Write | Worker | Admin;
    /// Someone who may work on tasks.
    Works is Worker | Admin;
    /// Someone who may manage keys.
    Administers is Admin;
}

/// Lets nobody in who may not be, and tells the handlers who asks.
pub(crate) async fn authenticate(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&app, &request) {
        Ok(caller) => {
            let span = tracing::Span::current();
            span.record("namespace", caller.namespace.as_str());
            span.record("key", caller.key_id.as_deref().unwrap_or("none"));
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            tracing::info!(reason = problem.detail, "refused");
            problem.into_response()
        }
    }
}

/// Whoever a request speaks for: by the key that it shows itself, else by its session's cookie, else, where
/// none is needed, as everyone.
pub(crate) fn caller(app: &App, request: &Request) -> Result<Caller, Problem> {
    let mut params = Params::of(request.uri());
    let key = match bearer(request.headers())? {
        Some(key) => Some(key.to_owned()),
        None => params.one("apiKey")?,
    };
    let of_session = match key {
        Some(_) => None,
        None => grant_of_session(app, request)?,
    };
    let is_logged_in = of_session.is_some();
    let grant = match (key, of_session) {
        (Some(key), _) => {
            let grant = app.keys.grant(&key);
            grant.ok_or_else(|| Problem::new(Kind::Unauthorized, NOT_VALID))?
        }
        (None, Some(grant)) => grant,
        (None, None) => grant_of_everyone(app, request)?,
    };
    let namespace = namespace(&grant, request.headers(), &mut params)?;
    let manager = app.manager.as_ref();
    Ok(Caller {
        manager: manager.map(|manager| manager.in_namespace(namespace.clone())),
        namespace,
        role: grant.role,
        key_id: grant.key_id,
        is_logged_in,
        ends: grant.ends,
    })
}

/// What the session's cookie grants. One that grants nothing counts as none: it may be that of another server
/// on this machine, or be left over from a key that is revoked.
fn grant_of_session(app: &App, request: &Request) -> Result<Option<Grant>, Problem> {
    let mut grants = session::keys(request.headers()).filter_map(|key| app.keys.grant(&key));
    let Some(grant) = grants.next() else {
        return Ok(None);
    };
    // The browser shows the cookie whoever made it send the request.
    origin::check_same_origin(request)?;
    Ok(Some(grant))
}

/// What is granted to who shows no key.
fn grant_of_everyone(app: &App, request: &Request) -> Result<Grant, Problem> {
    let grant = app.keys.anonymous().ok_or_else(|| {
        let detail = "an API key is needed: Authorization: Bearer KEY, or ?apiKey=KEY; \
                      `sidestream keys add` makes one";
        Problem::new(Kind::Unauthorized, detail)
    })?;
    // Who needs no key is everyone on this machine, and so every web page it shows.
    origin::check_host(&app.config, request)?;
    Ok(grant)
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let key = text.split_once(' ').and_then(|(scheme, key)| {
        let is_bearer = scheme.eq_ignore_ascii_case("bearer");
        is_bearer.then(|| key.trim())
    });
    key.map(Some).ok_or_else(|| {
        Problem::new(
            Kind::Unauthorized,
            "the Authorization header is not of the form: Bearer KEY",
        )
    })
}

/// The namespace is the key's. Only who needs no key may choose one.
fn namespace(
    grant: &Grant,
    headers: &HeaderMap,
    params: &mut Params,
) -> Result<Namespace, Problem> {
    let header = headers.get(NAMESPACE_HEADER);
    let header = header.map(|value| {
        let text = std::str::from_utf8(value.as_bytes());
        text.map_err(|_| Invalid::new("Sidestream-Namespace", "is not UTF-8"))
    });
    let asked = match header.transpose()? {
        Some(text) => Some(text.to_owned()),
        None => params.one("namespace")?,
    };
    let asked = asked.map(Namespace::new).transpose()?;
    match (&grant.namespace, asked) {
        (None, asked) => Ok(asked.unwrap_or_default()),
        (Some(bound), Some(asked)) if asked != *bound => Err(Problem::new(
            Kind::Forbidden,
            "the key is bound to another namespace",
        )),
        (Some(bound), _) => Ok(bound.clone()),
    }
}
