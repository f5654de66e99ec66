// The tasks that a table shows: every one that has not ended, and the newest of those that have.

import {
  ENDED, hasEnded, seqOf, STATUSES, type Chunk, type Status, type TaskRecord,
} from '../protocol/types.ts';
import { foldChunk, foldRecord, newRow, type Row } from './fold.ts';

/** Among the ended ones, the oldest go when there are more. */
export const ENDED_MAX = 2_000;

/** The place of a row of which nothing is known to hold. */
const FORGOTTEN = -1;

export type Counts = Record<Status, number>;

export class Tasks {
  readonly rows = new Map<string, Row>();
  /** How many of each status are here: all of those that have not ended. */
  readonly counts: Counts = noCounts();
  /** Grows with every change. */
  version = 0;
  /** How many rows have gone so far. */
  removed = 0;
  /** Rows that are new or stand elsewhere than before: for the view, which takes them. */
  #moved: Row[] = [];
  /** The ids of the snapshot that is being read; `null` between snapshots. */
  #snapshot: Map<string, Chunk> | null = null;
  #endedMax = ENDED_MAX;

  /** How many tasks of a snapshot have been read so far. */
  get loading(): number | null {
    return this.#snapshot?.size ?? null;
  }

  get endedCount(): number {
    return ENDED.reduce((sum, status) => sum + this.counts[status], 0);
  }

  /** A snapshot follows: what it does not name is no longer as it was. */
  beginSnapshot(): void {
    this.#snapshot = new Map();
  }

  /**
   * What is known may be of another log, whose places mean nothing in this one: anything that is read now is newer.
   * `dropForgotten` ends it, when everything has been read.
   */
  forget(): void {
    for (const row of this.rows.values()) row.seq = FORGOTTEN;
  }

  /** What was not read again is no longer there. */
  dropForgotten(): void {
    this.drop([...this.rows.values()].filter((row) => row.seq === FORGOTTEN).map((row) => row.id));
  }

  /** The snapshot is over; it was cut at this cursor. One that was empty on purpose says nothing of what it lacks. */
  endSnapshot(cursor: string, isWhole: boolean): void {
    const snapshot = this.#snapshot;
    this.#snapshot = null;
    if (!snapshot) return;
    const cut = seqOf(cursor);
    for (const [id, chunk] of snapshot) this.#change(id, (row) => foldChunk(row, chunk, cut));
    for (const row of isWhole ? this.rows.values() : []) {
      if (!hasEnded(row.status) && row.seq <= cut && !snapshot.has(row.id)) this.#remove(row);
    }
    this.version += 1;
  }

  takeChunk(chunk: Chunk): void {
    if (this.#snapshot && chunk.payload.seq === undefined) {
      // Kept until the snapshot is over: without what no row shows, which may be large.
      chunk.payload.args = undefined;
      this.#snapshot.set(chunk.payload.taskId, chunk);
      this.version += 1;
      return;
    }
    this.#change(chunk.payload.taskId, (row) => foldChunk(row, chunk));
    this.#bound();
  }

  takeRecords(records: readonly TaskRecord[]): void {
    for (const record of records) this.#change(record.id, (row) => foldRecord(row, record));
    this.#bound();
  }

  /** These are no longer there. */
  drop(ids: Iterable<string>): void {
    for (const id of ids) {
      const row = this.rows.get(id);
      if (row) this.#remove(row);
    }
    this.version += 1;
  }

  /** Older ones were asked for: they may stay. */
  keepMore(count: number): void {
    this.#endedMax += count;
  }

  clear(): void {
    for (const row of this.rows.values()) row.isGone = true;
    this.removed += this.rows.size;
    this.rows.clear();
    Object.assign(this.counts, noCounts());
    this.#moved = [];
    this.#snapshot = null;
    this.#endedMax = ENDED_MAX;
    this.version += 1;
  }

  /** The rows that have moved since they were last taken. Who takes them clears their mark. */
  takeMoved(): Row[] {
    const moved = this.#moved;
    this.#moved = [];
    return moved;
  }

  #change(id: string, fold: (row: Row) => boolean): void {
    const known = this.rows.get(id);
    const row = known ?? newRow(id);
    const before = row.status;
    const hadMoved = row.hasMoved;
    if (!fold(row)) return;
    if (known) this.counts[before] -= 1;
    else this.rows.set(id, row);
    if (!known || (row.hasMoved && !hadMoved)) this.#moved.push(row);
    this.counts[row.status] += 1;
    this.version += 1;
  }

  #remove(row: Row): void {
    this.rows.delete(row.id);
    row.isGone = true;
    this.counts[row.status] -= 1;
    this.removed += 1;
  }

  /** Seldom, and then many at once: looking for the oldest costs a walk over all. */
  #bound(): void {
    if (this.endedCount <= this.#endedMax * 1.25) return;
    const ended = [...this.rows.values()].filter((row) => hasEnded(row.status));
    ended.sort((a, b) => a.endedAt - b.endedAt);
    for (const row of ended.slice(0, ended.length - this.#endedMax)) this.#remove(row);
    this.version += 1;
  }
}

function noCounts(): Counts {
  return Object.fromEntries(STATUSES.map((status) => [status, 0])) as Counts;
}
