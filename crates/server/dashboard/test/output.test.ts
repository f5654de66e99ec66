import assert from 'node:assert/strict';
import { test } from 'node:test';
import { find, Output, plain, Wrapped } from '../src/state/output.ts';
import { lastLineOf, textOf } from '../src/state/text.ts';

test('the usual wrapping of outputs is taken off', () => {
  assert.equal(textOf({ type: 'tool-output', payload: { output: 'hello', toolName: 'x' } }), 'hello');
  assert.equal(textOf({ type: 'tool-output', payload: { output: { step: 1 } } }), '{"step":1}');
  assert.equal(textOf({ done: 3, total: 9, at: 'a.rs' }), '3 of 9 · a.rs');
  assert.equal(textOf({ done: 3, total: 9, more: 1 }), '{"done":3,"total":9,"more":1}');
  assert.equal(textOf(null), 'null');
});

test('the last line of a text is found, and cut', () => {
  assert.equal(lastLineOf('one\ntwo\n\n', 10), 'two');
  assert.equal(lastLineOf(`x\n${'y'.repeat(50)}`, 10), `${'y'.repeat(9)}…`);
  assert.equal(lastLineOf('', 10), '');
});

test('lines are as a terminal would leave them', () => {
  assert.equal(plain('\u001b[31mred\u001b[0m'), 'red');
  assert.equal(plain('10 %\r50 %\r100 %'), '100 %');
  assert.equal(plain('windows\r'), 'windows');
  assert.equal(plain('\u001b]0;title\u0007x'), 'x');
});

test('a new attempt is marked in the output', () => {
  const output = new Output();
  output.take('a', 1);
  output.take('b\nc\n', 2);
  assert.deepEqual(output.lines.map((line) => [line.text, line.output]), [['a', 1], ['attempt 2', 0], ['b', 2], ['c', 2]]);
});

test('more output than is kept drops the oldest, and says how much', () => {
  const output = new Output();
  for (let n = 0; n < 40; n += 1) output.take('x'.repeat(1 << 20), 1);
  const kept = output.lines.reduce((sum, line) => sum + line.text.length, 0);
  assert.ok(kept <= 16 << 20, `${kept} kept`);
  assert.equal(output.dropped + output.lines.length, 40);
  assert.equal(output.characters, 40 << 20);
});

test('rows of wrapped lines are found both ways', () => {
  const lines = ['', 'a'.repeat(25), 'b'].map((text) => ({ text, output: 1 }));
  const wrapped = new Wrapped(lines, 10);
  assert.equal(wrapped.rows, 5);
  const rows = Array.from({ length: 5 }, (_, row) => wrapped.at(row));
  assert.deepEqual(rows, [{ index: 0, from: 0 }, { index: 1, from: 0 }, { index: 1, from: 10 }, { index: 1, from: 20 }, { index: 2, from: 0 }]);
  for (const [row, { index, from }] of rows.entries()) assert.equal(wrapped.rowOf(index, from), row);
  lines.push({ text: 'c', output: 2 });
  wrapped.extend();
  assert.equal(wrapped.rows, 6);
});

test('a text is found wherever it stands', () => {
  const lines = ['Abcabc', 'x'].map((text) => ({ text, output: 1 }));
  assert.deepEqual(find(lines, 'ABC'), [{ index: 0, from: 0 }, { index: 0, from: 3 }]);
  assert.deepEqual(find(lines, ''), []);
});
