// The unmodified @mastra/client-js against a running Sidestream: what its users see must be what they know.
//
// Tasks are dispatched over our own HTTP, because that client has no call for it; everything else goes through the
// client, but for what it cannot say (an empty value) or does not show (the bytes of the stream).
// Command tools cannot suspend, so suspended and resumed tasks are not seen here.

import { MastraClient } from '@mastra/client-js';
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { startServer, startServerWithKey } from './server.js';

const AT_ONCE_MS = 2_000;
const TEST = { timeout: 15_000 };

// What the chunks of every type say about their task.
const IDENTITY = ['toolName', 'toolCallId', 'agentId', 'runId'];
// What a payload of ours may carry beside its fields.
const OURS = ['seq', 'threadId', 'resourceId', 'attempt'];
const TERMINAL = ['background-task-completed', 'background-task-failed', 'background-task-cancelled'];

const RECORD = ['id', 'status', ...IDENTITY, 'args', 'createdAt', 'retryCount', 'maxRetries', 'timeoutMs'];
const RECORD_OPTIONAL = [
  ...['threadId', 'resourceId', 'result', 'error', 'startedAt', 'suspendedAt', 'completedAt', 'suspendPayload'],
  ...['updatedAt', 'description', 'subagentType', 'metadata', 'namespace', 'priority', 'runAt', 'attempt', 'workerId'],
  ...['idempotencyKey', 'seq'],
];
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

let server;
let client;

before(async () => {
  server = await startServer();
  client = clientOf(server);
}, TEST);
after(() => server?.stop(), TEST);

describe('stream', () => {
  test('a task that completes: running, each output, its result', TEST, async () => {
    const { task, chunks } = await run({ toolName: 'research', args: { q: 'x1' } });

    assert.equal(task.status, 'completed');
    assert.deepEqual(chunks, [
      chunk('running', task, { startedAt: task.startedAt, args: { q: 'x1' } }),
      chunk('output', task, { payload: { step: 1 } }),
      chunk('output', task, { payload: { step: 2 } }),
      chunk('output', task, { payload: { found: 'x1' } }),
      chunk('completed', task, { completedAt: task.completedAt, result: { found: 'x1' } }),
    ]);
  });

  test('a task that returns nothing has no result, not an empty one', TEST, async () => {
    const { task, chunks } = await run({ toolName: 'silent' });

    assert.deepEqual(chunks, [
      chunk('running', task, { startedAt: task.startedAt, args: {} }),
      chunk('completed', task, { completedAt: task.completedAt }),
    ]);
    assert.equal('result' in task, false);
  });

  test('a task that fails says why', TEST, async () => {
    const { task, chunks } = await run({ toolName: 'broken' });

    assert.equal(task.status, 'failed');
    assert.match(task.error.message, /\b3\b/, 'the message names the exit code');
    assertKeys(task.error, ['message'], ['stack']);
    assert.deepEqual(chunks, [
      chunk('running', task, { startedAt: task.startedAt, args: {} }),
      chunk('failed', task, { completedAt: task.completedAt, error: task.error }),
    ]);
  });

  test('a task that runs past its time has failed, with the words users know', TEST, async () => {
    const { task, chunks } = await run({ toolName: 'overdue' });

    assert.equal(task.status, 'timed_out');
    assert.equal(task.timeoutMs, 200);
    assert.deepEqual(chunks, [
      chunk('running', task, { startedAt: task.startedAt, args: {} }),
      chunk('failed', task, { completedAt: task.completedAt, error: { message: 'Task timed out after 200ms' } }),
    ]);
  });

  test('a task that is cancelled', TEST, async () => {
    const { task, chunks } = await run({ toolName: 'patient' }, { cancelOnceRunning: true });

    assert.equal(task.status, 'cancelled');
    assert.deepEqual(chunks, [
      chunk('running', task, { startedAt: task.startedAt, args: {} }),
      chunk('cancelled', task, { completedAt: task.completedAt }),
    ]);
  });

  test('who opens it later sees first what is running', TEST, async () => {
    const { id, runId } = await dispatch({ toolName: 'patient', args: { late: true } });
    const early = await readUntil(await client.streamBackgroundTasks({ runId }), 'background-task-running');

    const late = await readUntil(await client.streamBackgroundTasks({ runId }), 'background-task-running');

    const task = await client.getBackgroundTask(id);
    assert.deepEqual(late.map(bare), [chunk('running', task, { startedAt: task.startedAt, args: { late: true } })]);
    assert.deepEqual(late.map(bare), early.map(bare));
    await cancel(id);
  });

  for (const field of ['agentId', 'runId', 'threadId', 'resourceId', 'taskId']) {
    test(`shows only its own when filtered by ${field}`, TEST, async () => {
      const [mine, other] = [await dispatch({ toolName: 'patient' }), await dispatch({ toolName: 'patient' })];
      const value = field === 'taskId' ? mine.id : mine[field];
      const stream = await client.streamBackgroundTasks({ [field]: value });
      await cancel(other.id);
      await cancel(mine.id);

      const ids = (await readUntil(stream, 'background-task-cancelled')).map(({ payload }) => payload.taskId);

      assert.deepEqual(new Set(ids), new Set([mine.id]));
    });
  }

  test('answers at once, though nothing happens, with headers that keep it unbuffered', TEST, async () => {
    const idle = `${server.url}/api/background-tasks/stream?runId=${randomUUID()}`;

    const response = await fetch(idle, { signal: AbortSignal.timeout(AT_ONCE_MS) });

    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^text\/event-stream\b/);
    assert.match(response.headers.get('cache-control'), /\bno-cache\b/);
    assert.equal(response.headers.get('x-accel-buffering'), 'no');
    let text = '';
    for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
      text += bytes;
      if (/^:.*\n/m.test(text)) break;
    }
    assert.doesNotMatch(text, /^(data|event):/m);
  });

  test('is made of data lines and cursors, without event names', TEST, async () => {
    const { id, runId } = await dispatch({ toolName: 'patient' });
    const response = await fetch(`${server.url}/api/background-tasks/stream?runId=${runId}`);
    await cancel(id);
    let text = '';
    for await (const bytes of response.body.pipeThrough(new TextDecoderStream())) {
      text += bytes;
      if (/background-task-cancelled.*\n\n/.test(text)) break;
    }

    for (const line of text.split('\n')) assert.match(line, /^(|:.*|data: \{.*\}|id: .+|retry: \d+)$/);
    for (const block of text.split('\n\n')) assert.ok((block.match(/^data:/gm) ?? []).length <= 1, block);
  });
});

describe('get', () => {
  test('gives the whole record, and nothing that users do not know', TEST, async () => {
    const spec = { toolName: 'research', args: { q: 'x2' }, threadId: randomUUID(), resourceId: randomUUID() };
    const { task } = await run(spec);

    assertRecord(task);
    for (const field of Object.keys(spec)) assert.deepEqual(task[field], spec[field], field);
    assert.equal(task.retryCount, 0);
    assert.equal(task.maxRetries, 0);
    assert.equal(task.timeoutMs, 300_000);
    assert.deepEqual(task.result, { found: 'x2' });
    for (const field of ['error', 'suspendedAt', 'suspendPayload']) assert.equal(field in task, false, field);
  });

  for (const id of ['nobody', '00000000-0000-4000-8000-000000000000', 'a/b', 'ü 🦀']) {
    test(`knows no task ${JSON.stringify(id)}`, TEST, async () => {
      await assert.rejects(client.getBackgroundTask(id), {
        name: 'MastraClientError',
        status: 404,
        body: { error: 'Background task not found' },
      });
    });
  }
});

describe('list', () => {
  let agentId;
  let tasks;

  // One agent's ended tasks, in the order of their creation, each with an end of its own.
  before(async () => {
    agentId = randomUUID();
    tasks = [];
    for (const toolName of ['research', 'broken', 'overdue', 'silent', 'research']) {
      tasks.push((await run({ agentId, toolName, args: { q: 'list' } })).task);
    }
  }, TEST);

  test('gives every record, the oldest first', TEST, async () => {
    const answer = await client.listBackgroundTasks({ agentId });

    assertKeys(answer, ['tasks', 'total']);
    assert.deepEqual(answer, { tasks, total: 5 });
    answer.tasks.forEach(assertRecord);
  });

  for (const field of ['runId', 'threadId', 'resourceId', 'toolName', 'toolCallId', 'status']) {
    test(`filters by ${field}`, TEST, async () => {
      for (const value of new Set(tasks.map((task) => task[field]))) {
        const expected = tasks.filter((task) => task[field] === value);
        assert.deepEqual(await client.listBackgroundTasks({ agentId, [field]: value }), answerWith(expected));
      }
    });
  }

  test('filters by statuses and names that nobody has', TEST, async () => {
    for (const filter of [{ status: 'pending' }, { status: 'suspended' }, { toolName: 'nothing' }, { runId: 'none' }]) {
      assert.deepEqual(await client.listBackgroundTasks({ agentId, ...filter }), answerWith([]));
    }
    assert.deepEqual(await client.listBackgroundTasks({ agentId: randomUUID() }), answerWith([]));
  });

  for (const column of ['createdAt', 'startedAt', 'completedAt']) {
    test(`filters by ${column}: from inclusive, to exclusive`, TEST, async () => {
      const [fromDate, toDate] = [new Date(tasks[1][column]), new Date(tasks[3][column])];
      const between = tasks.filter((task) => new Date(task[column]) >= fromDate && new Date(task[column]) < toDate);
      assert.ok(between.length > 0 && between.length < tasks.length);

      const answer = await client.listBackgroundTasks({ agentId, fromDate, toDate, dateFilterBy: column });

      assert.deepEqual(answer, answerWith(between));
    });
  }

  test('filters by createdAt unless told otherwise; a time that a task has not matches no range', TEST, async () => {
    const fromDate = new Date(tasks[2].createdAt);
    const recent = tasks.filter((task) => new Date(task.createdAt) >= fromDate);

    assert.deepEqual(await client.listBackgroundTasks({ agentId, fromDate }), answerWith(recent));
    const suspended = { agentId, fromDate: new Date(0), dateFilterBy: 'suspendedAt' };
    assert.deepEqual(await client.listBackgroundTasks(suspended), answerWith([]));
  });

  for (const orderBy of ['createdAt', 'startedAt', 'completedAt']) {
    test(`orders by ${orderBy}, both ways`, TEST, async () => {
      const rising = tasks.map((task) => task[orderBy]).sort();

      const byDefault = await client.listBackgroundTasks({ agentId, orderBy });
      const ascending = await client.listBackgroundTasks({ agentId, orderBy, orderDirection: 'asc' });
      const descending = await client.listBackgroundTasks({ agentId, orderBy, orderDirection: 'desc' });

      assert.deepEqual(byDefault.tasks.map((task) => task[orderBy]), rising);
      assert.deepEqual(ascending, byDefault);
      assert.deepEqual(descending.tasks.map((task) => task[orderBy]), rising.toReversed());
    });
  }

  test('orders by a time that no task has without losing one', TEST, async () => {
    const { tasks: found, total } = await client.listBackgroundTasks({ agentId, orderBy: 'suspendedAt' });

    assert.equal(total, 5);
    assert.deepEqual(new Set(found.map((task) => task.id)), new Set(tasks.map((task) => task.id)));
  });

  test('pages from 0, with the total of all pages', TEST, async () => {
    const page = async (page) => client.listBackgroundTasks({ agentId, page, perPage: 2 });

    assert.deepEqual(await page(0), answerWith(tasks.slice(0, 2), 5));
    assert.deepEqual(await page(1), answerWith(tasks.slice(2, 4), 5));
    assert.deepEqual(await page(2), answerWith(tasks.slice(4), 5));
    assert.deepEqual(await page(3), answerWith([], 5));
  });

  test('a page without a size means nothing; a size of 0 gives the total alone', TEST, async () => {
    assert.deepEqual(await client.listBackgroundTasks({ agentId, page: 1 }), answerWith(tasks));
    assert.deepEqual(await client.listBackgroundTasks({ agentId, perPage: 0 }), answerWith([], 5));
    assert.deepEqual(await client.listBackgroundTasks({ agentId, perPage: 2 }), answerWith(tasks.slice(0, 2), 5));
  });

  test('an empty value is no filter, an unknown parameter is ignored', TEST, async () => {
    const empty = 'status=&runId=&threadId=&fromDate=&dateFilterBy=&orderBy=&orderDirection=&page=&perPage=&colour=red';

    const response = await fetch(`${server.url}/api/background-tasks?agentId=${agentId}&${empty}`);

    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), answerWith(tasks));
  });

  const someday = { toISOString: () => 'someday' };
  const bad = {
    ...{ status: 'sleeping', dateFilterBy: 'birthday', orderBy: 'mood', orderDirection: 'sideways' },
    ...{ fromDate: someday, toDate: someday, page: -1, perPage: 'many' },
  };
  for (const [field, value] of Object.entries(bad)) {
    test(`refuses a bad ${field} and names it`, TEST, async () => {
      const refusal = await client.listBackgroundTasks({ agentId, [field]: value }).then(assert.fail, (error) => error);

      assert.equal(refusal.name, 'MastraClientError');
      assert.equal(refusal.status, 400);
      assertKeys(refusal.body, ['error', 'issues']);
      assert.equal(refusal.body.error, 'Invalid query parameters');
      assert.deepEqual(refusal.body.issues.map((issue) => issue.field), [field]);
      for (const issue of refusal.body.issues) assertKeys(issue, ['field', 'message']);
      assert.ok(refusal.body.issues[0].message);
    });
  }
});

describe('credentials', () => {
  let guarded;
  let key;

  before(async () => ({ server: guarded, key } = await startServerWithKey()), TEST);
  after(() => guarded?.stop(), TEST);

  test('a bearer key opens every call', TEST, async () => {
    const known = clientOf(guarded, { headers: { Authorization: `Bearer ${key}` } });

    assert.deepEqual(await known.listBackgroundTasks(), answerWith([]));
    await assert.rejects(known.getBackgroundTask('nobody'), { status: 404 });
    await (await known.streamBackgroundTasks()).cancel();
  });

  test('a key in the query does too, for browsers', TEST, async () => {
    const response = await fetch(`${guarded.url}/api/background-tasks?apiKey=${encodeURIComponent(key)}`);

    assert.deepEqual(await response.json(), answerWith([]));
  });

  for (const [who, headers] of [['nobody', {}], ['a stranger', { Authorization: 'Bearer made-up' }]]) {
    test(`${who} is refused everywhere`, TEST, async () => {
      const unknown = clientOf(guarded, { headers });

      await assert.rejects(unknown.listBackgroundTasks(), { status: 401 });
      await assert.rejects(unknown.getBackgroundTask('nobody'), { status: 401 });
      await assert.rejects(unknown.streamBackgroundTasks(), { status: 401 });
    });
  }
});

describe('shutdown', () => {
  test('ends open streams as ended, not as broken', TEST, async () => {
    const stopping = await startServer();
    const stream = await clientOf(stopping).streamBackgroundTasks();
    const reading = Array.fromAsync(stream);

    const exit = await stopping.stop();

    assert.deepEqual(exit, { code: 0, signal: null });
    assert.deepEqual(await reading, []);
  });
});

// The client retries what failed on the server's side; here a failure is to be seen at once.
function clientOf({ url }, options = {}) {
  return new MastraClient({ baseUrl: url, retries: 0, ...options });
}

// Dispatches a task whose ids are its own unless given, and gives its record.
async function dispatch(spec) {
  const fields = ['toolCallId', 'agentId', 'runId', 'threadId', 'resourceId'];
  const ids = Object.fromEntries(fields.map((field) => [field, randomUUID()]));
  const { status, body } = await post('/v1/tasks', { ...ids, args: {}, ...spec });
  assert.equal(status, 201, JSON.stringify(body));
  return body.task;
}

async function cancel(id) {
  const { status, body } = await post(`/v1/tasks/${id}/cancel`, {});
  assert.ok(status >= 200 && status < 300, `${status} ${JSON.stringify(body)}`);
}

async function post(path, body) {
  const response = await fetch(server.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, body: text && JSON.parse(text) };
}

// Runs a task from its dispatch to its end, and gives its record and the chunks of its whole story.
async function run(spec, { cancelOnceRunning = false } = {}) {
  const runId = randomUUID();
  const stream = await client.streamBackgroundTasks({ runId });
  const { id } = await dispatch({ runId, ...spec });
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (cancelOnceRunning && chunk.type === 'background-task-running') await cancel(id);
    if (TERMINAL.includes(chunk.type)) break;
  }
  chunks.forEach(assertChunk);
  assertRising(chunks);
  return { task: await client.getBackgroundTask(id), chunks: chunks.map(bare) };
}

async function readUntil(stream, type) {
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    if (chunk.type === type) break;
  }
  return chunks;
}

// The chunk that users expect, field by field.
function chunk(kind, task, fields) {
  const identity = Object.fromEntries(IDENTITY.map((field) => [field, task[field]]));
  return { type: `background-task-${kind}`, payload: { taskId: task.id, ...identity, ...fields } };
}

// A chunk without what is ours.
function bare({ type, payload }) {
  return { type, payload: Object.fromEntries(Object.entries(payload).filter(([field]) => !OURS.includes(field))) };
}

function answerWith(tasks, total = tasks.length) {
  return { tasks, total };
}

function assertChunk(chunk) {
  assertKeys(chunk, ['type', 'payload']);
  for (const field of ['startedAt', 'completedAt']) {
    if (field in chunk.payload) assert.match(chunk.payload[field], TIME);
  }
}

function assertRising(chunks) {
  const seqs = chunks.map(({ payload }) => payload.seq).filter((seq) => seq !== undefined);
  assert.deepEqual(seqs, [...new Set(seqs)].sort((a, b) => a - b));
}

function assertRecord(task) {
  assertKeys(task, RECORD, RECORD_OPTIONAL);
  for (const [field, value] of Object.entries(task)) {
    assert.notEqual(value, null, `${field} is absent, not null`);
    if (field.endsWith('At')) assert.match(value, TIME, field);
  }
}

function assertKeys(object, required, optional = []) {
  const keys = Object.keys(object);
  assert.deepEqual(required.filter((key) => !keys.includes(key)), [], 'missing');
  assert.deepEqual(keys.filter((key) => !required.includes(key) && !optional.includes(key)), [], 'too many');
}
