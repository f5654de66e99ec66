// What no chunk says of a task (its description, when it was dispatched) is read for the rows that are looked at: a
// few at a time, and so seldom that a table which races past costs the server nothing to speak of.

import { getTask, Refused } from '../protocol/api.ts';
import type { Feed } from './feed.ts';
import type { Row } from './fold.ts';

const AT_ONCE = 4;
const PER_SECOND = 20;

export class Completion {
  readonly #feed: Feed;
  #wanted: readonly Row[] = [];
  readonly #asking = new Set<Row>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(feed: Feed) {
    this.#feed = feed;
  }

  /** These are looked at now; those of before no longer matter. */
  want(rows: readonly Row[]): void {
    this.#wanted = rows;
    this.#timer ??= setTimeout(() => this.#ask(), (1_000 * AT_ONCE) / PER_SECOND);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#wanted = [];
  }

  #ask(): void {
    this.#timer = undefined;
    if (this.#feed.link.value.state !== 'live') return;
    const lacking = this.#wanted.filter((row) => !row.isWhole && !row.isGone && !this.#asking.has(row));
    for (const row of lacking.slice(0, AT_ONCE - this.#asking.size)) void this.#complete(row);
    if (lacking.length > 0) this.want(this.#wanted);
  }

  async #complete(row: Row): Promise<void> {
    this.#asking.add(row);
    try {
      this.#feed.takeRecords([await getTask(row.id)]);
    } catch (error) {
      // An ended one that is no longer kept. After anything else it is not asked for again.
      if (error instanceof Refused && error.status === 404) this.#feed.drop([row.id]);
      else row.isWhole = true;
    } finally {
      this.#asking.delete(row);
    }
  }
}
