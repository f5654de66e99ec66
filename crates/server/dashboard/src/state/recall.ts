// A snapshot says which tasks run, not what they last emitted. That is in the log: its latest outputs are read once,
// so that a table that was just opened does not look as if nothing had been said.

import { urlOf } from '../protocol/api.ts';
import { BlockReader } from '../protocol/sse.ts';
import { seqOf, type Chunk, type Filter } from '../protocol/types.ts';
import { lastLineOf } from './text.ts';
import { LINE_MAX, type Row } from './fold.ts';

/** So many events back. */
const BACK = 5_000;
/** The stream does not say when it has caught up: what has not come by then is left out. */
const WAIT_MS = 1_500;

/** Reads outputs from before the cursor into the rows that have none yet. */
export async function recallOutputs(
  filter: Filter, cursor: string, rows: ReadonlyMap<string, Row>, tell: () => void,
): Promise<void> {
  const head = seqOf(cursor);
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), WAIT_MS);
  const recalled = new Set<Row>();
  const reader = new BlockReader(({ data, id }) => {
    if (data !== '') {
      const { type, payload } = JSON.parse(data) as Chunk;
      // The log does not reach back that far, and what it has is not told.
      if (type === 'stream-reset') abort.abort();
      else if ((payload.seq ?? 0) <= head) recall(rows.get(payload.taskId), payload.payload, recalled);
    }
    if (id !== null && seqOf(id) >= head) abort.abort();
  });
  try {
    const params = { ...filter, type: 'output', snapshot: 'none', after: Math.max(0, head - BACK) };
    const answer = await fetch(urlOf('stream', params), { signal: abort.signal, credentials: 'same-origin', cache: 'no-store' });
    const pieces = answer.ok && answer.body ? answer.body.pipeThrough(new TextDecoderStream()).getReader() : null;
    for (let piece = await pieces?.read(); piece && !piece.done; piece = await pieces?.read()) {
      reader.push(piece.value);
      tell();
    }
  } catch {
    // Given up, or the connection was lost: the lines are missing until the next outputs come.
  } finally {
    clearTimeout(timer);
  }
}

/** The outputs come in order: a later one replaces what was recalled before, but not what came by the live stream. */
function recall(row: Row | undefined, payload: unknown, recalled: Set<Row>): void {
  if (!row || (row.lastLine !== '' && !recalled.has(row)) || row.outputs > 0) return;
  recalled.add(row);
  row.lastLine = lastLineOf(payload, LINE_MAX);
  row.version += 1;
}
