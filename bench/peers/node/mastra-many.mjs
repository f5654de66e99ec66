// Mastra with many tasks stored or many clients: what it shows and streams, by its own server (Hono on Node).

import { serve } from '@hono/node-server';
import { MastraServer } from '@mastra/hono';
import { Hono } from 'hono';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { ensure, pause, setting, sql, work } from './contender.mjs';

const [AGENTS, TOOLS, RESOURCES] = [100, 10, 1_000];
const PAGE = 50;
const LIST_TIMES = 20;
const SNAPSHOTS = 3;
const TASKS_EMITTING = 20;
const OUTPUT_BYTES = 200;
const TABLE = 'mastra_background_tasks';
const BEGIN = Date.parse('2026-01-01T00:00:00.000Z');

// The first by the store's own call, all others as copies of its row, each with what tells it apart.
export async function fill(storage, tasks, status) {
  const store = await storage.getStore('backgroundTasks');
  const task = (number) => ({
    id: `task-${number}`,
    toolName: `tool-${number % TOOLS}`,
    toolCallId: `call-${number}`,
    agentId: `agent-${number % AGENTS}`,
    threadId: `thread-${Math.floor(number / 10)}`,
    resourceId: `resource-${number % RESOURCES}`,
    runId: `run-${Math.floor(number / 10)}`,
    status,
    args: { number: 0 },
    ...(status === 'completed' && { result: 0, completedAt: new Date(BEGIN) }),
    createdAt: new Date(BEGIN + number),
    startedAt: new Date(BEGIN),
    retryCount: 0,
    maxRetries: 0,
    timeoutMs: 3_600_000,
  });
  if (work.store === 'memory') {
    for (let number = 0; number < tasks; number++) await store.createTask(task(number));
    return;
  }
  await store.createTask(task(0));
  if (work.store === 'postgres') await copyInPostgres(tasks);
  else await copyInLibSql(storage.client, tasks);
  const { total } = await store.listTasks({ page: 0, perPage: 1 });
  ensure(total === tasks, `${total} tasks are stored, not ${tasks}`);
}

const told = (text) => ({
  id: `'task-' || ${text('n')}`,
  tool_call_id: `'call-' || ${text('n')}`,
  tool_name: `'tool-' || ${text(`n % ${TOOLS}`)}`,
  agent_id: `'agent-' || ${text(`n % ${AGENTS}`)}`,
  thread_id: `'thread-' || ${text('n / 10')}`,
  run_id: `'run-' || ${text('n / 10')}`,
  resource_id: `'resource-' || ${text(`n % ${RESOURCES}`)}`,
});

async function copyInLibSql(client, tasks) {
  const { rows } = await client.execute(`SELECT name FROM pragma_table_info('${TABLE}')`);
  const values = {
    ...told((n) => `(${n})`),
    createdAt: `strftime('%Y-%m-%dT%H:%M:%fZ', ${BEGIN / 1_000} + n / 1000.0, 'unixepoch')`,
  };
  const columns = rows.map(({ name }) => name);
  const numbers = `WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${tasks - 1})`;
  const select = columns.map((name) => values[name] ?? `"${name}"`).join(', ');
  const into = columns.map((name) => `"${name}"`).join(', ');
  await client.execute(
    `INSERT INTO ${TABLE} (${into}) ${numbers} SELECT ${select} FROM numbers, (SELECT * FROM ${TABLE} WHERE id = 'task-0')`,
  );
  await client.execute('ANALYZE');
}

async function copyInPostgres(tasks) {
  const rows = await sql(`SELECT column_name AS name FROM information_schema.columns WHERE table_name = '${TABLE}'`);
  const values = {
    ...told((n) => `(${n})::text`),
    createdAt: `"createdAt" + n * interval '1 ms'`,
    createdAtZ: `"createdAtZ" + n * interval '1 ms'`,
  };
  const columns = rows.map(({ name }) => name);
  const select = columns.map((name) => values[name] ?? `"${name}"`).join(', ');
  const into = columns.map((name) => `"${name}"`).join(', ');
  await sql(
    `INSERT INTO ${TABLE} (${into}) SELECT ${select} FROM generate_series(1, ${tasks - 1}) AS n, ${TABLE} WHERE id = 'task-0'`,
  );
  await sql(`ANALYZE ${TABLE}`);
}

export async function serveIt(mastra) {
  const app = new Hono();
  await new MastraServer({ app, mastra }).init();
  const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' });
  if (!server.listening) await once(server, 'listening');
  return server.address().port;
}

function worst(ms) {
  ms.sort((a, b) => a - b);
  return ms[Math.round((ms.length - 1) * 0.99)];
}

// A page by each filter, in both directions, from the first page, the middle and the last, each with its total.
export async function list({ manager, mastra, storage }) {
  const tasks = setting('tasks');
  await fill(storage, tasks, 'completed');
  const filters = [
    ['none', {}, tasks],
    ['status', { status: 'completed' }, tasks],
    ['agent', { agentId: 'agent-7' }, tasks / AGENTS],
    ['tool', { toolName: 'tool-7' }, tasks / TOOLS],
    ['resource', { resourceId: 'resource-7' }, tasks / RESOURCES],
    ['thread', { threadId: 'thread-7' }, 10],
  ];
  const port = await serveIt(mastra);
  const [inProcess, overHttp] = [[], []];
  let pages = 0;
  for (const [, filter, total] of filters) {
    for (const orderDirection of ['asc', 'desc']) {
      const last = Math.ceil(total / PAGE) - 1;
      for (const page of new Set([0, Math.floor(last / 2), last])) {
        const query = { ...filter, orderDirection, page, perPage: PAGE };
        const expected = Math.min(PAGE, total - page * PAGE);
        const check = (found) => {
          pages++;
          const is = `${found.total} tasks, ${found.tasks.length} on page ${page}`;
          ensure(found.total === total && found.tasks.length === expected, `${JSON.stringify(query)}: ${is}`);
        };
        inProcess.push(worst(await timed(LIST_TIMES, async () => check(await manager.listTasks(query)))));
        const url = `http://127.0.0.1:${port}/api/background-tasks?${new URLSearchParams(query)}`;
        overHttp.push(worst(await timed(LIST_TIMES, async () => check(await (await fetch(url)).json()))));
      }
    }
  }
  return {
    values: { p99_ms: Math.max(...inProcess), http_p99_ms: Math.max(...overHttp) },
    verified: `${pages} pages of ${inProcess.length} kinds were full, each with its exact total`,
  };
}

async function timed(times, what) {
  const ms = [];
  for (let n = 0; n < times; n++) {
    const begun = performance.now();
    await what();
    ms.push(performance.now() - begun);
  }
  return ms;
}

// All running tasks to a stream that begins, how soon the first and the last, and how long commits wait meanwhile.
export async function snapshot({ manager, storage, enqueue }) {
  const tasks = setting('tasks');
  await fill(storage, tasks, 'running');
  const [first, all] = [[], []];
  const take = async () => {
    const begun = performance.now();
    const abort = new AbortController();
    const reader = manager.stream({ abortSignal: abort.signal }).getReader();
    const seen = new Set();
    while (seen.size < tasks) {
      const { value } = await reader.read();
      if (value.type !== 'background-task-running' || !value.payload.taskId.startsWith('task-')) continue;
      ensure(!seen.has(value.payload.taskId), 'a task was shown twice');
      seen.add(value.payload.taskId);
      if (seen.size === 1) first.push(performance.now() - begun);
    }
    all.push(performance.now() - begun);
    abort.abort();
  };
  await take();
  globalThis.gc?.();
  const before = process.memoryUsage.rss();
  let most = before;
  for (let n = 0; n < SNAPSHOTS; n++) {
    await take();
    most = Math.max(most, process.memoryUsage.rss());
  }
  let isOver = false;
  const beside = (async () => {
    const ms = [];
    for (let number = 0; !isOver; number++) {
      await pause(1);
      const begun = performance.now();
      await enqueue(number, async () => number);
      ms.push(performance.now() - begun);
    }
    return ms;
  })();
  for (let n = 0; n < SNAPSHOTS; n++) await take();
  isOver = true;
  const middle = (ms) => ms.sort((a, b) => a - b)[Math.floor(ms.length / 2)];
  return {
    values: {
      all_ms: middle(all),
      first_chunk_ms: middle(first),
      first_chunk_worst_ms: Math.max(...first),
      extra_memory_mib: (most - before) / 2 ** 20,
      commit_beside_p99_ms: worst(await beside),
    },
    verified: `each of ${all.length} snapshots showed ${tasks} tasks, each once`,
  };
}

// Clients of the stream over HTTP, in a process of Sidestream's benchmarks, that all see every output.
export async function fanout({ mastra, enqueue }) {
  const [clients, perSecond, seconds] = [setting('clients'), setting('outputs_per_second'), setting('seconds')];
  const everyMs = (TASKS_EMITTING * 1_000) / perSecond;
  const outputs = Math.floor((perSecond * seconds) / TASKS_EMITTING);
  const port = await serveIt(mastra);
  let begin;
  const sign = new Promise((resolve) => {
    begin = resolve;
  });
  let running = 0;
  const emit = async (number, onProgress) => {
    running++;
    const begun = await sign;
    for (let n = 0; n < outputs; n++) {
      const due = begun + (everyMs * number) / TASKS_EMITTING + n * everyMs;
      if (due > performance.now()) await pause(due - performance.now());
      const at = Math.round((performance.timeOrigin + performance.now()) * 1_000);
      const text = 'x'.repeat(OUTPUT_BYTES - `{"text":"","at":${at}}`.length);
      await onProgress({ type: 'tool-output', payload: { output: { text, at } } });
    }
  };
  for (let number = 0; number < TASKS_EMITTING; number++) {
    await enqueue(number, (_args, { onProgress }) => emit(number, onProgress));
  }
  while (running < TASKS_EMITTING) await pause(5);
  const watching = {
    address: `127.0.0.1:${port}`,
    clients,
    path: '/api/background-tasks/stream',
    outputs: outputs * TASKS_EMITTING,
    ids: 'none',
    counted_from: Math.floor((outputs * TASKS_EMITTING) / 5),
  };
  const watchers = spawn(process.env.BENCH_PROGRAM, ['sse-clients', JSON.stringify(watching)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: watchers.stdout })[Symbol.asyncIterator]();
  const { value: connected } = await lines.next();
  ensure(connected === 'connected', `the clients said: ${connected}`);
  begin(performance.now());
  const { value: line } = await lines.next();
  ensure(line !== undefined, 'the clients ended early');
  const seen = JSON.parse(line);
  if (watchers.exitCode === null) await once(watchers, 'exit');
  return {
    values: {
      deliveries_per_second: seen.deliveries / seen.seconds,
      p50_ms: seen.p50_ms,
      p99_ms: seen.p99_ms,
      worst_ms: seen.worst_ms,
    },
    verified: `each of ${clients} clients saw ${outputs * TASKS_EMITTING} outputs; none is stored`,
  };
}
