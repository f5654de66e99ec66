// JSON that folds. What is folded is not in the document, and of what is long a part is shown first: a mebibyte of
// somebody's JSON must not stop the page.

import { useState } from 'preact/hooks';
import { ExactNumber, textOfJson } from '../protocol/json.ts';
import { Copy } from './copy.tsx';

/** So many entries or characters at first, and as many more each time. */
const PART = 100;
const TEXT_PART = 1_000;
/** Deeper levels are folded at first, and so is what has more entries than this. */
const OPEN_DEPTH = 2;
const OPEN_ENTRIES = 24;

export function JsonPanel({ title, value }: { title: string; value: unknown }) {
  return (
    <section class="panel">
      <header>
        <h2>{title}</h2>
        <Copy text={() => (typeof value === 'string' ? value : textOfJson(value, 2))} what={title.toLowerCase()} />
      </header>
      <div class="json" tabIndex={0} role="group" aria-label={title}><Value value={value} depth={0} /></div>
    </section>
  );
}

export function Value({ value, depth, name }: { value: unknown; depth: number; name?: string }) {
  if (value instanceof ExactNumber) return <Leaf name={name}><span class="number">{value.source}</span></Leaf>;
  if (typeof value === 'string') return <Leaf name={name}><LongText text={value} isQuoted={depth > 0} /></Leaf>;
  if (typeof value !== 'object' || value === null) {
    return <Leaf name={name}><span class={value === null ? 'null' : typeof value}>{String(value)}</span></Leaf>;
  }
  const entries = Array.isArray(value) ? value.map((item, index) => [String(index), item] as const) : Object.entries(value);
  const brackets = Array.isArray(value) ? '[]' : '{}';
  if (entries.length === 0) return <Leaf name={name}>{brackets}</Leaf>;
  return <Node name={name} entries={entries} brackets={brackets} depth={depth} />;
}

function Leaf({ name, children }: { name: string | undefined; children: preact.ComponentChildren }) {
  return <div class="leaf"><Name name={name} />{children}</div>;
}

function Name({ name }: { name: string | undefined }) {
  if (name === undefined) return null;
  return <><span class="name">{name.length > 200 ? `${name.slice(0, 200)}…` : name}</span>{': '}</>;
}

function Node({ name, entries, brackets, depth }: {
  name: string | undefined; entries: (readonly [string, unknown])[]; brackets: string; depth: number;
}) {
  const [isOpen, setOpen] = useState(depth < OPEN_DEPTH && entries.length <= OPEN_ENTRIES);
  const [shown, setShown] = useState(PART);
  const count = entries.length === 1 ? '1 entry' : `${entries.length} entries`;
  return (
    <div class="node">
      <button type="button" class="fold" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
        <span class="arrow" aria-hidden="true" />
        <Name name={name} />{brackets[0]}
        {!isOpen && <span class="faint"> {count} {brackets[1]}</span>}
      </button>
      {isOpen && (
        <div class="inner">
          {entries.slice(0, shown).map(([key, item]) => <Value key={key} name={key} value={item} depth={depth + 1} />)}
          {shown < entries.length && (
            <button type="button" class="quiet small" onClick={() => setShown(shown + PART)}>
              {Math.min(PART, entries.length - shown)} more of {entries.length - shown}
            </button>
          )}
        </div>
      )}
      {isOpen && <div class="end">{brackets[1]}</div>}
    </div>
  );
}

function LongText({ text, isQuoted }: { text: string; isQuoted: boolean }) {
  const [shown, setShown] = useState(TEXT_PART);
  const quote = isQuoted ? '"' : '';
  const isLong = text.length > shown;
  return (
    <>
      <span class="string">{quote}{isLong ? text.slice(0, shown) : text}{isLong ? '' : quote}</span>
      {isLong && (
        <button type="button" class="quiet small" onClick={() => setShown(shown * 10)}>
          … {text.length - shown} more characters
        </button>
      )}
    </>
  );
}
