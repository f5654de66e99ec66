//! `/v1/keys`: API keys, for those who may manage them.
//!
//! An admin manages the keys of its own namespace; one of the namespace `default`, or whoever needs no key
//! yet, those of every namespace.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use sidestream::chance::SystemChance;
use sidestream::store::{ApiKey, Request};
use sidestream::{Namespace, Timestamp};
use utoipa::ToSchema;

use crate::App;
use crate::auth::{Administers, Caller};
use crate::keys::{NewKey, Role};
use crate::limits::JsonBody;
use crate::problem::{Kind, Problem};

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// What it allows: `read`, `write`, `worker` or `admin`.
    role: String,
    /// For people.
    #[serde(default)]
    #[schema(max_length = 256, required = false)]
    name: String,
    /// Where it allows that: the caller's namespace, where left out.
    #[schema(value_type = Option<String>, nullable = false)]
    namespace: Option<Namespace>,
}

/// A key, as listings show it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub(crate) struct ShownKey {
    /// Its public name.
    id: String,
    /// For people.
    name: String,
    /// What it allows.
    role: String,
    /// Where it allows that.
    #[schema(value_type = String)]
    namespace: Namespace,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false)]
    revoked_at: Option<Timestamp>,
}

/// A key that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MadeKey {
    /// The key itself: shown this once.
    key: String,
    #[serde(flatten)]
    shown: ShownKey,
}

/// Keys, oldest first, revoked ones included.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownKeys {
    keys: Vec<ShownKey>,
}

impl From<ApiKey> for ShownKey {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            role: key.role,
            namespace: key.namespace,
            created_at: key.created_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// Makes an API key.
///
/// With the first one the server begins to ask everyone for a key.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    operation_id = "add_key",
    request_body = Wanted,
    responses((status = 201, description = "The key, shown this once", body = MadeKey)),
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Administers,
    JsonBody(wanted): JsonBody<Wanted>,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    let manager = caller.manager()?;
    let namespace = wanted.namespace.unwrap_or_else(|| caller.namespace.clone());
    check_reach(&caller, &namespace)?;
    let role = Role::parse(&wanted.role)?;
    let now = manager.store().now();
    let made = NewKey::make(wanted.name, role, namespace, now, &SystemChance)?;
    let request = Request::AddKey(made.kept.clone());
    manager.writer().submit(request).await?;
    app.keys.refresh(app.store.as_ref()).await?;
    let made = MadeKey {
        key: made.text,
        shown: made.kept.into(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Lists the API keys.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    operation_id = "keys",
    responses((status = 200, description = "The keys that the caller may manage", body = ShownKeys)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Administers,
) -> Result<Json<ShownKeys>, Problem> {
    let keys = app.store.keys().await?.into_iter();
    let keys = keys.filter(|key| check_reach(&caller, &key.namespace).is_ok());
    let keys = keys.map(ShownKey::from).collect();
    Ok(Json(ShownKeys { keys }))
}

/// Revokes an API key.
///
/// It stops working at once, and its streams end.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "keys",
    operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's public name")),
    responses((status = 204, description = "It is revoked")),
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Administers,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let manager = caller.manager()?;
    let keys = app.store.keys().await?;
    let is_it = |key: &&ApiKey| key.id == id && check_reach(&caller, &key.namespace).is_ok();
    if keys.iter().find(is_it).is_none() {
        return Err(Problem::not_found(format!("there is no key {id}")));
    }
    manager.writer().submit(Request::RevokeKey { id }).await?;
    app.keys.refresh(app.store.as_ref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check_reach(caller: &Caller, namespace: &Namespace) -> Result<(), Problem> {
    if caller.is_operator() || caller.namespace == *namespace {
        return Ok(());
    }
    let detail = "an admin of this namespace manages the keys of this namespace only";
    Err(Problem::new(Kind::Forbidden, detail))
}
