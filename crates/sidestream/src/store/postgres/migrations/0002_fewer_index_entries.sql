-- Fewer entries of indexes for each life of a task. Servers that do not know of this go on, with slower lists.

-- In the order in which servers use them, so that neither waits for the other.
LOCK TABLE specs IN ACCESS EXCLUSIVE MODE;
LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE;

-- Lists in the order of creation are read status by status.
DROP INDEX specs_by_created;

-- Lists in the order of another time, then of creation. Those without it are the earliest; in the last two,
-- whose time a task has exactly while it is suspended, or once it has ended, those of other statuses are
-- read instead.
DROP INDEX tasks_by_started;
CREATE INDEX tasks_by_started ON tasks (namespace, started_at_ms NULLS FIRST, created_at_ms, key);
DROP INDEX tasks_by_suspended;
CREATE INDEX tasks_by_suspended ON tasks (namespace, suspended_at_ms, created_at_ms, key)
    WHERE suspended_at_ms IS NOT NULL;
DROP INDEX tasks_by_completed;
CREATE INDEX tasks_by_completed ON tasks (namespace, completed_at_ms, created_at_ms, key)
    WHERE completed_at_ms IS NOT NULL;
