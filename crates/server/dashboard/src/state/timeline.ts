// A task's story as steps, each with its time and with how long the one before it took.

import { hasTimedOut, timeOf, type Chunk, type ChunkPayload, type Status, type TaskRecord } from '../protocol/types.ts';
import { msOf } from './fold.ts';

/** An event of the story; of outputs there is none here, they are counted. */
export interface StoryEvent {
  type: Chunk['type'];
  payload: ChunkPayload;
  /** In milliseconds since 1970; 0 where unknown. */
  at: number;
  /** Outputs since the event before. */
  outputs: number;
}

export interface Step {
  status: Status;
  title: string;
  at: number;
  /** What the time since the step before was: `waited`, `ran`, `was suspended`; with its length. */
  before: { word: string; ms: number } | null;
  outputs: number;
  /** In words, what it failed with or waits for. */
  detail: string;
}

export type SpanKind = 'waiting' | 'running' | 'suspended';

/** A stretch of a task's time, for the bars. */
export interface Stretch {
  kind: SpanKind;
  from: number;
  to: number;
  attempt: number;
}

export function eventOf(chunk: Chunk, outputs: number): StoryEvent {
  return { type: chunk.type, payload: chunk.payload, at: msOf(timeOf(chunk.payload)), outputs };
}

const KIND_AFTER: Partial<Record<Chunk['type'], SpanKind>> = {
  'background-task-started': 'waiting',
  'background-task-queued': 'waiting',
  'background-task-retrying': 'waiting',
  'background-task-running': 'running',
  'background-task-resumed': 'running',
  'background-task-suspended': 'suspended',
};

const BEFORE_WORDS: Record<SpanKind, string> = { waiting: 'waited', running: 'ran', suspended: 'was suspended' };

export function stepsOf(events: readonly StoryEvent[]): Step[] {
  let kind: SpanKind | undefined;
  let since = 0;
  return events.map((event) => {
    const ms = event.at - since;
    const before = kind && since !== 0 && event.at !== 0 ? { word: BEFORE_WORDS[kind], ms } : null;
    kind = KIND_AFTER[event.type];
    since = event.at;
    return { ...telling(event), at: event.at, outputs: event.outputs, before };
  });
}

function telling({ type, payload }: StoryEvent): Pick<Step, 'status' | 'title' | 'detail'> {
  const attempt = `Attempt ${payload.attempt ?? '?'}`;
  const error = payload.error?.message ?? '';
  switch (type) {
    case 'background-task-started':
      return { status: 'pending', title: 'Dispatched', detail: '' };
    case 'background-task-queued':
      return { status: 'pending', title: 'Resumed, waits for a slot', detail: '' };
    case 'background-task-retrying':
      return error === '' && payload.nextAttemptAt === undefined
        ? { status: 'pending', title: 'Retried by hand', detail: '' }
        : { status: 'failed', title: `${attempt} failed, another follows`, detail: error };
    case 'background-task-running':
      return { status: 'running', title: `${attempt} began`, detail: '' };
    case 'background-task-resumed':
      return { status: 'running', title: `${attempt} began, with the answer`, detail: '' };
    case 'background-task-suspended':
      return { status: 'suspended', title: 'Suspended', detail: '' };
    case 'background-task-completed':
      return { status: 'completed', title: 'Completed', detail: '' };
    case 'background-task-cancelled':
      return { status: 'cancelled', title: 'Cancelled', detail: '' };
    case 'background-task-failed':
      return hasTimedOut(payload)
        ? { status: 'timed_out', title: 'Timed out', detail: error }
        : { status: 'failed', title: 'Failed', detail: error };
    case 'background-task-output':
    case 'stream-reset':
      return { status: 'running', title: 'Output', detail: '' };
  }
}

/** The stretches between the events; the last one goes on until now. */
export function stretchesOf(events: readonly StoryEvent[], now: number): Stretch[] {
  const stretches: Stretch[] = [];
  events.forEach((event, index) => {
    const kind = KIND_AFTER[event.type];
    const to = index + 1 < events.length ? events[index + 1]!.at : now;
    if (kind && event.at !== 0 && to >= event.at) stretches.push({ kind, from: event.at, to, attempt: event.payload.attempt ?? 0 });
  });
  return stretches;
}

type Times = Pick<TaskRecord, 'status' | 'attempt'> & { createdAt: number; startedAt: number; suspendedAt: number; endedAt: number };

/** The same of a task of which only its latest times are known: what came before its last attempt is waiting. */
export function stretchesOfTimes(task: Times, now: number): Stretch[] {
  const end = task.endedAt || now;
  const stretches: Stretch[] = [];
  const add = (kind: SpanKind, from: number, to: number) => {
    if (from !== 0 && to > from) stretches.push({ kind, from, to, attempt: task.attempt });
  };
  const began = task.startedAt || end;
  const isWaitingAgain = task.status === 'pending' && task.startedAt !== 0;
  add('waiting', task.createdAt || began, began);
  if (task.status === 'suspended') {
    add('running', task.startedAt, task.suspendedAt);
    add('suspended', task.suspendedAt, end);
  } else if (!isWaitingAgain) {
    add('running', task.startedAt, end);
  } else {
    add('waiting', task.startedAt, end);
  }
  return stretches;
}
