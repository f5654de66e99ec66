import assert from 'node:assert/strict';
import { test } from 'node:test';
import { choiceOf, filterOf, withChoice, withFilter } from '../src/state/address.ts';
import { ExactNumber, parseExactly, textOfJson } from '../src/protocol/json.ts';
import { Meter, percentile, SECONDS } from '../src/state/meter.ts';

test('a view is the same after its address was passed on', () => {
  const choice = { statuses: ['running', 'failed'], sort: 'elapsed', isReversed: true, search: 'a&b=ü' } as const;
  const query = withFilter(withChoice(new URLSearchParams('namespace=x'), choice), 'threadId', '../?');
  const shared = new URLSearchParams(query.toString());
  assert.deepEqual(choiceOf(shared), choice);
  assert.deepEqual(filterOf(shared), { threadId: '../?' });
  assert.equal(shared.get('namespace'), 'x');
});

test('what makes no sense in an address is passed over', () => {
  const query = new URLSearchParams('status=odd&status=failed&sort=-nothing&agentId=');
  assert.deepEqual(choiceOf(query), { statuses: ['failed'], sort: 'recent', isReversed: true, search: '' });
  assert.deepEqual(filterOf(query), {});
});

test('numbers that JavaScript cannot hold keep their digits', () => {
  const value = parseExactly('{"id": 12345678901234567890, "n": 1.50, "huge": 1e999}') as Record<string, unknown>;
  assert.equal((value.id as ExactNumber).source, '12345678901234567890');
  assert.equal(value.n, 1.5);
  assert.equal((value.huge as ExactNumber).source, '1e999');
  assert.equal(textOfJson(value), '{"id":12345678901234567890,"n":1.5,"huge":1e999}');
});

test('the meter forgets what is older than two minutes', () => {
  const meter = new Meter();
  const now = 1_000_000_000;
  meter.ended(now, true, 10);
  meter.ended(now + 500, false, 30);
  const [last] = meter.seconds(now + 1_000).slice(-1);
  assert.deepEqual([last!.completed, last!.failed, last!.took], [1, 1, [10, 30]]);
  const later = meter.seconds(now + (SECONDS + 1) * 1_000);
  assert.equal(later.reduce((sum, it) => sum + it.completed, 0), 0);
});

test('percentiles are those of the values', () => {
  assert.equal(percentile([], 0.5), null);
  assert.equal(percentile([3, 1, 2], 0.5), 2);
  assert.equal(percentile(Array.from({ length: 100 }, (_, n) => n + 1), 0.95), 95);
});
