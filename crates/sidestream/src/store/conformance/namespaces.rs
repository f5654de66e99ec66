//! Namespaces: rooms apart, exactly (E2).

use super::*;
use crate::store::{SnapshotQuery, Told};
use sidestream_core::Filter;

/// Names that a careless comparison takes for one another.
const ROOMS: [&str; 10] = ["a", "a-b", "", "A", "ab", "a/b", "a%", "_", "default", "a "];

/// E2: with the same ids, threads and keys in every room, each sees its own.
pub(super) async fn a_namespace_sees_only_its_own(world: &mut World) {
    let mut made = Vec::new();
    for (n, name) in ROOMS.into_iter().enumerate() {
        let new = |tool: &str| {
            NewTask::new(tool)
                .args(json(&format!("[{n}]")))
                .agent("agent")
                .thread("thread")
        };
        let keyed = new("a").idempotency_key("key");
        let ended = world.dispatch(spec_in(&room(name), "ended", keyed)).await;
        let ended = world.must(&ended, Command::Cancel).await;
        let running = world
            .dispatch(spec_in(&room(name), "running", new("a")))
            .await;
        let theirs = record("theirs", "running", &serde_json::json!({"n": n}));
        let theirs = world.record(&room(name), &theirs).await;
        made.push((name, ended, running, theirs.expect("it is kept")));
    }
    for (name, ended, running, theirs) in made {
        let namespace = room(name);
        for task in [&ended, &running, &theirs] {
            let found = world.get(&namespace, task.id()).await;
            assert_eq!(found.as_ref(), Some(task));
        }
        let page = world.list(&ListQuery::new(namespace.clone(), 100)).await;
        assert_eq!(page.total, 3);
        let sees_only_its_own = |task: &Task| task.identity().namespace == namespace;
        assert!(page.tasks.iter().all(sees_only_its_own), "{name:?}");
        let query = SnapshotQuery {
            namespace: namespace.clone(),
            filter: Filter::default(),
            statuses: vec![Status::Pending, Status::Running],
        };
        let found = world.store().snapshot(&query).await;
        let pins = found.expect("the store works").pins.all().await;
        let pins = pins.expect("the store works");
        let shown = world.store().resolve(&pins).await;
        let shown = shown.expect("the store works");
        assert_eq!(shown.len(), 2);
        assert!(
            shown
                .iter()
                .all(|task| task.identity.namespace == namespace)
        );
        let untold = world.untold(&namespace, "thread").await;
        assert_eq!(untold, std::slice::from_ref(&ended));
        let own = world.log_after(Seq(0), Some(&ended)).await;
        assert_eq!(own.len(), 2);
        assert!(own.iter().all(|entry| entry.task == *ended.identity()));
        let repeated = NewTask::new("b").idempotency_key("key");
        let repeated = dispatch(&spec_in(&namespace, "again", repeated));
        match world.commit_one(repeated).await {
            Ok(Answer::Dispatched { task, is_new }) => {
                assert_eq!((task, is_new), (ended, false));
            }
            other => panic!("expected a repetition, got {other:?}"),
        }
    }
    let nobody = room("nobody");
    assert_eq!(world.get(&nobody, &task_id("running")).await, None);
    assert_eq!(world.list(&ListQuery::new(nobody, 100)).await.total, 0);
}

/// E2: a command, a claim, a deletion or an acknowledgement reaches one room.
pub(super) async fn a_namespace_changes_only_its_own(world: &mut World) {
    for name in ROOMS {
        for id in ["claimed", "cancelled", "deleted"] {
            let new = NewTask::new(id).thread("thread");
            world.dispatch(spec_in(&room(name), id, new)).await;
        }
    }
    let standing = async |world: &World| {
        let mut standing = BTreeMap::new();
        for name in ROOMS {
            let page = world.list(&ListQuery::new(room(name), 100)).await;
            let untold = world.untold(&room(name), "thread").await.len();
            standing.insert(name, (page.tasks, untold));
        }
        standing
    };
    for name in ROOMS {
        let namespace = room(name);
        let command = |id: &str| Request::Command {
            namespace: namespace.clone(),
            id: task_id(id),
            command: Command::Cancel,
        };
        let mut before = standing(world).await;
        let claimed = world
            .claim(Claim {
                namespace: Some(namespace.clone()),
                ..claim(&["claimed"])
            })
            .await;
        assert_eq!(ids(&claimed), ["claimed"]);
        for id in ["cancelled", "deleted"] {
            world.commit_one(command(id)).await.expect("it is allowed");
        }
        let delete = Request::Delete {
            namespace: namespace.clone(),
            id: task_id("deleted"),
        };
        assert_eq!(world.removed(delete).await, 1);
        let acknowledge = Request::Acknowledge {
            namespace: namespace.clone(),
            thread: ThreadId::new("thread").expect("a thread's id"),
            told: Told::UpTo(Seq(1_000_000)),
        };
        assert_eq!(world.removed(acknowledge).await, 1);
        let mut after = standing(world).await;
        let (tasks, untold) = after.remove(name).expect("a room");
        assert_eq!((ids(&tasks), untold), (vec!["claimed", "cancelled"], 0));
        before.remove(name);
        assert_eq!(after, before, "{name:?} left the others alone");
    }
}
