-- Tasks, the log of what happened to them, and what is counted of them.
--
-- Times (`…_at_ms`, `…_until_ms`) are milliseconds since 1970-01-01 00:00 UTC; durations (`…_ms`)
-- are milliseconds. `status` is one of pending, running, suspended, completed, failed, timed_out,
-- cancelled. JSON is kept as the text that came in. Booleans (`is_…`) are 0 or 1.

-- Where the log begins and ends: one row, changed by every commit.
CREATE TABLE head (
    only        INTEGER PRIMARY KEY CHECK (only = 1), -- 1: there is one row
    epoch       TEXT    NOT NULL, -- the name of this log
    seq         INTEGER NOT NULL, -- its last event
    floor       INTEGER NOT NULL, -- the last event that has been pruned
    last_key    INTEGER NOT NULL, -- the last number given to a task: none is used twice
    last_at_ms  INTEGER NOT NULL  -- the time of the last commit: the store's time never goes back
) STRICT;

-- What was asked for: never changes. Stays when its task is deleted, until its last event is pruned,
-- so that the log can always say what an event is about. Of a task kept for an owner elsewhere, what an
-- event shows (namespace to resource_id, and args) is as the first report had it; the rest is in the
-- document of its row.
CREATE TABLE specs (
    key                 INTEGER PRIMARY KEY, -- the store's own number of the task, by order of dispatch
    last_seq            INTEGER,          -- once the task is deleted: its last event; null before
    namespace           TEXT    NOT NULL, -- the tenant's room
    id                  TEXT    NOT NULL, -- the task's id, unique among the namespace's tasks
    tool_name           TEXT    NOT NULL, -- what it runs
    tool_call_id        TEXT,             -- the model's name for this call of the tool
    agent_id            TEXT,             -- on whose behalf
    run_id              TEXT,             -- in which call of the agent
    thread_id           TEXT,             -- in which conversation
    resource_id         TEXT,             -- for which user or object
    timeout_ms          INTEGER NOT NULL, -- how long one attempt may take
    max_retries         INTEGER NOT NULL, -- how many failures are followed by another attempt
    retry_delay_ms      INTEGER NOT NULL, -- the longest wait before the first retry (unsigned 64 bits)
    retry_delay_max_ms  INTEGER NOT NULL, -- what the doubling wait never exceeds (unsigned 64 bits)
    priority            INTEGER NOT NULL, -- higher goes first
    run_at_ms           INTEGER,          -- not before this time, as it was asked for
    description         TEXT,             -- for people
    subagent_type       TEXT,             -- the kind of subagent that does the work
    idempotency_key     TEXT,             -- two dispatches with one key are one task
    metadata            TEXT,             -- JSON: any object of the caller's
    args                TEXT    NOT NULL  -- JSON: what the tool is called with
) STRICT;

-- Whose events are still there though the task is not: by id, and by when they may go.
CREATE INDEX specs_of_deleted ON specs (namespace, id) WHERE last_seq IS NOT NULL;
CREATE INDEX specs_to_prune ON specs (last_seq) WHERE last_seq IS NOT NULL;

-- How each task stands: the fold of its events, and its lease. The columns up to `priority` are copies
-- from `specs`, so that the indexes can have them.
CREATE TABLE tasks (
    key              INTEGER PRIMARY KEY, -- as in specs
    namespace        TEXT    NOT NULL, -- the tenant's room
    id               TEXT    NOT NULL, -- unique in the namespace
    tool_name        TEXT    NOT NULL, -- what it runs
    tool_call_id     TEXT,             -- the model's name for this call of the tool
    agent_id         TEXT,             -- on whose behalf
    run_id           TEXT,             -- in which call of the agent
    thread_id        TEXT,             -- in which conversation
    resource_id      TEXT,             -- for which user or object
    is_external      INTEGER NOT NULL, -- kept for an owner elsewhere?
    priority         INTEGER NOT NULL, -- higher goes first
    repetition_key   TEXT,             -- the text under which a repeated dispatch is recognised
    status           TEXT    NOT NULL, -- where it stands
    attempt          INTEGER NOT NULL, -- the number of its latest attempt; 0 before the first
    reported         INTEGER NOT NULL, -- the last report of that attempt that was accepted; 0: none
    retry_count      INTEGER NOT NULL, -- retries since it was dispatched or last retried by hand
    is_resuming      INTEGER NOT NULL, -- pending because it was resumed, and not claimed since?
    seq              INTEGER NOT NULL, -- its last event
    created_at_ms    INTEGER NOT NULL, -- when it was dispatched, or made by its owner
    event_at_ms      INTEGER NOT NULL, -- when its last event happened
    since_ms         INTEGER NOT NULL, -- since when it stands so; of an ended one, when it ended
    run_at_ms        INTEGER,          -- while pending: not before this time
    started_at_ms    INTEGER,          -- when its latest attempt began
    suspended_at_ms  INTEGER,          -- while suspended: since when
    completed_at_ms  INTEGER,          -- when it ended; null exactly while it has not
    queue            TEXT,             -- while pending and ours: ready, or delayed until due_at_ms
    due_at_ms        INTEGER,          -- while pending and ours: when it may be claimed, and its place
    worker_id        TEXT,             -- who holds, or last held, it
    lease_until_ms   INTEGER,          -- while running and ours: when the hold ends unless renewed
    deadline_ms      INTEGER,          -- while running and ours: when the attempt times out
    is_untold        INTEGER NOT NULL, -- ended, and its thread's agent has not acknowledged it?
    error            TEXT,             -- JSON {message, stack?}: why the latest attempt failed
    suspend_payload  TEXT,             -- JSON, while suspended: what it waits for
    resume_data      TEXT,             -- JSON: what it was last resumed with
    result           TEXT,             -- JSON: what the tool returned
    record           TEXT              -- JSON: the document as its owner elsewhere reported it
) STRICT;

CREATE UNIQUE INDEX tasks_by_id ON tasks (namespace, id);
CREATE UNIQUE INDEX tasks_by_repetition ON tasks (namespace, repetition_key)
    WHERE repetition_key IS NOT NULL;

-- The queue: a line for each tool, the next task first; and the same in lanes, one for each agent of the
-- tool, of which those without a slot are skipped whole. An agent's id is never empty: '' is "no agent".
CREATE INDEX tasks_in_line ON tasks
    (tool_name, priority DESC, due_at_ms, key, namespace, agent_id)
    WHERE queue = 'ready';
CREATE INDEX tasks_in_lane ON tasks
    (tool_name, namespace, ifnull(agent_id, ''), priority DESC, due_at_ms, key)
    WHERE queue = 'ready';
CREATE INDEX tasks_delayed ON tasks (tool_name, due_at_ms) WHERE queue = 'delayed';
CREATE INDEX tasks_delayed_in_namespace ON tasks (tool_name, namespace, due_at_ms)
    WHERE queue = 'delayed';

-- Running attempts that nobody may end.
CREATE INDEX tasks_by_lease ON tasks (lease_until_ms, key, worker_id)
    WHERE lease_until_ms IS NOT NULL;
CREATE INDEX tasks_by_deadline ON tasks (deadline_ms) WHERE deadline_ms IS NOT NULL;

-- Lists, each in the order of creation. An index that has the status changes with every transition, so
-- there is one, in two parts: what has not ended has what a snapshot needs, and both have the agent and
-- the tool, so that a filter on them costs no look at the row.
CREATE INDEX tasks_by_created ON tasks (namespace, is_external, created_at_ms);
CREATE INDEX tasks_active ON tasks
    (namespace, status, created_at_ms, key, attempt, since_ms, seq, agent_id, tool_name)
    WHERE completed_at_ms IS NULL;
CREATE INDEX tasks_ended ON tasks (namespace, status, created_at_ms, key, agent_id, tool_name)
    WHERE completed_at_ms IS NOT NULL;
CREATE INDEX tasks_by_tool ON tasks (namespace, tool_name, created_at_ms);
CREATE INDEX tasks_by_agent ON tasks (namespace, agent_id, created_at_ms)
    WHERE agent_id IS NOT NULL;
CREATE INDEX tasks_by_run ON tasks (namespace, run_id, created_at_ms) WHERE run_id IS NOT NULL;
CREATE INDEX tasks_by_thread ON tasks (namespace, thread_id, created_at_ms)
    WHERE thread_id IS NOT NULL;
CREATE INDEX tasks_by_resource ON tasks (namespace, resource_id, created_at_ms)
    WHERE resource_id IS NOT NULL;
CREATE INDEX tasks_by_tool_call ON tasks (namespace, tool_call_id, created_at_ms)
    WHERE tool_call_id IS NOT NULL;

-- Lists in the order of another time: those without it come first.
CREATE INDEX tasks_by_started ON tasks (namespace, started_at_ms);
CREATE INDEX tasks_by_suspended ON tasks (namespace, suspended_at_ms);
CREATE INDEX tasks_by_completed ON tasks (namespace, completed_at_ms);

-- What an agent has not been told, and what is old enough to go.
CREATE INDEX tasks_untold ON tasks (namespace, thread_id, seq) WHERE is_untold = 1;
CREATE INDEX tasks_to_clean ON tasks (status, is_untold, completed_at_ms)
    WHERE completed_at_ms IS NOT NULL AND is_external = 0;

-- The log: what happened, in the order of commit, without a hole.
CREATE TABLE events (
    seq       INTEGER PRIMARY KEY, -- its place
    task_key  INTEGER NOT NULL,    -- to which task: specs.key
    at_ms     INTEGER NOT NULL,    -- when, by the store's clock
    code      INTEGER NOT NULL,    -- what kind: see docs/data-model.md
    attempt   INTEGER NOT NULL,    -- the attempt it belongs to; 0 where it belongs to none
    report    INTEGER NOT NULL,    -- which of the attempt's reports told it; 0: nobody numbered it
    body      TEXT                 -- JSON: the rest of it
) STRICT;

CREATE INDEX events_of_task ON events (task_key, seq);

-- How many tasks stand where, kept in the transaction that changes it. A row that is all zero goes.
--   scope            namespace  value  counts the tasks
--   all              ''         ''     of all namespaces
--   tool             ''         tool   of a tool, over all namespaces
--   namespace        namespace  ''     of a namespace
--   namespace_tool   namespace  tool   of a tool in a namespace
--   namespace_agent  namespace  agent  of an agent in a namespace
CREATE TABLE counters (
    scope        TEXT    NOT NULL, -- what is counted: see above
    namespace    TEXT    NOT NULL, -- see above
    value        TEXT    NOT NULL, -- see above
    is_external  INTEGER NOT NULL, -- those kept for owners elsewhere, which take no slot?
    pending      INTEGER NOT NULL, -- how many stand so
    running      INTEGER NOT NULL,
    suspended    INTEGER NOT NULL,
    completed    INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    timed_out    INTEGER NOT NULL,
    cancelled    INTEGER NOT NULL,
    PRIMARY KEY (scope, namespace, value, is_external)
) STRICT, WITHOUT ROWID;

-- API keys, never the keys themselves.
CREATE TABLE api_keys (
    position       INTEGER PRIMARY KEY, -- in the order in which they were added
    id             TEXT    NOT NULL UNIQUE, -- the public name
    name           TEXT    NOT NULL, -- for people
    hash           BLOB    NOT NULL, -- SHA-256 of the secret
    role           TEXT    NOT NULL, -- what it allows: read, write, worker or admin
    namespace      TEXT    NOT NULL, -- where it allows that
    created_at_ms  INTEGER NOT NULL, -- when it was made
    revoked_at_ms  INTEGER           -- when it was revoked; null while it is valid
) STRICT;
