import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BlockReader, type Block } from '../src/protocol/sse.ts';

const STREAM = 'retry: 1000\n\n: open\n\ndata: {"a":1}\n\nid: e-7\n\nid: e-8\ndata: {"b":"ä"}\r\n\r\n: keep-alive\n\ndata: x\ndata: y\n\n';
const BLOCKS = [
  { data: '{"a":1}', id: null },
  { data: '', id: 'e-7' },
  { data: '{"b":"ä"}', id: 'e-8' },
  { data: 'x\ny', id: null },
];

function read(pieces: Iterable<string>): Block[] {
  const blocks: Block[] = [];
  const reader = new BlockReader((block) => blocks.push(block));
  for (const piece of pieces) reader.push(piece);
  return blocks;
}

test('blocks are read, also those that are an id alone', () => {
  assert.deepEqual(read([STREAM]), BLOCKS);
});

test('it does not matter where the pieces of a stream are cut', () => {
  for (let size = 1; size < 12; size += 1) {
    const pieces = STREAM.match(new RegExp(`[^]{1,${size}}`, 'g'))!;
    assert.deepEqual(read(pieces), BLOCKS, `pieces of ${size}`);
  }
});

test('a block that has not ended is not handed on', () => {
  assert.deepEqual(read(['id: e-1\ndata: 1\n']), []);
});

test('a line of a mebibyte in small pieces is read once', () => {
  const line = 'z'.repeat(1 << 20);
  const pieces = [`data: ${line}`.match(/[^]{1,1000}/g)!, ['\n\n']].flat();
  const [block] = read(pieces);
  assert.equal(block?.data.length, line.length);
});
