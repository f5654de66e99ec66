// What every peer in Node has in common: its work, its answer, and how tasks are kept in flight.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';

const HERE = import.meta.dirname;

// The only argument, as bench/src/work.rs writes it.
export const work = JSON.parse(process.argv[2]);

export function setting(name) {
  const value = work.settings[name];
  if (value === undefined) throw new Error(`the work has no setting ${name}`);
  return value;
}

// What is installed, not what was asked for.
export function version(name) {
  return JSON.parse(readFileSync(join(HERE, 'node_modules', name, 'package.json'), 'utf8')).version;
}

// Prints the answer and ends the process: what a peer leaves running must not keep it.
export function answer({ contender, version, durability, values, verified }) {
  const line = JSON.stringify({
    contender,
    version: `${version}, Node ${process.versions.node}`,
    durability,
    values,
    verified,
    peak_kib: process.resourceUsage().maxRSS,
  });
  process.stdout.write(`${line}\n`, () => process.exit(0));
}

// What comes before is a peer's start-up, and is not counted among what its work took of a processor.
export const ready = () => console.log('ready');

export function ensure(condition, message) {
  if (!condition) throw new Error(message);
}

export function latencies(ms, prefix = '') {
  const sorted = Float64Array.from(ms).sort();
  const at = (share) => sorted[Math.round((sorted.length - 1) * share)];
  return { [`${prefix}p50_ms`]: at(0.5), [`${prefix}p99_ms`]: at(0.99) };
}

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Tasks that are under way, by their numbers: whoever sees one complete says so, and whoever waits for it goes on.
export class Flight {
  #waiting = new Map();
  #seen = new Set();

  completed(number) {
    if (this.#seen.has(number)) throw new Error(`task ${number} was completed twice`);
    this.#seen.add(number);
    this.#waiting.get(number)?.();
    this.#waiting.delete(number);
  }

  // Waits until so many have completed. The database is not asked before: asking costs it what it could work with.
  async reached(tasks) {
    for (const ends = performance.now() + 200_000; this.count < tasks; await pause(1)) {
      ensure(performance.now() < ends, `${this.count} of ${tasks} tasks were completed after 200 s`);
    }
    ensure(this.count === tasks, `${this.count} tasks were completed, not ${tasks}`);
  }

  get count() {
    return this.#seen.size;
  }

  #isCompleted(number) {
    if (this.#seen.has(number)) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.set(number, resolve));
  }

  // Keeps so many going until all have completed: the next is dispatched as soon as one has. Returns how long it took
  // in seconds, and how long each did, in milliseconds.
  async keep(inFlight, tasks, dispatch) {
    const ms = [];
    let next = 0;
    const lane = async () => {
      while (next < tasks) {
        const number = next++;
        const begun = performance.now();
        const completed = this.#isCompleted(number);
        await dispatch(number);
        await completed;
        ms.push(performance.now() - begun);
      }
    };
    const begun = performance.now();
    await Promise.all(Array.from({ length: inFlight }, lane));
    return { seconds: (performance.now() - begun) / 1_000, ms };
  }
}

// One after the other, with pauses: how long each took from its dispatch until `begun(number)` was called.
export class Pickups {
  #dispatched = 0;
  #begin;
  ms = [];

  begun() {
    this.ms.push(performance.now() - this.#dispatched);
    this.#begin();
  }

  async take(samples, dispatch, settled = () => pause(3)) {
    for (let number = 0; number < samples; number++) {
      await settled();
      const begun = new Promise((resolve) => {
        this.#begin = resolve;
      });
      this.#dispatched = performance.now();
      await Promise.all([dispatch(number), begun]);
    }
    return this.ms;
  }
}

// Asks the database itself, over a connection of our own.
export async function sql(text) {
  const client = new pg.Client({ connectionString: work.url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

export async function count(text) {
  const [row] = await sql(text);
  return Number(Object.values(row)[0]);
}

// Waits until the query counts so many, and says what it counts if that never comes.
export async function until(text, wanted) {
  const client = new pg.Client({ connectionString: work.url });
  await client.connect();
  try {
    for (const ends = performance.now() + 30_000; ; await pause(2)) {
      const found = Number(Object.values((await client.query(text)).rows[0])[0]);
      if (found === wanted) return;
      ensure(performance.now() < ends, `${text}: ${found} after 30 s, not ${wanted}`);
    }
  } finally {
    await client.end();
  }
}

export async function durabilityOfPostgres() {
  const [{ fsync }] = await sql('SHOW fsync');
  const [{ synchronous_commit }] = await sql('SHOW synchronous_commit');
  return `fsync=${fsync}, synchronous_commit=${synchronous_commit}`;
}
