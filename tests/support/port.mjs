// What the tests in JavaScript share.

import { once } from 'node:events';
import { createServer } from 'node:net';

/** A port of the loopback interface that nobody uses now. */
export async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}
