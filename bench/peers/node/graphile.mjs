// graphile-worker on PostgreSQL: a local queue or none, completions in batches with it.

import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { EventEmitter } from 'node:events';
import pg from 'pg';
import { Flight, Pickups, answer, count, durabilityOfPostgres, ensure, latencies, ready } from './contender.mjs';
import { setting, until, version, work } from './contender.mjs';

const JOBS = 'SELECT count(*) FROM graphile_worker._private_jobs';
const hasLocalQueue = Boolean(work.settings.local_queue);
const inFlight = work.settings.in_flight ?? work.settings.batch ?? 1;
const QUIET = { debug() {}, info() {}, warn: console.error, error: console.error };

const events = new EventEmitter();
const logger = new Logger(() => (level, message) => QUIET[level]?.(message));
// As its documentation advises: a pool of as many connections as jobs at once and two more, as far as a server of a
// hundred gives them.
const concurrentJobs = Math.min(inFlight, 100);
const pgPool = new pg.Pool({ connectionString: work.url, max: Math.min(Math.max(10, concurrentJobs + 2), 80) });
const batching = { localQueue: { size: Math.max(inFlight, 2) }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const preset = { worker: { concurrentJobs, ...(hasLocalQueue && batching) } };

const utils = await makeWorkerUtils({ preset, logger, pgPool });
await utils.migrate();
let handler = () => {};
const start = () => run({ preset, logger, pgPool, events, noHandleSignals: true, taskList: { noop: (payload) => handler(payload) } });

const figures = {
  async tasks() {
    const tasks = setting('tasks');
    const flight = new Flight();
    // Emitted when the handler has ended; with a local queue its completion is written a moment later.
    events.on('job:complete', ({ job }) => flight.completed(job.payload.number));
    await start();
    const begun = performance.now();
    const { ms } = await flight.keep(inFlight, tasks, (number) => utils.addJob('noop', { number }));
    await until(JOBS, 0);
    const seconds = (performance.now() - begun) / 1_000;
    ensure(flight.count === tasks, `${flight.count} of ${tasks} jobs were completed`);
    return { values: { tasks_per_second: tasks / seconds, ...latencies(ms) }, verified: `${tasks} jobs were completed once each, and none is left` };
  },

  async drain() {
    const tasks = setting('tasks');
    const flight = new Flight();
    events.on('job:complete', ({ job }) => flight.completed(job.payload.number));
    const storing = performance.now();
    for (let first = 0; first < tasks; first += inFlight) {
      const numbers = Array.from({ length: Math.min(inFlight, tasks - first) }, (_, at) => first + at);
      await utils.addJobs(numbers.map((number) => ({ identifier: 'noop', payload: { number } })));
    }
    const stored = (performance.now() - storing) / 1_000;
    ensure((await count(JOBS)) === tasks, 'not every job was stored');
    const begun = performance.now();
    await start();
    await flight.reached(tasks);
    await until(JOBS, 0);
    const seconds = (performance.now() - begun) / 1_000;
    const values = { tasks_per_second: tasks / seconds, stored_per_second: tasks / stored };
    return { values, verified: `${tasks} jobs were stored, then completed once each, and none is left` };
  },

  async pickup() {
    const pickups = new Pickups();
    handler = () => pickups.begun();
    await start();
    const ms = await pickups.take(setting('samples'), (number) => utils.addJob('noop', { number }));
    await until(JOBS, 0);
    return { values: latencies(ms), verified: `${ms.length} jobs were completed, and none is left` };
  },
};

ready();
const found = await figures[work.figure]();
answer({
  contender: `graphile-worker${hasLocalQueue ? ', local queue' : ''}`,
  version: version('graphile-worker'),
  durability: await durabilityOfPostgres(),
  ...found,
});
