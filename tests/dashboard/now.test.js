// The page Now, in a real Chromium against a real server.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { row, withServer } from './harness.js';

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
