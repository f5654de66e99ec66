// What a task has emitted, as lines, up to a bound: of more, the newest. The server keeps all of it.

import { textOf } from './text.ts';

export interface Line {
  text: string;
  /** The output that it is of: 0 for a line of ours, which says where an attempt begins. */
  output: number;
}

const CHARACTERS_MAX = 16 << 20;
const LINES_MAX = 200_000;
/** What a terminal would take for colours and movements. */
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;

export class Output {
  lines: Line[] = [];
  /** How many outputs there were in all, and how many characters. */
  count = 0;
  characters = 0;
  /** How many lines are no longer here. */
  dropped = 0;
  #kept = 0;
  #attempt = 0;

  take(payload: unknown, attempt: number): void {
    if (attempt !== this.#attempt) {
      if (this.#attempt !== 0) this.#add({ text: `attempt ${attempt}`, output: 0 });
      this.#attempt = attempt;
    }
    this.count += 1;
    const text = textOf(payload);
    this.characters += text.length;
    const body = text.endsWith('\n') ? text.slice(0, -1) : text;
    for (const line of body.split('\n')) this.#add({ text: plain(line), output: this.count });
    this.#bound();
  }

  clear(): void {
    this.lines = [];
    this.count = this.characters = this.dropped = this.#kept = this.#attempt = 0;
  }

  #add(line: Line): void {
    this.lines.push(line);
    this.#kept += line.text.length;
  }

  /** Many at once, because the lines are moved for it. */
  #bound(): void {
    if (this.#kept <= CHARACTERS_MAX && this.lines.length <= LINES_MAX) return;
    let drop = 0;
    let left = this.#kept;
    while (drop < this.lines.length - 1 && (left > CHARACTERS_MAX * 0.75 || this.lines.length - drop > LINES_MAX * 0.75)) {
      left -= this.lines[drop]!.text.length;
      drop += 1;
    }
    this.lines = this.lines.slice(drop);
    this.dropped += drop;
    this.#kept = left;
  }
}

/** A line as a terminal would leave it: without colours, and after the last return to its beginning. */
export function plain(line: string): string {
  let text = line.includes('\u001b') ? line.replace(ESCAPES, '') : line;
  if (text.includes('\r')) {
    text = text.replace(/\r+$/, '');
    text = text.slice(text.lastIndexOf('\r') + 1);
  }
  return text;
}

/** Lines cut to a width: which row of the screen shows which part of which line. */
export class Wrapped {
  readonly width: number;
  /** For each line, the row after its last. */
  readonly #ends: number[] = [];
  readonly #lines: readonly Line[];

  constructor(lines: readonly Line[], width: number) {
    this.#lines = lines;
    this.width = Math.max(10, width);
    this.extend();
  }

  /** Is it of these lines, of which there may be more now? */
  isOf(lines: readonly Line[], width: number): boolean {
    return this.#lines === lines && this.width === Math.max(10, width);
  }

  extend(): void {
    for (let index = this.#ends.length; index < this.#lines.length; index += 1) {
      const rows = Math.max(1, Math.ceil(this.#lines[index]!.text.length / this.width));
      this.#ends.push((this.#ends[index - 1] ?? 0) + rows);
    }
  }

  get rows(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** The line that a row shows, and from where on. */
  at(row: number): { index: number; from: number } {
    let [low, high] = [0, this.#ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#ends[middle]! > row) high = middle;
      else low = middle + 1;
    }
    return { index: low, from: (row - (this.#ends[low - 1] ?? 0)) * this.width };
  }

  /** The row in which a line's character stands. */
  rowOf(index: number, character = 0): number {
    return (this.#ends[index - 1] ?? 0) + Math.floor(character / this.width);
  }
}

export interface Found {
  index: number;
  from: number;
}

const FOUND_MAX = 10_000;

/** Where a text stands in the lines, whatever its case. */
export function find(lines: readonly Line[], text: string, since = 0): Found[] {
  const wanted = text.toLowerCase();
  const found: Found[] = [];
  if (wanted === '') return found;
  for (let index = since; index < lines.length && found.length < FOUND_MAX; index += 1) {
    const line = lines[index]!.text.toLowerCase();
    for (let from = line.indexOf(wanted); from !== -1 && found.length < FOUND_MAX; from = line.indexOf(wanted, from + wanted.length)) {
      found.push({ index, from });
    }
  }
  return found;
}
