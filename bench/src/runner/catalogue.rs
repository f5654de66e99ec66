//! What can be measured: each figure, by which values it is judged, and who contends in it.

use crate::place::Kind;

/// A figure of the tables.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What is done, for whoever reads the table alone.
    pub(super) about: &'static str,
    /// What there is an amount of: its setting's name.
    pub(super) unit: &'static str,
    /// The first is what contenders are compared by.
    pub(super) columns: &'static [Column],
    pub(super) settings: Settings,
    pub(super) entries: &'static [Entry],
}

/// One value of a table.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) head: &'static str,
    /// Its name in what was found.
    pub(super) value: &'static str,
    pub(super) decimals: usize,
    pub(super) better: Better,
}

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Better {
    Higher,
    Lower,
}

/// What a figure is measured at; a table for each.
#[derive(Debug)]
pub(super) enum Settings {
    /// As many tasks at once as the options say.
    InFlight,
    /// As many stored tasks as the options say.
    Stored,
    /// These, each a list of names and values. Where one is the amount, it is everybody's.
    Fixed(&'static [&'static [(&'static str, u64)]]),
}

/// A contender in a figure.
#[derive(Debug)]
pub(super) struct Entry {
    /// By which the options pick it.
    pub(super) contender: &'static str,
    pub(super) program: Program,
    pub(super) store: Kind,
    /// Settings of its own.
    pub(super) own: &'static [(&'static str, u64)],
    /// How much it is to do: some seconds' worth. With few in flight, ten or more, a hundred or more, a thousand or
    /// more; one figure's fixed settings take the first.
    pub(super) amounts: [u64; 4],
    /// It takes part where this setting is not larger: beyond, it would not end in time.
    pub(super) at_most: Option<(&'static str, u64)>,
}

/// What carries out an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// This one.
    Own,
    /// A script in `bench/peers/node`.
    Node(&'static str),
    /// The binary of `bench/peers/rust`.
    Crates,
}

impl Entry {
    /// How much it is to do with so many in flight; in whole rounds of them.
    pub(super) fn amount(&self, in_flight: u64, is_quick: bool) -> u64 {
        let amount = match in_flight {
            0..10 => self.amounts[0],
            10..100 => self.amounts[1],
            100..1_000 => self.amounts[2],
            _ => self.amounts[3],
        };
        let amount = if is_quick { amount / 10 } else { amount };
        amount.max(1).next_multiple_of(in_flight.max(1))
    }
}

const fn higher(head: &'static str, value: &'static str, decimals: usize) -> Column {
    Column {
        head,
        value,
        decimals,
        better: Better::Higher,
    }
}

const fn lower(head: &'static str, value: &'static str, decimals: usize) -> Column {
    Column {
        head,
        value,
        decimals,
        better: Better::Lower,
    }
}

const fn entry(contender: &'static str, program: Program, store: Kind, amounts: [u64; 4]) -> Entry {
    Entry {
        contender,
        program,
        store,
        own: &[],
        amounts,
        at_most: None,
    }
}

impl Entry {
    const fn at_most(mut self, setting: &'static str, value: u64) -> Self {
        self.at_most = Some((setting, value));
        self
    }

    const fn with(mut self, own: &'static [(&'static str, u64)]) -> Self {
        self.own = own;
        self
    }
}

const fn ours(store: Kind, amounts: [u64; 4]) -> Entry {
    entry("ours", Program::Own, store, amounts)
}

const fn limit(store: Kind, amounts: [u64; 4]) -> Entry {
    entry("limit", Program::Own, store, amounts)
}

const fn mastra(store: Kind, amounts: [u64; 4]) -> Entry {
    entry("mastra", Program::Node("mastra.mjs"), store, amounts)
}

const P50: Column = lower("p50 ms", "p50_ms", 2);
const P99: Column = lower("p99 ms", "p99_ms", 2);

const FULL: [u64; 4] = [3_000, 20_000, 40_000, 80_000];
const ON_POSTGRES: [u64; 4] = [1_000, 5_000, 20_000, 40_000];
const THOUSAND: [u64; 4] = [1_000; 4];

use Kind::{File, Memory, Postgres, Redis, Sqlite};

pub(super) const FIGURES: &[Figure] = &[
    TASKS, DRAIN, PICKUP, OUTPUTS, LATENCY, DELIVERY, ACROSS, FANOUT, THREADS, SNAPSHOT, LIST,
    RESUME, GROWTH, START, STORES,
];

const TASKS: Figure = Figure {
    name: "tasks",
    title: "Tasks a second",
    about: "A no-op task, dispatched → completed, as one watcher sees it, with so many in flight: the next is \
            dispatched as soon as one has completed. The limit writes the same rows and events with the database's \
            own client, as many to a commit as occur with so many in flight, and does nothing else; in our tables, with the indexes \
            that our lists, queue, leases and retention need.",
    unit: "tasks",
    columns: &[
        higher("tasks/s", "tasks_per_second", 0),
        P50,
        P99,
        higher("to a commit", "transitions_per_commit", 0),
    ],
    settings: Settings::InFlight,
    entries: &[
        ours(Memory, FULL),
        ours(Sqlite, FULL),
        ours(Postgres, ON_POSTGRES),
        ours(Postgres, ON_POSTGRES).with(&[("servers", 3)]),
        limit(Sqlite, FULL),
        limit(Sqlite, FULL).with(&[("indexed", 1)]),
        limit(Postgres, FULL),
        limit(Postgres, FULL).with(&[("indexed", 1)]),
        mastra(Memory, [4_000, 6_000, 6_000, 6_000]),
        mastra(Sqlite, [600, 800, 800, 1_000]),
        mastra(Postgres, [800, 1_000, 1_000, 1_000]),
        entry(
            "apalis",
            Program::Crates,
            Sqlite,
            [300, 2_000, 5_000, 10_000],
        ),
        entry(
            "apalis",
            Program::Crates,
            Postgres,
            [300, 2_000, 5_000, 10_000],
        ),
        entry(
            "graphile_worker",
            Program::Crates,
            Postgres,
            [500, 2_000, 3_000, 3_000],
        ),
        entry(
            "graphile_worker",
            Program::Crates,
            Postgres,
            [500, 5_000, 10_000, 20_000],
        )
        .with(&[("local_queue", 1)]),
        entry(
            "graphile-worker",
            Program::Node("graphile.mjs"),
            Postgres,
            [1_000, 6_000, 10_000, 10_000],
        ),
        entry(
            "graphile-worker",
            Program::Node("graphile.mjs"),
            Postgres,
            [1_000, 10_000, 20_000, 40_000],
        )
        .with(&[("local_queue", 1)]),
        entry(
            "pg-boss",
            Program::Node("pgboss.mjs"),
            Postgres,
            [5, 50, 500, 5_000],
        ),
        entry(
            "pg-boss",
            Program::Node("pgboss.mjs"),
            Postgres,
            [500, 2_000, 10_000, 10_000],
        )
        .with(&[("listen", 1)]),
        entry(
            "bullmq",
            Program::Node("bullmq.mjs"),
            Redis,
            [3_000, 20_000, 40_000, 40_000],
        ),
        entry(
            "bullmq",
            Program::Node("bullmq.mjs"),
            Postgres,
            [500, 3_000, 5_000, 6_000],
        ),
    ],
};

const DRAIN: Figure = Figure {
    name: "drain",
    title: "A backlog drained",
    about: "All tasks are stored before any is begun; then they are taken in batches of so many. Only the drain is \
            timed; storing them, as the peer does it best, stands in a column of its own.",
    unit: "tasks",
    columns: &[
        higher("drained/s", "tasks_per_second", 0),
        higher("stored/s", "stored_per_second", 0),
    ],
    settings: Settings::Fixed(&[&[("batch", 100)], &[("batch", 1_000)]]),
    entries: &[
        ours(Sqlite, [50_000; 4]),
        ours(Postgres, [50_000; 4]),
        entry("apalis", Program::Crates, Sqlite, [50_000; 4]),
        entry("apalis", Program::Crates, Postgres, [50_000; 4]),
        entry("graphile_worker", Program::Crates, Postgres, [20_000; 4])
            .with(&[("local_queue", 1)]),
        entry(
            "graphile-worker",
            Program::Node("graphile.mjs"),
            Postgres,
            [50_000; 4],
        )
        .with(&[("local_queue", 1)]),
        entry(
            "pg-boss",
            Program::Node("pgboss.mjs"),
            Postgres,
            [20_000; 4],
        ),
        entry("bullmq", Program::Node("bullmq.mjs"), Redis, [20_000; 4]),
        entry("bullmq", Program::Node("bullmq.mjs"), Postgres, [5_000; 4]),
    ],
};

const PICKUP: Figure = Figure {
    name: "pickup",
    title: "Dispatched → its handler runs",
    about: "One task after the other on an idle machine, from the call that dispatches it to the first line of its \
            handler.",
    unit: "samples",
    columns: &[P50, P99],
    settings: Settings::Fixed(&[&[]]),
    entries: &[
        ours(Memory, THOUSAND),
        ours(Sqlite, THOUSAND),
        ours(Postgres, THOUSAND),
        mastra(Memory, THOUSAND),
        mastra(Sqlite, [500; 4]),
        mastra(Postgres, [500; 4]),
        entry("apalis", Program::Crates, Sqlite, [100; 4]),
        entry("apalis", Program::Crates, Postgres, [100; 4]),
        entry("graphile_worker", Program::Crates, Postgres, [500; 4]),
        entry(
            "graphile-worker",
            Program::Node("graphile.mjs"),
            Postgres,
            THOUSAND,
        ),
        entry("pg-boss", Program::Node("pgboss.mjs"), Postgres, [20; 4]),
        entry("pg-boss", Program::Node("pgboss.mjs"), Postgres, [500; 4]).with(&[("listen", 1)]),
        entry("bullmq", Program::Node("bullmq.mjs"), Redis, THOUSAND),
        entry("bullmq", Program::Node("bullmq.mjs"), Postgres, THOUSAND),
    ],
};

const OUTPUTS: Figure = Figure {
    name: "outputs",
    title: "Output events a second",
    about: "A hundred tasks speak at once, 200 bytes at a time, and one watcher of everything hears it; each output \
            is an event in the log. The limit writes the rows of the events and does nothing else.",
    unit: "outputs",
    columns: &[
        higher("events/s", "events_per_second", 0),
        higher("events a commit", "events_per_commit", 0),
    ],
    settings: Settings::Fixed(&[&[("tasks", 100)]]),
    entries: &[
        ours(Memory, [500_000; 4]),
        ours(Sqlite, [500_000; 4]),
        ours(Postgres, [200_000; 4]),
        limit(Sqlite, [500_000; 4]),
    ],
};

const LATENCY: Figure = Figure {
    name: "latency",
    title: "A handler's output → a reader",
    about: "One output every 2 ms to a reader in the same process, on an idle machine; ours through the log. The \
            limit is one 4 KiB append and `fdatasync` on the same disk.",
    unit: "outputs",
    columns: &[P50, P99],
    settings: Settings::Fixed(&[&[]]),
    entries: &[
        ours(Memory, THOUSAND),
        ours(Sqlite, THOUSAND),
        ours(Postgres, THOUSAND),
        limit(Sqlite, THOUSAND),
        mastra(Memory, THOUSAND),
        mastra(Sqlite, THOUSAND),
        mastra(Postgres, THOUSAND),
    ],
};

const DELIVERY: Figure = Figure {
    name: "delivery",
    title: "A handler's output → an SSE client",
    about: "Two hundred outputs a second, one at a time, to one client over HTTP, in a process of its own. The limit is \
            axum, which stores nothing.",
    unit: "seconds",
    columns: &[P50, P99],
    settings: Settings::Fixed(&[&[("clients", 1), ("outputs_per_second", 200)]]),
    entries: &[
        ours(Memory, [5; 4]),
        ours(Sqlite, [5; 4]),
        ours(Postgres, [5; 4]),
        limit(Sqlite, [5; 4]),
        mastra(Memory, [5; 4]),
        mastra(Sqlite, [5; 4]),
        mastra(Postgres, [5; 4]),
    ],
};

const ACROSS: Figure = Figure {
    name: "across",
    title: "From one server to another",
    about: "Two servers, A and B, on one PostgreSQL; a worker elsewhere, which claims from A by long poll over HTTP, \
            and a client that streams from B; idle otherwise. The limit: an insert is committed, and another session \
            is notified.",
    unit: "samples",
    columns: &[
        lower("output by A → client of B, p50 ms", "output_p50_ms", 2),
        lower("p99", "output_p99_ms", 2),
        lower("end by A → client of B, p50", "completed_p50_ms", 2),
        lower("p99", "completed_p99_ms", 2),
        lower("dispatch on A → worker, p50", "on_a_p50_ms", 2),
        lower("p99", "on_a_p99_ms", 2),
        lower("dispatch on B → worker, p50", "on_b_p50_ms", 2),
        lower("p99", "on_b_p99_ms", 2),
    ],
    settings: Settings::Fixed(&[&[]]),
    entries: &[ours(Postgres, THOUSAND), limit(Postgres, THOUSAND)],
};

const FANOUT: Figure = Figure {
    name: "fanout",
    title: "Deliveries a second to clients that see everything",
    about: "Twenty tasks emit outputs of 200 bytes at a pace, ours through the log; a thousand clients follow the \
            stream over HTTP, in a process of their own, and each sees every output. The limit is axum with one shared \
            buffer of ready bytes, from which each client takes all that is ready in one write.",
    unit: "seconds",
    columns: &[
        higher("deliveries/s", "deliveries_per_second", 0),
        P50,
        P99,
        lower("worst ms", "worst_ms", 1),
        lower("KiB a client", "client_kib", 1),
    ],
    settings: Settings::Fixed(&[
        &[("clients", 1_000), ("outputs_per_second", 200)],
        &[("clients", 1_000), ("outputs_per_second", 1_500)],
        &[("clients", 1_000), ("outputs_per_second", 4_000)],
    ]),
    entries: &[
        ours(Memory, [4; 4]),
        ours(Sqlite, [4; 4]),
        limit(Sqlite, [4; 4]),
        mastra(Memory, [4; 4]).at_most("outputs_per_second", 200),
        mastra(Sqlite, [4; 4]).at_most("outputs_per_second", 200),
    ],
};

const THREADS: Figure = Figure {
    name: "threads",
    title: "Ten thousand clients, each on a thread of its own",
    about: "On each thread runs one task, which emits outputs of 200 bytes; one client follows it over HTTP.",
    unit: "seconds",
    columns: &[
        higher("events/s", "events_per_second", 0),
        P50,
        P99,
        lower("KiB a client", "client_kib", 1),
        lower("busy", "busy_client_kib", 1),
    ],
    settings: Settings::Fixed(&[&[("clients", 10_000), ("outputs_per_second", 55_000)]]),
    entries: &[ours(Memory, [4; 4]), ours(Sqlite, [4; 4])],
};

const SNAPSHOT: Figure = Figure {
    name: "snapshot",
    title: "The snapshot of running tasks",
    about: "A stream begins with all tasks that run: how soon the first chunk and the last are there, what memory that \
            takes, and how long a commit takes meanwhile.",
    unit: "tasks",
    columns: &[
        lower("all ms", "all_ms", 0),
        lower("first chunk ms", "first_chunk_ms", 1),
        lower("extra MiB", "extra_memory_mib", 1),
        lower("a commit beside, p99 ms", "commit_beside_p99_ms", 2),
    ],
    settings: Settings::Fixed(&[&[("tasks", 100_000)]]),
    entries: &[
        ours(Memory, THOUSAND),
        ours(Sqlite, THOUSAND),
        ours(Postgres, THOUSAND),
        mastra(Memory, THOUSAND),
        mastra(Sqlite, THOUSAND),
        mastra(Postgres, THOUSAND),
    ],
};

const LIST: Figure = Figure {
    name: "list",
    title: "A page of fifty tasks, with its exact total",
    about: "By each filter, in both directions, from the first page, the middle and the last; each kind of page many \
            times, and the worst kind's p99 counts.",
    unit: "tasks",
    columns: &[
        lower("in process, p99 ms", "p99_ms", 2),
        lower("over HTTP, p99 ms", "http_p99_ms", 2),
    ],
    settings: Settings::Fixed(&[&[("tasks", 100_000)], &[("tasks", 1_000_000)]]),
    entries: &[
        ours(Sqlite, THOUSAND),
        mastra(Sqlite, THOUSAND).at_most("tasks", 100_000),
        mastra(Postgres, THOUSAND).at_most("tasks", 100_000),
    ],
};

const RESUME: Figure = Figure {
    name: "resume",
    title: "A stream resumed far behind",
    about: "A stream begins with a cursor so many events back, and reads until it is where the log is.",
    unit: "events",
    columns: &[higher("events/s", "events_per_second", 0)],
    settings: Settings::Fixed(&[&[("events", 100_000)]]),
    entries: &[
        ours(Memory, THOUSAND),
        ours(Sqlite, THOUSAND),
        ours(Postgres, THOUSAND),
    ],
};

const GROWTH: Figure = Figure {
    name: "growth",
    title: "The same work beside ever more that is stored",
    about: "On databases of so many tasks that have ended, each with ten events: 20,000 no-op tasks with \
            100 in flight; the worst kind of page of a list; and a stream resumed 100,000 events back, or as far as the \
            log goes.",
    unit: "tasks",
    columns: &[
        higher("tasks/s", "tasks_per_second", 0),
        P50,
        P99,
        lower("a page, p99 ms", "page_p99_ms", 2),
        higher("resumed, events/s", "resumed_per_second", 0),
    ],
    settings: Settings::Stored,
    entries: &[ours(Sqlite, [20_000; 4])],
};

const START: Figure = Figure {
    name: "start",
    title: "Starting on a large database",
    about: "A million tasks and ten million events are there: how long until the server answers over HTTP, and until a \
            task that is dispatched then has completed.",
    unit: "tasks",
    columns: &[
        lower("answers ms", "answers_p50_ms", 0),
        lower("a task runs and completes, ms", "p50_ms", 0),
    ],
    settings: Settings::Fixed(&[&[("tasks", 1_000_000)]]),
    entries: &[ours(Sqlite, THOUSAND)],
};

const STORES: Figure = Figure {
    name: "stores",
    title: "Records of tasks that somebody else runs",
    about: "An agent's framework keeps its tasks as records: each is saved (one after the other), loaded, listed \
            (all of one agent: one in ten), and cleaned up once it has ended.",
    unit: "records",
    columns: &[
        higher("saves/s", "saves_per_second", 0),
        higher("loads/s", "loads_per_second", 0),
        lower("list ms", "list_ms", 2),
        lower("cleanup ms", "cleanup_ms", 1),
    ],
    settings: Settings::Fixed(&[&[("records", 1_000)], &[("records", 10_000)]]),
    entries: &[
        ours(Memory, THOUSAND),
        ours(Sqlite, THOUSAND),
        entry(
            "lleverage",
            Program::Node("lleverage.mjs"),
            Memory,
            THOUSAND,
        ),
        entry("lleverage", Program::Node("lleverage.mjs"), File, THOUSAND),
    ],
};
