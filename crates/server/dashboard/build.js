// Builds the dashboard into the folder that is named: `node build.js dist`.
//
// The same sources give the same bytes, on every machine: ./check builds them anew and compares. The versions of what
// is bundled are those of package-lock.json.

import { copyFile, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { build } from 'esbuild';

const HERE = import.meta.dirname;
const [folder = 'dist'] = process.argv.slice(2);
const out = resolve(folder);

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const { metafile } = await build({
  absWorkingDir: HERE,
  entryPoints: [
    { in: 'src/main.tsx', out: 'app' },
    { in: 'src/styles/main.css', out: 'app' },
  ],
  outdir: out,
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome123', 'firefox125', 'safari17.5'],
  jsx: 'automatic',
  jsxImportSource: 'preact',
  legalComments: 'none',
  charset: 'utf8',
  metafile: true,
  logLevel: 'warning',
});
for (const file of ['index.html', 'icon.svg']) await copyFile(join(HERE, 'src', file), join(out, file));
await writeFile(join(out, 'licenses.txt'), await licences(metafile));

/** The licence of every package that a byte of the bundle comes from. */
async function licences(metafile) {
  const packages = new Set();
  for (const path of Object.keys(metafile.inputs)) {
    const name = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (name) packages.add(name);
  }
  const texts = [...packages].sort().map(licence);
  return `The dashboard is built with these libraries.\n\n${(await Promise.all(texts)).join('\n')}`;
}

async function licence(name) {
  const folder = join(HERE, 'node_modules', name);
  const { version, license } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} has no licence file`);
  const text = (await readFile(join(folder, file), 'utf8')).trim();
  return `${'='.repeat(80)}\n${name} ${version} (${license})\n\n${text}\n`;
}
