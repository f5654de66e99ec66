// The README's examples for everyone who does not write Rust, run as they stand there: the toml is the
// configuration, the curl lines and the JavaScript talk to a real server. (The Rust one is a doc test.)

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from '../support/port.mjs';

const README = await readFile(join(import.meta.dirname, '../../README.md'), 'utf8');
const WRITTEN = 'http://127.0.0.1:7600';
const AT_MOST_MS = 20_000;

let base, directory, server;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sidestream-readme-'));
  await writeFile(join(directory, 'sidestream.toml'), block('toml', 'tools.greet'));
  const address = `127.0.0.1:${await freePort()}`;
  base = `http://${address}`;
  const binary = resolve(process.env.SIDESTREAM_BIN ?? assert.fail('SIDESTREAM_BIN names the binary'));
  const { SIDESTREAM_BIN, ...env } = process.env;
  const args = ['serve', '--listen', address, '--data', join(directory, 'data')];
  server = spawn(binary, args, { cwd: directory, env, stdio: ['ignore', 'ignore', 'inherit'] });
  await until(() => fetch(`${base}/readyz`).then((answer) => answer.ok, () => false));
});

after(async () => {
  server.kill('SIGTERM');
  await once(server, 'exit');
  await rm(directory, { recursive: true });
});

test('the curl lines dispatch a task and show its stream', async () => {
  const lines = block('sh', 'curl').split('\n').filter((line) => line.startsWith('curl'));
  assert.equal(lines.length, 2);
  await shows('sh', ['-c', here(lines.join('\n')).replace(/&$/m, '& sleep 0.5') + '\nwait']);
});

test('the JavaScript dispatches a task and shows its stream', async () => {
  // The browser's EventSource, which this Node has behind a flag.
  await shows(process.execPath, ['--experimental-eventsource', '--input-type=module', '--eval', here(block('js', 'EventSource'))]);
});

/// Runs a program until it has printed that the task completed with its greeting.
async function shows(program, args) {
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (printed += text));
  try {
    await until(() => /background-task-completed[^]*greeting[^]*hello/.test(printed));
  } catch (error) {
    assert.fail(`${error.message}; it printed:\n${printed}`);
  } finally {
    process.kill(-child.pid, 'SIGKILL');
  }
}

/// The README's block in a language that says this.
function block(language, says) {
  const blocks = README.matchAll(new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``, 'g'));
  const found = [...blocks].map(([, text]) => text).find((text) => text.includes(says));
  return found ?? assert.fail(`the README has no ${language} block that says ${says}`);
}

function here(text) {
  assert.ok(text.includes(WRITTEN));
  return text.replaceAll(WRITTEN, base);
}

async function until(isSo) {
  for (const started = Date.now(); !(await isSo()); await pause(25)) {
    if (Date.now() - started > AT_MOST_MS) throw new Error(`not so after ${AT_MOST_MS} ms`);
  }
}
