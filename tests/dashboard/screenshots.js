// Makes the pictures of docs/images: every page, in both themes, wide and narrow. What is seen there is what the agents
// of `sidestream demo` do, and a supervisor with its subagents; the script plays their workers.
//
//   SIDESTREAM_BIN=target/debug/sidestream node tests/dashboard/screenshots.js [FOLDER [extremes]]
//
// With `extremes` it makes those too that nobody publishes and somebody must look at: nothing, one task, a name of
// 2,000 characters, an output of 5 MiB.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { NARROW, openPage, startBrowser, WIDE } from './browser.js';
import { Server } from './server.js';

const FOLDER = process.argv[2] ?? join(import.meta.dirname, '../../docs/images');
const WITH_EXTREMES = process.argv[3] === 'extremes';
const LONG = 'a_tool_with_a_name_that_goes_on_and_on_'.repeat(52).slice(0, 2_000);
const TOOLS = [
  'hash_files', 'count_lines', 'survey', 'publish', 'upload', 'deep_scan', 'audit', 'checksum', 'plan', 'web_search',
  'read_paper', 'summarise', 'write_report', LONG.slice(0, 1_000), 'print',
];

await mkdir(FOLDER, { recursive: true });
const browser = await startBrowser();
const server = await Server.start({ tools: TOOLS, settings: '[manager]\nconcurrency_per_agent = 100\n' });
try {
  if (WITH_EXTREMES) await beginnings();
  const tasks = await play();
  await pictures(tasks);
  if (WITH_EXTREMES) await extremes();
} finally {
  await browser.close();
  await server.stop();
}

async function picture(name, path, ready, { themes = ['light', 'dark'], widths = { '': WIDE, '-narrow': NARROW }, before } = {}) {
  for (const colorScheme of themes) {
    for (const [width, viewport] of Object.entries(widths)) {
      const options = { colorScheme, viewport, reducedMotion: 'reduce', deviceScaleFactor: 1 };
      const { page, faults, close } = await openPage(browser, server, path, options);
      await page.getByText(ready).first().waitFor({ state: 'attached' });
      await page.locator('.link').filter({ hasText: /live|complete/ }).or(page.locator('.login')).first().waitFor();
      await before?.(page);
      // What was recalled and the fonts settle; it is a picture, not a test.
      await pause(400);
      const file = `dashboard-${name}${colorScheme === 'dark' ? '-dark' : ''}${width}.png`;
      await page.screenshot({ path: join(FOLDER, file) });
      if (faults.length > 0) throw new Error(`${file}: ${faults.join('; ')}`);
      console.log(file);
      await close();
    }
  }
}

/** The demo's three agents, and a supervisor whose subagents look into something. */
async function play() {
  const began = {};
  const start = async (agentId, toolName, description, more = {}) => {
    const ids = { agentId, runId: `${agentId}-1`, threadId: 'demo', description, args: { directory: '/srv/project' } };
    began[toolName] = await server.running(toolName, { ...ids, ...more });
    return began[toolName];
  };
  const team = (agentId, toolName, description, more) =>
    start(agentId, toolName, description, { runId: 'solar-report', threadId: 'solar cells', args: { subject: 'perovskite solar cells' }, ...more });
  const emit = (tool, ...outputs) => server.report(began[tool], 'output', { outputs });
  const complete = (tool, result) => server.report(began[tool], 'complete', { result });

  await team('supervisor', 'plan', 'split the subject into questions');
  await start('indexer', 'hash_files', 'hash every file');
  await start('builder', 'survey', 'a shell command whose output streams');
  await pause(700);
  await emit('plan', 'three questions: stability, cost, lead');
  await complete('plan', { questions: ['stability', 'cost', 'lead'] });
  await team('researcher', 'web_search', 'find sources on stability', { subagentType: 'researcher' });
  await team('reader', 'read_paper', 'read the review of 2026', { subagentType: 'reader' });
  await start('indexer', 'count_lines', 'count lines by language');
  await start('builder', 'upload', 'fails twice, then succeeds', { maxRetries: 2 });
  await emit('hash_files', { done: 57, total: 168, at: 'crates/core/src/wire.rs' });
  await pause(600);
  for (let n = 1; n <= 9; n += 1) await emit('survey', `${String(n * 7).padStart(5)} files in crates/part-${n}`);
  await emit('upload', 'uploading the index');
  await server.report(began.upload, 'fail', { error: { message: '503 Service Unavailable' }, retryable: true });
  [began.upload] = await server.claim();
  await emit('web_search', 'query: perovskite stability encapsulation', '14 results, 6 of them worth reading');
  await complete('web_search', { results: 14, kept: 6 });
  await team('researcher', 'summarise', 'summarise what was found', { subagentType: 'researcher' });
  await start('reviewer', 'publish', 'waits for approval');
  await start('reviewer', 'deep_scan', 'is cancelled');
  await start('builder', 'audit', 'takes too long', { timeoutMs: 1_500 });
  await emit('deep_scan', 'scanning crates/core/src/lib.rs');
  await pause(500);
  await server.report(began.publish, 'suspend', {
    suspendPayload: { question: 'Publish the report?', report: { title: 'What 168 files say', pages: 12, changed: ['index.html', 'summary.md'] } },
  });
  await emit('read_paper', 'page 3 of 41: encapsulation against moisture', 'page 7 of 41: lead leakage after hail');
  await emit('upload', 'uploading the index', 'uploaded 4.1 MiB');
  await complete('upload', { uploaded: true, attempt: 2 });
  await complete('hash_files', { files: 168, bytes: 1_204_113, sha256: '9f2c41b07a6e55d1…' });
  await pause(400);
  await server.ask('POST', `task/cancel?${new URLSearchParams({ id: began.deep_scan.id })}`);
  await server.report(began.audit, 'fail', { timedOut: true });
  await emit('count_lines', '   18423 lines of Rust', '    2210 lines of Markdown', '    1874 lines of TypeScript');
  await team('writer', 'write_report', 'write the report, section by section', { subagentType: 'writer' });
  await emit('write_report', '# Perovskite solar cells', '', 'Section 1 of 4: what degrades them');
  await emit('summarise', 'six sources, two of them disagree about lead');
  await start('indexer', 'checksum', 'loses its process to kill -9, and is run again');
  await emit('checksum', { pid: 4711 }, '1872104398 2231 Cargo.toml');
  for (const [tool, description] of [['read_paper', 'read what the second source cites'], ['web_search', 'find prices of encapsulation']]) {
    await server.dispatch(tool, { agentId: 'reader', runId: 'solar-report', threadId: 'solar cells', description, args: {} });
  }
  await pause(300);
  return began;
}

async function pictures(tasks) {
  // Some life for the charts of the page that is open meanwhile.
  const lively = async (page) => {
    for (let round = 0; round < 12; round += 1) {
      const some = await Promise.all(Array.from({ length: 3 + (round % 4) }, () =>
        server.dispatch('print', { agentId: 'builder', runId: 'builder-2', threadId: 'demo', description: 'prints a page' })));
      const claimed = [];
      while (claimed.length < some.length) claimed.push(...(await server.claim(some.length - claimed.length)).filter((it) => it.toolName === 'print'));
      await pause(120);
      for (const task of claimed) {
        await server.report(task, 'output', { outputs: [`page ${round + 1} printed`] });
        if (round % 5 === 4) await server.report(task, 'fail', { error: { message: 'out of paper' } });
        else await server.report(task, 'complete', { result: { pages: 1 } });
      }
      await pause(180);
    }
    await page.getByText('printed').first().waitFor();
  };
  await picture('now', '/', 'write_report', { before: lively });
  await picture('task', pageOf(tasks.survey), 'files in crates/part-9');
  await picture('task-failed', pageOf(tasks.upload), 'Attempt 2 began');
  await picture('task-suspended', pageOf(tasks.publish), 'Publish the report?');
  await picture('waiting', '/waiting', 'Publish the report?');
  await picture('runs', '/runs', 'solar-report', { before: (page) => page.getByRole('button', { name: /solar-report/ }).click() });
  await picture('run', '/run?id=solar-report', 'supervisor');
  await picture('login', '/login', 'API key');
}

async function beginnings() {
  await picture('x-empty', '/', 'No tasks yet');
  await picture('x-nothing-waits', '/waiting', 'Nothing waits for you');
  await picture('x-no-runs', '/runs', 'No runs yet', { themes: ['light'] });
  const task = await server.running('print', { agentId: 'only-agent' });
  await picture('x-one', '/', 'only-agent', { themes: ['light'] });
  await server.report(task, 'complete', { result: 'done' });
}

async function extremes() {
  const long = await server.running(LONG.slice(0, 1_000), {
    agentId: LONG.slice(0, 1_000), threadId: LONG.slice(0, 900), runId: LONG.slice(0, 800), description: LONG, args: { [LONG]: LONG },
  });
  await server.report(long, 'output', { outputs: [LONG, 'short'] });
  await picture('x-long-now', '/', 'a_tool_with', { themes: ['light'] });
  await picture('x-long-task', pageOf(long), 'a_tool_with', { themes: ['light'] });
  await picture('x-long-run', `/run?${new URLSearchParams({ id: LONG.slice(0, 800) })}`, 'a_tool_with', { themes: ['light'] });
  await server.report(long, 'suspend', { suspendPayload: { question: LONG, more: LONG } });
  await picture('x-long-waiting', '/waiting', 'Publish the report?', { themes: ['light'] });
  const big = await server.running('print', { agentId: 'printer' });
  const line = 'a line of a large output, with some words in it, and a number: ';
  for (let n = 0; n < 5; n += 1) {
    await server.report(big, 'output', { outputs: [Array.from({ length: 11_000 }, (_, at) => `${line}${n * 11_000 + at}`).join('\n')] });
  }
  await server.report(big, 'output', { outputs: ['x'.repeat(1_000_000), { deep: { list: Array.from({ length: 50 }, (_, at) => at) } }] });
  await picture('x-big', pageOf(big), 'outputs,', { themes: ['dark'], before: async (page) => {
    await page.getByRole('searchbox', { name: 'Search in the output' }).fill('number: 54321');
    await page.getByText('1 of 1').waitFor();
  } });
  await server.end('SIGKILL');
}

function pageOf({ id }) {
  return `/task?${new URLSearchParams({ id })}`;
}
