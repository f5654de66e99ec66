// The rows that match, in order. At 100,000 tasks sorting them all for every change would take the whole processor:
// rows that did not move stay as they were sorted, those that did are sorted among themselves, and both are merged.

import { hasEnded, STATUSES, type Status } from '../protocol/types.ts';
import type { Row } from './fold.ts';
import type { Tasks } from './tasks.ts';

export const SORTS = ['recent', 'status', 'tool', 'agent', 'thread', 'started', 'elapsed', 'attempt'] as const;
export type Sort = (typeof SORTS)[number];

export interface Choice {
  sort: Sort;
  /** The other way round. */
  isReversed: boolean;
  /** Any of these; none means all. */
  statuses: readonly Status[];
  /** A part of the id, or of the description. */
  search: string;
}

export const EVERYTHING: Choice = { sort: 'recent', isReversed: false, statuses: [], search: '' };

type Compare = (a: Row, b: Row) => number;

export class View {
  rows: Row[] = [];
  readonly #tasks: Tasks;
  #choice = EVERYTHING;
  #isFresh = false;
  #removed = 0;

  constructor(tasks: Tasks) {
    this.#tasks = tasks;
  }

  /** Another order or selection: the next update begins anew. */
  choose(choice: Choice): void {
    this.#choice = choice;
    this.#isFresh = false;
  }

  /** Brings the rows up to date. */
  update(): readonly Row[] {
    const compare = comparison(this.#choice);
    const matches = matching(this.#choice);
    const moved = this.#tasks.takeMoved();
    if (this.#isFresh && moved.length === 0 && this.#removed === this.#tasks.removed) return this.rows;
    this.#removed = this.#tasks.removed;
    if (this.#isFresh) {
      const arrived = moved.filter((row) => !row.isGone && matches(row));
      this.rows = merged(this.rows, arrived.sort(compare), compare);
    } else {
      this.#isFresh = true;
      this.rows = [...this.#tasks.rows.values()].filter(matches).sort(compare);
      this.rows.forEach((row, index) => (row.index = index));
    }
    for (const row of moved) row.hasMoved = false;
    return this.rows;
  }
}

function matching({ statuses, search }: Choice): (row: Row) => boolean {
  const wanted = search.toLowerCase();
  return (row) =>
    (statuses.length === 0 || statuses.includes(row.status)) &&
    (wanted === '' || row.id.toLowerCase().includes(wanted) || row.description.toLowerCase().includes(wanted));
}

/** What runs or waits for somebody comes first, then what waits for its turn, then what has ended. */
function group({ status }: Row): number {
  if (status === 'running' || status === 'suspended') return 0;
  return hasEnded(status) ? 2 : 1;
}

/** When a row came to stand as it does: what happened last comes first. */
function since(row: Row): number {
  if (hasEnded(row.status)) return row.endedAt;
  return row.startedAt || row.createdAt;
}

/** How long it ran, or runs: among those that run, who began first has run longest. */
function elapsed(row: Row): number {
  if (row.startedAt === 0) return -1;
  return hasEnded(row.status) ? row.endedAt - row.startedAt : Number.MAX_SAFE_INTEGER - row.startedAt;
}

const BY: Record<Sort, Compare> = {
  recent: (a, b) => group(a) - group(b) || since(b) - since(a),
  status: (a, b) => STATUSES.indexOf(a.status) - STATUSES.indexOf(b.status) || since(b) - since(a),
  tool: (a, b) => texts(a.tool, b.tool) || BY.recent(a, b),
  agent: (a, b) => texts(a.agent, b.agent) || BY.recent(a, b),
  thread: (a, b) => texts(a.thread, b.thread) || BY.recent(a, b),
  started: (a, b) => b.startedAt - a.startedAt,
  elapsed: (a, b) => elapsed(b) - elapsed(a),
  attempt: (a, b) => b.attempt - a.attempt || BY.recent(a, b),
};

function texts(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** No two rows are equal: an order that is not total would have them change places. */
function comparison({ sort, isReversed }: Choice): Compare {
  const by = BY[sort];
  const sign = isReversed ? -1 : 1;
  return (a, b) => sign * by(a, b) || texts(a.id, b.id);
}

/** The rows of before that are there and have not moved, and those that arrive, as one sorted list. */
function merged(before: readonly Row[], arrived: readonly Row[], compare: Compare): Row[] {
  const rows: Row[] = [];
  const add = (row: Row) => {
    row.index = rows.length;
    rows.push(row);
  };
  let next = 0;
  for (const row of before) {
    if (row.isGone || row.hasMoved) continue;
    while (next < arrived.length && compare(arrived[next]!, row) < 0) add(arrived[next++]!);
    add(row);
  }
  while (next < arrived.length) add(arrived[next++]!);
  return rows;
}
