// BullMQ, on Redis or on PostgreSQL.

import { Queue, Worker, createPostgresBackend, withBackend } from 'bullmq';
import { Redis } from 'ioredis';
import { Flight, Pickups, answer, durabilityOfPostgres, ensure, latencies, ready } from './contender.mjs';
import { setting, version, work } from './contender.mjs';

const isOnRedis = work.store === 'redis';
const classes = isOnRedis ? { Queue, Worker } : withBackend(createPostgresBackend);
// Its workers block on a connection: it asks for no limit of retries.
const redis = () => new Redis(work.url, { maxRetriesPerRequest: null });
const connection = () => (isOnRedis ? redis() : { connectionString: work.url, max: 20, migrate: true });

const queue = new classes.Queue('noop', { connection: connection() });
await queue.waitUntilReady();

function worker(concurrency, handler, completed) {
  const made = new classes.Worker('noop', handler, { connection: connection(), concurrency });
  made.on('completed', completed);
  made.on('error', (error) => {
    throw error;
  });
  return made.waitUntilReady();
}

async function verify(tasks) {
  const counts = await queue.getJobCounts('completed', 'waiting', 'active', 'failed');
  ensure(counts.completed === tasks, `${JSON.stringify(counts)}, not ${tasks} completed`);
  return `${tasks} jobs are completed, none waits or has failed`;
}

const figures = {
  async tasks() {
    const [inFlight, tasks] = [setting('in_flight'), setting('tasks')];
    const flight = new Flight();
    await worker(inFlight, async (job) => job.data.number, (job) => flight.completed(job.data.number));
    const { seconds, ms } = await flight.keep(inFlight, tasks, (number) => queue.add('noop', { number }));
    return { values: { tasks_per_second: tasks / seconds, ...latencies(ms) }, verified: await verify(tasks) };
  },

  async drain() {
    const [batch, tasks] = [setting('batch'), setting('tasks')];
    const flight = new Flight();
    const storing = performance.now();
    for (let first = 0; first < tasks; first += batch) {
      const length = Math.min(batch, tasks - first);
      await queue.addBulk(Array.from({ length }, (_, at) => ({ name: 'noop', data: { number: first + at } })));
    }
    const stored = (performance.now() - storing) / 1_000;
    const begun = performance.now();
    await worker(batch, async (job) => job.data.number, (job) => flight.completed(job.data.number));
    await flight.reached(tasks);
    const seconds = (performance.now() - begun) / 1_000;
    const values = { tasks_per_second: tasks / seconds, stored_per_second: tasks / stored };
    return { values, verified: await verify(tasks) };
  },

  async pickup() {
    const samples = setting('samples');
    const pickups = new Pickups();
    let isCompleted = Promise.resolve();
    let complete;
    await worker(1, async () => pickups.begun(), () => complete());
    const ms = await pickups.take(samples, (number) => {
      isCompleted = new Promise((resolve) => {
        complete = resolve;
      });
      return queue.add('noop', { number });
    });
    await isCompleted;
    return { values: latencies(ms), verified: await verify(samples) };
  },
};

async function durability() {
  if (!isOnRedis) return durabilityOfPostgres();
  const client = redis();
  const [, appendonly] = await client.config('GET', 'appendonly');
  const [, save] = await client.config('GET', 'save');
  const loses = appendonly === 'no' ? ': a crash takes up to minutes of tasks' : '';
  return `appendonly=${appendonly}, save "${save}"${loses}`;
}

async function versions() {
  if (!isOnRedis) return version('bullmq');
  const said = await redis().info('server');
  return `${version('bullmq')}, Redis ${/redis_version:(\S+)/.exec(said)[1]}`;
}

ready();
const found = await figures[work.figure]();
answer({
  contender: `BullMQ on ${isOnRedis ? 'Redis' : 'PostgreSQL'}`,
  version: await versions(),
  durability: await durability(),
  ...found,
});
