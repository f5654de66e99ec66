//! A process whose tasks are driven by hand, and what a test asks of a stream.

use super::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A process that runs nothing by itself, on a store that others may share.
pub(crate) struct Process {
    pub(crate) manager: TaskManager,
    pub(crate) store: Arc<FaultyStore>,
}

pub(crate) async fn process_on(database: &Arc<MemoryStore>, ring: RingLimits) -> Process {
    let chance = Arc::new(SeededChance::new(1));
    let store = Arc::new(FaultyStore::new(
        Arc::clone(database) as Arc<dyn Store>,
        chance,
    ));
    let config = Config {
        accepts_any_tool: true,
        ring,
        ..Config::default()
    };
    let builder = TaskManager::builder_on(Arc::clone(&store) as Arc<dyn Store>);
    let manager = builder.config(config).start().await.unwrap();
    Process { manager, store }
}

pub(crate) fn database() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new().with_epoch(Epoch::new("k3v9").unwrap()))
}

pub(crate) async fn process() -> Process {
    process_on(&database(), RingLimits::default()).await
}

pub(crate) fn small_ring() -> RingLimits {
    RingLimits {
        chunks: 4,
        ..RingLimits::default()
    }
}

impl Process {
    pub(crate) async fn submit(&self, request: Request) -> Answer {
        self.manager.writer().submit(request).await.unwrap()
    }

    pub(crate) async fn dispatch(&self, task: NewTask) -> Task {
        self.manager
            .dispatch(task)
            .await
            .unwrap()
            .task()
            .unwrap()
            .clone()
    }

    /// Dispatches a task, and gives it to a worker.
    pub(crate) async fn run(&self, task: NewTask) -> Task {
        let task = self.dispatch(task).await;
        self.claim(&task).await
    }

    pub(crate) async fn claim(&self, task: &Task) -> Task {
        let claim = Claim {
            worker: "hand".parse().unwrap(),
            tools: [task.identity().tool_name.clone()].into(),
            namespace: None,
            limit: 1,
            lease_ms: 86_400_000,
            limits: Arc::new(Limits::default()),
        };
        match self.submit(Request::Claim(claim)).await {
            Answer::Claimed(mut claimed) => claimed.tasks.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn command(&self, task: &Task, command: Command) -> Task {
        let request = Request::Command {
            namespace: task.identity().namespace.clone(),
            id: task.id().clone(),
            command,
        };
        match self.submit(request).await {
            Answer::Applied(task) => task,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn output(&self, task: &Task, payloads: impl IntoIterator<Item = u64>) {
        let attempt = task.attempt;
        let payloads = payloads.into_iter().map(|n| Json::from(json!(n))).collect();
        self.command(
            task,
            Command::Output {
                attempt,
                report: ReportNumber::NONE,
                payloads,
            },
        )
        .await;
    }

    pub(crate) async fn suspend(&self, task: &Task) {
        let (attempt, payload) = (task.attempt, Json::string("may I?"));
        self.command(
            task,
            Command::Suspend {
                attempt,
                report: ReportNumber::NONE,
                payload,
            },
        )
        .await;
    }

    pub(crate) async fn complete(&self, task: &Task) {
        let attempt = task.attempt;
        self.command(
            task,
            Command::Complete {
                attempt,
                report: ReportNumber::NONE,
                result: None,
            },
        )
        .await;
    }

    /// Forgets all of the log but its last events.
    pub(crate) async fn prune_but(&self, events_max: u64) {
        let prune = Prune {
            before: Timestamp::from_ms(0),
            events_max,
            limit: u32::MAX,
        };
        self.submit(Request::Prune(prune)).await;
    }

    pub(crate) async fn open(&self, options: StreamOptions) -> ChunkStream {
        self.manager.stream(options).await.unwrap()
    }
}

pub(crate) fn all() -> Filter {
    Filter::default().types(ChunkType::ALL)
}

pub(crate) fn of(filter: Filter) -> StreamOptions {
    StreamOptions {
        filter,
        ..StreamOptions::default()
    }
}

pub(crate) fn after(cursor: &str, filter: Filter) -> StreamOptions {
    StreamOptions {
        start: Start::After(cursor.parse().unwrap()),
        ..of(filter)
    }
}

pub(crate) async fn next(stream: &mut ChunkStream) -> StreamItem {
    let next = timeout(HOUR, stream.next()).await;
    next.expect("the stream stays silent")
        .expect("the stream has ended")
        .unwrap()
}

pub(crate) async fn next_chunk(stream: &mut ChunkStream) -> Arc<Chunk> {
    next(stream)
        .await
        .chunk
        .expect("an item that only moves the cursor")
}

/// What is ready now: types, and of outputs what they say.
pub(crate) async fn ready(stream: &mut ChunkStream) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok(Some(item)) = timeout(Duration::from_millis(1), stream.next()).await {
        seen.push(match item.unwrap().chunk {
            None => "|".to_owned(),
            Some(chunk) if chunk.chunk_type == Output => {
                chunk.payload().expect("it is plain")["payload"].to_string()
            }
            Some(chunk) => word(chunk.chunk_type).to_owned(),
        });
    }
    seen
}

pub(crate) fn word(chunk_type: ChunkType) -> &'static str {
    let word = chunk_type.as_str();
    word.strip_prefix("background-task-").unwrap_or(word)
}

pub(crate) async fn end(stream: &mut ChunkStream) -> Vec<ChunkType> {
    let mut seen = Vec::new();
    while let Some(item) = timeout(HOUR, stream.next())
        .await
        .expect("the story does not end")
    {
        seen.extend(item.unwrap().chunk.map(|chunk| chunk.chunk_type));
    }
    seen
}
