// pg-boss on PostgreSQL: polling as it comes, or woken by LISTEN.

import { PgBoss } from 'pg-boss';
import { Flight, Pickups, answer, count, durabilityOfPostgres, ensure, latencies, ready } from './contender.mjs';
import { setting, until, version, work } from './contender.mjs';

const QUEUE = 'noop';
const COMPLETED = `SELECT count(*) FROM pgboss.job WHERE name = '${QUEUE}' AND state = 'completed'`;
const listens = Boolean(work.settings.listen);

const boss = new PgBoss({ connectionString: work.url, max: 20, supervise: false, schedule: false, useListenNotify: listens });
boss.on('error', (error) => {
  throw error;
});
await boss.start();
await boss.createQueue(QUEUE, { notify: listens });

// As many to a batch as are in flight, several workers, and the shortest poll that it allows. A full batch is followed
// by the next at once.
const options = (batchSize) => ({
  batchSize,
  localConcurrency: batchSize >= 100 ? 4 : 1,
  pollingIntervalSeconds: 0.5,
  burstWhenBatchFull: batchSize > 1,
});

const figures = {
  async tasks() {
    const [inFlight, tasks] = [setting('in_flight'), setting('tasks')];
    const flight = new Flight();
    // It tells nobody when a job's end is stored: what follows its handler's end, at most a statement later.
    await boss.work(QUEUE, options(inFlight), async (jobs) => {
      for (const job of jobs) flight.completed(job.data.number);
    });
    const begun = performance.now();
    const { ms } = await flight.keep(inFlight, tasks, (number) => boss.send(QUEUE, { number }));
    await until(COMPLETED, tasks);
    const seconds = (performance.now() - begun) / 1_000;
    return { values: { tasks_per_second: tasks / seconds, ...latencies(ms) }, verified: `${tasks} jobs are completed, each handled once` };
  },

  async drain() {
    const [batch, tasks] = [setting('batch'), setting('tasks')];
    const flight = new Flight();
    const storing = performance.now();
    for (let first = 0; first < tasks; first += batch) {
      const length = Math.min(batch, tasks - first);
      await boss.insert(QUEUE, Array.from({ length }, (_, at) => ({ data: { number: first + at } })));
    }
    const stored = (performance.now() - storing) / 1_000;
    ensure((await count(`SELECT count(*) FROM pgboss.job WHERE name = '${QUEUE}'`)) === tasks, 'not every job was stored');
    const begun = performance.now();
    await boss.work(QUEUE, options(batch), async (jobs) => {
      for (const job of jobs) flight.completed(job.data.number);
    });
    await flight.reached(tasks);
    await until(COMPLETED, tasks);
    const seconds = (performance.now() - begun) / 1_000;
    const values = { tasks_per_second: tasks / seconds, stored_per_second: tasks / stored };
    return { values, verified: `${tasks} jobs were stored, and are completed, each handled once` };
  },

  async pickup() {
    const samples = setting('samples');
    const pickups = new Pickups();
    await boss.work(QUEUE, options(1), async () => pickups.begun());
    const ms = await pickups.take(samples, (number) => boss.send(QUEUE, { number }));
    await until(COMPLETED, samples);
    return { values: latencies(ms), verified: `${samples} jobs are completed` };
  },
};

ready();
const found = await figures[work.figure]();
const how = work.figure === 'drain' ? '' : listens ? ', LISTEN' : ', polling';
answer({ contender: `pg-boss${how}`, version: version('pg-boss'), durability: await durabilityOfPostgres(), ...found });
