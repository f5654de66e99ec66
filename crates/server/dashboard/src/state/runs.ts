// Tasks of one run of an agent, grouped: by the agents that took part, and within an agent by time.

import { hasEnded, STATUSES, type Status } from '../protocol/types.ts';
import type { Row } from './fold.ts';

export interface Run {
  id: string;
  agents: Agent[];
  counts: Partial<Record<Status, number>>;
  total: number;
  /** From its first dispatch to its last end; 0 while something has not ended. */
  beganAt: number;
  endedAt: number;
  thread: string;
}

export interface Agent {
  name: string;
  rows: Row[];
}

/** The runs of these tasks, latest first. Tasks without a run are in none. */
export function runsOf(rows: Iterable<Row>): Run[] {
  const byRun = new Map<string, Row[]>();
  for (const row of rows) {
    if (row.run === '') continue;
    const of = byRun.get(row.run);
    if (of) of.push(row);
    else byRun.set(row.run, [row]);
  }
  const runs = [...byRun].map(([id, of]) => runOf(id, of));
  return runs.sort((a, b) => b.beganAt - a.beganAt || (a.id < b.id ? -1 : 1));
}

export function runOf(id: string, of: Row[]): Run {
  const rows = of.toSorted((a, b) => begin(a) - begin(b) || (a.id < b.id ? -1 : 1));
  const byAgent = new Map<string, Row[]>();
  const counts: Run['counts'] = {};
  for (const row of rows) {
    counts[row.status] = (counts[row.status] ?? 0) + 1;
    const known = byAgent.get(row.agent);
    if (known) known.push(row);
    else byAgent.set(row.agent, [row]);
  }
  const isOver = rows.every((row) => hasEnded(row.status));
  return {
    id,
    agents: [...byAgent].map(([name, its]) => ({ name, rows: its })),
    counts,
    total: rows.length,
    beganAt: rows.reduce((least, row) => Math.min(least, begin(row)), Number.POSITIVE_INFINITY),
    endedAt: isOver ? rows.reduce((most, row) => Math.max(most, row.endedAt), 0) : 0,
    thread: rows.find((row) => row.thread !== '')?.thread ?? '',
  };
}

export function begin(row: Row): number {
  return row.createdAt || row.startedAt || row.endedAt;
}

/** How a run stands in one word: what needs somebody goes before what moves, and that before what went wrong. */
export function standing(run: Run): Status {
  const order: readonly Status[] = ['suspended', 'running', 'pending', 'failed', 'timed_out', 'cancelled', 'completed'];
  return order.find((status) => run.counts[status]) ?? STATUSES[0];
}
