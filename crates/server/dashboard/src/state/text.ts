// What a tool emitted, as text. Any JSON is allowed; what tools usually emit is read as people would.

import { textOfJson } from '../protocol/json.ts';

interface Emitted {
  type?: unknown;
  payload?: { output?: unknown };
}

/** What is inside the agents' usual wrapping, `{"type": "tool-output", "payload": {"output": …}}`. */
export function unwrapped(payload: unknown): unknown {
  if (typeof payload !== 'object' || payload === null) return payload;
  const { type, payload: inner } = payload as Emitted;
  if (type === 'tool-output' && typeof inner === 'object' && inner !== null && 'output' in inner) return inner.output;
  return payload;
}

/** An output as the text that is shown for it. */
export function textOf(payload: unknown): string {
  const value = unwrapped(payload);
  if (typeof value === 'string') return value;
  return progressOf(value) ?? textOfJson(value);
}

interface Progress {
  done?: unknown;
  total?: unknown;
  at?: unknown;
}

/** `{"done": 3, "total": 10}`, with what it is at: what a progress report looks like. */
function progressOf(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { done, total, at, ...rest } = value as Progress & Record<string, unknown>;
  if (typeof done !== 'number' || typeof total !== 'number' || Object.keys(rest).length > 0) return undefined;
  const where = typeof at === 'string' ? ` · ${at}` : '';
  return `${done} of ${total}${where}`;
}

/** The last line that says something, cut to a length. Looks only at the text's end. */
export function lastLineOf(payload: unknown, max: number): string {
  const text = textOf(payload);
  const tail = text.length > 4 * max ? text.slice(-4 * max) : text;
  const end = tail.trimEnd();
  const line = end.slice(Math.max(end.lastIndexOf('\n'), end.lastIndexOf('\r')) + 1);
  return line.length > max ? `${line.slice(0, max - 1)}…` : line;
}
