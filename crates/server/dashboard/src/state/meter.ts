// What happened in each of the last two minutes' seconds: how many tasks began and ended, and how long those ran.

export const SECONDS = 120;

export interface Second {
  /** In whole seconds since 1970; 0 for one that has not been. */
  at: number;
  started: number;
  completed: number;
  failed: number;
  /** How long the tasks that ended in it had run, in milliseconds: at most some hundred of them. */
  took: number[];
}

/** A sample is enough for a percentile. */
const SAMPLES_MAX = 400;

export class Meter {
  readonly #seconds: Second[] = Array.from({ length: SECONDS }, () => empty(0));

  started(now: number): void {
    this.#of(now).started += 1;
  }

  ended(now: number, isCompleted: boolean, tookMs: number | null): void {
    const second = this.#of(now);
    if (isCompleted) second.completed += 1;
    else second.failed += 1;
    if (tookMs !== null && second.took.length < SAMPLES_MAX) second.took.push(tookMs);
  }

  clear(): void {
    for (let index = 0; index < SECONDS; index += 1) this.#seconds[index] = empty(0);
  }

  /** The seconds up to the last whole one, oldest first. */
  seconds(now: number): Second[] {
    const last = Math.floor(now / 1_000) - 1;
    return Array.from({ length: SECONDS }, (_, index) => {
      const at = last - SECONDS + 1 + index;
      const second = this.#seconds[at % SECONDS]!;
      return second.at === at ? second : empty(at);
    });
  }

  #of(now: number): Second {
    const at = Math.floor(now / 1_000);
    const index = at % SECONDS;
    if (this.#seconds[index]!.at !== at) this.#seconds[index] = empty(at);
    return this.#seconds[index]!;
  }
}

function empty(at: number): Second {
  return { at, started: 0, completed: 0, failed: 0, took: [] };
}

/** The value that so much of the others are not above; `null` of none. */
export function percentile(values: readonly number[], share: number): number | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? null;
}
