-- Fewer entries of indexes for each life of a task: what an entry costs is most of what a task costs.

-- Running attempts, by the first of the two times at which somebody else may have to end them.
DROP INDEX tasks_by_lease;
DROP INDEX tasks_by_deadline;
CREATE INDEX tasks_held ON tasks (min(lease_until_ms, deadline_ms))
    WHERE lease_until_ms IS NOT NULL;

-- Lists in the order of creation: of each status, and of all by reading those of each side by side. What has not
-- ended has what a snapshot needs, and both have the agent and the tool, so that a filter on them costs no look
-- at the row.
DROP INDEX tasks_by_created;
DROP INDEX tasks_active;
CREATE INDEX tasks_active ON tasks
    (namespace, status, is_external, created_at_ms, key, attempt, since_ms, seq, agent_id, tool_name)
    WHERE completed_at_ms IS NULL;
DROP INDEX tasks_ended;
CREATE INDEX tasks_ended ON tasks
    (namespace, status, is_external, created_at_ms, key, agent_id, tool_name)
    WHERE completed_at_ms IS NOT NULL;

-- Lists in the order of another time, then of creation. Those without it are the earliest; in the last two,
-- whose time a task has exactly while it is suspended, or once it has ended, those of other statuses are
-- read instead.
DROP INDEX tasks_by_started;
CREATE INDEX tasks_by_started ON tasks (namespace, started_at_ms, created_at_ms);
DROP INDEX tasks_by_suspended;
CREATE INDEX tasks_by_suspended ON tasks (namespace, suspended_at_ms, created_at_ms)
    WHERE suspended_at_ms IS NOT NULL;
DROP INDEX tasks_by_completed;
CREATE INDEX tasks_by_completed ON tasks (namespace, completed_at_ms, created_at_ms)
    WHERE completed_at_ms IS NOT NULL;
