// What the page *Now* shows: everything that has not ended, and the newest of what has.

import { signal } from '@preact/signals';
import { getTask, listTasks, Refused } from '../protocol/api.ts';
import { ENDED, hasEnded, STATUSES, type Filter, type Status, type TaskRecord } from '../protocol/types.ts';
import { Completion } from './complete.ts';
import { endedOf, endedParams, Feed } from './feed.ts';
import { recallOutputs } from './recall.ts';
import { EVERYTHING, View, type Choice } from './view.ts';
import type { Counts } from './tasks.ts';

const NEWEST = 100;
const ENDED_FIRST = 200;
const ENDED_PAGE = 500;
/** How many ended tasks can be looked through here; a filter finds the others. */
const OLDER_MAX = 20_000;
/** The totals are asked for anew so soon after something ended, and so late when nothing did: old ones are removed. */
const TOTALS_MS = 2_000;
const TOTALS_QUIET_MS = 60_000;

export class Now {
  readonly filter: Filter;
  readonly feed: Feed;
  readonly view: View;
  readonly completion: Completion;
  /** How many tasks of each status match the filter, by the server's count. */
  readonly totals = signal<Counts | null>(null);
  /** Is there more to be had that ended earlier? */
  readonly hasOlder = signal(false);
  #statuses: readonly Status[] = [];
  #isReadingOlder = false;
  #totalsTimer: ReturnType<typeof setTimeout> | undefined;
  #totalsDue = Number.POSITIVE_INFINITY;

  constructor(filter: Filter, choice: Choice = EVERYTHING) {
    this.filter = filter;
    this.#statuses = choice.statuses;
    this.feed = new Feed({
      filter,
      snapshot: 'active',
      load: (feed, abort) => this.#load(feed, abort),
      onSnapshot: (feed, cursor, tell) => recallOutputs(filter, cursor, feed.tasks.rows, tell),
    });
    this.view = new View(this.feed.tasks);
    this.completion = new Completion(this.feed);
    this.view.choose(choice);
    let ended = 0;
    this.feed.listen(() => {
      const now = this.feed.tasks.endedCount;
      if (now !== ended) this.#countSoon(TOTALS_MS);
      ended = now;
    });
    void this.#count();
  }

  close(): void {
    clearTimeout(this.#totalsTimer);
    this.#totalsDue = Number.NEGATIVE_INFINITY;
    this.completion.close();
    this.feed.close();
  }

  choose(choice: Choice): void {
    this.view.choose(choice);
    if (choice.statuses.join() === this.#statuses.join()) return;
    this.#statuses = choice.statuses;
    void this.feed.reload();
  }

  /** Of those that have not ended, what is here is all; of the others, the server has counted more than are here. */
  count(status: Status): number | null {
    const { tasks } = this.feed;
    if (!hasEnded(status) && tasks.loading === null) return tasks.counts[status];
    return this.totals.value?.[status] ?? null;
  }

  /** Reads tasks that ended before those that are here. */
  async older(): Promise<void> {
    if (this.#isReadingOlder || !this.hasOlder.value) return;
    this.#isReadingOlder = true;
    try {
      const statuses = endedOf(this.#statuses);
      // Exclusive, and several may have ended in one millisecond: those that are here already change nothing.
      const toDate = new Date(this.#oldestEnd(statuses) + 1).toISOString();
      const params = { ...endedParams(this.filter, statuses, ENDED_PAGE), dateFilterBy: 'completedAt', toDate };
      const page = await listTasks(params);
      this.feed.tasks.keepMore(page.tasks.length);
      this.feed.takeRecords(page.tasks);
      this.hasOlder.value = page.nextCursor !== undefined && this.feed.tasks.endedCount < OLDER_MAX;
    } catch (error) {
      this.feed.problem.value = error instanceof Refused ? error.message : String(error);
    } finally {
      this.#isReadingOlder = false;
    }
  }

  #oldestEnd(statuses: readonly Status[]): number {
    let oldest = Number.POSITIVE_INFINITY;
    for (const row of this.feed.tasks.rows.values()) {
      if (statuses.includes(row.status) && row.endedAt !== 0) oldest = Math.min(oldest, row.endedAt);
    }
    return Number.isFinite(oldest) ? oldest : Date.now();
  }

  async #load(feed: Feed, abort: AbortSignal): Promise<void> {
    const { taskId, ...fields } = this.filter;
    if (taskId !== undefined) return this.#loadOne(feed, taskId);
    const statuses = endedOf(this.#statuses);
    const newest = listTasks({ ...fields, status: this.#statuses, orderDirection: 'desc', limit: NEWEST }, abort);
    const ended = statuses.length === 0 ? null : listTasks(endedParams(this.filter, statuses, ENDED_FIRST), abort);
    const [first, page] = await Promise.all([newest, ended]);
    feed.takeRecords([...first.tasks, ...(page?.tasks ?? [])]);
    this.hasOlder.value = page?.nextCursor !== undefined;
  }

  async #loadOne(feed: Feed, id: string): Promise<void> {
    try {
      const task = await getTask(id);
      if (agrees(task, this.filter)) feed.takeRecords([task]);
    } catch (error) {
      // A filter that nothing matches is no mistake.
      if (!(error instanceof Refused && error.status === 404)) throw error;
    }
  }

  async #count(): Promise<void> {
    const { taskId, ...fields } = this.filter;
    const statuses = this.totals.value === null ? STATUSES : ENDED;
    if (taskId === undefined) {
      const ask = async (status: Status) => [status, (await listTasks({ ...fields, status, perPage: 0 })).total] as const;
      const answers = await Promise.all(statuses.map(ask)).catch(() => null);
      if (answers) this.totals.value = { ...this.feed.tasks.counts, ...Object.fromEntries(answers) };
    } else {
      this.totals.value = { ...this.feed.tasks.counts };
    }
    this.#totalsDue = this.#totalsDue === Number.NEGATIVE_INFINITY ? this.#totalsDue : Number.POSITIVE_INFINITY;
    this.#countSoon(TOTALS_QUIET_MS);
  }

  #countSoon(ms: number): void {
    const due = Date.now() + ms;
    if (due >= this.#totalsDue) return;
    this.#totalsDue = due;
    clearTimeout(this.#totalsTimer);
    this.#totalsTimer = setTimeout(() => void this.#count(), ms);
  }
}

function agrees(task: TaskRecord, filter: Filter): boolean {
  const { taskId: _same, ...fields } = filter;
  return Object.entries(fields).every(([field, value]) => task[field as keyof TaskRecord] === value);
}
