import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Following, type Link } from '../src/protocol/follow.ts';
import type { Block } from '../src/protocol/sse.ts';

/** A server that answers each request as the next entry says, and then not at all. */
function serverOf(answers: (() => Response | Promise<Response>)[]) {
  const asked: string[] = [];
  const answer = (url: string | URL | Request) => {
    asked.push(String(url));
    const next = answers.shift();
    return next ? Promise.resolve(next()) : new Promise<Response>(() => {});
  };
  return { asked, fetch: answer as typeof fetch };
}

/** A body that says this, and then ends, breaks or stays open. */
function body(text: string, end: 'ends' | 'breaks' | 'stays'): Response {
  const stream = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(text));
      if (end === 'ends') controller.close();
    },
    pull(controller) {
      if (end === 'breaks') controller.error(new Error('broken'));
    },
  });
  return new Response(stream);
}

function problem(status: number, detail: string): Response {
  return new Response(JSON.stringify({ detail }), { status });
}

interface Watched {
  links: Link[];
  blocks: Block[];
  following: Following;
  until(isSo: () => boolean): Promise<void>;
}

function follow(fetch: typeof globalThis.fetch, endsWithTask = false): Watched {
  const watched = { links: [] as Link[], blocks: [] as Block[] };
  let wake = () => {};
  const following = new Following(
    { url: (cursor) => `/v1/stream?after=${cursor ?? ''}`, fetch, endsWithTask, random: () => 0 },
    {
      onBlock: (block) => { watched.blocks.push(block); wake(); },
      onLink: (link) => { watched.links.push(link); wake(); },
    },
  );
  const until = async (isSo: () => boolean) => {
    while (!isSo()) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { ...watched, following, until };
}

const states = (links: Link[]) => links.map(({ state }) => state);

test('a lost stream is taken up after the last cursor, also one that came alone', async () => {
  const server = serverOf([
    () => body('data: {}\n\nid: e-5\n\n', 'ends'),
    () => body('id: e-6\ndata: {"n":6}\n\n', 'breaks'),
    () => Promise.reject(new TypeError('no server')),
    () => body('id: e-7\ndata: {"n":7}\n\n', 'stays'),
  ]);
  const { links, blocks, following, until } = follow(server.fetch);
  await until(() => blocks.length === 4);
  following.close();
  assert.deepEqual(server.asked.map((url) => url.split('after=')[1]), ['', 'e-5', 'e-6', 'e-6']);
  assert.deepEqual(states(links), ['live', 'reconnecting', 'live', 'reconnecting', 'reconnecting', 'live']);
});

test('what the server will never allow is not asked again, and told in its words', async () => {
  const server = serverOf([() => problem(403, 'not allowed here')]);
  const { links, until } = follow(server.fetch);
  await until(() => links.length === 1);
  assert.deepEqual(links, [{ state: 'refused', status: 403, why: 'not allowed here' }]);
  assert.equal(server.asked.length, 1);
});

test('what the server cannot do now is asked again', async () => {
  const server = serverOf([() => problem(503, 'starting'), () => body('id: e-1\n\n', 'stays')]);
  const { links, blocks, following, until } = follow(server.fetch);
  await until(() => blocks.length === 1);
  following.close();
  assert.deepEqual(states(links), ['reconnecting', 'live']);
});

test('the stream of an ended task has an end', async () => {
  const server = serverOf([() => body('id: e-1\ndata: {}\n\n', 'ends')]);
  const { links, until } = follow(server.fetch, true);
  await until(() => links.length === 2);
  assert.deepEqual(states(links), ['live', 'ended']);
});

test('a paused stream holds no connection, and goes on from its cursor', async () => {
  const server = serverOf([() => body('id: e-3\ndata: {}\n\n', 'stays'), () => body('id: e-4\ndata: {}\n\n', 'stays')]);
  const { links, blocks, following, until } = follow(server.fetch);
  await until(() => blocks.length === 1);
  following.pause();
  following.resume();
  await until(() => blocks.length === 2);
  following.close();
  assert.deepEqual(server.asked.map((url) => url.split('after=')[1]), ['', 'e-3']);
  assert.deepEqual(states(links), ['live', 'paused', 'live']);
});

test('a closed stream says nothing more', async () => {
  const server = serverOf([() => body('id: e-3\ndata: {}\n\n', 'stays')]);
  const { links, blocks, following, until } = follow(server.fetch);
  await until(() => blocks.length === 1);
  following.close();
  following.resume();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(states(links), ['live']);
  assert.equal(server.asked.length, 1);
});
