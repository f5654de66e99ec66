//! API keys: made, kept as hashes, and known to a running server.
//!
//! A key is `sk_ID_SECRET`. The id is public: listings show it, and it finds the key. Of the secret,
//! 256 random bits, only the SHA-256 is kept: a hash made for passwords would add nothing, since no
//! list of likely secrets exists.
//!
//! The server looks keys up in memory and reads them anew twice a second, so that one revoked anywhere
//! stops working within a second, also on streams that are open.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use sidestream::chance::Chance;
use sidestream::core::Invalid;
use sidestream::store::ApiKey;
use sidestream::{Namespace, Store, StoreError, Timestamp};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

/// How often the keys are read anew.
const REFRESH_EVERY: Duration = Duration::from_millis(500);
/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// To look and to watch.
    Read,
    /// To look, and to dispatch and command tasks.
    Write,
    /// To look, and to work on tasks.
    Worker,
    /// Everything in its namespace, its keys included. In the namespace `default` also what concerns
    /// the whole server: its metrics, and the keys of every namespace.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Worker, Self::Admin];

    /// The word for it, such as `read`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// When it is none of them; the message lists those that are.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            let problem = format!("is {text:?}, none of read, write, worker, admin");
            Invalid::new("role", problem)
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key that has just been made: the only moment at which its secret is known.
///
/// ```
/// use sidestream::{Namespace, Timestamp, chance::SystemChance};
/// use sidestream_server::{NewKey, Role};
///
/// let now = Timestamp::from_ms(0);
/// let key = NewKey::make("laptop", Role::Write, Namespace::default(), now, &SystemChance)?;
/// assert!(key.text.starts_with(&format!("sk_{}_", key.kept.id)));
/// # Ok::<(), sidestream::core::Invalid>(())
/// ```
pub struct NewKey {
    /// The key itself, to be shown once and never kept.
    pub text: String,
    /// What is kept of it: give it to the store in a `Request::AddKey`.
    pub kept: ApiKey,
}

impl NewKey {
    /// Makes a key of 256 random bits.
    ///
    /// # Errors
    /// When the name, which is for people, is longer than 256 bytes.
    pub fn make(
        name: impl Into<String>,
        role: Role,
        namespace: Namespace,
        now: Timestamp,
        chance: &dyn Chance,
    ) -> Result<Self, Invalid> {
        let name = name.into();
        if name.len() > NAME_BYTES_MAX {
            return Err(Invalid::too_long("name", name.len(), NAME_BYTES_MAX));
        }
        let id = format!("{:012x}", chance.next() >> 16);
        let secret: String = (0..4).map(|_| format!("{:016x}", chance.next())).collect();
        Ok(Self {
            text: format!("sk_{id}_{secret}"),
            kept: ApiKey {
                id,
                name,
                hash: hash(&secret),
                role: role.as_str().to_owned(),
                namespace,
                created_at: now,
                revoked_at: None,
            },
        })
    }
}

impl fmt::Debug for NewKey {
    /// Without the key itself: a secret has no place in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey")
            .field("id", &self.kept.id)
            .finish_non_exhaustive()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Whom a request may speak for.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) role: Role,
    /// `None`: the request may choose.
    pub(crate) namespace: Option<Namespace>,
    /// The key's id, for logs; `None` without a key.
    pub(crate) key_id: Option<Arc<str>>,
    /// Cancelled when this is no longer granted, or the server stops.
    pub(crate) ends: CancellationToken,
}

/// The keys that a running server knows.
#[derive(Debug)]
pub(crate) struct KeyRing {
    known: RwLock<Known>,
    /// Held while the keys are read anew: of two readings the later must win.
    refreshing: tokio::sync::Mutex<()>,
    /// May requests without a key be granted, as long as there has never been a key?
    is_loopback: bool,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct Known {
    keys: Vec<ApiKey>,
    active: HashMap<String, Active>,
    /// What a request without a key is granted: everything, until the first key is made.
    anonymous: Option<CancellationToken>,
}

#[derive(Debug)]
struct Active {
    hash: [u8; 32],
    grant: Grant,
}

impl KeyRing {
    /// Reads the keys. Every grant ends with `stopping`.
    pub(crate) async fn open(
        store: &dyn Store,
        is_loopback: bool,
        stopping: CancellationToken,
    ) -> Result<Self, StoreError> {
        let ring = Self {
            known: RwLock::new(Known {
                keys: Vec::new(),
                active: HashMap::new(),
                anonymous: is_loopback.then(|| stopping.child_token()),
            }),
            refreshing: tokio::sync::Mutex::default(),
            is_loopback,
            stopping,
        };
        ring.refresh(store).await?;
        Ok(ring)
    }

    /// Keeps the keys fresh until dropped.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        loop {
            tokio::time::sleep(REFRESH_EVERY).await;
            if let Err(error) = self.refresh(store).await {
                tracing::warn!(%error, "the API keys cannot be read; those known stay in force");
            }
        }
    }

    /// Reads the keys anew. What is granted to a key that is no longer valid ends here.
    pub(crate) async fn refresh(&self, store: &dyn Store) -> Result<(), StoreError> {
        let _turn = self.refreshing.lock().await;
        let keys = store.keys().await?;
        if self.known.read().keys == keys {
            return Ok(());
        }
        let mut known = self.known.write();
        // A revoked key is still a key: whoever began to use keys must not find the door open again.
        if !keys.is_empty()
            && let Some(ends) = known.anonymous.take()
        {
            ends.cancel();
        }
        let mut former = std::mem::take(&mut known.active);
        for key in keys.iter().filter(|key| key.revoked_at.is_none()) {
            let Ok(role) = Role::parse(&key.role) else {
                tracing::warn!(
                    key = key.id,
                    role = key.role,
                    "key of an unknown role ignored"
                );
                continue;
            };
            let active = former.remove(&key.id);
            let active = active.unwrap_or_else(|| Active {
                hash: key.hash,
                grant: Grant {
                    role,
                    namespace: Some(key.namespace.clone()),
                    key_id: Some(Arc::from(key.id.as_str())),
                    ends: self.stopping.child_token(),
                },
            });
            known.active.insert(key.id.clone(), active);
        }
        for gone in former.into_values() {
            gone.grant.ends.cancel();
        }
        known.keys = keys;
        Ok(())
    }

    /// Is there a key that works?
    pub(crate) fn has_active(&self) -> bool {
        !self.known.read().active.is_empty()
    }

    /// What a key grants; `None` when it is not valid.
    pub(crate) fn grant(&self, key: &str) -> Option<Grant> {
        let (id, secret) = key.strip_prefix("sk_")?.split_once('_')?;
        let presented = hash(secret);
        let known = self.known.read();
        let active = known.active.get(id)?;
        let is_right = bool::from(active.hash.ct_eq(&presented));
        is_right.then(|| active.grant.clone())
    }

    /// What a request without a key is granted: everything, as long as only this machine can ask and
    /// no key was ever made; then nothing.
    pub(crate) fn anonymous(&self) -> Option<Grant> {
        debug_assert!(self.is_loopback || self.known.read().anonymous.is_none());
        let ends = self.known.read().anonymous.clone()?;
        Some(Grant {
            role: Role::Admin,
            namespace: None,
            key_id: None,
            ends,
        })
    }
}
