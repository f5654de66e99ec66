//! Every store answers as the reference does.

use super::*;
use crate::store::{
    ApiKey, Cleanup, Committed, Gone, MemoryStore, PageStart, Pin, Prune, SnapshotQuery, TimeField,
    Told,
};
use sidestream_core::Filter;

/// The same batches at the same times, to this store and to the memory store: the same answers, the
/// same events, the same rows, the same listings and snapshots.
pub(super) async fn it_answers_as_the_reference_does(world: &mut World) {
    let reference = MemoryStore::with_clock(Arc::new(world.clock.clone()));
    let mut walk = Walk {
        random: Random(42),
        ids: 0,
        pins: Vec::new(),
    };
    for round in 0..400 {
        let step = walk.random.below(2_000);
        world.clock.advance_ms(i64::try_from(step).expect("small"));
        let batch = walk.batch(&reference).await;
        let expected = reference.commit(batch.clone()).await;
        let expected = expected.expect("memory works");
        let found = world.store().commit(batch.clone()).await;
        let found = found.expect("the store works");
        compare(round, &batch, &found, &expected);
        note(world, &batch, found);
        walk.compare_reads(round, world.store(), &reference).await;
    }
}

fn compare(round: u32, batch: &[Request], found: &Committed, expected: &Committed) {
    for (n, request) in batch.iter().enumerate() {
        let (found, expected) = (&found.answers[n], &expected.answers[n]);
        let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(found, expected, "round {round}: {request:?}");
    }
    assert_eq!(found.entries, expected.entries, "round {round}");
}

/// For the audit.
fn note(world: &World, batch: &[Request], committed: Committed) {
    let mut seen = world.seen.lock();
    seen.has_cleaned_up = true;
    for request in batch {
        if let Request::Delete { namespace, id } = request {
            seen.deleted.insert((namespace.clone(), id.clone()));
        }
    }
    for entry in committed.entries {
        seen.entries.insert(entry.event.seq, entry);
    }
}

/// A way through everything that can be asked.
struct Walk {
    random: Random,
    ids: u64,
    pins: Vec<(Vec<Pin>, Vec<Pin>)>,
}

const ROOMS: [&str; 2] = ["default", "b"];
const TOOLS: [&str; 3] = ["t1", "t2", "t3"];

impl Walk {
    async fn batch(&mut self, reference: &MemoryStore) -> Vec<Request> {
        let mut named: BTreeSet<(Namespace, TaskId)> = BTreeSet::new();
        let mut batch = Vec::new();
        for _ in 0..self.random.below(8) {
            let namespace = room(self.pick(&ROOMS));
            let known = reference
                .list(&ListQuery::new(namespace.clone(), 1_000))
                .await;
            let known = known.expect("memory works").tasks;
            let request = match self.random.below(10) {
                0..3 => self.dispatch(&namespace),
                3 => self.record(&namespace),
                4..9 => match self.random.pick(&known) {
                    Some(task) => self.command(&task.clone()),
                    None => continue,
                },
                _ => self.housekeeping(&namespace, &known, reference),
            };
            // One request of a batch may name a task.
            if names(&request).is_some_and(|name| !named.insert(name)) {
                continue;
            }
            batch.push(request);
        }
        if self.random.one_in(2) {
            batch.push(Request::Claim(self.claim()));
        }
        if self.random.one_in(6) {
            batch.push(Request::Rescue(self.rescue()));
        }
        batch
    }

    fn pick(&mut self, texts: &[&'static str]) -> &'static str {
        self.random.pick(texts).expect("there are some")
    }

    fn small(&mut self, bound: u64) -> u32 {
        u32::try_from(self.random.below(bound)).expect("small")
    }

    fn dispatch(&mut self, namespace: &Namespace) -> Request {
        self.ids += 1;
        let mut new = NewTask::new(self.pick(&TOOLS)).max_retries(self.small(3));
        if !self.random.one_in(4) {
            new = new.agent(self.pick(&["x", "y"]));
        }
        if self.random.one_in(2) {
            new = new.thread(self.pick(&["th1", "th2"]));
        }
        if self.random.one_in(3) {
            let priority = i16::try_from(self.random.below(3)).expect("small");
            new = new.priority(priority - 1);
        }
        if self.random.one_in(4) {
            let in_ms = i64::try_from(self.random.below(8_000)).expect("small");
            new = new.run_at(at("2026-11-21T00:00:00Z").plus_ms(in_ms * 100));
        }
        if self.random.one_in(6) {
            new = new.idempotency_key(format!("key-{}", self.random.below(20)));
        }
        if self.random.one_in(6) {
            new = new
                .run("run")
                .tool_call(format!("call-{}", self.random.below(20)));
        }
        new.timeout_ms = Some(1 + self.random.below(60_000));
        let admission = match self.random.below(6) {
            0 => Admission::Reject(self.limits()),
            1 => Admission::FallbackToSync(self.limits()),
            _ => Admission::Queue,
        };
        let spec = spec_in(namespace, &format!("t{}", self.ids), new);
        Request::Dispatch { spec, admission }
    }

    fn limits(&mut self) -> Limits {
        let per_tool = TOOLS.map(|name| (tool(name), 1 + self.small(5)));
        Limits {
            total: self.random.one_in(3).then(|| 1 + self.small(20)),
            per_agent: self.random.one_in(2).then(|| self.small(4)),
            per_tool: per_tool.into_iter().filter(|(_, n)| *n < 5).collect(),
        }
    }

    fn record(&mut self, namespace: &Namespace) -> Request {
        let status = self.pick(&["pending", "running", "completed", "failed", "killed"]);
        let more = serde_json::json!({"n": self.random.below(3)});
        Request::Record {
            namespace: namespace.clone(),
            record: record(&format!("r{}", self.random.below(4)), status, &more),
        }
    }

    fn command(&mut self, task: &Task) -> Request {
        let attempt = match self.random.below(10) {
            0 => Attempt(task.attempt.0 + 1),
            _ => task.attempt,
        };
        let number = self.random.below(1_000).to_string();
        let command = match self.random.below(12) {
            0..3 => output(attempt, &[&number, "2"]),
            3 => suspend(attempt, &number),
            4 => resume(&number),
            5 | 6 => complete(attempt, &number),
            7 => fail(attempt, &number),
            8 => time_out(attempt),
            9 => Command::Cancel,
            10 => Command::Retry,
            _ => {
                let lease_ms = self.random.below(60_000);
                Command::Renew { attempt, lease_ms }
            }
        };
        let number = ReportNumber(self.small(8));
        asked(task, command.numbered(number))
    }

    fn housekeeping(
        &mut self,
        namespace: &Namespace,
        known: &[Task],
        reference: &MemoryStore,
    ) -> Request {
        let (now, namespace) = (reference.now(), namespace.clone());
        let ago = |random: &mut Random| {
            let ms = i64::try_from(random.below(200_000)).expect("small");
            now.plus_ms(-ms)
        };
        let id = match self.random.pick(known) {
            Some(task) => task.id().clone(),
            None => task_id("nobody"),
        };
        match self.random.below(7) {
            0 => Request::Cleanup(Cleanup {
                completed_before: ago(&mut self.random),
                failed_before: ago(&mut self.random),
                untold_before: ago(&mut self.random),
                limit: 1_000,
            }),
            1 => Request::Prune(Prune {
                before: ago(&mut self.random),
                events_max: 100 + self.random.below(1_000),
                limit: 1 + self.small(200),
            }),
            2 => Request::Acknowledge {
                namespace,
                thread: ThreadId::new(self.pick(&["th1", "th2"])).expect("an id"),
                told: Told::UpTo(Seq(self.random.below(2_000))),
            },
            3 => {
                let ends = known.iter().map(|task| (task.id().clone(), task.seq));
                Request::Acknowledge {
                    namespace,
                    thread: ThreadId::new("th1").expect("an id"),
                    told: Told::These(ends.take(5).collect()),
                }
            }
            4 => Request::AddKey(ApiKey {
                id: format!("k{}", self.random.below(5)),
                name: "key".into(),
                hash: [1; 32],
                role: "read".into(),
                namespace,
                created_at: at("2026-11-21T00:00:00Z"),
                revoked_at: None,
            }),
            5 => Request::RevokeKey {
                id: format!("k{}", self.random.below(5)),
            },
            _ => Request::Delete { namespace, id },
        }
    }

    fn claim(&mut self) -> Claim {
        let mut limits = self.limits();
        limits.total = None;
        Claim {
            worker: worker(self.pick(&["w/1", "w/2", "v"])),
            namespace: self.random.one_in(3).then(|| room(self.pick(&ROOMS))),
            limit: self.small(6),
            lease_ms: self.random.below(60_000),
            limits: Arc::new(limits),
            ..claim(&TOOLS[..1 + self.random.below(3) as usize])
        }
    }

    fn rescue(&mut self) -> Rescue {
        Rescue {
            limit: 1 + self.small(20),
            overtime_ms: self.random.below(10_000),
            jitter: Jitter(self.random.below(1 << 32) as u32),
            gone: self.random.one_in(4).then(|| Gone {
                prefix: "w/".into(),
                except: "w/2".into(),
            }),
            spared: Arc::default(),
        }
    }

    async fn compare_reads(&mut self, round: u32, store: &dyn Store, reference: &MemoryStore) {
        let query = self.list();
        let page = store.list(&query).await.expect("the store works");
        let expected = reference.list(&query).await.expect("memory works");
        assert_eq!(page.tasks, expected.tasks, "round {round}: {query:?}");
        assert_eq!(page.total, expected.total, "round {round}: {query:?}");
        assert_eq!(page.next.is_some(), expected.next.is_some());
        let (namespace, thread) = (room(self.pick(&ROOMS)), self.pick(&["th1", "th2"]));
        let thread = ThreadId::new(thread).expect("an id");
        let untold = store.completions(&namespace, &thread, 5).await;
        let expected = reference.completions(&namespace, &thread, 5).await;
        assert_eq!(
            untold.expect("the store works"),
            expected.expect("memory works"),
            "round {round}"
        );
        let head = store.head().await.expect("the store works");
        let expected = reference.head().await.expect("memory works");
        assert_eq!((head.seq, head.floor), (expected.seq, expected.floor));
        self.compare_snapshots(round, namespace, store, reference, head.floor)
            .await;
    }

    async fn compare_snapshots(
        &mut self,
        round: u32,
        namespace: Namespace,
        store: &dyn Store,
        reference: &MemoryStore,
        floor: Seq,
    ) {
        let query = SnapshotQuery {
            namespace,
            filter: Filter::default(),
            statuses: vec![Status::Pending, Status::Running, Status::Suspended],
        };
        let found = store.snapshot(&query).await.expect("the store works");
        let found = found.pins.all().await.expect("the store works");
        let expected = reference.snapshot(&query).await.expect("memory works");
        let expected = expected.pins.all().await.expect("memory works");
        let plain = |pins: &[Pin]| -> Vec<Pin> {
            let pins = pins.iter();
            pins.map(|pin| Pin { key: 0, ..*pin }).collect()
        };
        assert_eq!(plain(&found), plain(&expected), "round {round}");
        self.pins.push((found, expected));
        if self.pins.len() > 12 {
            self.pins.remove(0);
        }
        // What a snapshot of before the floor shows is nobody's promise.
        self.pins
            .retain(|(pins, _)| pins.iter().all(|pin| pin.seq > floor));
        if let Some((pins, expected)) = self.random.pick(&self.pins) {
            let shown = store.resolve(pins).await.expect("the store works");
            let expected = reference.resolve(expected).await.expect("memory works");
            assert_eq!(shown, expected, "round {round}");
        }
    }

    fn list(&mut self) -> ListQuery {
        let fields = [
            TimeField::CreatedAt,
            TimeField::StartedAt,
            TimeField::SuspendedAt,
            TimeField::CompletedAt,
        ];
        let mut query = ListQuery::new(room(self.pick(&ROOMS)), self.small(20) as usize);
        query.order_by = *self.random.pick(&fields).expect("there are four");
        query.date_field = *self.random.pick(&fields).expect("there are four");
        query.is_descending = self.random.one_in(2);
        for status in Status::ALL {
            if self.random.one_in(6) {
                query.statuses.push(status);
            }
        }
        if self.random.one_in(3) {
            query.agent_id = Some(agent("x"));
        }
        if self.random.one_in(4) {
            query.tool_name = Some(tool(self.pick(&TOOLS)));
        }
        if self.random.one_in(4) {
            query.thread_id = "th1".parse().ok();
        }
        if self.random.one_in(5) {
            query.is_external = Some(self.random.one_in(2));
        }
        if self.random.one_in(3) {
            query.from = Some(at("2026-11-21T00:02:00Z"));
        }
        if self.random.one_in(3) {
            query.to = Some(at("2026-11-21T00:05:00Z"));
        }
        if self.random.one_in(3) {
            query.start = PageStart::Offset(self.small(10) as usize);
        }
        query
    }
}

fn names(request: &Request) -> Option<(Namespace, TaskId)> {
    match request {
        Request::Dispatch { spec, .. } => {
            let identity = &spec.identity;
            Some((identity.namespace.clone(), identity.id.clone()))
        }
        Request::Command { namespace, id, .. } | Request::Delete { namespace, id } => {
            Some((namespace.clone(), id.clone()))
        }
        Request::Record { namespace, record } => Some((namespace.clone(), record.id().clone())),
        _ => None,
    }
}
