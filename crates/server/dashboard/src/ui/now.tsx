// *Now*: what runs, what waits, what has ended.

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { FilterField, Status } from '../protocol/types.ts';
import { address, choiceOf, filterOf, go, href, replace, withChoice, withFilter } from '../state/address.ts';
import { hasShortcuts } from '../state/app.ts';
import type { Row } from '../state/fold.ts';
import { Now } from '../state/now.ts';
import type { Choice, Sort } from '../state/view.ts';
import { Charts } from './chart.tsx';
import { Connection, isKnown } from './connection.tsx';
import { FieldFilters, StatusChips } from './filters.tsx';
import { useFrames } from './frames.ts';
import { useKeys } from './keys.ts';
import { Search } from './search.tsx';
import { Table } from './table.tsx';
import { countText, second } from './time.tsx';

/** Kept while other pages are looked at: who comes back finds everything where it was. */
let kept: { key: string; now: Now } | null = null;

function nowOf(query: URLSearchParams, choice: Choice): Now {
  const filter = filterOf(query);
  const key = JSON.stringify([query.get('namespace'), filter]);
  if (kept?.key !== key) {
    kept?.now.close();
    kept = { key, now: new Now(filter, choice) };
  }
  return kept.now;
}

/** The next look begins anew: somebody else may look. */
export function forgetNow(): void {
  kept?.now.close();
  kept = null;
}

export function NowPage() {
  const { query } = address.value;
  const choice = choiceOf(query);
  const now = nowOf(query, choice);
  const { feed, view } = now;
  const [selected, select] = useState<Row | null>(null);
  const [isHeld, hold] = useState(false);
  const shown = useRef<readonly Row[]>([]);
  const search = useRef<HTMLInputElement>(null);
  const chosen = useRef('');
  const due = useRef(0);
  useFrames(useCallback((listener) => feed.listen(listener), [feed]));
  second.value;

  const wanted = JSON.stringify([choice, kept?.key]);
  const isChanged = chosen.current !== wanted;
  if (isChanged) {
    chosen.current = wanted;
    now.choose(choice);
  }
  // Of 100,000 tasks even this takes some milliseconds: at most a tenth of the time goes into it.
  const began = performance.now();
  if (isChanged || (!isHeld && began >= due.current)) {
    shown.current = view.update();
    due.current = began + 10 * (performance.now() - began);
  }
  const rows = shown.current;
  const link = feed.link.value;
  const isStale = !isKnown(link);

  const change = (changes: Partial<Choice>) => replace(href('/', withChoice(query, changes)));
  const setField = (field: FilterField, value: string | undefined) => go(href('/', withFilter(query, field, value)));
  useKeys({ '/': () => search.current?.focus(), p: () => hold(!isHeld) }, hasShortcuts.value);
  useEffect(() => {
    if (feed.link.value.state === 'paused') feed.resume();
  }, [feed]);

  return (
    <main id="content" tabIndex={-1} class="now" aria-labelledby="title">
      <div class="top">
        <h1 id="title" class="hidden">Now</h1>
        <StatusChips chosen={choice.statuses} count={(status: Status) => now.count(status)}
          onChoose={(statuses) => change({ statuses })} />
        <Charts meter={feed.meter} now={feed.now()} isStale={isStale} />
      </div>
      <div class="bar">
        <Search input={search} value={choice.search} onSearch={(text) => change({ search: text })} rows={rows} />
        <FieldFilters filter={filterOf(query)} known={(field) => valuesOf(feed.tasks.rows.values(), field)} onChange={setField} />
        <button type="button" class="quiet" aria-pressed={isHeld} onClick={() => hold(!isHeld)}
          title="Keeps the rows as they are (p)">{isHeld ? 'Held' : 'Hold'}</button>
        <span class="sum">{sumText(rows.length)}</span>
        <Connection link={link} loading={feed.tasks.loading} />
      </div>
      {feed.problem.value !== null && <p class="problem" role="alert">{feed.problem.value}</p>}
      {rows.length === 0
        ? <Empty isLoaded={feed.isLoaded.value} isFiltered={address.value.query.size > 0} />
        : <Table rows={rows} now={feed.now()} isStale={isStale} choice={choice} selected={selected} onSelect={select}
            onSort={(sort: Sort, isReversed) => change({ sort, isReversed })}
            onSight={(inSight) => now.completion.want(inSight)}
            onEnd={now.hasOlder.value ? () => void now.older() : undefined} />}
    </main>
  );
}

function sumText(count: number): string {
  return count === 1 ? '1 task' : `${countText(count)} tasks`;
}

function Empty({ isLoaded, isFiltered }: { isLoaded: boolean; isFiltered: boolean }) {
  if (!isLoaded) return <div class="empty"><p>Loading…</p></div>;
  if (isFiltered) {
    return (
      <div class="empty">
        <h2>No task matches</h2>
        <p>Tasks that begin to match will appear here by themselves.</p>
      </div>
    );
  }
  return (
    <div class="empty">
      <h2>No tasks yet</h2>
      <p>They appear here as they are dispatched. For example:</p>
      <pre tabIndex={0}>{`curl ${location.origin}/v1/tasks --json \\\n  '{"toolName": "greet", "agentId": "agent-1"}'`}</pre>
    </div>
  );
}

/** The values of a field among the tasks that are here: some hundred of them are enough to choose from. */
function valuesOf(rows: Iterable<Row>, field: FilterField): string[] {
  const read: Record<FilterField, (row: Row) => string> = {
    toolName: (row) => row.tool, agentId: (row) => row.agent, threadId: (row) => row.thread,
    runId: (row) => row.run, resourceId: (row) => row.resource, taskId: (row) => row.id,
  };
  const values = new Set<string>();
  for (const row of rows) {
    const value = read[field](row);
    if (value !== '') values.add(value);
    if (values.size >= 200) break;
  }
  return [...values].sort();
}
