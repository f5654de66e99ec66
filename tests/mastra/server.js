// A real server for one test file: the binary of SIDESTREAM_BIN, on a free port, with an empty data directory.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../support/port.mjs';

const run = promisify(execFile);
const HERE = import.meta.dirname;
// Whatever the developer's shell says about servers must not reach this one.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SIDESTREAM_')));
const READY_MS_MAX = 20_000;
const EXIT_MS_MAX = 15_000;

export async function startServer() {
  return Server.start(await dataDirectory());
}

// A server that asks for a key, and a key with the role `write` for it.
export async function startServerWithKey() {
  const data = await dataDirectory();
  const { stdout } = await run(binary(), ['keys', 'add', '--data', data, '--role', 'write'], { env: ENVIRONMENT });
  return { server: await Server.start(data), key: stdout.trim() };
}

class Server {
  // Waits until the server answers. Throws what it said if it exits instead.
  static async start(data) {
    const port = await freePort();
    const args = ['serve', '--data', data, '--listen', `127.0.0.1:${port}`, '--config', join(HERE, 'sidestream.toml')];
    const child = spawn(binary(), args, { cwd: HERE, env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] });
    const server = new Server(child, `http://127.0.0.1:${port}`, data);
    try {
      await server.#ready();
    } catch (error) {
      await server.stop();
      throw error;
    }
    return server;
  }

  #child;
  #data;
  #said = '';
  #exit;

  constructor(child, url, data) {
    this.url = url;
    this.#child = child;
    this.#data = data;
    this.#exit = once(child, 'exit');
    child.stderr.setEncoding('utf8').on('data', (text) => (this.#said += text));
  }

  // Asks it to stop as an operator does, waits until it has, and tells how it went.
  async stop() {
    this.#child.kill('SIGTERM');
    const giveUp = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_MS_MAX);
    const [code, signal] = await this.#exit;
    clearTimeout(giveUp);
    await rm(this.#data, { recursive: true, force: true });
    return { code, signal };
  }

  async #ready() {
    for (const started = Date.now(); Date.now() - started < READY_MS_MAX; await pause(50)) {
      if (this.#hasExited()) break;
      const answer = await fetch(`${this.url}/readyz`).catch(() => null);
      if (answer?.ok) return;
    }
    const state = this.#hasExited() ? 'has exited' : `was not ready after ${READY_MS_MAX} ms`;
    throw new Error(`the server ${state}; it said:\n${this.#said}`);
  }

  #hasExited() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }
}

function binary() {
  const path = process.env.SIDESTREAM_BIN;
  if (!path || !existsSync(path)) throw new Error(`SIDESTREAM_BIN must name the binary sidestream, not ${path}`);
  return resolve(path);
}

function dataDirectory() {
  return mkdtemp(join(tmpdir(), 'sidestream-mastra-'));
}
