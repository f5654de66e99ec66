// How fast the dashboard is, in a real Chromium against a real server; prints the table of docs/performance.md.
//
//   SIDESTREAM_BIN=target/release/sidestream node tests/dashboard/measure.js [TASKS] [SECONDS]

import { setTimeout as pause } from 'node:timers/promises';
import { openPage, startBrowser } from './browser.js';
import { Server } from './server.js';

const TASKS = Number(process.argv[2] ?? 100_000);
const SECONDS = Number(process.argv[3] ?? 60);
const EVENTS_PER_SECOND = 1_000;
const PAINTS = 10;
const rows = [];

const browser = await startBrowser(['--enable-precise-memory-info', '--js-flags=--expose-gc']);
const server = await Server.start({ tools: ['research', 'crawl'], settings: '[manager]\nconcurrency_per_agent = 100_000\n' });
try {
  await pageWeight();
  await firstPaint();
  await events(`${EVENTS_PER_SECOND} events/s for ${SECONDS} s`);
  await manyTasks();
  await events(`the same beside ${count(TASKS)} running tasks`);
} finally {
  await browser.close();
  await server.stop();
}
console.log('| what | measured |\n|---|---|');
for (const [what, measured] of rows) console.log(`| ${what} | ${measured} |`);

async function pageWeight() {
  let bytes = 0;
  for (const path of ['/', '/assets/app.js', '/assets/app.css', '/assets/icon.svg']) {
    const answer = await fetch(server.url + path, { headers: { accept: 'text/html', 'accept-encoding': 'gzip' } });
    bytes += Number(answer.headers.get('content-length'));
    await answer.arrayBuffer();
  }
  rows.push(['page weight, compressed', `${(bytes / 1024).toFixed(1)} KiB`]);
}

async function firstPaint() {
  const paints = [];
  for (let n = 0; n < PAINTS; n += 1) {
    const { page, close } = await openPage(browser, server);
    await page.getByRole('heading', { name: 'No tasks yet' }).waitFor();
    paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
    await close();
  }
  paints.sort((a, b) => a - b);
  rows.push(['first paint, median of 10 (worst)', `${Math.round(paints[PAINTS / 2])} ms (${Math.round(paints.at(-1))} ms)`]);
}

/** Fills the server, opens the page, and waits until it says how many run. */
async function manyTasks() {
  const width = 64;
  for (let done = 0; done < TASKS; done += width) {
    const ids = (n) => ({ agentId: `agent-${n % 50}`, runId: `run-${n % 1_000}`, threadId: `thread-${n % 5_000}` });
    const some = Array.from({ length: Math.min(width, TASKS - done) }, (_, n) => done + n);
    await Promise.all(some.map((n) => server.dispatch('research', { args: { query: `sources on subject ${n}` }, ...ids(n) })));
  }
  for (let claimed = 0; claimed < TASKS;) claimed += (await server.claim(256)).length;
  const times = [];
  for (let n = 0; n < 3; n += 1) {
    const { page, close } = await openPage(browser, server);
    await page.waitForFunction((text) => document.querySelector('.chip.is-running .number')?.textContent === text
      && document.querySelector('.link')?.textContent === 'live'
      && document.querySelectorAll('.table .room .row').length > 10, count(TASKS), { polling: 'raf' });
    times.push(await page.evaluate(() => performance.now()));
    if (n === 2) rows.push([`scrolling through ${count(TASKS)} tasks: frames over 50 ms`, await scroll(page)]);
    await close();
  }
  times.sort((a, b) => a - b);
  rows.push([`${count(TASKS)} running tasks: from the address to all of them (worst of 3)`, `${(times[1] / 1000).toFixed(2)} s (${(times[2] / 1000).toFixed(2)} s)`]);
}

/** Scrolls for two seconds, and tells how many frames came late. */
function scroll(page) {
  return page.evaluate(async () => {
    const table = document.querySelector('.table');
    let [late, frames, last] = [0, 0, performance.now()];
    for (const end = last + 2_000; last < end;) {
      table.scrollTop += 2_000;
      const now = await new Promise(requestAnimationFrame);
      if (now - last > 50) late += 1;
      frames += 1;
      last = now;
    }
    return `${late} of ${frames}`;
  });
}

/** Outputs, and now and then a task that comes and ends, beside the page. */
async function events(what) {
  const tasks = [];
  for (let n = 0; n < 40; n += 1) tasks.push(await server.dispatch('crawl', { agentId: `crawler-${n % 5}` }));
  const held = [];
  while (held.length < tasks.length) held.push(...(await server.claim(256)));
  const { page, close } = await openPage(browser, server);
  await page.getByRole('row').filter({ hasText: 'crawl' }).first().waitFor();
  const devtools = await page.context().newCDPSession(page);
  await devtools.send('Performance.enable');
  const metric = async (name) => (await devtools.send('Performance.getMetrics')).metrics.find((it) => it.name === name).value;
  const heap = async () => {
    await devtools.send('HeapProfiler.collectGarbage');
    return (await metric('JSHeapUsedSize')) / (1 << 20);
  };
  let sent = 0;
  const started = performance.now();
  let early, busyBefore, sentBefore;
  while (performance.now() - started < (SECONDS + 5) * 1_000) {
    const elapsed = performance.now() - started;
    if (early === undefined && elapsed > 5_000) {
      early = await heap();
      [busyBefore, sentBefore] = [[await metric('TaskDuration'), performance.now()], sent];
    }
    const due = (performance.now() - started) * EVENTS_PER_SECOND / 1_000;
    if (sent < due) sent += await burst(held, sent);
    else await pause(5);
  }
  const busy = ((await metric('TaskDuration')) - busyBefore[0]) / ((performance.now() - busyBefore[1]) / 1_000);
  const rate = (sent - sentBefore) / ((performance.now() - busyBefore[1]) / 1_000);
  const late = await heap();
  rows.push([`${what}: main thread busy`, `${Math.round(busy * 100)} % (at ${Math.round(rate)} events/s)`]);
  rows.push([`${what}: heap after 5 s, and at the end`, `${early.toFixed(1)} MiB, ${late.toFixed(1)} MiB`]);
  await close();
  for (const task of held) await server.report(task, 'complete');
}

/** A hundred outputs of ten tasks, and one task's whole life. */
async function burst(held, sent) {
  const some = Array.from({ length: 10 }, (_, n) => held[(sent / 10 + n) % held.length | 0]);
  const outputs = Array.from({ length: 10 }, (_, n) => `page ${sent + n}: reading what was found about the subject`);
  const life = server.running('research', { agentId: 'short' }).then((task) => server.report(task, 'complete', { result: sent }));
  await Promise.all([...some.map((task) => server.report(task, 'output', { outputs })), life]);
  return 103;
}

function count(number) {
  return new Intl.NumberFormat('en').format(number);
}
