// What the whole page knows: who looks, how many tasks wait for somebody, and what this browser was told to remember.

import { effect, signal } from '@preact/signals';
import { getSession, listTasks, logOut, mayAct, Refused, useNamespace } from '../protocol/api.ts';
import type { Session } from '../protocol/types.ts';
import { address, go, href } from './address.ts';

export const session = signal<Session | null>(null);
/** The server was asked who looks, and could not answer. */
export const sessionProblem = signal<string | null>(null);
export const waiting = signal<number | null>(null);

export function canAct(): boolean {
  return session.value !== null && mayAct(session.value.role);
}

/** Asks who looks. Who needs a key is led to the page that takes it. */
export async function start(): Promise<void> {
  useNamespace(address.value.query.get('namespace') ?? undefined);
  try {
    session.value = await getSession();
    sessionProblem.value = null;
    void countWaiting();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) toLogin();
    else sessionProblem.value = error.message;
  }
}

export function toLogin(): void {
  session.value = null;
  const { path, query } = address.peek();
  if (path === '/login') return;
  const text = query.toString();
  go(href('/login', { next: text === '' ? path : `${path}?${text}` }));
}

export async function leave(): Promise<void> {
  await logOut();
  session.value = null;
  go(href('/login'));
}

/** Where to go after the login: a page of ours, whatever the address says. */
export function nextPage(next: string | null): string {
  return next !== null && /^\/(?![/\\])/.test(next) ? next : href('/');
}

export async function countWaiting(): Promise<void> {
  if (session.peek() === null) return;
  try {
    waiting.value = (await listTasks({ status: 'suspended', perPage: 0 })).total;
  } catch (error) {
    if (error instanceof Refused && error.status === 401) toLogin();
    // Else the page says by itself that the server cannot be reached.
  }
}

const WAITING_MS = 15_000;

export function watchWaiting(): void {
  setInterval(() => void countWaiting(), WAITING_MS);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) void countWaiting();
  });
}

// ------------------------------------------------------------------------------- what this browser remembers

export type Theme = 'system' | 'light' | 'dark';

export const theme = signal<Theme>(remembered('theme', ['system', 'light', 'dark']) ?? 'system');
/** Single keys can be turned off: they are in the way of who speaks to the computer (WCAG 2.1.4). */
export const hasShortcuts = signal(remembered('shortcuts', ['on', 'off']) !== 'off');

function remembered<T extends string>(name: string, allowed: readonly T[]): T | undefined {
  try {
    const value = localStorage.getItem(`sidestream.${name}`);
    return allowed.find((word) => word === value);
  } catch {
    return undefined;
  }
}

function remember(name: string, value: string): void {
  try {
    localStorage.setItem(`sidestream.${name}`, value);
  } catch {
    // A browser that keeps nothing: then it holds for this page.
  }
}

export function watchPreferences(): void {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
    remember('theme', theme.value);
  });
  effect(() => remember('shortcuts', hasShortcuts.value ? 'on' : 'off'));
}
