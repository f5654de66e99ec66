// The dashboard in a real Chromium, against a real server: what a person sees and does there. The test is the worker
// of all tasks, so that it says what happens and when; what the page then shows is waited for, never slept for.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertAccessible, assertHarmless, NARROW, openPage, startBrowser } from './browser.js';
import { Server } from './server.js';

const TOOLS = ['research', 'crawl', 'publish', '<script>alert(1)</script>'];
const HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>';

let browser;
before(async () => (browser = await startBrowser()));
after(() => browser.close());

/** A server of the test's own, and pages of it, all of which must be harmless in the end. */
async function withServer(act, options = {}) {
  const server = await Server.start({ tools: TOOLS, ...options });
  const pages = [];
  const open = async (path, more) => {
    const opened = await openPage(browser, server, path, more);
    pages.push(opened);
    return opened.page;
  };
  try {
    await act(server, open);
    for (const opened of pages) await assertHarmless(opened);
  } finally {
    for (const opened of pages) await opened.close();
    await server.stop();
  }
}

const row = (page, text) => page.getByRole('row').filter({ hasText: text });
const pageOf = ({ id }) => `/task?${new URLSearchParams({ id })}`;

describe('Now', () => {
  test('shows tasks as they come, run, emit and end', () => withServer(async (server, open) => {
    const page = await open('/');
    await page.getByText('No tasks yet').waitFor();
    const task = await server.dispatch('research', { agentId: 'agent-1', threadId: 'thread-1' });
    await row(page, 'research').filter({ hasText: 'pending' }).waitFor();
    const [claimed] = await server.claim();
    await row(page, 'research').filter({ hasText: 'running' }).waitFor();
    await server.report(claimed, 'output', { outputs: ['reading\nthe second page'] });
    await row(page, 'the second page').waitFor();
    await server.report(claimed, 'complete', { result: 1 });
    await row(page, 'completed').waitFor();
    await page.getByRole('button', { name: 'completed 1' }).waitFor();
    await page.getByRole('button', { name: 'running 0' }).waitFor();
    await row(page, 'completed').click();
    await page.waitForURL((url) => url.pathname === '/task' && url.searchParams.get('id') === task.id);
  }));

  test('filters by status and by every field, and keeps it in the address', () => withServer(async (server, open) => {
    const ids = { agentId: 'a&b', runId: 'run-1', threadId: 'thread ü', resourceId: 'resource/1' };
    const mine = await server.running('research', ids);
    await server.dispatch('research', { agentId: 'other' });
    await server.dispatch('crawl');
    const page = await open('/');
    await row(page, 'crawl').waitFor();
    const fields = { ...ids, toolName: 'research', taskId: mine.id };
    for (const [field, value] of Object.entries(fields)) {
      await page.getByRole('button', { name: '+ Filter' }).click();
      await page.getByLabel('Filter by').selectOption(field);
      await page.getByLabel('Value').fill(value);
      await page.getByRole('button', { name: 'Add', exact: true }).click();
      await page.waitForURL((url) => url.searchParams.get(field) === value);
    }
    await page.getByRole('button', { name: /^running/ }).click();
    await page.waitForURL((url) => url.searchParams.get('status') === 'running');
    await row(page, 'a&b').waitFor();
    const other = await open(new URL(page.url()).pathname + new URL(page.url()).search);
    await row(other, 'a&b').waitFor();
    assert.equal(await other.getByRole('row').count(), 2, 'the head, and the one that matches');
    await server.report(mine, 'complete');
    await other.getByText('No task matches').waitFor();
  }));

  test('has the ended tasks of before, and more of them when they are asked for', () => withServer(async (server, open) => {
    for (let n = 0; n < 260; n += 20) await Promise.all(Array.from({ length: 20 }, () => server.dispatch('crawl')));
    for (let done = 0; done < 260;) {
      const tasks = await server.claim(100);
      await Promise.all(tasks.map((task) => server.report(task, 'complete')));
      done += tasks.length;
    }
    const page = await open('/');
    await page.getByText('200 tasks').waitFor();
    await page.getByRole('grid').focus();
    await page.keyboard.press('End');
    await page.getByText('260 tasks').waitFor();
    await page.getByRole('button', { name: 'completed 260' }).waitFor();
    assert.ok(await page.getByRole('row').count() < 80, 'only the rows in sight are in the document');
  }));

  test('is walked by keys, which can be turned off', () => withServer(async (server, open) => {
    for (const agentId of ['agent-1', 'agent-2', 'agent-3']) await server.running('research', { agentId });
    const page = await open('/');
    await row(page, 'agent-1').waitFor();
    const selected = page.locator('[aria-selected=true]');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    await selected.filter({ hasText: 'agent-3' }).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('no such id');
    await page.getByText('No task matches').waitFor();
    await page.keyboard.press('Escape');
    await row(page, 'agent-2').waitFor();
    await page.keyboard.press('?');
    await page.getByRole('dialog').getByText('next and previous task').waitFor();
    await page.keyboard.press('Escape');
    // It gives the focus back a moment after it has closed.
    await page.waitForFunction(() => document.activeElement === document.body);
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/task\?/);
    await page.keyboard.press('Escape');
    await page.waitForURL((url) => url.pathname === '/');
    await page.keyboard.press('?');
    await page.getByLabel('Single keys work').uncheck();
    await page.keyboard.press('Escape');
    await page.waitForFunction(() => !document.activeElement.closest('dialog'));
    await page.keyboard.press('w');
    await page.keyboard.press('?');
    assert.equal(new URL(page.url()).pathname, '/');
    assert.equal(await page.getByRole('dialog').count(), 0);
  }));

  test('opens a task by its id, also one that is not in the table', () => withServer(async (server, open) => {
    const task = await server.dispatch('research');
    const page = await open('/?agentId=nobody');
    const search = page.getByRole('searchbox', { name: 'Search by id' });
    await search.fill('nothing');
    await search.press('Enter');
    await page.getByText('No task has exactly this id.').waitFor();
    await search.fill(task.id);
    await search.press('Enter');
    await page.getByRole('heading', { name: 'research' }).waitFor();
  }));

  test('survives a restart of the server with nothing missing or stale', () => withServer(async (server, open) => {
    const ends = await server.running('research', { agentId: 'ends' });
    const stays = await server.running('research', { agentId: 'stays' });
    const page = await open('/');
    await row(page, 'stays').filter({ hasText: 'running' }).waitFor();
    await server.end('SIGKILL');
    await page.getByRole('status').filter({ hasText: /as of .* reconnecting/ }).waitFor();
    const elapsed = () => row(page, 'stays').locator('.is-elapsed').textContent();
    const known = await elapsed();
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 1_100)));
    assert.equal(await elapsed(), known, 'a time that nobody knows does not go on');
    await server.serve();
    await server.report(ends, 'complete');
    await server.dispatch('crawl', { agentId: 'comes' });
    await row(page, 'ends').filter({ hasText: 'completed' }).waitFor();
    await row(page, 'comes').filter({ hasText: 'pending' }).waitFor();
    await row(page, 'stays').filter({ hasText: 'running' }).waitFor();
    assert.equal((await server.get(stays.id)).status, 'running');
    await page.getByRole('status').filter({ hasText: /^live$/ }).waitFor();
  }));

  test('begins anew, by itself, when its cursor can no longer be honoured', () => withServer(async (server, open) => {
    await server.running('research', { agentId: 'of-before' });
    const asks = await server.running('publish');
    await server.report(asks, 'suspend', { suspendPayload: 'of before?' });
    const page = await open('/');
    const waiting = await open('/waiting');
    await row(page, 'of-before').waitFor();
    await waiting.getByText('of before?').waitFor();
    await server.renew();
    await server.running('crawl', { agentId: 'of-now' });
    await row(page, 'of-now').filter({ hasText: 'running' }).waitFor();
    await row(page, 'of-before').waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'running 1' }).waitFor();
    await waiting.getByText('Nothing waits for you').waitFor();
    await page.getByRole('status').filter({ hasText: /^live$/ }).waitFor();
  }));

  test('keeps what one looks at in its place while others arrive', () => withServer(async (server, open) => {
    for (let n = 0; n < 60; n += 1) await server.running('research', { agentId: `agent-${n}` });
    const page = await open('/');
    await page.getByText('60 tasks').waitFor();
    await page.locator('.table').evaluate((table) => (table.scrollTop = 600));
    await row(page, 'agent-35').waitFor();
    const top = () => row(page, 'agent-35').evaluate((element) => element.getBoundingClientRect().top);
    const before = await top();
    for (let n = 0; n < 10; n += 1) await server.running('crawl', { agentId: `new-${n}` });
    await page.getByText('70 tasks').waitFor();
    await page.waitForFunction(() => document.querySelector('.table').scrollTop > 900);
    assert.equal(Math.round(await top()), Math.round(before));
  }), { timeout: 60_000 });

  test('is held on demand, and then goes on', () => withServer(async (server, open) => {
    await server.running('research', { agentId: 'first' });
    const page = await open('/');
    await row(page, 'first').waitFor();
    await page.keyboard.press('p');
    await page.getByRole('button', { name: 'Held' }).waitFor();
    await server.running('research', { agentId: 'second' });
    await page.getByRole('button', { name: 'running 2' }).waitFor();
    assert.equal(await row(page, 'second').count(), 0);
    await page.getByRole('button', { name: 'Held' }).click();
    await row(page, 'second').waitFor();
  }));
});

describe('a task', () => {
  test('follows the output, finds in it, and hands all of it out', () => withServer(async (server, open) => {
    const task = await server.running('crawl');
    const outputs = Array.from({ length: 300 }, (_, n) => `line ${n + 1}`);
    await server.report(task, 'output', { outputs });
    const page = await open(pageOf(task));
    await page.getByText('line 300').waitFor();
    await server.report(task, 'output', { outputs: ['the very last'] });
    await page.getByText('the very last').waitFor();
    const search = page.getByRole('searchbox', { name: 'Search in the output' });
    await search.fill('LINE 17');
    await page.getByText('1 of 11').waitFor();
    await page.locator('mark.is-current').filter({ hasText: 'line 17' }).waitFor();
    await search.press('Enter');
    await page.getByText('2 of 11').waitFor();
    await server.report(task, 'output', { outputs: ['after the search'] });
    await page.getByText(/^302 outputs,/).waitFor();
    assert.equal(await page.getByText('after the search').count(), 0, 'who searches is not carried away');
    await page.getByRole('button', { name: 'Follow', exact: true }).click();
    await page.getByText('after the search').waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
    const text = await new Response(await download.createReadStream()).text();
    assert.equal(text, [...outputs, 'the very last', 'after the search', ''].join('\n'));
  }));

  test('tells its story, with arguments, error and where it came from', () => withServer(async (server, open) => {
    const origin = { agentId: 'agent-1', runId: 'run-1', threadId: 'thread-1', maxRetries: 1 };
    const task = await server.running('research', { ...origin, args: { deep: { number: 1 }, big: [1, 2] } });
    await server.report(task, 'output', { outputs: ['one'] });
    await server.report(task, 'fail', { error: { message: 'the first failure' }, retryable: true });
    const [again] = await server.claim();
    await server.report(again, 'fail', { error: { message: 'the last failure', stack: 'at line 7' } });
    const page = await open(pageOf(task));
    const steps = page.locator('.timeline .title');
    await steps.filter({ hasText: /^Failed$/ }).waitFor();
    assert.deepEqual(await steps.allTextContents(), [
      'Dispatched', 'Attempt 1 began', 'Attempt 1 failed, another follows', 'Attempt 2 began', 'Failed',
    ]);
    await page.getByText(/ran .*, 1 output/).waitFor();
    await page.getByRole('region', { name: 'Error' }).getByText('the last failure').waitFor();
    await page.getByText('Stack').click();
    await page.getByText('at line 7').waitFor();
    await page.getByText('"deep"').or(page.getByText('deep', { exact: true })).waitFor();
    await page.getByRole('link', { name: 'agent-1' }).click();
    await page.waitForURL((url) => url.pathname === '/' && url.searchParams.get('agentId') === 'agent-1');
    await row(page, 'research').waitFor();
  }));

  test('is cancelled, and tried again', () => withServer(async (server, open) => {
    const task = await server.running('research');
    const page = await open(pageOf(task));
    await page.getByRole('button', { name: 'Cancel task…' }).click();
    await page.getByRole('button', { name: 'Yes, cancel it' }).click();
    await page.locator('.heading .status').filter({ hasText: 'cancelled' }).waitFor();
    await page.locator('.timeline').getByText('Cancelled').waitFor();
    assert.equal((await server.get(task.id)).status, 'cancelled');
    await page.getByRole('button', { name: 'Retry' }).click();
    await page.locator('.timeline').getByText('Retried by hand').waitFor();
    const [again] = await server.claim();
    await page.locator('.timeline').getByText('Attempt 2 began').waitFor();
    await server.report(again, 'complete', { result: { answer: 42 } });
    await page.getByRole('region').filter({ hasText: 'answer: 42' }).first().or(page.getByText('answer')).first().waitFor();
    await page.locator('.heading .status').filter({ hasText: 'completed' }).waitFor();
  }));

  test('tells in words what the server refuses', () => withServer(async (server, open) => {
    const task = await server.running('research');
    const page = await open(pageOf(task));
    await page.getByRole('button', { name: 'Cancel task…' }).click();
    // The page's own request comes too late: the task has ended, and the page is not told in time.
    await page.route('**/v1/task/cancel*', async (route) => {
      await server.report(task, 'complete');
      await route.continue();
    });
    await page.getByRole('button', { name: 'Yes, cancel it' }).click();
    const refusal = await page.getByRole('alert').textContent();
    assert.match(refusal, /completed|ended/);
  }));

  test('that is not there is said to be missing', () => withServer(async (server, open) => {
    const page = await open('/task?id=nothing');
    await page.getByRole('heading', { name: 'There is no such task' }).waitFor();
  }));
});

describe('Needs you', () => {
  test('shows what waits, the longest first, and takes the answers', () => withServer(async (server, open) => {
    const tasks = [];
    for (const question of ['May I publish?', 'Which one?', 'Anything else?']) {
      const task = await server.running('publish');
      await server.report(task, 'suspend', { suspendPayload: { question, options: question === 'Which one?' ? ['red', 'blue'] : undefined } });
      tasks.push(task);
    }
    const page = await open('/waiting');
    const cards = page.getByRole('listitem');
    await cards.nth(2).waitFor();
    assert.deepEqual(await page.locator('.question').allTextContents(), ['May I publish?', 'Which one?', 'Anything else?']);
    await page.getByRole('link', { name: /Needs you 3/ }).waitFor();
    const answered = async (id) => {
      const [task] = await server.claim();
      assert.equal(task.id, id);
      await server.report(task, 'complete');
      return task.resumeData;
    };
    const card = (text) => cards.filter({ hasText: text });
    await card('May I publish?').getByLabel('Comment').fill('go ahead');
    await card('May I publish?').getByRole('button', { name: 'Approve' }).click();
    await card('May I publish?').waitFor({ state: 'detached' });
    assert.deepEqual(await answered(tasks[0].id), { approved: true, by: 'dashboard', comment: 'go ahead' });
    await card('Which one?').getByRole('button', { name: 'blue' }).click();
    await card('Which one?').waitFor({ state: 'detached' });
    assert.deepEqual(await answered(tasks[1].id), { choice: 'blue', by: 'dashboard' });
    await card('Anything else?').getByRole('button', { name: 'Answer with JSON…' }).click();
    await card('Anything else?').getByLabel('The answer, as JSON').fill('{"n": ');
    await card('Anything else?').getByRole('button', { name: 'Resume' }).click();
    await card('Anything else?').getByRole('alert').filter({ hasText: 'This is not JSON' }).waitFor();
    await card('Anything else?').getByLabel('The answer, as JSON').fill('{"n": 12345678901234567890}');
    await card('Anything else?').getByRole('button', { name: 'Resume' }).click();
    await page.getByText('Nothing waits for you').waitFor();
    await answered(tasks[2].id);
  }));

  test('asks for the fields that the payload names', () => withServer(async (server, open) => {
    const task = await server.running('publish');
    const properties = { title: { type: 'string', title: 'Title' }, copies: { type: 'integer', title: 'Copies' }, isDraft: { type: 'boolean', title: 'Draft' } };
    await server.report(task, 'suspend', { suspendPayload: { message: 'How?', schema: { type: 'object', properties, required: ['title'] } } });
    const page = await open('/waiting');
    await page.getByRole('button', { name: 'Answer', exact: true }).click();
    assert.equal((await server.get(task.id)).status, 'suspended', 'the title is needed');
    await page.getByLabel('Title').fill('What files say');
    await page.getByLabel('Copies').fill('3');
    await page.getByLabel('Draft').check();
    await assertAccessible(page, 'a form of fields');
    await page.getByRole('button', { name: 'Answer', exact: true }).click();
    const [again] = await server.claim();
    assert.deepEqual(again.resumeData, { title: 'What files say', copies: 3, isDraft: true });
  }));

  test('takes a refusal on the task itself', () => withServer(async (server, open) => {
    const task = await server.running('publish');
    await server.report(task, 'suspend', { suspendPayload: 'May I?' });
    const page = await open(pageOf(task));
    await page.getByRole('button', { name: 'Decline' }).click();
    const [again] = await server.claim();
    assert.deepEqual(again.resumeData, { approved: false, by: 'dashboard' });
    await page.locator('.timeline').getByText('Attempt 2 began, with the answer').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Approve' }).count(), 0);
  }));
});

describe('Runs', () => {
  test('groups the tasks of a run by agent, and shows who ran when', () => withServer(async (server, open) => {
    const runId = 'run/1 ü';
    const lead = await server.running('research', { runId, agentId: 'supervisor', subagentType: 'reader' });
    await server.running('crawl', { runId, agentId: 'helper' });
    await server.running('crawl', { runId: 'another', agentId: 'helper' });
    const page = await open('/runs');
    await page.getByRole('button', { name: 'Tasks of the run run/1 ü' }).click();
    await page.getByRole('link', { name: 'crawl' }).waitFor();
    await page.getByRole('link', { name: runId }).click();
    await page.waitForURL((url) => url.searchParams.get('id') === runId);
    await page.locator('.strand').nth(1).waitFor();
    assert.deepEqual(await page.locator('.tree .agent').allTextContents(), ['agent supervisor · 1', 'agent helper · 1']);
    await server.report(lead, 'complete');
    await page.getByRole('img', { name: /^completed/ }).waitFor();
  }));
});

describe('keys', () => {
  test('a page without a session leads to the login, and back', () => withServer(async (server, open) => {
    const admin = await server.addKey('admin');
    const reader = await server.addKey('read');
    const task = await server.running('publish');
    await server.report(task, 'suspend', { suspendPayload: 'May I?' });
    const page = await open(pageOf(task));
    await page.getByLabel('API key').fill('ssk_wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('alert').waitFor();
    await page.getByLabel('API key').fill(reader);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('heading', { name: 'publish' }).waitFor();
    await page.getByText('May I?').waitFor();
    for (const name of ['Approve', 'Decline', 'Cancel task…', 'Retry']) {
      assert.equal(await page.getByRole('button', { name }).count(), 0, `${name}: who may only read has no such button`);
    }
    await page.getByRole('link', { name: /Needs you/ }).click();
    await page.getByText('May I?').waitFor();
    assert.equal(await page.getByRole('button', { name: 'Approve' }).count(), 0);
    const [cookie] = await page.context().cookies();
    assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict']);
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('API key').fill(admin);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByRole('link', { name: /Needs you/ }).click();
    await page.getByRole('button', { name: 'Approve' }).waitFor();
  }));

  test('who is shut out while looking is led to the login', () => withServer(async (server, open) => {
    await server.addKey('admin');
    const reader = await server.addKey('read');
    const page = await open('/');
    await page.getByLabel('API key').fill(reader);
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('No tasks yet').waitFor();
    const { keys } = await server.ask('GET', 'keys');
    await server.ask('DELETE', `keys/${keys.find((key) => key.role === 'read').id}`);
    await page.getByLabel('API key').waitFor();
    assert.equal(new URL(page.url()).pathname, '/login');
  }));

  test('who needs no key chooses a namespace in the address, and stays there', () => withServer(async (server, open) => {
    await server.dispatch('research', { agentId: 'of-default' });
    const headers = { 'content-type': 'application/json', 'sidestream-namespace': 'team-b' };
    await fetch(`${server.url}/v1/tasks`, { method: 'POST', headers, body: JSON.stringify({ toolName: 'crawl', args: {}, agentId: 'of-b' }) });
    const page = await open('/?namespace=team-b');
    await row(page, 'of-b').waitFor();
    assert.equal(await page.getByText('of-default').count(), 0);
    await row(page, 'of-b').click();
    await page.getByRole('heading', { name: 'crawl' }).waitFor();
    assert.equal(new URL(page.url()).searchParams.get('namespace'), 'team-b');
  }));
});

describe('hostile text', () => {
  test('is shown as text, wherever it comes from', () => withServer(async (server, open) => {
    const ids = { agentId: HOSTILE, runId: HOSTILE, threadId: HOSTILE, description: HOSTILE, metadata: { [HOSTILE]: HOSTILE } };
    const task = await server.running('<script>alert(1)</script>', { ...ids, args: { [HOSTILE]: HOSTILE } });
    await server.report(task, 'output', { outputs: [HOSTILE, '\u202egnp.exe', '\u001b[31mred', `a\u0000b`] });
    const now = await open('/');
    await row(now, HOSTILE).first().waitFor();
    await server.report(task, 'suspend', { suspendPayload: { question: HOSTILE, [HOSTILE]: HOSTILE } });
    const waiting = await open('/waiting');
    await waiting.getByText(HOSTILE).first().waitFor();
    const page = await open(pageOf(task));
    await page.locator('.lines').getByText(HOSTILE).waitFor();
    await page.locator('.lines').getByText('red', { exact: true }).waitFor();
    const runs = await open(`/run?${new URLSearchParams({ id: HOSTILE })}`);
    await runs.getByRole('heading', { name: HOSTILE }).waitFor();
    await server.ask('POST', `task/cancel?${new URLSearchParams({ id: task.id })}`);
    await page.locator('.heading .status').filter({ hasText: 'cancelled' }).waitFor();
    for (const shown of [now, waiting, page, runs]) {
      assert.equal(await shown.locator('#app script, #app img[src="x"]').count(), 0);
    }
  }));
});

describe('everyone', () => {
  for (const colorScheme of ['light', 'dark']) {
    for (const [width, viewport] of [['wide', undefined], ['narrow', NARROW]]) {
      test(`axe finds nothing on any page, ${colorScheme} and ${width}`, () => withServer(async (server, open) => {
        const options = { colorScheme, reducedMotion: 'reduce', ...(viewport && { viewport }) };
        const empty = await open('/', options);
        await empty.getByText('No tasks yet').waitFor();
        await assertAccessible(empty, 'Now, empty');
        const ids = { agentId: 'agent-1', runId: 'run-1', threadId: 'thread-1', description: 'reads', args: { a: [1, 'b', null, true] } };
        const [asks, fails, completes] = [await server.running('publish', ids), await server.running('research', ids), await server.running('crawl', ids)];
        await server.report(asks, 'suspend', { suspendPayload: { question: 'May I?', report: { pages: 3 } } });
        await server.report(fails, 'output', { outputs: ['one', 'two'] });
        await server.report(fails, 'fail', { error: { message: 'bad', stack: 'at line 1' } });
        await server.report(completes, 'complete', { result: [1, { b: 2 }] });
        await server.running('crawl', ids);
        await server.dispatch('crawl', ids);
        const pages = {
          '/?sort=-elapsed&agentId=agent-1': 'reads', '/waiting': 'May I?', '/runs': 'run-1', '/run?id=run-1': 'research',
          [pageOf(asks)]: 'Dispatched', [pageOf(fails)]: 'at line 1', [pageOf(completes)]: 'Dispatched', '/login': 'API key', '/task?id=x': 'no such task',
        };
        const page = await open('/', options);
        for (const [path, text] of Object.entries(pages)) {
          await page.goto(path);
          await page.getByText(text).first().waitFor({ state: 'attached' });
          await assertAccessible(page, `${path} in ${colorScheme}`);
          const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
          assert.ok(wider <= 0, `${path} is ${wider} pixels wider than the window`);
        }
        await page.goto('/');
        await row(page, 'reads').first().waitFor();
        await page.getByRole('button', { name: 'Keys and help' }).click();
        await page.getByRole('dialog').waitFor();
        await assertAccessible(page, 'the help');
      }));
    }
  }

  test('chooses a theme, which is remembered', () => withServer(async (server, open) => {
    const page = await open('/', { colorScheme: 'light' });
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    await page.getByRole('button', { name: 'Theme: system' }).click();
    const light = await ground();
    await page.getByRole('button', { name: 'Theme: light' }).click();
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.reload();
    await page.getByRole('button', { name: 'Theme: dark' }).waitFor();
    assert.equal(await ground(), dark);
  }));
});
