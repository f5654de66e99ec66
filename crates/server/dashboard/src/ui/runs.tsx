// *Runs*: the latest runs of agents, each as a tree of its agents and their tasks.

import { useCallback, useEffect, useMemo, useState } from 'preact/hooks';
import { STATUSES, STATUS_WORDS } from '../protocol/types.ts';
import { listTasks } from '../protocol/api.ts';
import { address, filterOf, href } from '../state/address.ts';
import { Feed } from '../state/feed.ts';
import { runsOf, standing, type Run } from '../state/runs.ts';
import { Connection, isKnown } from './connection.tsx';
import { useFrames } from './frames.ts';
import { Link } from './link.tsx';
import { StatusShape } from './status.tsx';
import { durationText, runningText, Time, countText, second } from './time.tsx';
import { Waterfall } from './waterfall.tsx';

/** The latest tasks are looked through for their runs. */
const TASKS = 1_000;
const RUNS_MAX = 100;

export function RunsPage() {
  const { query } = address.value;
  const filter = filterOf(query);
  const key = JSON.stringify([query.get('namespace'), filter]);
  const feed = useMemo(() => new Feed({
    filter,
    snapshot: 'none',
    types: ['started', 'running', 'suspended', 'queued', 'resumed', 'retrying', 'completed', 'failed', 'cancelled'],
    load: async (of, abort) => {
      const { taskId: _one, ...fields } = filter;
      of.takeRecords((await listTasks({ ...fields, orderDirection: 'desc', limit: TASKS }, abort)).tasks);
    },
  }), [key]);
  useEffect(() => () => feed.close(), [feed]);
  useFrames(useCallback((listener) => feed.listen(listener), [feed]), 500);
  const [open, setOpen] = useState<ReadonlySet<string>>(new Set());
  second.value;
  const runs = runsOf(feed.tasks.rows.values());
  const link = feed.link.value;
  const toggle = (id: string) => {
    const changed = new Set(open);
    if (!changed.delete(id)) changed.add(id);
    setOpen(changed);
  };
  return (
    <main id="content" tabIndex={-1} class={`runs${isKnown(link) ? '' : ' is-stale'}`} aria-labelledby="title">
      <div class="bar">
        <h1 id="title">Runs</h1>
        <span class="sum">{runs.length > 0 && `${countText(Math.min(runs.length, RUNS_MAX))} latest, of the last ${countText(feed.tasks.rows.size)} tasks`}</span>
        <Connection link={link} />
      </div>
      {feed.problem.value !== null && <p class="problem" role="alert">{feed.problem.value}</p>}
      {runs.length === 0 && (feed.isLoaded.value
        ? <div class="empty"><h2>No runs yet</h2><p>Tasks that are dispatched with a <code>runId</code> are grouped here by it.</p></div>
        : <div class="empty"><p>Loading…</p></div>)}
      <ul class="cards">
        {runs.slice(0, RUNS_MAX).map((run) => (
          <RunItem key={run.id} run={run} now={feed.now()} isOpen={open.has(run.id)} onToggle={() => toggle(run.id)} />
        ))}
      </ul>
    </main>
  );
}

function RunItem({ run, now, isOpen, onToggle }: { run: Run; now: number; isOpen: boolean; onToggle(): void }) {
  const agents = run.agents.map((agent) => agent.name || '(no agent)');
  return (
    <li class="card run">
      <header>
        <button type="button" class="fold" aria-expanded={isOpen} aria-label={`Tasks of the run ${run.id.slice(0, 100)}`} onClick={onToggle}>
          <span class="arrow" aria-hidden="true" />
        </button>
        <StatusShape status={standing(run)} />
        <Link to={href('/run', { id: run.id })} class="name">{run.id.slice(0, 120)}</Link>
        <span class="faint agents">{agents.slice(0, 4).join(', ')}{agents.length > 4 && ` and ${agents.length - 4} more`}</span>
        <RunCounts run={run} />
        <span class="since">{lengthText(run, now)}, since <Time ms={run.beganAt} /></span>
      </header>
      {isOpen && <Waterfall run={run} now={now} />}
    </li>
  );
}

export function RunCounts({ run }: { run: Run }) {
  return (
    <span class="counts">
      {STATUSES.filter((status) => run.counts[status]).map((status) => (
        <span key={status} class={`status is-${status}`} title={STATUS_WORDS[status]}>
          <StatusShape status={status} /><span class="hidden">{STATUS_WORDS[status]}</span> {run.counts[status]}
        </span>
      ))}
    </span>
  );
}

export function lengthText(run: Run, now: number): string {
  return run.endedAt === 0 ? runningText(now - run.beganAt) : durationText(run.endedAt - run.beganAt);
}
