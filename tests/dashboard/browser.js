// Chromium as Debian packages it, headless, and pages that must not do what a page of ours never may: ask another
// server for anything, break the policy that it came with, or fail.

import assert from 'node:assert/strict';
import { access } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AxeBuilder } from './axe.js';
import { chromium } from 'playwright-core';

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--force-color-profile=srgb', '--font-render-hinting=none', '--disable-lcd-text',
];

export const WIDE = { width: 1280, height: 720 };
export const NARROW = { width: 390, height: 844 };

/** Starts a browser with a profile of its own. */
export async function startBrowser(flags = []) {
  return chromium.launch({ executablePath: await program(), headless: true, args: [...FLAGS, ...flags] });
}

async function program() {
  const given = process.env.CHROMIUM_BIN;
  for (const path of given ? [given] : PROGRAMS) {
    if (await access(path).then(() => true, () => false)) return path;
  }
  throw new Error(`none of these is there: ${PROGRAMS.join(', ')}; CHROMIUM_BIN may name another`);
}

/** A page of a server, in a session of its own; `faults` gathers what it may not do. */
export async function openPage(browser, server, path = '/', options = {}) {
  const context = await browser.newContext({ viewport: WIDE, baseURL: server.url, ...options });
  // Tries a change of the page without building the server anew.
  const dist = process.env.DASHBOARD_DIST;
  if (dist) await context.route('**/assets/*', (route) => route.fulfill({ path: join(dist, basename(route.request().url())) }));
  const page = await context.newPage();
  const faults = watch(page, server.url);
  await page.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => {
      globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
    });
  });
  await page.goto(path);
  return { page, faults, close: () => context.close() };
}

function watch(page, origin) {
  const faults = [];
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith('data:') && !url.startsWith('blob:')) faults.push(`asked for ${url}`);
  });
  page.on('pageerror', (error) => faults.push(`failed: ${error.stack ?? error}`));
  page.on('dialog', (dialog) => {
    faults.push(`showed a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    // A browser reports every answer that is not 2xx and every lost connection; tests bring both about.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) faults.push(message.text());
  });
  return faults;
}

/** Nothing was done that may not be. */
export async function assertHarmless({ page, faults }) {
  assert.deepEqual(faults, []);
  assert.deepEqual(await page.evaluate(() => globalThis.violations), []);
}

/** axe finds nothing against WCAG 2.2 AA, nor against its best practices. */
export async function assertAccessible(page, what) {
  const violations = await new AxeBuilder(page).violations();
  assert.deepEqual(violations, [], what);
}
