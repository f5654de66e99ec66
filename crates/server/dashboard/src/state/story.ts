// One task: its record, its story from the start, its outputs; and then what happens to it, as it happens.

import { signal } from '@preact/signals';
import { getTask, Refused, urlOf } from '../protocol/api.ts';
import { Following, type Link } from '../protocol/follow.ts';
import { serverNow } from '../protocol/clock.ts';
import { parseExactly } from '../protocol/json.ts';
import { BlockReader, type Block } from '../protocol/sse.ts';
import { CHUNK_TYPES, type Chunk, type TaskRecord } from '../protocol/types.ts';
import { pauseWhenHidden } from './attention.ts';
import { Output } from './output.ts';
import { textOf } from './text.ts';
import { eventOf, type StoryEvent } from './timeline.ts';

export class Story {
  readonly id: string;
  readonly record = signal<TaskRecord | null>(null);
  readonly problem = signal<Refused | null>(null);
  readonly link = signal<Link>({ state: 'connecting' });
  events: StoryEvent[] = [];
  readonly output = new Output();
  /** The log no longer has the beginning. */
  isCut = false;
  /** Grows with every change. */
  version = 0;
  /** Outputs since the last event. */
  outputs = 0;
  #following: Following | null = null;
  /** The last event that was heard, and the last that was not an output: that one changed the record. */
  seq = 0;
  #changed = 0;
  #isFetching = false;
  #isClosed = false;
  readonly #forget: () => void;
  readonly #listeners = new Set<() => void>();

  constructor(id: string) {
    this.id = id;
    this.#forget = pauseWhenHidden(this);
    void this.#open();
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  now(): number {
    const link = this.link.value;
    return 'heardAt' in link ? link.heardAt + serverNow() - Date.now() : serverNow();
  }

  pause(): void {
    this.#following?.pause();
  }

  resume(): void {
    this.#following?.resume();
  }

  close(): void {
    this.#isClosed = true;
    this.#forget();
    this.#following?.close();
    this.#listeners.clear();
  }

  /** What a command made of the task; the stream tells the same a moment later. */
  takeRecord(record: TaskRecord): void {
    if (record.seq >= (this.record.value?.seq ?? 0)) this.record.value = record;
  }

  async #open(): Promise<void> {
    await this.#fetch();
    if (this.#isClosed) return;
    if (this.problem.value !== null) {
      // A server that cannot be reached now is asked again; one that has no such task is not.
      if (this.problem.value.status === 0) setTimeout(() => void this.#open(), 2_000);
      return;
    }
    this.#following = new Following(
      { url: (cursor) => urlOf('task/stream', { id: this.id, after: cursor ?? undefined }), endsWithTask: true },
      { onBlock: (block) => this.#take(block), onLink: (link) => this.#stand(link) },
    );
  }

  /** The story has been read to the end of the task. Somebody may have it tried again: that is heard too. */
  #goOn(cursor: string | null): void {
    const params = { taskId: this.id, type: CHUNK_TYPES, snapshot: 'none' };
    this.#following = new Following(
      { url: (at) => urlOf('stream', { ...params, after: at ?? undefined }), after: cursor },
      { onBlock: (block) => this.#take(block), onLink: (link) => (this.link.value = link) },
    );
  }

  #stand(link: Link): void {
    if (link.state !== 'ended') {
      this.link.value = link;
      return;
    }
    if (!this.#isClosed) this.#goOn(this.#following?.cursor ?? null);
  }

  #take({ data }: Block): void {
    if (data === '') return;
    const chunk = parseExactly(data) as Chunk;
    if (chunk.type === 'stream-reset') {
      this.#begin();
    } else if (chunk.type === 'background-task-output') {
      this.seq = chunk.payload.seq ?? this.seq;
      this.#takeOutput(chunk);
    } else {
      this.events.push(eventOf(chunk, this.outputs));
      this.outputs = 0;
      this.seq = this.#changed = chunk.payload.seq ?? this.seq;
      void this.#fetch();
    }
    this.version += 1;
    for (const listener of this.#listeners) listener();
  }

  #takeOutput({ payload }: Chunk): void {
    this.outputs += 1;
    this.output.take(payload.payload, payload.attempt ?? 0);
  }

  /** The cursor cannot be honoured: what follows is how the task stands, perhaps in another log. */
  #begin(): void {
    this.isCut = true;
    if (this.record.value) this.record.value = { ...this.record.value, seq: 0 };
    this.seq = this.#changed = 1;
    void this.#fetch();
    this.events = [];
    this.outputs = 0;
    this.output.clear();
  }

  /** Reads the record until it is as new as the story. */
  async #fetch(): Promise<void> {
    if (this.#isFetching) return;
    this.#isFetching = true;
    try {
      do {
        if (this.record.value && this.record.value.seq >= this.#changed) break;
        this.takeRecord(await getTask(this.id));
        this.problem.value = null;
      } while (!this.#isClosed && this.record.value!.seq < this.#changed);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // A server that is away comes back, and then the story goes on.
      if (error.status !== 0 || this.record.value === null) this.problem.value = error;
    } finally {
      this.#isFetching = false;
    }
  }
}

/** All outputs of a task, read from the server anew: more than this page keeps. */
export async function readOutputs(id: string, take: (text: string) => void, until: number): Promise<void> {
  const abort = new AbortController();
  const answer = await fetch(urlOf('task/stream', { id }), { signal: abort.signal, credentials: 'same-origin' });
  if (!answer.ok || !answer.body) throw new Refused(answer.status, `the server answered ${answer.status}`);
  let isDone = false;
  const reader = new BlockReader(({ data }) => {
    if (data === '' || isDone) return;
    const { type, payload } = JSON.parse(data) as Chunk;
    if (type === 'background-task-output') {
      const text = textOf(payload.payload);
      take(text.endsWith('\n') ? text : `${text}\n`);
    }
    if ((payload.seq ?? 0) >= until) isDone = true;
  });
  const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  // Not one piece more than is needed: the stream of a task that has not ended stays open.
  while (!isDone) {
    const { done, value } = await pieces.read();
    if (done) break;
    reader.push(value);
  }
  abort.abort();
}
