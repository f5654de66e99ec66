-- Tasks, the log of what happened to them, and what is counted of them.
--
-- Times (`…_at_ms`, `…_until_ms`) are milliseconds since 1970-01-01 00:00 UTC; durations (`…_ms`)
-- are milliseconds. `status` is one of pending, running, suspended, completed, failed, timed_out,
-- cancelled. JSON is kept as the text that came in: PostgreSQL's own kinds of JSON change it. Texts are
-- ordered by their bytes, whatever the database's collation. A text that may hold a NUL, which
-- PostgreSQL's texts cannot, is kept as its UTF-8 bytes.
--
-- An update of a row writes the row anew, and, unless none of its indexed columns has changed, an entry
-- into each index of its table. So what never changes, with the indexes on it, is apart from what does.

-- Where the log begins and ends: one row, locked by every commit that adds to the log, as its last step.
-- Whoever gets the lock sees everything up to `seq`: that makes the order of the log the order of commits.
CREATE TABLE head (
    single      SMALLINT PRIMARY KEY CHECK (single = 1), -- 1: there is one row
    epoch       TEXT     NOT NULL, -- the name of this log
    seq         BIGINT   NOT NULL, -- its last event
    floor       BIGINT   NOT NULL, -- the last event that has been pruned
    last_at_ms  BIGINT   NOT NULL  -- the latest time of a commit: the store's time never goes back
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 1000000);

-- The numbers given to tasks, by order of dispatch: none is used twice.
CREATE SEQUENCE keys AS BIGINT;

-- What was asked for: never changes. Stays when its task is deleted, until its last event is pruned,
-- so that the log can always say what an event is about. Of a task kept for an owner elsewhere, what an
-- event shows (namespace to resource_id, and args) is as the first report had it; the rest is in the
-- document of its row.
CREATE TABLE specs (
    key                 BIGINT PRIMARY KEY, -- the store's own number of the task
    last_seq            BIGINT,             -- once the task is deleted: its last event; null before
    name                BYTEA NOT NULL,     -- SHA-256 of its namespace and its id, by which it is found
    repetition          BYTEA,              -- SHA-256 of its namespace and of what a repetition is known by
    namespace           TEXT COLLATE "C" NOT NULL, -- the tenant's room
    id                  TEXT COLLATE "C" NOT NULL, -- the task's id, unique among the namespace's tasks
    tool_name           TEXT COLLATE "C" NOT NULL, -- what it runs
    tool_call_id        TEXT COLLATE "C",   -- the model's name for this call of the tool
    agent_id            TEXT COLLATE "C",   -- on whose behalf
    run_id              TEXT COLLATE "C",   -- in which call of the agent
    thread_id           TEXT COLLATE "C",   -- in which conversation
    resource_id         TEXT COLLATE "C",   -- for which user or object
    created_at_ms       BIGINT NOT NULL,    -- when it was dispatched, or made by its owner
    timeout_ms          BIGINT NOT NULL,    -- how long one attempt may take
    max_retries         BIGINT NOT NULL,    -- how many failures are followed by another attempt
    retry_delay_ms      BIGINT NOT NULL,    -- the longest wait before the first retry (unsigned 64 bits)
    retry_delay_max_ms  BIGINT NOT NULL,    -- what the doubling wait never exceeds (unsigned 64 bits)
    priority            BIGINT NOT NULL,    -- higher goes first
    run_at_ms           BIGINT,             -- not before this time, as it was asked for
    description         BYTEA,              -- UTF-8: for people
    subagent_type       BYTEA,              -- UTF-8: the kind of subagent that does the work
    idempotency_key     BYTEA,              -- UTF-8: two dispatches with one key are one task
    metadata            TEXT,               -- JSON: any object of the caller's
    args                TEXT NOT NULL       -- JSON: what the tool is called with
);

-- One task for an id, and for whatever a repetition is recognised by. Whoever dispatches the same at the
-- same time waits here for the other's commit. No other index has these columns, nor a part of them: so
-- there is one way to find a task, even for a plan that was made when the table was empty.
CREATE UNIQUE INDEX specs_by_name ON specs (name) WHERE last_seq IS NULL;
CREATE UNIQUE INDEX specs_by_repetition ON specs (repetition)
    WHERE last_seq IS NULL AND repetition IS NOT NULL;

-- Whose events are still there though the task is not: by name, and by when they may go.
CREATE INDEX specs_of_deleted ON specs (name) WHERE last_seq IS NOT NULL;
CREATE INDEX specs_to_prune ON specs (last_seq) WHERE last_seq IS NOT NULL;

-- Lists, each in the order of creation. The first two hold the deleted ones, too: an index for exactly
-- those that are not would be as good as any for a plan that looks for one of them in an empty table.
CREATE INDEX specs_by_created ON specs (namespace, created_at_ms, key);
CREATE INDEX specs_by_tool ON specs (namespace, tool_name, created_at_ms, key);
CREATE INDEX specs_by_agent ON specs (namespace, agent_id, created_at_ms, key)
    WHERE last_seq IS NULL AND agent_id IS NOT NULL;
CREATE INDEX specs_by_run ON specs (namespace, run_id, created_at_ms, key)
    WHERE last_seq IS NULL AND run_id IS NOT NULL;
CREATE INDEX specs_by_thread ON specs (namespace, thread_id, created_at_ms, key)
    WHERE last_seq IS NULL AND thread_id IS NOT NULL;
CREATE INDEX specs_by_resource ON specs (namespace, resource_id, created_at_ms, key)
    WHERE last_seq IS NULL AND resource_id IS NOT NULL;
CREATE INDEX specs_by_tool_call ON specs (namespace, tool_call_id, created_at_ms, key)
    WHERE last_seq IS NULL AND tool_call_id IS NOT NULL;

-- How each task stands: the fold of its events, and its lease. The columns up to `priority` are made from
-- those of `specs`, so that the indexes can have them.
CREATE TABLE tasks (
    key              BIGINT PRIMARY KEY,        -- as in specs
    namespace        TEXT COLLATE "C" NOT NULL, -- the tenant's room
    tool_name        TEXT COLLATE "C" NOT NULL, -- what it runs
    agent_id         TEXT COLLATE "C",          -- on whose behalf
    thread           BYTEA,            -- SHA-256 of its namespace and of its conversation's id
    is_external      BOOLEAN NOT NULL, -- kept for an owner elsewhere?
    lane             BYTEA   NOT NULL, -- hashes of its namespace, and of its agent in it
    priority         BIGINT  NOT NULL, -- higher goes first
    first_seq        BIGINT  NOT NULL, -- its first event; no index may have it: see decision 10
    status           TEXT COLLATE "C" NOT NULL, -- where it stands
    attempt          BIGINT  NOT NULL, -- the number of its latest attempt; 0 before the first
    reported         BIGINT  NOT NULL, -- the last report of that attempt that was accepted; 0: none
    retry_count      BIGINT  NOT NULL, -- retries since it was dispatched or last retried by hand
    is_resuming      BOOLEAN NOT NULL, -- pending because it was resumed, and not claimed since?
    seq              BIGINT  NOT NULL, -- its last event; nor this one
    created_at_ms    BIGINT  NOT NULL, -- when it was dispatched, or made by its owner
    event_at_ms      BIGINT  NOT NULL, -- when its last event happened
    since_ms         BIGINT  NOT NULL, -- since when it stands so; of an ended one, when it ended
    run_at_ms        BIGINT,           -- while pending: not before this time
    started_at_ms    BIGINT,           -- when its latest attempt began
    suspended_at_ms  BIGINT,           -- while suspended: since when
    completed_at_ms  BIGINT,           -- when it ended; null exactly while it has not
    queue            TEXT COLLATE "C", -- while pending and ours: ready, or delayed until due_at_ms
    due_at_ms        BIGINT,           -- while pending and ours: when it may be claimed, and its place
    worker_id        TEXT COLLATE "C", -- who holds, or last held, it
    lease_until_ms   BIGINT,           -- while running and ours: when the hold ends unless renewed
    deadline_ms      BIGINT,           -- while running and ours: when the attempt times out
    is_untold        BOOLEAN NOT NULL, -- ended, and its thread's agent has not acknowledged it?
    error            TEXT,             -- JSON {message, stack?}: why the latest attempt failed
    suspend_payload  TEXT,             -- JSON, while suspended: what it waits for
    resume_data      TEXT,             -- JSON: what it was last resumed with
    result           TEXT,             -- JSON: what the tool returned
    record           TEXT              -- JSON: the document as its owner elsewhere reported it
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05,
        autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- The queue: a line for each tool, the next task first; and the same in lanes, one for each agent of the
-- tool, of which those without a slot are skipped whole.
CREATE INDEX tasks_in_line ON tasks (tool_name, priority DESC, due_at_ms, key)
    WHERE queue = 'ready';
CREATE INDEX tasks_in_lane ON tasks (tool_name, lane, priority DESC, due_at_ms, key)
    WHERE queue = 'ready';
CREATE INDEX tasks_delayed ON tasks (tool_name, due_at_ms) WHERE queue = 'delayed';
CREATE INDEX tasks_delayed_in_namespace ON tasks (tool_name, namespace, due_at_ms)
    WHERE queue = 'delayed';

-- Running attempts that nobody may end.
CREATE INDEX tasks_by_lease ON tasks (lease_until_ms) WHERE lease_until_ms IS NOT NULL;
CREATE INDEX tasks_by_deadline ON tasks (deadline_ms) WHERE deadline_ms IS NOT NULL;

-- Lists by status, and lists in the order of another time: those without it come first.
CREATE INDEX tasks_by_status ON tasks (namespace, status, created_at_ms, key);
CREATE INDEX tasks_by_started ON tasks (namespace, started_at_ms NULLS FIRST, key);
CREATE INDEX tasks_by_suspended ON tasks (namespace, suspended_at_ms NULLS FIRST, key);
CREATE INDEX tasks_by_completed ON tasks (namespace, completed_at_ms NULLS FIRST, key);

-- What an agent has not been told, and what is old enough to go.
CREATE INDEX tasks_untold ON tasks (thread) WHERE is_untold;
CREATE INDEX tasks_to_clean ON tasks (status, is_untold, completed_at_ms, key)
    WHERE completed_at_ms IS NOT NULL AND NOT is_external;

-- The log: what happened, in the order of commit, without a hole.
CREATE TABLE events (
    seq       BIGINT   PRIMARY KEY, -- its place
    task_key  BIGINT   NOT NULL,    -- to which task: specs.key
    at_ms     BIGINT   NOT NULL,    -- when, by the store's clock
    code      BIGINT   NOT NULL,    -- what kind: see docs/data-model.md
    attempt   BIGINT   NOT NULL,    -- the attempt it belongs to; 0 where it belongs to none
    report    BIGINT   NOT NULL,    -- which of the attempt's reports told it; 0: nobody numbered it
    body      TEXT                  -- JSON: the rest of it
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX events_of_task ON events (task_key, seq);

-- How many tasks stand where, kept in the transaction that changes it, while it has the head's lock. Rows
-- that are all zero go when there is a cleanup.
--   scope            namespace  value  counts the tasks
--   all              ''         ''     of all namespaces
--   tool             ''         tool   of a tool, over all namespaces
--   namespace        namespace  ''     of a namespace
--   namespace_tool   namespace  tool   of a tool in a namespace
--   namespace_agent  namespace  agent  of an agent in a namespace
CREATE TABLE counters (
    scope        TEXT COLLATE "C" NOT NULL, -- what is counted: see above
    namespace    TEXT COLLATE "C" NOT NULL, -- see above
    value        TEXT COLLATE "C" NOT NULL, -- see above
    is_external  BOOLEAN NOT NULL, -- those kept for owners elsewhere, which take no slot?
    pending      BIGINT  NOT NULL, -- how many stand so
    running      BIGINT  NOT NULL,
    suspended    BIGINT  NOT NULL,
    completed    BIGINT  NOT NULL,
    failed       BIGINT  NOT NULL,
    timed_out    BIGINT  NOT NULL,
    cancelled    BIGINT  NOT NULL,
    PRIMARY KEY (scope, namespace, value, is_external)
) WITH (fillfactor = 30, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.1,
        autovacuum_vacuum_cost_delay = 0);

-- API keys, never the keys themselves.
CREATE TABLE api_keys (
    position       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- in the order in which they were added
    id             BYTEA  NOT NULL UNIQUE, -- UTF-8: the public name
    name           BYTEA  NOT NULL, -- UTF-8: for people
    hash           BYTEA  NOT NULL, -- SHA-256 of the secret
    role           BYTEA  NOT NULL, -- UTF-8: what it allows: read, write, worker or admin
    namespace      TEXT COLLATE "C" NOT NULL, -- where it allows that
    created_at_ms  BIGINT NOT NULL, -- when it was made
    revoked_at_ms  BIGINT           -- when it was revoked; null while it is valid
);
