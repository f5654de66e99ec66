// A task's page: what is told of it, and what can be done with it.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assertAccessible } from './browser.js';
import { pageOf, row, withServer } from './harness.js';

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
