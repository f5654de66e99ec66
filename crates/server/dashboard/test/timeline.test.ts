import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventOf, stepsOf, stretchesOf, stretchesOfTimes } from '../src/state/timeline.ts';
import { chunk } from './make.ts';

const at = (second: number) => new Date(second * 1_000).toISOString();
const STORY = [
  eventOf(chunk('started', 't', 1, { at: at(1) }), 0),
  eventOf(chunk('running', 't', 2, { startedAt: at(2), attempt: 1 }), 0),
  eventOf(chunk('retrying', 't', 5, { at: at(5), attempt: 1, error: { message: 'busy' }, nextAttemptAt: at(6) }), 2),
  eventOf(chunk('running', 't', 6, { startedAt: at(6), attempt: 2 }), 0),
  eventOf(chunk('suspended', 't', 7, { suspendedAt: at(8), attempt: 2 }), 0),
  eventOf(chunk('queued', 't', 8, { at: at(20) }), 0),
  eventOf(chunk('resumed', 't', 9, { startedAt: at(21), attempt: 3 }), 0),
  eventOf(chunk('completed', 't', 10, { completedAt: at(25), attempt: 3 }), 1),
];

test('each step says what came before it, and how long that took', () => {
  const told = stepsOf(STORY).map(({ title, before, outputs, detail }) => [title, before && `${before.word} ${before.ms}`, outputs, detail]);
  assert.deepEqual(told, [
    ['Dispatched', null, 0, ''],
    ['Attempt 1 began', 'waited 1000', 0, ''],
    ['Attempt 1 failed, another follows', 'ran 3000', 2, 'busy'],
    ['Attempt 2 began', 'waited 1000', 0, ''],
    ['Suspended', 'ran 2000', 0, ''],
    ['Resumed, waits for a slot', 'was suspended 12000', 0, ''],
    ['Attempt 3 began, with the answer', 'waited 1000', 0, ''],
    ['Completed', 'ran 4000', 1, ''],
  ]);
});

test('the stretches cover the time from the dispatch to the end', () => {
  const stretches = stretchesOf(STORY, 25_000);
  assert.deepEqual(stretches.map(({ kind }) => kind), ['waiting', 'running', 'waiting', 'running', 'suspended', 'waiting', 'running']);
  assert.equal(stretches.reduce((sum, { from, to }) => sum + to - from, 0), 24_000);
});

test('without a story the record says what it can', () => {
  const times = { status: 'suspended', attempt: 1, createdAt: 1, startedAt: 3, suspendedAt: 6, endedAt: 0 } as const;
  assert.deepEqual(stretchesOfTimes(times, 10).map(({ kind, from, to }) => [kind, from, to]), [
    ['waiting', 1, 3], ['running', 3, 6], ['suspended', 6, 10],
  ]);
});
