// The words of the wire that the page reads: docs/protocol.md.

export const STATUSES = ['pending', 'running', 'suspended', 'completed', 'failed', 'timed_out', 'cancelled'] as const;
export type Status = (typeof STATUSES)[number];

export const ENDED: readonly Status[] = ['completed', 'failed', 'timed_out', 'cancelled'];
export const RETRYABLE: readonly Status[] = ['failed', 'timed_out', 'cancelled'];

export function hasEnded(status: Status): boolean {
  return ENDED.includes(status);
}

/** How a status is called on the page. */
export const STATUS_WORDS: Record<Status, string> = {
  pending: 'pending',
  running: 'running',
  suspended: 'suspended',
  completed: 'completed',
  failed: 'failed',
  timed_out: 'timed out',
  cancelled: 'cancelled',
};

export interface TaskError {
  message: string;
  stack?: string;
}

/** A task as the lists have it. */
export interface TaskRecord {
  id: string;
  status: Status;
  toolName: string;
  args: unknown;
  createdAt: string;
  updatedAt: string;
  retryCount: number;
  maxRetries: number;
  timeoutMs: number;
  priority: number;
  attempt: number;
  namespace: string;
  seq: number;
  toolCallId?: string;
  agentId?: string;
  runId?: string;
  threadId?: string;
  resourceId?: string;
  result?: unknown;
  error?: TaskError;
  startedAt?: string;
  suspendedAt?: string;
  completedAt?: string;
  suspendPayload?: unknown;
  runAt?: string;
  description?: string;
  subagentType?: string;
  metadata?: Record<string, unknown>;
  workerId?: string;
  idempotencyKey?: string;
  /** Of a task that its owner elsewhere runs: nothing here can change it. */
  record?: unknown;
}

export interface TaskPage {
  tasks: TaskRecord[];
  total: number;
  nextCursor?: string;
}

export const CHUNK_TYPES = [
  'started', 'running', 'output', 'suspended', 'queued', 'resumed', 'retrying', 'completed', 'failed', 'cancelled',
] as const;
export type ChunkType = (typeof CHUNK_TYPES)[number];

/** What happened to a task, or in a snapshot how it stands: then there is no `seq`. */
export interface Chunk {
  type: `background-task-${ChunkType}` | 'stream-reset';
  payload: ChunkPayload;
}

export interface ChunkPayload {
  taskId: string;
  toolName: string;
  toolCallId?: string;
  agentId?: string;
  runId?: string;
  threadId?: string;
  resourceId?: string;
  seq?: number;
  attempt?: number;
  /** When it happened; where another field says so, that one. */
  at?: string;
  startedAt?: string;
  suspendedAt?: string;
  completedAt?: string;
  nextAttemptAt?: string;
  args?: unknown;
  payload?: unknown;
  result?: unknown;
  error?: TaskError;
  suspendPayload?: unknown;
  /** Of a `stream-reset`. */
  reason?: string;
}

export type Role = 'admin' | 'write' | 'read' | 'worker';

export interface Session {
  role: Role;
  namespace: string;
  keyId?: string;
  loggedIn: boolean;
}

/** The fields that both the stream and the lists filter by. */
export const FILTER_FIELDS = ['toolName', 'agentId', 'threadId', 'runId', 'resourceId', 'taskId'] as const;
export type FilterField = (typeof FILTER_FIELDS)[number];
export type Filter = Partial<Record<FilterField, string>>;

export const FIELD_WORDS: Record<FilterField, string> = {
  toolName: 'tool',
  agentId: 'agent',
  threadId: 'thread',
  runId: 'run',
  resourceId: 'resource',
  taskId: 'task',
};

/** When a chunk's event happened, where it says so. */
export function timeOf(payload: ChunkPayload): string | undefined {
  return payload.completedAt ?? payload.suspendedAt ?? payload.startedAt ?? payload.at;
}

/** Has it failed because an attempt took too long? The protocol says so in these words. */
export function hasTimedOut(payload: ChunkPayload): boolean {
  return /^Task timed out after \d+ms$/.test(payload.error?.message ?? '');
}

/** The place in the log that a cursor, `EPOCH-SEQ`, names. */
export function seqOf(cursor: string): number {
  const seq = Number(cursor.slice(cursor.lastIndexOf('-') + 1));
  return Number.isSafeInteger(seq) ? seq : 0;
}
