// A stream that lasts: it reconnects, resumes after the last cursor it saw, and always says how it stands.
//
// `EventSource` is not enough: it hides blocks that are an `id` alone, gives up at any answer but 200, and cannot say
// since when it has heard nothing.

import { noteServerTime } from './clock.ts';
import { BlockReader, type Block } from './sse.ts';

/** How the stream stands. While it is not `live`, what is shown is as of `heardAt`. */
export type Link =
  | { state: 'connecting' }
  | { state: 'live' }
  | { state: 'reconnecting'; heardAt: number; why: string }
  /** The tab was hidden for a while: the stream is closed, and goes on from its cursor when the tab is looked at. */
  | { state: 'paused'; heardAt: number }
  /** The server will not have it, and asking again would not help. */
  | { state: 'refused'; status: number; why: string }
  /** It has come to its end, as the stream of an ended task does. */
  | { state: 'ended' };

export interface Follower {
  /** Each chunk's text with its cursor; with no text, the cursor has moved. */
  onBlock(block: Block): void;
  onLink(link: Link): void;
}

export interface FollowOptions {
  /** The URL to ask, given the last cursor. */
  url(cursor: string | null): string;
  /** Where another stream has come to. */
  after?: string | null;
  /** Is the stream to be asked again after it has ended well? Not one that ends with its task. */
  endsWithTask?: boolean;
  fetch?: typeof fetch;
  random?: () => number;
}

/** The server sends a keep-alive every 15 s; after three of them have not come, the connection is taken for dead. */
const SILENCE_MS_MAX = 45_000;
const BACKOFF_MS = 250;
const BACKOFF_MS_MAX = 8_000;

export class Following {
  readonly #options: FollowOptions;
  readonly #follower: Follower;
  #cursor: string | null = null;
  #abort: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watchdog: ReturnType<typeof setInterval> | undefined;
  #failures = 0;
  #heardAt = Date.now();
  #isClosed = false;

  constructor(options: FollowOptions, follower: Follower) {
    this.#options = options;
    this.#follower = follower;
    this.#cursor = options.after ?? null;
    void this.#connect();
  }

  get cursor(): string | null {
    return this.#cursor;
  }

  close(): void {
    this.#isClosed = true;
    this.#disconnect();
  }

  /** Closes the connection, but not the stream: `resume` goes on from its cursor. */
  pause(): void {
    if (this.#isClosed) return;
    this.#disconnect();
    this.#follower.onLink({ state: 'paused', heardAt: this.#heardAt });
  }

  /** Asks now, instead of waiting for the next try. Does nothing while connected. */
  resume(): void {
    if (this.#isClosed || this.#abort) return;
    clearTimeout(this.#timer);
    void this.#connect();
  }

  #disconnect(): void {
    clearTimeout(this.#timer);
    clearInterval(this.#watchdog);
    this.#abort?.abort();
    this.#abort = null;
  }

  async #connect(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    let outcome: { again: true; why: string } | { again: false; link: Link };
    try {
      outcome = await this.#read(abort);
    } catch {
      const why = abort.signal.reason instanceof Silence ? abort.signal.reason.message : 'the connection was lost';
      outcome = { again: true, why };
    }
    clearInterval(this.#watchdog);
    // Another connection, or none, has taken this one's place.
    if (this.#abort !== abort) return;
    this.#abort = null;
    if (!outcome.again) {
      this.#isClosed = true;
      this.#follower.onLink(outcome.link);
      return;
    }
    this.#follower.onLink({ state: 'reconnecting', heardAt: this.#heardAt, why: outcome.why });
    this.#timer = setTimeout(() => void this.#connect(), this.#backoff());
  }

  async #read(abort: AbortController): Promise<{ again: true; why: string } | { again: false; link: Link }> {
    const ask = this.#options.fetch ?? fetch;
    const headers = { accept: 'text/event-stream' };
    this.#watch(abort);
    const answer = await ask(this.#options.url(this.#cursor), {
      headers, signal: abort.signal, credentials: 'same-origin', cache: 'no-store',
    });
    noteServerTime(answer.headers.get('date'));
    // 204: all of an ended task's story has been seen.
    if (answer.status === 204) return { again: false, link: { state: 'ended' } };
    if (!answer.ok || !answer.body) return refusal(answer);

    this.#failures = 0;
    this.#follower.onLink({ state: 'live' });
    const reader = new BlockReader((block) => this.#take(block));
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (abort.signal.aborted) break;
      if (done) break;
      this.#heardAt = Date.now();
      reader.push(value);
    }
    if (this.#options.endsWithTask) return { again: false, link: { state: 'ended' } };
    return { again: true, why: 'the server closed the stream' };
  }

  #take(block: Block): void {
    // First what it says, then where we are: a follower that throws must not have its block counted as seen.
    this.#follower.onBlock(block);
    if (block.id !== null) this.#cursor = block.id;
  }

  #watch(abort: AbortController): void {
    clearInterval(this.#watchdog);
    const began = Date.now();
    this.#watchdog = setInterval(() => {
      if (Date.now() - Math.max(began, this.#heardAt) > SILENCE_MS_MAX) {
        abort.abort(new Silence('nothing was heard from the server'));
      }
    }, 5_000);
  }

  /** Full jitter: anything up to a time that doubles, so that all the pages of a restarted server do not come at once. */
  #backoff(): number {
    const random = this.#options.random ?? Math.random;
    const most = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** this.#failures);
    this.#failures += 1;
    return BACKOFF_MS / 2 + most * random();
  }
}

class Silence extends Error {}

/** What the server will not do now may be done later; what it does not allow will not. */
async function refusal(answer: Response): Promise<{ again: true; why: string } | { again: false; link: Link }> {
  const problem = (await answer.json().catch(() => null)) as { detail?: string; title?: string } | null;
  const why = problem?.detail ?? problem?.title ?? `the server answered ${answer.status}`;
  const isOver = answer.status >= 400 && answer.status < 500 && answer.status !== 408 && answer.status !== 429;
  return isOver ? { again: false, link: { state: 'refused', status: answer.status, why } } : { again: true, why };
}
