// The workers of examples/, as they stand there, against a real server: what they do is looked at through the
// API alone.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../support/port.mjs';

const EXAMPLES = join(import.meta.dirname, '../../examples');
const AT_MOST_MS = 30_000;
const LINES_MAX = 150;
const CONFIGURATION = ['count', 'approve', 'sleep']
  .map((tool) => `[tools.${tool}]\nremote = true\nmax_retries = 0\nretry_delay_ms = 0\n`)
  .join('\n');
const WORKERS = {
  'worker.py': ['python3', 'worker.py'],
  'worker.ts': [process.execPath, 'worker.ts'],
};
const BINARY = resolve(process.env.SIDESTREAM_BIN ?? assert.fail('SIDESTREAM_BIN names the binary'));
const { SIDESTREAM_BIN, ...ENVIRONMENT } = process.env;

for (const [file, command] of Object.entries(WORKERS)) {
  describe(file, () => {
    let directory, address, server, worker;

    before(async () => {
      directory = await mkdtemp(join(tmpdir(), 'sidestream-workers-'));
      await writeFile(join(directory, 'sidestream.toml'), CONFIGURATION);
      address = `127.0.0.1:${await freePort()}`;
      await serve();
      worker = await work();
    });

    after(async () => {
      worker.kill('SIGKILL');
      server.kill('SIGKILL');
      await once(server, 'exit');
      await rm(directory, { recursive: true });
    });

    test('is short', async () => {
      const lines = (await readFile(join(EXAMPLES, file), 'utf8')).trimEnd().split('\n');
      assert.ok(lines.length <= LINES_MAX, `${lines.length} lines`);
    });

    test('emits outputs, once and in order, and completes', async () => {
      const task = await ended(await dispatch('count', { to: 250 }));
      assert.deepEqual([task.status, task.result], ['completed', { counted: 250 }]);
      assert.deepEqual(await outputs(task.id), Array.from({ length: 250 }, (_, n) => n + 1));
      assert.match(task.workerId, /^(python|typescript)-[0-9a-f]{16}$/);
    });

    test('runs several tasks at once', async () => {
      const ids = await Promise.all(Array.from({ length: 12 }, () => dispatch('count', { to: 3, pauseMs: 20 })));
      const tasks = await Promise.all(ids.map(ended));
      assert.ok(tasks.every((task) => task.status === 'completed'));
    });

    test('has a task wait for somebody, and goes on with the answer', async () => {
      const id = await dispatch('approve', { question: 'may I?' });
      const asking = await until(id, (task) => task.status === 'suspended');
      assert.deepEqual(asking.suspendPayload, { question: 'may I?' });
      await post(`tasks/${id}/resume`, { resumeData: null });
      assert.deepEqual((await ended(id)).result, { answer: null });
    });

    test('reports failures and timeouts', async () => {
      const task = await ended(await dispatch('count', { to: 1, pauseMs: 'x' }, { maxRetries: 1 }));
      assert.deepEqual([task.status, task.attempt], ['failed', 2]);
      assert.ok(task.error.message && task.error.stack, JSON.stringify(task.error));
      const late = await ended(await dispatch('sleep', { seconds: 60 }, { timeoutMs: 200 }));
      assert.deepEqual([late.status, late.error.message], ['timed_out', 'Task timed out after 200ms']);
    });

    test('goes on when the server was killed: no output is lost, and none comes twice', async () => {
      const id = await dispatch('count', { to: 60, pauseMs: 50 });
      await until(id, async () => (await outputs(id)).length > 5);
      server.kill('SIGKILL');
      await once(server, 'exit');
      await pause(500);
      await serve();
      const task = await ended(id);
      assert.deepEqual([task.status, task.attempt], ['completed', 1]);
      assert.deepEqual(await outputs(id), Array.from({ length: 60 }, (_, n) => n + 1));
    });

    test('stops a cancelled task within a second, also when its stream was torn before', async () => {
      const ids = [];
      for (let n = 0; n < 4; n += 1) ids.push(await dispatch('sleep', { seconds: 600 }));
      await Promise.all(ids.map((id) => until(id, (task) => task.status === 'running')));
      const cancelled = performance.now();
      await Promise.all(ids.map((id) => post(`tasks/${id}/cancel`)));
      // All of its slots were taken: another task begins when they have been given back.
      await ended(await dispatch('count', { to: 1 }));
      const took = performance.now() - cancelled;
      assert.ok(took < 1_000, `${took} ms`);
    });

    test('drains when it is told to stop', async () => {
      const finishes = await dispatch('count', { to: 10, pauseMs: 50 });
      const stuck = await dispatch('sleep', { seconds: 600 }, { maxRetries: 1 });
      for (const id of [finishes, stuck]) await until(id, (task) => task.status === 'running');
      worker.kill('SIGTERM');
      // A claim that was on its way may still bring something; then no other follows.
      await pause(500);
      const late = await dispatch('count', { to: 1 });
      const [code] = await once(worker, 'exit');
      assert.equal(code, 0);
      assert.equal((await get(finishes)).status, 'completed');
      const left = await get(stuck);
      assert.equal(left.status, 'pending');
      assert.match(left.error.message, /was shut down/);
      assert.equal((await get(late)).status, 'pending', 'it claims no more');
    });

    async function serve() {
      const args = ['serve', '--listen', address, '--data', join(directory, 'data')];
      server = spawn(BINARY, args, { cwd: directory, env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'inherit'] });
      await within(async () => (await fetch(`http://${address}/readyz`)).ok);
    }

    async function work() {
      const env = { ...ENVIRONMENT, SIDESTREAM_URL: `http://${address}` };
      const child = spawn(command[0], command.slice(1), { cwd: EXAMPLES, env, stdio: ['ignore', 'pipe', 'inherit'] });
      const [said] = await once(child.stdout.setEncoding('utf8'), 'data');
      assert.match(said, / works for /);
      return child;
    }

    async function ask(path, request) {
      const answer = await fetch(`http://${address}/v1/${path}`, request);
      const body = await answer.json();
      assert.ok(answer.ok, JSON.stringify(body));
      return body;
    }

    async function post(path, body) {
      const headers = { 'content-type': 'application/json' };
      return ask(path, { method: 'POST', headers, body: JSON.stringify(body ?? {}) });
    }

    async function dispatch(toolName, args, more) {
      return (await post('tasks', { toolName, args, ...more })).task.id;
    }

    async function get(id) {
      return (await ask(`tasks/${id}`)).task;
    }

    async function until(id, isSo) {
      let task;
      await within(async () => isSo((task = await get(id))), () => JSON.stringify(task));
      return task;
    }

    function ended(id) {
      return until(id, ({ status }) => !['pending', 'running', 'suspended'].includes(status));
    }

    /// What a task has emitted, by its own stream, as far as there is something.
    async function outputs(id) {
      const { seq } = await get(id);
      const stream = await fetch(`http://${address}/v1/tasks/${id}/stream`);
      const found = [];
      let text = '';
      for await (const piece of stream.body.pipeThrough(new TextDecoderStream())) {
        const lines = (text + piece).split('\n');
        text = lines.pop();
        const chunks = lines.filter((line) => line.startsWith('data:')).map((line) => JSON.parse(line.slice(5)));
        const emitted = chunks.filter((chunk) => chunk.type === 'background-task-output');
        found.push(...emitted.map((chunk) => chunk.payload.payload));
        if (chunks.some((chunk) => chunk.payload.seq >= seq)) break;
      }
      return found;
    }
  });
}

async function within(isSo, told = () => '') {
  const end = Date.now() + AT_MOST_MS;
  while (!(await isSo().catch(() => false))) {
    assert.ok(Date.now() < end, `not within ${AT_MOST_MS} ms ${told()}`);
    await pause(20);
  }
}
