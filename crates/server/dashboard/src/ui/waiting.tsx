// *Needs you*: the suspended tasks, who has waited longest first, each with what it waits for and the way to answer.

import { useCallback, useEffect, useMemo } from 'preact/hooks';
import { canAct, countWaiting } from '../state/app.ts';
import { address } from '../state/address.ts';
import { Feed, listAll } from '../state/feed.ts';
import type { Row } from '../state/fold.ts';
import { Connection, isKnown } from './connection.tsx';
import { useFrames } from './frames.ts';
import { Link } from './link.tsx';
import { Asked, ResumeForm } from './resume.tsx';
import { pageOf } from './table.tsx';
import { Time, countText, runningText, second } from './time.tsx';

/** More than these nobody answers by hand. */
const SHOWN_MAX = 200;

/** The stream tells what happens; the list, read once it has begun, how things stand. */
function waitingFeed(): Feed {
  return new Feed({
    filter: {},
    snapshot: 'none',
    types: ['suspended', 'queued', 'running', 'resumed', 'completed', 'failed', 'cancelled'],
    load: async (feed, abort) => {
      const known = new Set(feed.tasks.rows.keys());
      const { tasks } = await listAll({ status: 'suspended', orderBy: 'suspendedAt', orderDirection: 'asc' }, 1_000, abort);
      feed.takeRecords(tasks);
      for (const task of tasks) known.delete(task.id);
      feed.drop(known);
    },
  });
}

export function WaitingPage() {
  const namespace = address.value.query.get('namespace');
  const feed = useMemo(waitingFeed, [namespace]);
  useEffect(() => () => feed.close(), [feed]);
  useFrames(useCallback((listener) => feed.listen(listener), [feed]));
  second.value;
  const rows = [...feed.tasks.rows.values()].filter((row) => row.status === 'suspended');
  rows.sort((a, b) => a.suspendedAt - b.suspendedAt || (a.id < b.id ? -1 : 1));
  const count = rows.length;
  useEffect(() => void countWaiting(), [count]);
  const link = feed.link.value;
  return (
    <main id="content" tabIndex={-1} class={`waiting${isKnown(link) ? '' : ' is-stale'}`} aria-labelledby="title">
      <div class="bar">
        <h1 id="title">Needs you</h1>
        <span class="sum">{count === 0 ? '' : `${countText(count)} waiting, the longest first`}</span>
        <Connection link={link} />
      </div>
      {feed.problem.value !== null && <p class="problem" role="alert">{feed.problem.value}</p>}
      {count === 0 && (feed.isLoaded.value
        ? <div class="empty"><h2>Nothing waits for you</h2><p>A task that suspends itself appears here, with what it asks.</p></div>
        : <div class="empty"><p>Loading…</p></div>)}
      <ul class="cards">
        {rows.slice(0, SHOWN_MAX).map((row) => <Card key={row.id} row={row} now={feed.now()} />)}
      </ul>
      {count > SHOWN_MAX && <p class="note">{countText(count - SHOWN_MAX)} more will follow.</p>}
    </main>
  );
}

function Card({ row, now }: { row: Row; now: number }) {
  return (
    <li class="card">
      <header>
        <Link to={pageOf(row)} class="name">{row.tool.slice(0, 120) || '(no tool)'}</Link>
        {row.description !== '' && <span class="faint">{row.description.slice(0, 200)}</span>}
        <span class="since">waits for <b>{runningText(now - row.suspendedAt)}</b>, since <Time ms={row.suspendedAt} /></span>
      </header>
      <p class="where faint">
        {row.agent !== '' && <span>agent {row.agent.slice(0, 80)}</span>}
        {row.thread !== '' && <span>thread {row.thread.slice(0, 80)}</span>}
        {row.run !== '' && <span>run {row.run.slice(0, 80)}</span>}
      </p>
      <Asked payload={row.suspendPayload} />
      {canAct() && <ResumeForm id={row.id} payload={row.suspendPayload} />}
    </li>
  );
}
