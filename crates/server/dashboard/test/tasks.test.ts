import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENDED_MAX, Tasks } from '../src/state/tasks.ts';
import { AT, chunk, record } from './make.ts';

function withSnapshot(): Tasks {
  const tasks = new Tasks();
  tasks.beginSnapshot();
  tasks.takeChunk(chunk('running', 'a', undefined, { startedAt: AT, attempt: 1 }));
  tasks.takeChunk(chunk('started', 'b', undefined, { at: AT }));
  tasks.endSnapshot('epoch-10', true);
  return tasks;
}

const status = (tasks: Tasks, id: string) => tasks.rows.get(id)?.status;

test('a snapshot shows how things stand, and events what becomes of them', () => {
  const tasks = withSnapshot();
  assert.deepEqual([status(tasks, 'a'), status(tasks, 'b')], ['running', 'pending']);
  tasks.takeChunk(chunk('completed', 'a', 11, { completedAt: AT }));
  assert.equal(status(tasks, 'a'), 'completed');
  assert.deepEqual([tasks.counts.running, tasks.counts.pending, tasks.counts.completed], [0, 1, 1]);
});

test('what is older than what is known changes nothing, whatever the order', () => {
  const tasks = withSnapshot();
  tasks.takeRecords([record('a', 'failed', 12, { completedAt: AT })]);
  tasks.takeChunk(chunk('output', 'a', 11, { payload: 'late' }));
  assert.equal(status(tasks, 'a'), 'failed');
  assert.equal(tasks.rows.get('a')!.lastLine, '');
  tasks.takeRecords([record('b', 'running', 9)]);
  assert.equal(status(tasks, 'b'), 'pending');
});

test('a list that is newer than the snapshot goes before it', () => {
  const tasks = new Tasks();
  tasks.beginSnapshot();
  tasks.takeRecords([record('a', 'completed', 11, { completedAt: AT })]);
  tasks.takeChunk(chunk('running', 'a', undefined, { startedAt: AT }));
  tasks.endSnapshot('epoch-10', true);
  assert.equal(status(tasks, 'a'), 'completed');
});

test('what a new snapshot does not name does not go on running', () => {
  const tasks = withSnapshot();
  tasks.takeChunk(chunk('running', 'c', 11, { startedAt: AT }));
  tasks.beginSnapshot();
  tasks.takeChunk(chunk('running', 'c', undefined, { startedAt: AT }));
  tasks.endSnapshot('epoch-40', true);
  assert.deepEqual([...tasks.rows.keys()], ['c']);
  assert.equal(tasks.counts.running, 1);
});

test('after a reset, what is read is newer, though its places are lower', () => {
  const tasks = withSnapshot();
  tasks.takeChunk(chunk('completed', 'b', 200, { completedAt: AT }));
  tasks.takeChunk(chunk('running', 'c', 201, { startedAt: AT }));
  tasks.forget();
  tasks.beginSnapshot();
  tasks.takeChunk(chunk('suspended', 'a', undefined, { suspendedAt: AT }));
  tasks.endSnapshot('another-3', true);
  assert.deepEqual([status(tasks, 'a'), status(tasks, 'c')], ['suspended', undefined]);
  tasks.takeRecords([record('d', 'failed', 2, { completedAt: AT })]);
  tasks.dropForgotten();
  assert.deepEqual([...tasks.rows.keys()], ['a', 'd']);
});

test('a record adds what no chunk says', () => {
  const tasks = withSnapshot();
  tasks.takeRecords([record('a', 'running', 10, { description: 'reads' })]);
  assert.equal(tasks.rows.get('a')!.description, 'reads');
  assert.equal(tasks.rows.get('a')!.createdAt, Date.parse(AT));
});

test('a timeout is told from a failure', () => {
  const tasks = withSnapshot();
  tasks.takeChunk(chunk('failed', 'a', 11, { completedAt: AT, error: { message: 'Task timed out after 200ms' } }));
  tasks.takeChunk(chunk('failed', 'b', 12, { completedAt: AT, error: { message: 'bad' } }));
  assert.deepEqual([status(tasks, 'a'), status(tasks, 'b')], ['timed_out', 'failed']);
});

test('a task that is tried again by hand is no longer an ended one', () => {
  const tasks = withSnapshot();
  tasks.takeChunk(chunk('failed', 'a', 11, { completedAt: AT, error: { message: 'bad' } }));
  tasks.takeChunk(chunk('retrying', 'a', 12, { at: AT }));
  assert.equal(status(tasks, 'a'), 'pending');
  assert.equal(tasks.rows.get('a')!.endedAt, 0);
});

test('of the ended ones the newest are kept, and everything that has not ended', () => {
  const tasks = withSnapshot();
  const count = ENDED_MAX * 2;
  for (let n = 0; n < count; n += 1) {
    tasks.takeChunk(chunk('completed', `t${n}`, 100 + n, { completedAt: new Date(n * 1_000).toISOString() }));
  }
  assert.ok(tasks.rows.size <= ENDED_MAX * 1.25 + 2, `${tasks.rows.size} rows`);
  assert.equal(status(tasks, 'a'), 'running');
  assert.equal(status(tasks, `t${count - 1}`), 'completed');
  assert.equal(status(tasks, 't0'), undefined);
  assert.equal(tasks.counts.completed + 2, tasks.rows.size);
});
