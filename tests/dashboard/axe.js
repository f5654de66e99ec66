// axe-core in a page whose policy lets no foreign script in: the browser itself puts it into a world of its own.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const SOURCE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

export class AxeBuilder {
  #page;

  constructor(page) {
    this.#page = page;
  }

  /** What axe finds: each rule with the elements that break it. */
  async violations() {
    await this.#page.evaluate(SOURCE);
    const found = await this.#page.evaluate(async (tags) => (await globalThis.axe.run(document, { runOnly: tags })).violations, TAGS);
    return found.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map(({ html, failureSummary }) => `  ${html.slice(0, 200)}\n  ${failureSummary}`).join('\n')}`);
  }
}
