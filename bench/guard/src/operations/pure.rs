//! What needs neither store nor runtime: the state machine, JSON, events, chunks, filters.

use std::hint::black_box;
use std::sync::Arc;

use sidestream::core::wire::Chunk;
use sidestream::core::{
    Attempt, Command, Event, EventKind, Filter, Json, LogEntry, Namespace, NewTask, ReportNumber,
    Seq, Spec, Task, TaskId, Timestamp, WorkerId, lifecycle,
};

use super::Operation;

fn now() -> Timestamp {
    Timestamp::from_ms(1_790_000_000_000)
}

/// The nth task: each is of an agent, a thread and a run.
pub(super) fn spec(n: usize) -> anyhow::Result<Arc<Spec>> {
    let id = TaskId::new(format!("task-{n:08}"))?;
    let task = NewTask::new("tool")
        .args(serde_json::json!({"query": "background tasks", "n": n}))
        .agent(format!("agent-{}", n % 10))
        .thread(format!("thread-{}", n % 100))
        .run(format!("run-{}", n / 10));
    Ok(Arc::new(task.into_spec(
        Namespace::default(),
        id,
        Default::default(),
    )?))
}

pub(super) fn result() -> Json {
    Json::from_value(&serde_json::json!({"found": ["one", "two"], "took_ms": 12}))
        .expect("it is JSON")
}

/// Dispatch, claim, complete.
fn life(spec: &Arc<Spec>, worker: &WorkerId) -> anyhow::Result<(Task, Vec<Event>)> {
    let (mut task, mut events) = (None::<Task>, Vec::new());
    let complete = Command::Complete {
        attempt: Attempt(1),
        report: ReportNumber(1),
        result: Some(result()),
    };
    let claim = Command::Claim {
        worker: worker.clone(),
        lease_ms: 30_000,
    };
    for command in [Command::Dispatch(Arc::clone(spec)), claim, complete] {
        let change = lifecycle::decide(&spec.identity.id, task.as_ref(), &command, now());
        let change = change.map_err(|rejection| anyhow::anyhow!("{rejection:?}"))?;
        for kind in change.events {
            let event = Event {
                seq: Seq(events.len() as u64 + 1),
                at: now(),
                report: change.report,
                kind,
            };
            lifecycle::apply(&mut task, &spec.identity.namespace, &event);
            events.push(event);
        }
        if let (lifecycle::LeaseChange::Hold(lease), Some(task)) = (change.lease, &mut task) {
            task.lease = Some(lease);
        }
    }
    Ok((task.expect("it was dispatched"), events))
}

fn entries(lives: usize) -> anyhow::Result<Vec<LogEntry>> {
    let worker = WorkerId::new("worker")?;
    let mut entries = Vec::new();
    for n in 0..lives {
        let (task, events) = life(&spec(n)?, &worker)?;
        entries.extend(events.into_iter().map(|event| LogEntry {
            task: Arc::clone(task.identity()),
            event,
        }));
    }
    Ok(entries)
}

pub(super) fn lives() -> anyhow::Result<Operation> {
    let worker = WorkerId::new("worker")?;
    let specs = (0..1_000).map(spec).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Box::new(move || {
        for spec in &specs {
            black_box(life(spec, &worker)?);
        }
        Ok(())
    }))
}

pub(super) fn check_json() -> anyhow::Result<Operation> {
    let words: Vec<_> = (0..40)
        .map(|n| serde_json::json!({"n": n, "word": "some text"}))
        .collect();
    let text = serde_json::to_string(&words)?;
    Ok(Box::new(move || {
        for _ in 0..1_000 {
            black_box(Json::from_text(black_box(text.as_str()))?);
        }
        Ok(())
    }))
}

pub(super) fn stored_forms() -> anyhow::Result<Operation> {
    let entries = entries(1_000)?;
    let spec = spec(0)?;
    Ok(Box::new(move || {
        for entry in &entries {
            let stored = entry.event.kind.to_stored();
            black_box(EventKind::from_stored(stored, || Some(Arc::clone(&spec)))?);
        }
        Ok(())
    }))
}

pub(super) fn chunks() -> anyhow::Result<Operation> {
    let entries = entries(1_000)?;
    Ok(Box::new(move || {
        for entry in &entries {
            black_box(Chunk::of_entry(entry));
        }
        Ok(())
    }))
}

pub(super) fn filters() -> anyhow::Result<Operation> {
    let chunks: Vec<_> = entries(1_000)?.iter().map(Chunk::of_entry).collect();
    let filter = Filter::default()
        .thread("thread-7".parse()?)
        .agent("agent-7".parse()?);
    Ok(Box::new(move || {
        let mut matching = 0;
        for _ in 0..10 {
            for chunk in black_box(&chunks) {
                let of_task = chunk
                    .task
                    .as_ref()
                    .is_some_and(|task| filter.matches_task(task));
                matching += u32::from(of_task && filter.matches_type(chunk.chunk_type));
            }
        }
        anyhow::ensure!(matching > 0, "the filter matches nothing");
        Ok(())
    }))
}
