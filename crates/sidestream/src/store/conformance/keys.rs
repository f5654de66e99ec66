//! API keys, kept as hashes.

use super::*;
use crate::store::ApiKey;

/// Every field is kept, revoked ones are listed, and a revocation is once and for ever.
pub(super) async fn keys_are_kept_and_revoked(world: &mut World) {
    let mut hash = [0; 32];
    for (n, byte) in (0_u8..).zip(&mut hash) {
        *byte = n.wrapping_mul(37);
    }
    let key = |id: &str, ms: i64| ApiKey {
        id: id.into(),
        name: format!("key of {id} 🦀"),
        hash,
        role: "worker".into(),
        namespace: room("a-b"),
        created_at: at("2026-11-21T00:00:00Z").plus_ms(ms),
        revoked_at: None,
    };
    let keys = async |world: &World| world.store().keys().await.expect("the store works");
    let added = async |world: &World, key: ApiKey| {
        let answer = world.commit_one(Request::AddKey(key)).await;
        matches!(answer, Ok(Answer::KeyAdded))
    };
    let revoked = async |world: &World, id: &str| {
        let id = id.to_owned();
        world.removed(Request::RevokeKey { id }).await
    };
    assert!(keys(world).await.is_empty());
    for (id, ms) in [("b", 2), ("a", 3), ("c", 1)] {
        assert!(added(world, key(id, ms)).await);
    }
    assert_eq!(keys(world).await, [key("c", 1), key("b", 2), key("a", 3)]);
    assert!(added(world, key("a", 3)).await, "a repetition is harmless");
    assert!(!added(world, key("a", 4)).await, "its id is taken");
    assert_eq!(keys(world).await.len(), 3);
    world.clock.advance_ms(1_000);
    let when = world.now();
    assert_eq!(revoked(world, "b").await, 1);
    world.clock.advance_ms(1_000);
    assert_eq!(revoked(world, "b").await, 0, "it is worthless already");
    assert_eq!(revoked(world, "nobody").await, 0);
    let revoked_at = Some(when);
    let expected = [
        key("c", 1),
        ApiKey {
            revoked_at,
            ..key("b", 2)
        },
        key("a", 3),
    ];
    assert_eq!(keys(world).await, expected);
    world.reopen().await;
    assert_eq!(keys(world).await, expected);
    assert_eq!(world.seq().await, Seq(0), "keys are not in the log");
}
