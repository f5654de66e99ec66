// A task's output: live, following, with search and download. Only the lines in sight are in the document.

import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { hasShortcuts } from '../state/app.ts';
import { find, Wrapped, type Found, type Line } from '../state/output.ts';
import { readOutputs, type Story } from '../state/story.ts';
import { useFrames } from './frames.ts';
import { useKeys } from './keys.ts';
import { countText, sizeText } from './time.tsx';
import { Room, useSpan } from './virtual.tsx';

const ROW = 20;
/** Without wrapping, a line goes on in the next row after so many characters: a browser does not like longer ones. */
const WIDTH_MAX = 2_000;

export function OutputPanel({ story }: { story: Story }) {
  useFrames(useCallback((listener) => story.listen(listener), [story]));
  const { output } = story;
  const scroller = useRef<HTMLDivElement>(null);
  const [isFollowing, follow] = useState(true);
  const [isWrapping, wrap] = useState(true);
  const columns = useColumns(scroller);
  const width = isWrapping ? columns : WIDTH_MAX;
  const wrapped = useWrapped(output.lines, width);
  const span = useSpan(scroller, wrapped.rows, ROW);
  const search = useSearch(output.lines);
  const input = useRef<HTMLInputElement>(null);
  useKeys({ '/': () => input.current?.focus(), f: () => follow(!isFollowing) }, hasShortcuts.value);

  useLayoutEffect(() => {
    const element = scroller.current;
    if (element && isFollowing) element.scrollTop = element.scrollHeight;
  }, [isFollowing, wrapped.rows, columns]);
  const current = search.found[search.at];
  useEffect(() => {
    const element = scroller.current;
    if (!element || !current) return;
    follow(false);
    element.scrollTop = wrapped.rowOf(current.index, current.from) * ROW - element.clientHeight / 2;
  }, [current]);
  const onScroll = () => {
    const element = scroller.current!;
    const isAtEnd = element.scrollTop + element.clientHeight >= element.scrollHeight - ROW;
    // Who scrolls up wants to read; who comes back to the end wants to follow.
    if (isAtEnd !== isFollowing && !(isFollowing && isJustGrown(element, wrapped.rows))) follow(isAtEnd);
  };

  return (
    <section class="panel output" aria-label="Output">
      <header>
        <h2>Output</h2>
        <span class="faint">{summary(output.count, output.characters)}</span>
        <SearchBar search={search} input={input} />
        <button type="button" class="quiet small" aria-pressed={isFollowing} onClick={() => follow(!isFollowing)}>
          {isFollowing ? 'Following' : 'Follow'}
        </button>
        <button type="button" class="quiet small" aria-pressed={isWrapping} onClick={() => wrap(!isWrapping)}>Wrap</button>
        <Download story={story} />
      </header>
      {output.dropped > 0 && (
        <p class="note">{countText(output.dropped)} earlier lines are not kept here; the download has them all.</p>
      )}
      <div ref={scroller} class="lines" tabIndex={0} role="log" aria-live="off" aria-label="Output lines" onScroll={onScroll}>
        {output.lines.length === 0 ? <p class="none">No output yet.</p> : (
          <Room count={wrapped.rows} height={ROW} span={span}>
            {Array.from({ length: span.end - span.first }, (_, offset) => (
              <OutputRow key={span.first + offset} lines={output.lines} wrapped={wrapped} row={span.first + offset}
                wanted={search.text} current={current} />
            ))}
          </Room>
        )}
      </div>
    </section>
  );
}

function summary(count: number, characters: number): string {
  if (count === 0) return '';
  return `${countText(count)} ${count === 1 ? 'output' : 'outputs'}, ${sizeText(characters)}`;
}

/** New lines have made it longer since it was last scrolled to its end. */
function isJustGrown(element: HTMLElement, rows: number): boolean {
  return element.scrollHeight < rows * ROW;
}

function OutputRow({ lines, wrapped, row, wanted, current }: {
  lines: readonly Line[]; wrapped: Wrapped; row: number; wanted: string; current: Found | undefined;
}) {
  const { index, from } = wrapped.at(row);
  const line = lines[index];
  if (!line) return null;
  if (line.output === 0) return <div class="line is-ours">{line.text}</div>;
  const text = line.text.slice(from, from + wrapped.width);
  const isFirst = from === 0 && lines[index - 1]?.output !== line.output;
  return (
    <div class="line">
      <span class="gutter">{isFirst ? `#${line.output}` : from > 0 ? '↪' : ''}</span>
      <span class="text">{wanted === '' ? text : marked(text, wanted, current?.index === index ? current.from - from : -1)}</span>
    </div>
  );
}

/** The text with what is looked for marked; `at` is where the current one stands. */
function marked(text: string, wanted: string, at: number): preact.ComponentChildren {
  const parts: preact.ComponentChildren[] = [];
  const lower = text.toLowerCase();
  let done = 0;
  for (let next = lower.indexOf(wanted); next !== -1; next = lower.indexOf(wanted, done)) {
    parts.push(text.slice(done, next));
    done = next + wanted.length;
    parts.push(<mark class={next === at ? 'is-current' : ''}>{text.slice(next, done)}</mark>);
  }
  parts.push(text.slice(done));
  return parts;
}

function useWrapped(lines: readonly Line[], width: number): Wrapped {
  const known = useRef<Wrapped | null>(null);
  if (known.current?.isOf(lines, width)) known.current.extend();
  else known.current = new Wrapped(lines, width);
  return known.current;
}

/** How many characters fit into a row. */
function useColumns(scroller: { current: HTMLElement | null }): number {
  const [columns, setColumns] = useState(100);
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const probe = document.createElement('span');
    probe.className = 'probe';
    probe.textContent = '0'.repeat(100);
    element.append(probe);
    const character = probe.getBoundingClientRect().width / 100 || 8;
    probe.remove();
    const measure = () => setColumns(Math.max(10, Math.floor((element.clientWidth - 96) / character)));
    measure();
    const sizes = new ResizeObserver(measure);
    sizes.observe(element);
    return () => sizes.disconnect();
  }, [scroller]);
  return columns;
}

interface Search {
  text: string;
  found: readonly Found[];
  at: number;
  look(text: string): void;
  step(by: number): void;
}

function useSearch(lines: readonly Line[]): Search {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const wanted = text.toLowerCase();
  const found = useMemo(() => find(lines, wanted), [lines, lines.length, wanted]);
  const count = Math.max(1, found.length);
  return {
    text: wanted, found, at: Math.min(at, found.length - 1),
    look: (next) => { setText(next); setAt(0); },
    step: (by) => setAt((known) => (Math.min(known, count - 1) + by + count) % count),
  };
}

function SearchBar({ search, input }: { search: Search; input: { current: HTMLInputElement | null } }) {
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter') search.step(event.shiftKey ? -1 : 1);
    if (event.key === 'Escape') {
      search.look('');
      input.current?.blur();
      event.stopPropagation();
    }
  };
  const count = search.found.length;
  return (
    <span class="find">
      <input ref={input} type="search" aria-label="Search in the output" placeholder="Search  ( / )" onKeyDown={onKeyDown}
        onInput={(event) => search.look(event.currentTarget.value)} spellcheck={false} />
      {search.text !== '' && <span role="status">{count === 0 ? 'none' : `${search.at + 1} of ${countText(count)}`}</span>}
    </span>
  );
}

function Download({ story }: { story: Story }) {
  const [state, setState] = useState<'' | 'busy' | 'failed'>('');
  const download = async () => {
    setState('busy');
    try {
      const parts: string[] = [];
      await readOutputs(story.id, (text) => parts.push(text), story.seq);
      save(new Blob(parts, { type: 'text/plain;charset=utf-8' }), `${story.record.value?.toolName ?? 'task'}-output.txt`);
      setState('');
    } catch {
      setState('failed');
    }
  };
  return (
    <button type="button" class="quiet small" onClick={download} disabled={state === 'busy'}>
      {state === 'busy' ? 'Downloading…' : state === 'failed' ? 'Download failed' : 'Download'}
    </button>
  );
}

function save(blob: Blob, name: string): void {
  const anchor = document.createElement('a');
  anchor.href = URL.createObjectURL(blob);
  anchor.download = name.replace(/[^\w.-]+/g, '_').slice(0, 100);
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
}
