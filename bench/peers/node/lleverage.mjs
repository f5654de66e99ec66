// The task stores of @lleverage-ai/agent-sdk: in memory, and a file for each task.

import { FileTaskStore, MemoryTaskStore, createBackgroundTask, updateBackgroundTask } from '@lleverage-ai/agent-sdk';
import { join } from 'node:path';
import { answer, ensure, ready, setting, version, work } from './contender.mjs';

const isInMemory = work.store === 'memory';
const EXPIRES_MS = 1;
const options = { namespace: 'bench', expirationMs: EXPIRES_MS };
const store = isInMemory ? new MemoryTaskStore(options) : new FileTaskStore({ ...options, directory: join(work.dir, 'tasks') });

async function timed(what) {
  const begun = performance.now();
  await what();
  return (performance.now() - begun) / 1_000;
}

// One in ten runs, and is what a list asks for; the others have ended long ago, and are what a cleanup takes.
const records = setting('records');
const long = new Date(Date.now() - 60_000).toISOString();
const tasks = Array.from({ length: records }, (_, number) => {
  const made = createBackgroundTask({ id: `task-${number}`, subagentType: 'bench', description: 'a record', metadata: { number } });
  if (number % 10 === 0) return updateBackgroundTask(made, { status: 'running' });
  return { ...updateBackgroundTask(made, { status: 'completed', result: 'done' }), completedAt: long, updatedAt: long };
});
const running = Math.ceil(records / 10);

ready();
const saving = await timed(async () => {
  for (const task of tasks) await store.save(task);
});
const listing = await timed(async () => {
  const listed = await store.listTasks({ status: 'running' });
  ensure(listed.length === running, `${listed.length} tasks were listed, not ${running}`);
});
const sought = tasks.filter(({ status }) => status === 'running');
const loading = await timed(async () => {
  for (const { id } of sought) ensure((await store.load(id))?.id === id, `${id} is not there`);
});
const cleaning = await timed(async () => {
  const cleaned = await store.cleanup();
  ensure(cleaned === records - running, `${cleaned} tasks were cleaned up, not ${records - running}`);
});
const left = (await store.list()).length;
ensure(left === running, `${left} tasks are left, not ${running}`);

answer({
  contender: `@lleverage-ai/agent-sdk, ${isInMemory ? 'memory' : 'files'}`,
  version: version('@lleverage-ai/agent-sdk'),
  durability: isInMemory ? 'none: it is gone with the process' : 'files that no fsync follows',
  values: {
    saves_per_second: records / saving,
    loads_per_second: sought.length / loading,
    list_ms: listing * 1_000,
    cleanup_ms: cleaning * 1_000,
  },
  verified: `${running} of ${records} tasks are left, those that run`,
});
