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

use crate::App;
use crate::auth::{Administers, Caller};
use crate::keys::{NewKey, Role};
use crate::limits::JsonBody;
use crate::problem::{Kind, Problem};

/// A key to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    role: String,
    #[serde(default)]
    name: String,
    namespace: Option<Namespace>,
}

/// A key, as listings show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownKey {
    id: String,
    name: String,
    role: String,
    namespace: Namespace,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

/// A key that has just been made.
#[derive(Debug, Serialize)]
pub(crate) struct MadeKey {
    /// The key itself: shown this once.
    key: String,
    #[serde(flatten)]
    shown: ShownKey,
}

#[derive(Debug, Serialize)]
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

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Administers,
) -> Result<Json<ShownKeys>, Problem> {
    let keys = app.store.keys().await?.into_iter();
    let keys = keys.filter(|key| check_reach(&caller, &key.namespace).is_ok());
    let keys = keys.map(ShownKey::from).collect();
    Ok(Json(ShownKeys { keys }))
}

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
