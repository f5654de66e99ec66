// Who may look and who may act, what hostile text can do, and whether everyone can read the pages.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertAccessible, NARROW } from './browser.js';
import { HOSTILE, pageOf, row, withServer } from './harness.js';

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
