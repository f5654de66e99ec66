// What the tests share: a browser for each file, a server for each test, and pages that must be harmless in the end.
// The test is the worker of all tasks, so that it says what happens and when; what the page then shows is waited for,
// never slept for.

import { after, before } from 'node:test';
import { assertHarmless, openPage, startBrowser } from './browser.js';
import { Server } from './server.js';

export const HOSTILE = '<script>alert(1)</script><img src=x onerror=alert(2)>';
const TOOLS = ['research', 'crawl', 'publish', '<script>alert(1)</script>'];

let browser;
before(async () => (browser = await startBrowser()));
after(() => browser.close());

/** Gives the test a server of its own, and pages of it, none of which may do what a page of ours never may. */
export async function withServer(act, options = {}) {
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

export function row(page, text) {
  return page.getByRole('row').filter({ hasText: text });
}

export function pageOf({ id }) {
  return `/task?${new URLSearchParams({ id })}`;
}
