//! What the *record* API promises beyond the vectors of `agent_sdk_vectors.rs`.

use std::sync::Arc;

use serde_json::json;
use sidestream::clock::ManualClock;
use sidestream::core::record::RecordStatus;
use sidestream::core::task::TaskDefaults;
use sidestream::core::{Json, Namespace, NewTask, Record, Rejection, TaskId, Timestamp};
use sidestream::error::Error;
use sidestream::records::{FailedFilter, INTERRUPTED, RecordFilter, Records};
use sidestream::store::{Admission, MemoryStore, Request, Store};
use sidestream::{Cursor, Filter, Start, StreamOptions, TaskManager};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn id(text: &str) -> TaskId {
    text.parse().expect("an id")
}

fn store() -> Arc<MemoryStore> {
    let clock = ManualClock::starting_at(at("2026-11-21T12:00:00Z"));
    Arc::new(MemoryStore::with_clock(Arc::new(clock)))
}

fn records(store: &Arc<MemoryStore>) -> Records {
    let store: Arc<dyn Store> = Arc::clone(store) as _;
    Records::new(store, Namespace::default(), Some(86_400_000))
}

fn record(id: &str, status: &str, created_at: &str) -> Record {
    let document = json!({
        "id": id, "subagentType": "researcher", "description": "d", "status": status,
        "createdAt": created_at, "updatedAt": "2026-11-20T00:00:00.000Z", "error": "no luck",
    });
    Record::from_document(Json::from(document)).expect("a record")
}

/// What was dispatched here is not the owner's: it neither sees nor removes it, and cannot take its
/// id.
#[tokio::test]
async fn a_task_of_ours_is_no_record() {
    let (store, namespace) = (store(), Namespace::default());
    let spec = NewTask::new("a").into_spec(namespace.clone(), id("t"), TaskDefaults::default());
    let spec = Arc::new(spec.expect("it can be accepted"));
    let admission = Admission::Queue;
    let dispatch = Request::Dispatch { spec, admission };
    let cancel = Request::Command {
        namespace: namespace.clone(),
        id: id("t"),
        command: sidestream::core::Command::Cancel,
    };
    for request in [dispatch, cancel] {
        let committed = store.commit(vec![request]).await;
        let answers = committed.expect("the store works").answers;
        assert!(answers.iter().all(Result::is_ok));
    }
    let records = records(&store);
    assert!(!records.exists(&id("t")).await.expect("the store works"));
    assert!(!records.delete(&id("t")).await.expect("the store works"));
    let all = records.list(&RecordFilter::all()).await;
    assert!(all.expect("the store works").is_empty());
    let refused = records.save(record("t", "running", "x")).await;
    assert!(matches!(
        refused,
        Err(Error::Rejected(Rejection::OwnedHere))
    ));
    let task = store.get(&namespace, &id("t")).await;
    assert!(task.expect("the store works").is_some());
}

/// However many there are, each is listed once, failed once and removed once.
#[tokio::test]
async fn many_records_are_handled_page_by_page() {
    let store = store();
    let records = records(&store);
    for n in 0..1_203 {
        let status = ["running", "completed", "killed"][n % 3];
        let record = record(&format!("r{n}"), status, "2026-11-20T00:00:00.000Z");
        records.save(record).await.expect("the store works");
    }
    let all = records.list(&RecordFilter::all()).await;
    let mut all = all.expect("the store works");
    assert_eq!(all.len(), 1_203);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_203);
    let count = records.recover_running().await;
    assert_eq!(count.expect("the store works"), 401);
    let failed = RecordFilter::statuses([RecordStatus::Failed]);
    let failed = records.list_tasks(&failed).await.expect("the store works");
    assert_eq!(failed.len(), 401);
    assert!(failed.iter().all(|r| r.error() == Some(INTERRUPTED)));
    let removed = records.cleanup().await.expect("the store works");
    assert_eq!(removed, 802, "those that have just failed have not expired");
    let none = RecordFilter::statuses([]);
    let none = records.list(&none).await.expect("the store works");
    assert!(none.is_empty());
}

/// Both bounds belong to the time between them; a time that cannot be read is in no bounds.
#[tokio::test]
async fn failed_records_are_found_by_when_they_were_made() {
    let store = store();
    let records = records(&store);
    let times = [
        ("a", "2026-11-01T00:00:00.000Z"),
        ("b", "2026-11-02T00:00:00.000Z"),
        ("c", "2026-11-03T00:00:00.000Z"),
        ("d", "some day"),
    ];
    for (id, created_at) in times {
        let record = record(id, "failed", created_at);
        records.save(record).await.expect("the store works");
    }
    let found = async |min: Option<&str>, max: Option<&str>| {
        let filter = FailedFilter {
            error_contains: Some("luck".into()),
            min_created_at: min.map(at),
            max_created_at: max.map(at),
        };
        let found = records.recover_failed(&filter).await;
        let found = found.expect("the store works");
        let mut ids: Vec<_> = found.iter().map(|record| record.id().to_string()).collect();
        ids.sort();
        ids
    };
    let second = Some("2026-11-02T00:00:00Z");
    assert_eq!(found(None, None).await, ["a", "b", "c", "d"]);
    assert_eq!(found(second, None).await, ["b", "c"]);
    assert_eq!(found(None, second).await, ["a", "b"]);
    assert_eq!(found(second, second).await, ["b"]);
}

/// S5, R7: who waits for a record, or watches it, is not left waiting when its owner deletes it as it runs.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_record_that_is_deleted_is_told() {
    let manager = TaskManager::builder(MemoryStore::new()).start().await;
    let manager = manager.expect("it starts");
    let records = manager.records(None);
    let running = record("r", "running", "2026-11-20T00:00:00.000Z");
    records.save(running).await.expect("it is kept");
    let story = StreamOptions {
        filter: Filter::default().task(id("r")),
        start: Start::After("0".parse::<Cursor>().expect("a place")),
        ends_with_task: true,
        ..StreamOptions::default()
    };
    let mut story = manager.stream(story).await.expect("it opens");
    let mut waiting = tokio::task::JoinSet::new();
    waiting.spawn({
        let manager = manager.clone();
        async move { manager.wait(&id("r")).await }
    });
    let minute = std::time::Duration::from_secs(60);
    tokio::time::sleep(minute).await;
    assert!(waiting.try_join_next().is_none());
    assert!(records.delete(&id("r")).await.expect("the store works"));
    let told = tokio::time::timeout(minute, waiting.join_next()).await;
    let told = told.expect("it ends").expect("it was spawned");
    let told = told.expect("it does not panic");
    assert!(
        matches!(&told, Err(Error::Rejected(Rejection::NotFound(_)))),
        "{told:?}"
    );
    let rest = async { while story.next().await.is_some() {} };
    tokio::time::timeout(minute, rest).await.expect("it ends");
}
