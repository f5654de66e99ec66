// Where a table's tasks come from: a stream of what has not ended and of all that happens, and lists of what ended
// before. Everything is folded at once, also in a tab that is not looked at; what is drawn is the tables' own affair.

import { signal } from '@preact/signals';
import { listTasks, Refused, urlOf, type Params } from '../protocol/api.ts';
import { Following, type Link } from '../protocol/follow.ts';
import { serverNow } from '../protocol/clock.ts';
import type { Block } from '../protocol/sse.ts';
import {
  CHUNK_TYPES, ENDED, type Chunk, type ChunkType, type Filter, type Status, type TaskRecord,
} from '../protocol/types.ts';
import { pauseWhenHidden } from './attention.ts';
import { msOf } from './fold.ts';
import { Meter } from './meter.ts';
import { Tasks } from './tasks.ts';

export interface FeedOptions {
  filter: Filter;
  /** `active`: everything that has not ended. `none`: only what happens; the lists say how things stand. */
  snapshot: 'active' | 'none';
  types?: readonly ChunkType[];
  /** Fetches what the stream does not say: called at once, and after each snapshot. */
  load(feed: Feed, signal: AbortSignal): Promise<void>;
  /** Called when a snapshot has been read that was cut at this cursor. */
  onSnapshot?(feed: Feed, cursor: string, tell: () => void): Promise<void>;
}

export class Feed {
  readonly tasks = new Tasks();
  readonly meter = new Meter();
  readonly link = signal<Link>({ state: 'connecting' });
  /** The first snapshot and the first lists are here. */
  readonly isLoaded = signal(false);
  readonly problem = signal<string | null>(null);
  readonly #options: FeedOptions;
  readonly #following: Following;
  readonly #forget: () => void;
  readonly #listeners = new Set<() => void>();
  #loading: AbortController | null = null;
  #hasForgotten = false;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.tasks.beginSnapshot();
    const params: Params = { ...options.filter, type: options.types ?? CHUNK_TYPES, snapshot: options.snapshot };
    this.#following = new Following(
      { url: (cursor) => urlOf('stream', { ...params, after: cursor ?? undefined }) },
      { onBlock: (block) => this.#take(block), onLink: (link) => this.#stand(link) },
    );
    this.#forget = pauseWhenHidden(this);
    // Only a snapshot says all; but a list's first page is here before 100,000 tasks of a snapshot are.
    if (options.snapshot === 'active') void this.reload();
  }

  /** The time up to which what is shown is known to be true, by the server's clock. */
  now(): number {
    const link = this.link.value;
    return 'heardAt' in link ? link.heardAt + serverNow() - Date.now() : serverNow();
  }

  /** Tells of every change; many of them may come in one frame. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  pause(): void {
    this.#following.pause();
  }

  resume(): void {
    this.#following.resume();
  }

  close(): void {
    this.#forget();
    this.#loading?.abort();
    this.#following.close();
    this.#listeners.clear();
  }

  takeRecords(records: readonly TaskRecord[]): void {
    this.tasks.takeRecords(records);
    this.#tell();
  }

  drop(ids: Iterable<string>): void {
    this.tasks.drop(ids);
    this.#tell();
  }

  /** Reads the lists anew. */
  async reload(): Promise<void> {
    this.#loading?.abort();
    const abort = new AbortController();
    this.#loading = abort;
    try {
      await this.#options.load(this, abort.signal);
      if (this.#hasForgotten && this.tasks.loading === null) {
        this.#hasForgotten = false;
        this.tasks.dropForgotten();
      }
      this.problem.value = null;
    } catch (error) {
      if (abort.signal.aborted) return;
      this.problem.value = error instanceof Refused ? error.message : String(error);
    }
    this.isLoaded.value = this.tasks.loading === null;
    this.#tell();
  }

  #stand(link: Link): void {
    const wasLost = this.link.value.state === 'reconnecting';
    this.link.value = link;
    if (link.state === 'live' && wasLost && this.problem.value !== null) void this.reload();
    this.#tell();
  }

  #take({ data, id }: Block): void {
    if (data !== '') {
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.type === 'stream-reset') {
        this.#hasForgotten = true;
        this.tasks.forget();
        this.tasks.beginSnapshot();
        return;
      }
      this.#measure(chunk);
      this.tasks.takeChunk(chunk);
    } else if (id !== null && this.tasks.loading !== null) {
      this.tasks.endSnapshot(id, this.#options.snapshot === 'active');
      void this.reload();
      void this.#options.onSnapshot?.(this, id, () => this.#tell());
    }
    this.#tell();
  }

  #measure({ type, payload }: Chunk): void {
    if (payload.seq === undefined) return;
    const now = serverNow();
    if (type === 'background-task-running' || type === 'background-task-resumed') {
      this.meter.started(now);
    } else if (payload.completedAt !== undefined) {
      const startedAt = this.tasks.rows.get(payload.taskId)?.startedAt;
      const took = startedAt ? msOf(payload.completedAt) - startedAt : null;
      this.meter.ended(now, type === 'background-task-completed', took);
    }
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** The newest of the ended tasks that match, as the lists have them. */
export function endedParams(filter: Filter, statuses: readonly Status[], limit: number): Params {
  const { taskId: _one, ...fields } = filter;
  return { ...fields, status: statuses, orderBy: 'completedAt', orderDirection: 'desc', limit };
}

export function endedOf(statuses: readonly Status[]): readonly Status[] {
  return statuses.length === 0 ? ENDED : ENDED.filter((status) => statuses.includes(status));
}

/** Every task that matches, page by page, up to a bound. */
export async function listAll(params: Params, max: number, signal: AbortSignal): Promise<{ tasks: TaskRecord[]; total: number }> {
  const tasks: TaskRecord[] = [];
  let cursor: string | undefined;
  let total = 0;
  do {
    const page = await listTasks({ ...params, limit: 500, cursor }, signal);
    tasks.push(...page.tasks);
    ({ total } = page);
    cursor = page.nextCursor;
  } while (cursor !== undefined && tasks.length < max);
  return { tasks, total };
}
