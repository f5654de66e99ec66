// The table of tasks: a grid of which only the rows in sight are in the document, with keys to walk it.

import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { hasEnded } from '../protocol/types.ts';
import { go, href } from '../state/address.ts';
import type { Row } from '../state/fold.ts';
import type { Choice, Sort } from '../state/view.ts';
import { hasShortcuts } from '../state/app.ts';
import { Link } from './link.tsx';
import { StatusMark } from './status.tsx';
import { Time, durationText, runningText } from './time.tsx';
import { Room, reveal, useMedia, useSpan } from './virtual.tsx';
import { useKeys } from './keys.ts';

interface Column {
  name: string;
  sort?: Sort;
}

const COLUMNS: readonly Column[] = [
  { name: 'Status', sort: 'status' },
  { name: 'Tool', sort: 'tool' },
  { name: 'Agent', sort: 'agent' },
  { name: 'Thread', sort: 'thread' },
  { name: 'Started', sort: 'started' },
  { name: 'Elapsed', sort: 'elapsed' },
  { name: 'Attempt', sort: 'attempt' },
  { name: 'Last output' },
];

const HEAD = 34;
const WIDE_ROW = 34;
const NARROW_ROW = 62;

export interface TableProps {
  rows: readonly Row[];
  /** Up to when elapsed times are known. */
  now: number;
  isStale: boolean;
  choice: Choice;
  onSort(sort: Sort, isReversed: boolean): void;
  selected: Row | null;
  onSelect(row: Row | null): void;
  /** These rows are in sight. */
  onSight?(rows: readonly Row[]): void;
  /** The end of the list has come into sight. */
  onEnd?(): void;
}

export function Table({ rows, now, isStale, choice, onSort, selected, onSelect, onSight, onEnd }: TableProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const isNarrow = useMedia('(max-width: 760px)');
  const height = isNarrow ? NARROW_ROW : WIDE_ROW;
  const head = isNarrow ? 0 : HEAD;
  const span = useSpan(scroller, rows.length, height, head);
  useAnchor(scroller, rows, height);
  const at = selected !== null && rows[selected.index] === selected ? selected.index : -1;

  const move = (step: number) => moveTo(at === -1 ? (step > 0 ? 0 : rows.length - 1) : at + step);
  const moveTo = (wanted: number) => {
    const index = Math.min(rows.length - 1, Math.max(0, wanted));
    const row = rows[index];
    if (!row) return;
    onSelect(row);
    if (scroller.current) reveal(scroller.current, index, height, head);
  };
  const open = () => {
    if (at !== -1) go(pageOf(rows[at]!));
  };
  useKeys({ j: () => move(1), k: () => move(-1), Enter: open, Escape: () => onSelect(null) }, hasShortcuts.value);
  const onKeyDown = (event: KeyboardEvent) => {
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / height) - 1);
    const steps: Record<string, number> = {
      ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page,
    };
    const step = steps[event.key];
    if (event.key === 'Enter' && event.target === scroller.current) open();
    else if (step !== undefined) move(step);
    else if (event.key === 'Home') moveTo(0);
    else if (event.key === 'End') moveTo(rows.length - 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  useEffect(() => {
    if (onEnd && rows.length > 0 && span.end >= rows.length) onEnd();
  }, [onEnd, span.end, rows.length]);

  const inSight = rows.slice(span.first, span.end);
  useEffect(() => onSight?.(inSight));
  const isActiveInSight = at >= span.first && at < span.end;
  return (
    <div ref={scroller} class={`table${isStale ? ' is-stale' : ''}`} role="grid" aria-label="Tasks" tabIndex={0}
      aria-rowcount={rows.length + 1} aria-colcount={COLUMNS.length} onKeyDown={onKeyDown}
      aria-activedescendant={isActiveInSight ? `row-${at}` : undefined}>
      <div class="head" role="rowgroup">
        <div class="row" role="row" aria-rowindex={1}>
          {COLUMNS.map((column) => <Head key={column.name} column={column} choice={choice} onSort={onSort} />)}
        </div>
      </div>
      <Room count={rows.length} height={height} span={span} role="rowgroup">
        {inSight.map((row, index) => (
          <TaskRow key={row.id} row={row} index={span.first + index} now={now} isSelected={row === selected} />
        ))}
      </Room>
    </div>
  );
}

function Head({ column, choice, onSort }: { column: Column } & Pick<TableProps, 'choice' | 'onSort'>) {
  const { name, sort } = column;
  if (!sort) return <div class="cell" role="columnheader">{name}</div>;
  const isSorted = choice.sort === sort;
  const direction = choice.isReversed ? 'descending' : 'ascending';
  // The third press gives the usual order back.
  const next = () => {
    if (!isSorted) onSort(sort, false);
    else if (!choice.isReversed) onSort(sort, true);
    else onSort('recent', false);
  };
  return (
    <div class="cell" role="columnheader" aria-sort={isSorted ? direction : 'none'}>
      <button type="button" class="sorter" onClick={next}>
        {name}
        {isSorted && <span aria-hidden="true">{choice.isReversed ? ' ↑' : ' ↓'}</span>}
      </button>
    </div>
  );
}

function TaskRow({ row, index, now, isSelected }: { row: Row; index: number; now: number; isSelected: boolean }) {
  const page = pageOf(row);
  const isLate = row.status === 'pending' && row.dueAt > now;
  return (
    <div id={`row-${index}`} class={`row is-${row.status}${isSelected ? ' is-selected' : ''}`} role="row"
      aria-rowindex={index + 2} aria-selected={isSelected} onClick={() => go(page)}>
      <div class="cell is-status" role="gridcell"><StatusMark status={row.status} /></div>
      <div class="cell is-tool" role="gridcell" title={[row.tool, row.description].filter(Boolean).join(': ').slice(0, 500)}>
        <Link to={page} tabIndex={-1} aria-label={`${row.tool}, task ${row.id}`}>{row.tool.slice(0, 200) || '(none)'}</Link>
        {row.description !== '' && <span class="faint"> {row.description.slice(0, 200)}</span>}
      </div>
      <Text class="is-agent" text={row.agent} />
      <Text class="is-thread" text={row.thread} />
      <div class="cell is-started" role="gridcell">
        {isLate ? <span class="faint">due in {runningText(row.dueAt - now)}</span> : <Time ms={row.startedAt} />}
      </div>
      <div class="cell is-elapsed" role="gridcell">{elapsedOf(row, now)}</div>
      <div class="cell is-attempt" role="gridcell">{row.attempt > 0 ? row.attempt : ''}</div>
      <Text class="is-output" text={row.lastLine} />
    </div>
  );
}

function Text({ text, class: name }: { text: string; class: string }) {
  const shown = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return <div class={`cell ${name}`} role="gridcell" title={text.slice(0, 500) || undefined}>{shown}</div>;
}

function elapsedOf(row: Row, now: number): string {
  if (row.status === 'suspended') return runningText(now - row.suspendedAt);
  if (row.startedAt === 0) return '';
  if (hasEnded(row.status)) return durationText(row.endedAt - row.startedAt);
  return row.status === 'running' ? runningText(now - row.startedAt) : '';
}

export function pageOf(row: { id: string }): string {
  return href('/task', { id: row.id });
}

/** While one has scrolled down, what one looks at stays where it is, whatever arrives above. */
function useAnchor(scroller: { current: HTMLElement | null }, rows: readonly Row[], height: number): void {
  const anchor = useRef<{ row: Row; offset: number } | null>(null);
  useLayoutEffect(() => {
    const element = scroller.current;
    const known = anchor.current;
    if (!element || !known) return;
    const { row, offset } = known;
    if (rows[row.index] === row) {
      const top = row.index * height + offset;
      if (Math.abs(element.scrollTop - top) >= 1) element.scrollTop = top;
    }
  }, [rows, height, scroller]);
  useEffect(() => {
    const element = scroller.current;
    if (!element) return;
    const note = () => {
      const top = element.scrollTop;
      const row = rows[Math.floor(top / height)];
      anchor.current = top > height && row ? { row, offset: top % height } : null;
    };
    note();
    element.addEventListener('scroll', note, { passive: true });
    return () => element.removeEventListener('scroll', note);
  }, [rows, height, scroller]);
}
