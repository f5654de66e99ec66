// Mastra's manager of background tasks: in memory, on a LibSQL file, on PostgreSQL.

import { Mastra } from '@mastra/core';
import { InMemoryStore } from '@mastra/core/storage';
import { LibSQLStore } from '@mastra/libsql';
import { PostgresStore } from '@mastra/pg';
import { join } from 'node:path';
import { fanout, list, snapshot } from './mastra-many.mjs';
import { Flight, Pickups, answer, durabilityOfPostgres, ensure, latencies, pause, ready } from './contender.mjs';
import { setting, version, work } from './contender.mjs';

const OUTPUT_EVERY_MS = 2;

const STORES = {
  memory: { name: 'memory', make: () => new InMemoryStore() },
  sqlite: {
    name: 'LibSQL',
    make: () => new LibSQLStore({ id: 'bench', url: `file:${join(work.dir, 'mastra.db')}` }),
  },
  postgres: { name: 'PostgreSQL', make: () => new PostgresStore({ id: 'bench', connectionString: work.url }) },
};

const concurrency = Math.max(work.settings.in_flight ?? 0, 30);
const storage = STORES[work.store].make();
await storage.init();
const mastra = new Mastra({
  storage,
  logger: false,
  backgroundTasks: { enabled: true, globalConcurrency: concurrency, perAgentConcurrency: concurrency },
});
const manager = mastra.backgroundTaskManager;
await manager.initPromise;

const enqueue = (number, execute) => {
  const payload = { runId: 'run', toolName: 'noop', toolCallId: `${number}`, args: { number }, agentId: 'bench' };
  return manager.enqueue(payload, { executor: { execute } });
};

// Every chunk of the manager's stream, as it comes; the stream stands when this returns.
function watch(saw) {
  const reader = manager.stream({ includeExisting: false }).getReader();
  const read = async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      saw(value);
    }
  };
  read();
  return pause(50);
}

async function verify(tasks) {
  const { total } = await manager.listTasks({ status: 'completed', perPage: 1 });
  ensure(total === tasks, `${total} of ${tasks} tasks are completed`);
  return `${tasks} tasks are completed`;
}

const figures = {
  async tasks() {
    const [inFlight, tasks] = [setting('in_flight'), setting('tasks')];
    const flight = new Flight();
    await watch(({ type, payload }) => {
      if (type === 'background-task-completed') flight.completed(Number(payload.toolCallId));
    });
    const { seconds, ms } = await flight.keep(inFlight, tasks, (number) => enqueue(number, async () => number));
    return { values: { tasks_per_second: tasks / seconds, ...latencies(ms) }, verified: await verify(tasks) };
  },

  async pickup() {
    const samples = setting('samples');
    const pickups = new Pickups();
    const flight = new Flight();
    await watch(({ type, payload }) => {
      if (type === 'background-task-completed') flight.completed(Number(payload.toolCallId));
    });
    const settled = async () => {
      while (flight.count < pickups.ms.length) await pause(1);
      await pause(3);
    };
    const ms = await pickups.take(samples, (number) => enqueue(number, async () => pickups.begun()), settled);
    await settled();
    return { values: latencies(ms), verified: await verify(samples) };
  },

  // Its outputs are not stored: they go from the handler to the reader in memory.
  async latency() {
    const outputs = setting('outputs');
    const ms = [];
    let last = -1;
    let end;
    const isRead = new Promise((resolve) => {
      end = resolve;
    });
    await watch(({ type, payload }) => {
      if (type !== 'background-task-output') return;
      const { number, at } = payload.payload.payload.output;
      ensure(number === last + 1, `output ${number} came after ${last}`);
      last = number;
      ms.push(performance.now() - at);
      if (ms.length === outputs) end();
    });
    await enqueue(0, async (_args, { onProgress }) => {
      for (let number = 0; number < outputs; number++) {
        await pause(OUTPUT_EVERY_MS);
        await onProgress({ type: 'tool-output', payload: { output: { number, at: performance.now() } } });
      }
    });
    await isRead;
    return { values: latencies(ms), verified: `${outputs} outputs were read, in their order; none is stored` };
  },
};

// Its own connection is asked: what counts there is of that connection alone.
async function durability() {
  if (work.store === 'memory') return 'none: it is gone with the process';
  if (work.store === 'postgres') return durabilityOfPostgres();
  const read = async (pragma) => Object.values((await storage.client.execute(`PRAGMA ${pragma}`)).rows[0])[0];
  const synchronous = ['OFF', 'NORMAL', 'FULL', 'EXTRA'][await read('synchronous')];
  return `${await read('journal_mode')}, synchronous=${synchronous} (its own choice)`;
}

ready();
const many = { list, snapshot, fanout, delivery: fanout };
const found = work.figure in many ? await many[work.figure]({ mastra, manager, storage, enqueue }) : await figures[work.figure]();
answer({
  contender: `Mastra on ${STORES[work.store].name}`,
  version: version('@mastra/core'),
  durability: await durability(),
  ...found,
});
