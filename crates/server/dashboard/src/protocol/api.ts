// Calls of /v1. A refusal is thrown as a `Refused`, with the server's own words.

import type { Role, Session, TaskPage, TaskRecord } from './types.ts';
import { noteServerTime } from './clock.ts';
import { parseExactly } from './json.ts';

/** What the server did not do, and why; `status` 0 is a server that was not reached. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = 'Refused';
    this.status = status;
  }
}

export type Params = Record<string, string | number | readonly string[] | undefined>;

let namespace: string | undefined;

/** The namespace that every call names, for who needs no key and may choose one. */
export function useNamespace(name: string | undefined): void {
  namespace = name;
}

export function urlOf(path: string, params: Params = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries({ ...params, namespace })) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) query.append(name, String(one));
  }
  const text = query.toString();
  return text === '' ? `/v1/${path}` : `/v1/${path}?${text}`;
}

/** Sends a request and hands out the answer; throws what the server refused, in words. */
export async function send(url: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url, { credentials: 'same-origin', cache: 'no-store', ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Refused(0, 'the server cannot be reached');
  }
  noteServerTime(answer.headers.get('date'));
  if (!answer.ok) throw new Refused(answer.status, await wordsOf(answer));
  return answer;
}

/** What a problem document says; of anything else, its status. */
async function wordsOf(answer: Response): Promise<string> {
  try {
    const problem = (await answer.json()) as { title?: string; detail?: string };
    const words = problem.detail ?? problem.title;
    if (words) return words;
  } catch {
    // A proxy's page, say: it has no words for us.
  }
  return `the server answered ${answer.status} ${answer.statusText}`.trim();
}

async function json<T>(url: string, init?: RequestInit): Promise<T> {
  const answer = await send(url, init);
  return parseExactly(await answer.text()) as T;
}

function post<T>(url: string, body?: string): Promise<T> {
  const init = body === undefined ? {} : { body, headers: { 'content-type': 'application/json' } };
  return json<T>(url, { method: 'POST', ...init });
}

export async function getTask(id: string): Promise<TaskRecord> {
  return (await json<{ task: TaskRecord }>(urlOf('task', { id }))).task;
}

export function listTasks(params: Params, signal?: AbortSignal): Promise<TaskPage> {
  return json<TaskPage>(urlOf('tasks', params), { signal: signal ?? null });
}

export type Action = 'cancel' | 'retry';

export async function act(action: Action, id: string): Promise<TaskRecord> {
  return (await post<{ task: TaskRecord }>(urlOf(`task/${action}`, { id }))).task;
}

/** Gives a suspended task what it waits for: `data` is JSON, as text. */
export async function resume(id: string, data: string): Promise<TaskRecord> {
  return (await post<{ task: TaskRecord }>(urlOf('task/resume', { id }), `{"resumeData":${data}}`)).task;
}

export function getSession(): Promise<Session> {
  return json<Session>(urlOf('session'));
}

export function logIn(key: string): Promise<Session> {
  return post<Session>('/v1/session', JSON.stringify({ key }));
}

export async function logOut(): Promise<void> {
  await send('/v1/session', { method: 'DELETE' });
}

export function mayAct(role: Role): boolean {
  return role === 'write' || role === 'admin';
}
