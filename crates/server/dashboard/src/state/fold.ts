// What a chunk makes of a row of the table. Chunks and records are folded by their `seq`: what is older than what is
// known changes nothing, so that history and news can come in any order.

import { hasEnded, hasTimedOut, timeOf, type Chunk, type ChunkPayload, type Status, type TaskRecord } from '../protocol/types.ts';
import { lastLineOf } from './text.ts';

/** A task, as the tables know it: without its arguments and outputs, which only its own page keeps. */
export interface Row {
  readonly id: string;
  tool: string;
  agent: string;
  thread: string;
  run: string;
  resource: string;
  status: Status;
  attempt: number;
  /** Times in milliseconds since 1970; 0 where unknown. */
  createdAt: number;
  startedAt: number;
  suspendedAt: number;
  endedAt: number;
  /** When it is next due, for one that waits for its next attempt. */
  dueAt: number;
  description: string;
  subagent: string;
  /** The last line of its last output; of an ended one, what it failed with. */
  lastLine: string;
  outputs: number;
  suspendPayload: unknown;
  /** Its last event known here. */
  seq: number;
  /** A record has been folded in: what no chunk says is known. */
  isWhole: boolean;
  /** Changes with every change: what is drawn is compared by it. */
  version: number;
  /** Its place in the order has changed since it was last sorted. */
  hasMoved: boolean;
  /** Its place in the last view. */
  index: number;
  /** It has been removed; a view may still have it. */
  isGone: boolean;
}

/** Long lines are cut here: a row shows some hundred characters. */
export const LINE_MAX = 300;

export function newRow(id: string): Row {
  return {
    id, tool: '', agent: '', thread: '', run: '', resource: '', status: 'pending', attempt: 0, createdAt: 0, startedAt: 0,
    suspendedAt: 0, endedAt: 0, dueAt: 0, description: '', subagent: '', lastLine: '', outputs: 0,
    suspendPayload: undefined, seq: -1, isWhole: false, version: 0, hasMoved: false, index: -1, isGone: false,
  };
}

/** Folds an event, or with `seq` given a task of the snapshot that was cut there. Says whether it changed anything. */
export function foldChunk(row: Row, chunk: Chunk, snapshotSeq?: number): boolean {
  const { payload } = chunk;
  const seq = payload.seq ?? snapshotSeq ?? 0;
  if (seq <= row.seq) return false;
  row.seq = seq;
  row.version += 1;
  identify(row, payload);
  if (payload.attempt !== undefined && payload.attempt !== row.attempt) {
    row.attempt = payload.attempt;
    row.hasMoved = true;
  }
  const at = msOf(timeOf(payload));
  switch (chunk.type) {
    case 'background-task-output':
      row.outputs += 1;
      // Only what runs emits something: so stands a task of which this is the first that is heard.
      if (row.status !== 'running') stand(row, 'running');
      row.lastLine = lastLineOf(payload.payload, LINE_MAX);
      return true;
    case 'background-task-started':
      row.createdAt ||= at;
      stand(row, 'pending');
      return true;
    case 'background-task-queued':
      stand(row, 'pending');
      return true;
    case 'background-task-retrying':
      row.dueAt = msOf(payload.nextAttemptAt);
      if (payload.error) row.lastLine = lastLineOf(payload.error.message, LINE_MAX);
      stand(row, 'pending');
      return true;
    case 'background-task-running':
    case 'background-task-resumed':
      row.startedAt = at;
      stand(row, 'running');
      return true;
    case 'background-task-suspended':
      row.suspendedAt = at;
      row.suspendPayload = payload.suspendPayload;
      stand(row, 'suspended');
      return true;
    case 'background-task-completed':
      row.endedAt = at;
      stand(row, 'completed');
      return true;
    case 'background-task-cancelled':
      row.endedAt = at;
      stand(row, 'cancelled');
      return true;
    case 'background-task-failed':
      row.endedAt = at;
      if (payload.error) row.lastLine = lastLineOf(payload.error.message, LINE_MAX);
      stand(row, hasTimedOut(payload) ? 'timed_out' : 'failed');
      return true;
    case 'stream-reset':
      return false;
  }
}

/** Folds a record of a list. Of one that is not newer only what no chunk says is taken. */
export function foldRecord(row: Row, record: TaskRecord): boolean {
  if (record.seq <= row.seq && row.isWhole) return false;
  row.isWhole = true;
  row.version += 1;
  row.hasMoved = true;
  row.createdAt = msOf(record.createdAt);
  row.description = record.description ?? '';
  row.subagent = record.subagentType ?? '';
  if (record.attempt === row.attempt) row.startedAt ||= msOf(record.startedAt);
  if (record.seq <= row.seq) return true;
  row.seq = record.seq;
  identify(row, { ...record, taskId: record.id });
  row.attempt = record.attempt;
  row.startedAt = msOf(record.startedAt);
  row.suspendedAt = msOf(record.suspendedAt);
  row.endedAt = msOf(record.completedAt);
  row.dueAt = msOf(record.runAt);
  row.suspendPayload = record.suspendPayload;
  if (record.error && row.lastLine === '') row.lastLine = lastLineOf(record.error.message, LINE_MAX);
  stand(row, record.status);
  return true;
}

function stand(row: Row, status: Status): void {
  row.status = status;
  row.hasMoved = true;
  if (status !== 'suspended') row.suspendPayload = undefined;
  if (status !== 'pending') row.dueAt = 0;
  if (!hasEnded(status)) row.endedAt = 0;
}

function identify(row: Row, payload: Partial<ChunkPayload>): void {
  if (row.tool !== '') return;
  row.tool = payload.toolName ?? '';
  row.agent = payload.agentId ?? '';
  row.thread = payload.threadId ?? '';
  row.run = payload.runId ?? '';
  row.resource = payload.resourceId ?? '';
}

export function msOf(time: string | undefined): number {
  if (time === undefined) return 0;
  const ms = Date.parse(time);
  return Number.isNaN(ms) ? 0 : ms;
}
