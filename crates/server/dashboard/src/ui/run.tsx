// One run: its agents and tasks on one axis of time, live.

import { useCallback, useEffect, useMemo } from 'preact/hooks';
import { address, href } from '../state/address.ts';
import { Feed, listAll } from '../state/feed.ts';
import { runOf, standing } from '../state/runs.ts';
import { Connection, isKnown } from './connection.tsx';
import { useFrames } from './frames.ts';
import { Link } from './link.tsx';
import { lengthText, RunCounts } from './runs.tsx';
import { StatusMark } from './status.tsx';
import { second, Time } from './time.tsx';
import { Waterfall } from './waterfall.tsx';

const TASKS_MAX = 5_000;

function feedOf(runId: string): Feed {
  return new Feed({
    filter: { runId },
    snapshot: 'none',
    types: ['started', 'running', 'suspended', 'queued', 'resumed', 'retrying', 'completed', 'failed', 'cancelled'],
    load: async (feed, abort) => {
      const known = new Set(feed.tasks.rows.keys());
      const { tasks } = await listAll({ runId }, TASKS_MAX, abort);
      feed.takeRecords(tasks);
      for (const task of tasks) known.delete(task.id);
      feed.drop(known);
    },
  });
}

export function RunPage() {
  const { query } = address.value;
  const id = query.get('id') ?? '';
  const namespace = query.get('namespace');
  const feed = useMemo(() => feedOf(id), [id, namespace]);
  useEffect(() => () => feed.close(), [feed]);
  useFrames(useCallback((listener) => feed.listen(listener), [feed]));
  second.value;
  const run = runOf(id, [...feed.tasks.rows.values()]);
  const link = feed.link.value;
  const now = feed.now();
  return (
    <main id="content" tabIndex={-1} class={`run-page${isKnown(link) ? '' : ' is-stale'}`} aria-labelledby="title">
      <div class="bar">
        <h1 id="title"><span class="faint">Run</span> {id.slice(0, 120)}</h1>
        <Connection link={link} />
      </div>
      {feed.problem.value !== null && <p class="problem" role="alert">{feed.problem.value}</p>}
      {run.total === 0
        ? <div class="empty"><p>{feed.isLoaded.value ? 'No task of this run is kept.' : 'Loading…'}</p></div>
        : (
          <section class="panel">
            <header class="run-head">
              <StatusMark status={standing(run)} />
              <RunCounts run={run} />
              <span class="faint">{lengthText(run, now)}, since <Time ms={run.beganAt} /></span>
              {run.thread !== '' && <span><span class="faint">thread</span> <Link to={href('/', { threadId: run.thread })}>{run.thread.slice(0, 80)}</Link></span>}
              <Link to={href('/', { runId: id })}>in the table</Link>
            </header>
            <Waterfall run={run} now={now} />
            <p class="legend">
              <span><i class="stretch is-waiting" /> waiting</span>
              <span><i class="stretch is-running" /> running</span>
              <span><i class="stretch is-suspended" /> suspended</span>
            </p>
          </section>
        )}
    </main>
  );
}
