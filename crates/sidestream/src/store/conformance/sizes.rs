//! Sizes: no page is large because what is on it is.

use super::*;
use crate::store::PageStart;

/// As large as a payload may be, less a little.
const LARGE: usize = 1_000_000;

fn large() -> NewTask {
    NewTask::new("a").args(serde_json::json!("x".repeat(LARGE)))
}

/// S4: a page of the log ends early where its events are large, with the arguments that they show, and says
/// how far it goes.
pub(super) async fn a_page_of_the_log_ends_early_where_events_are_large(world: &mut World) {
    for n in 0..6 {
        world.dispatch(spec(&format!("t{n}"), large())).await;
    }
    world.claim(claim(&["a"])).await;
    for task in [
        None,
        Some((room("default"), TaskId::new("t3").expect("an id"))),
    ] {
        let mut query = LogQuery {
            after: Seq(0),
            limit: 1_000,
            bytes_max: 1_500_000,
            task,
        };
        let mut seen = 0;
        while query.after < Seq(12) {
            let page = world.store().log(&query).await.expect("the log is read");
            assert!(page.entries.len() <= 2, "{} events", page.entries.len());
            assert!(page.through > query.after, "it goes on");
            seen += page.entries.len();
            query.after = page.through;
        }
        assert_eq!(seen, if query.task.is_some() { 2 } else { 12 });
    }
}

/// A page of a list ends early where its tasks are large, and says where the next begins; one that is asked
/// for by number does not, since its like are.
pub(super) async fn a_page_of_a_list_ends_early_where_tasks_are_large(world: &mut World) {
    for n in 0..5 {
        world.dispatch(spec(&format!("t{n}"), large())).await;
    }
    let mut query = ListQuery {
        bytes_max: 1_500_000,
        ..ListQuery::new(room("default"), 100)
    };
    let mut listed = Vec::new();
    loop {
        let page = world.list(&query).await;
        assert_eq!(page.total, 5);
        assert!((1..=2).contains(&page.tasks.len()));
        listed.extend(ids(&page.tasks).into_iter().map(str::to_owned));
        let Some(next) = page.next else { break };
        query.start = PageStart::After(next);
    }
    assert_eq!(listed, ["t0", "t1", "t2", "t3", "t4"]);
    query.start = PageStart::Offset(1);
    let page = world.list(&query).await;
    assert_eq!(ids(&page.tasks), ["t1", "t2", "t3", "t4"]);
}
