// Chunks and records for the tests.

import type { Chunk, ChunkPayload, ChunkType, Status, TaskRecord } from '../src/protocol/types.ts';

export const AT = '2026-11-21T12:00:00.000Z';

export function chunk(type: ChunkType, id: string, seq: number | undefined, more: Partial<ChunkPayload> = {}): Chunk {
  return { type: `background-task-${type}`, payload: { taskId: id, toolName: 'research', seq, ...more } };
}

export function record(id: string, status: Status, seq: number, more: Partial<TaskRecord> = {}): TaskRecord {
  return {
    id, status, seq, toolName: 'research', args: {}, createdAt: AT, updatedAt: AT, retryCount: 0, maxRetries: 0,
    timeoutMs: 1, priority: 0, attempt: 1, namespace: 'default', ...more,
  };
}
