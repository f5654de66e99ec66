import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ChunkType, Status } from '../src/protocol/types.ts';
import { Tasks } from '../src/state/tasks.ts';
import { EVERYTHING, SORTS, View, type Choice } from '../src/state/view.ts';
import { chunk } from './make.ts';

/** Numbers that look random, the same in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
}

const TYPES: readonly ChunkType[] = ['started', 'running', 'output', 'suspended', 'retrying', 'completed', 'failed', 'cancelled'];

/** A view that is brought up to date again and again is what a view made anew would be. */
test('an updated view equals a new one', () => {
  for (const sort of SORTS) {
    for (const statuses of [[], ['running', 'failed']] as Status[][]) {
      const choice: Choice = { ...EVERYTHING, sort, statuses, isReversed: statuses.length > 0 };
      const random = numbers(7);
      const tasks = new Tasks();
      const view = new View(tasks);
      view.choose(choice);
      for (let seq = 1; seq < 600; seq += 1) {
        const at = new Date(seq * 1_000).toISOString();
        const type = TYPES[random(TYPES.length)]!;
        const times = { at, startedAt: type === 'running' ? at : undefined, completedAt: type === 'completed' ? at : undefined };
        tasks.takeChunk(chunk(type, `t${random(60)}`, seq, { ...times, agentId: `a${random(4)}`, attempt: random(3), payload: 'x' }));
        if (random(50) === 0) tasks.drop([`t${random(60)}`]);
        if (random(4) !== 0) continue;
        const updated = view.update().map((row) => row.id);
        const anew = new View(tasks);
        anew.choose(choice);
        assert.deepEqual(updated, anew.update().map((row) => row.id), `${sort} at ${seq}`);
      }
    }
  }
});

test('what runs comes first, then what waits, then what has ended, the latest first', () => {
  const tasks = new Tasks();
  const at = (n: number) => new Date(n * 1_000).toISOString();
  tasks.takeChunk(chunk('completed', 'ended-early', 1, { completedAt: at(1) }));
  tasks.takeChunk(chunk('completed', 'ended-late', 2, { completedAt: at(2) }));
  tasks.takeChunk(chunk('started', 'waits', 3, { at: at(3) }));
  tasks.takeChunk(chunk('running', 'runs', 4, { startedAt: at(0) }));
  assert.deepEqual(new View(tasks).update().map((row) => row.id), ['runs', 'waits', 'ended-late', 'ended-early']);
});

test('the search looks for a part of the id', () => {
  const tasks = new Tasks();
  for (const id of ['abc', 'ABD', 'x']) tasks.takeChunk(chunk('started', id, 1));
  const view = new View(tasks);
  view.choose({ ...EVERYTHING, search: 'ab' });
  assert.deepEqual(view.update().map((row) => row.id).sort(), ['ABD', 'abc']);
});

test('100,000 tasks are brought up to date without sorting them all', () => {
  const tasks = new Tasks();
  tasks.beginSnapshot();
  for (let n = 0; n < 100_000; n += 1) {
    tasks.takeChunk(chunk('running', `t${n}`, undefined, { startedAt: new Date(n * 10).toISOString() }));
  }
  tasks.endSnapshot('e-1', true);
  const view = new View(tasks);
  const { rows } = view;
  assert.equal(view.update().length, 100_000);
  assert.equal(view.update(), view.rows, 'nothing has moved: the same rows');
  assert.notEqual(rows, view.rows);
  tasks.takeChunk(chunk('running', 'new', 2, { startedAt: new Date(2_000_000).toISOString() }));
  assert.equal(view.update()[0]!.id, 'new');
});
