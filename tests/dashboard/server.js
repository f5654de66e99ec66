// A real server for one test: the binary of SIDESTREAM_BIN, on a free port, with an empty data directory. Its tools
// are all left to workers elsewhere, and the test itself is that worker: it says what happens, and when.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort } from '../support/port.mjs';

const run = promisify(execFile);
// Whatever the developer's shell says about servers must not reach this one.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('SIDESTREAM_')));
const READY_MS_MAX = 20_000;
const EXIT_MS_MAX = 15_000;

export class Server {
  /** Starts a server, and waits until it answers. `tools` are the names of those that it has. */
  static async start({ tools = ['research'], settings = '' } = {}) {
    const folder = await mkdtemp(join(tmpdir(), 'sidestream-dashboard-'));
    const table = (name) => `[tools.${JSON.stringify(name)}]\nremote = true\nmax_retries = 0\nretry_delay_ms = 0\n`;
    await writeFile(join(folder, 'sidestream.toml'), settings + tools.map(table).join('\n'));
    const server = new Server(folder, await freePort(), tools);
    await server.serve();
    return server;
  }

  #folder;
  #child;
  #exit;
  #said = '';
  #port;

  constructor(folder, port, tools) {
    this.#folder = folder;
    this.#port = port;
    this.tools = tools;
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Starts it, or starts it again: on the same port, on the same data. */
  async serve() {
    const args = ['serve', '--data', join(this.#folder, 'data'), '--listen', `127.0.0.1:${this.#port}`];
    this.#child = spawn(binary(), args, { cwd: this.#folder, env: ENVIRONMENT, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#exit = once(this.#child, 'exit');
    this.#child.stderr.setEncoding('utf8').on('data', (text) => (this.#said += text));
    for (const started = Date.now(); Date.now() - started < READY_MS_MAX; await pause(20)) {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) break;
      const answer = await fetch(`${this.url}/readyz`).catch(() => null);
      if (answer?.ok) return;
    }
    throw new Error(`the server was not ready; it said:\n${this.#said}`);
  }

  /** As an operator, or as a power cut. */
  async end(signal = 'SIGTERM') {
    this.#child.kill(signal);
    const giveUp = setTimeout(() => this.#child.kill('SIGKILL'), EXIT_MS_MAX);
    await this.#exit;
    clearTimeout(giveUp);
  }

  /** Starts it again with nothing: a log of another name, in which no cursor of before means anything. */
  async renew() {
    await this.end('SIGKILL');
    await rm(join(this.#folder, 'data'), { recursive: true });
    await this.serve();
  }

  async stop() {
    await this.end('SIGKILL');
    await rm(this.#folder, { recursive: true, force: true });
  }

  /** Makes a key. From then on the server wants one, within a second. */
  async addKey(role) {
    const args = ['keys', 'add', '--server', this.url, '--role', role];
    const env = this.key ? { ...ENVIRONMENT, SIDESTREAM_API_KEY: this.key } : ENVIRONMENT;
    const { stdout } = await run(binary(), args, { env });
    if (role === 'admin') this.key = stdout.trim();
    return stdout.trim();
  }

  async ask(method, path, body) {
    const headers = { 'content-type': 'application/json', ...(this.key && { authorization: `Bearer ${this.key}` }) };
    const answer = await fetch(`${this.url}/v1/${path}`, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text === '' ? null : JSON.parse(text);
  }

  async dispatch(toolName, more = {}) {
    return (await this.ask('POST', 'tasks', { toolName, args: {}, ...more })).task;
  }

  async get(id) {
    return (await this.ask('GET', `task?${new URLSearchParams({ id })}`)).task;
  }

  /** Takes pending tasks as a worker: they are running then. */
  async claim(limit = 1) {
    const claim = { worker: 'test-1', tools: this.tools, limit, leaseMs: 3_600_000, waitMs: 5_000 };
    return (await this.ask('POST', 'claims', claim)).tasks;
  }

  /** Dispatches a task and takes it. */
  async running(toolName, more) {
    const { id } = await this.dispatch(toolName, more);
    const [task] = await this.claim();
    if (task?.id !== id) throw new Error(`another task was claimed: ${task?.id}`);
    return task;
  }

  /** Reports of a task's attempt: `output`, `complete`, `fail`, `suspend`. */
  report(task, what, body) {
    return this.ask('POST', `task/${what}?${new URLSearchParams({ id: task.id })}`, { attempt: task.attempt, ...body });
  }
}

function binary() {
  const path = process.env.SIDESTREAM_BIN;
  if (!path || !existsSync(path)) throw new Error(`SIDESTREAM_BIN must name the binary sidestream, not ${path}`);
  return resolve(path);
}
