//! What promises are made of: names, requests and reports, in one line each.

use super::*;

/// Runs futures on several threads at once, to the end.
#[allow(
    clippy::disallowed_methods,
    reason = "what is tested is what happens at once"
)]
pub(super) async fn together<F, T>(futures: impl IntoIterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let running: Vec<_> = futures.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for future in running {
        results.push(future.await.expect("it does not panic"));
    }
    results
}

/// Numbers from a seed: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True once in so many times.
    pub(super) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() {
            return None;
        }
        let index = usize::try_from(self.below(items.len() as u64)).expect("an index");
        items.get(index)
    }
}

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

pub(super) fn room(text: &str) -> Namespace {
    Namespace::new(text).expect("a namespace")
}

pub(super) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).expect("a task's id")
}

pub(super) fn tool(text: &str) -> ToolName {
    ToolName::new(text).expect("a tool's name")
}

pub(super) fn agent(text: &str) -> AgentId {
    AgentId::new(text).expect("an agent's id")
}

pub(super) fn worker(text: &str) -> WorkerId {
    WorkerId::new(text).expect("a worker's id")
}

pub(super) fn json(text: &str) -> Json {
    Json::from_text(text).expect("JSON")
}

/// What is asked for, in the namespace `default`.
pub(super) fn spec(id: &str, new: NewTask) -> Arc<Spec> {
    spec_in(&Namespace::default(), id, new)
}

pub(super) fn spec_in(namespace: &Namespace, id: &str, new: NewTask) -> Arc<Spec> {
    let spec = new.into_spec(namespace.clone(), task_id(id), TaskDefaults::default());
    Arc::new(spec.expect("it can be accepted"))
}

pub(super) fn dispatch(spec: &Arc<Spec>) -> Request {
    Request::Dispatch {
        spec: Arc::clone(spec),
        admission: Admission::Queue,
    }
}

/// A claim by worker `w`, as many as there are, for a minute, without limits.
pub(super) fn claim(tools: &[&str]) -> Claim {
    Claim {
        worker: worker("w"),
        tools: tools.iter().map(|name| tool(name)).collect(),
        namespace: None,
        limit: 1_000,
        lease_ms: 60_000,
        limits: Arc::default(),
    }
}

pub(super) fn per_agent(limit: u32) -> Arc<Limits> {
    Arc::new(Limits {
        per_agent: Some(limit),
        ..Limits::default()
    })
}

pub(super) fn per_tool(limits: &[(&str, u32)]) -> Arc<Limits> {
    let per_tool = limits.iter().map(|(name, limit)| (tool(name), *limit));
    Arc::new(Limits {
        per_tool: per_tool.collect(),
        ..Limits::default()
    })
}

pub(super) fn asked(task: &Task, command: Command) -> Request {
    let identity = task.identity();
    Request::Command {
        namespace: identity.namespace.clone(),
        id: identity.id.clone(),
        command,
    }
}

pub(super) fn output(attempt: Attempt, payloads: &[&str]) -> Command {
    let payloads = payloads.iter().map(|text| json(text)).collect();
    Command::Output {
        attempt,
        report: ReportNumber::NONE,
        payloads,
    }
}

pub(super) fn suspend(attempt: Attempt, payload: &str) -> Command {
    let payload = json(payload);
    Command::Suspend {
        attempt,
        report: ReportNumber::NONE,
        payload,
    }
}

pub(super) fn resume(data: &str) -> Command {
    Command::Resume { data: json(data) }
}

pub(super) fn complete(attempt: Attempt, result: &str) -> Command {
    let result = Some(json(result));
    Command::Complete {
        attempt,
        report: ReportNumber::NONE,
        result,
    }
}

/// A failure that another attempt can help, at once.
pub(super) fn fail(attempt: Attempt, message: &str) -> Command {
    Command::Fail {
        attempt,
        report: ReportNumber::NONE,
        error: TaskError::new(message),
        is_retryable: true,
        jitter: Jitter(0),
    }
}

pub(super) fn time_out(attempt: Attempt) -> Command {
    let jitter = Jitter(0);
    Command::TimeOut {
        attempt,
        report: ReportNumber::NONE,
        jitter,
    }
}

pub(super) fn rescue() -> Rescue {
    Rescue {
        limit: 1_000,
        overtime_ms: 10_000,
        jitter: Jitter(0),
        gone: None,
        spared: Arc::default(),
    }
}

pub(super) fn ids<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> Vec<&'a str> {
    tasks.into_iter().map(|task| task.id().as_str()).collect()
}

/// A record with a time of its own for each text.
pub(super) fn record(id: &str, status: &str, more: &serde_json::Value) -> Arc<Record> {
    let mut document = serde_json::json!({
        "id": id,
        "subagentType": "researcher",
        "description": "looks things up",
        "status": status,
        "createdAt": "2026-11-20T10:00:00.000Z",
        "updatedAt": "2026-11-20T11:00:00.000Z",
    });
    if let (Some(document), Some(more)) = (document.as_object_mut(), more.as_object()) {
        document.extend(more.clone());
    }
    Arc::new(Record::from_document(Json::from(document)).expect("a record"))
}
