// The address is the state of a view: what it filters by stands in the query, so that a view can be shared, and that
// the browser's way back leads back.

import { signal } from '@preact/signals';
import { FILTER_FIELDS, STATUSES, type Filter, type FilterField, type Status } from '../protocol/types.ts';
import { SORTS, type Choice, type Sort } from './view.ts';

export interface Address {
  path: string;
  query: URLSearchParams;
}

export const address = signal<Address>(read());

function read(): Address {
  if (typeof location === 'undefined') return { path: '/', query: new URLSearchParams() };
  return { path: location.pathname, query: new URLSearchParams(location.search) };
}

/** Follows the browser's own buttons. */
export function watchAddress(): void {
  addEventListener('popstate', () => (address.value = read()));
}

export function go(href: string): void {
  history.pushState(null, '', href);
  address.value = read();
  scrollTo(0, 0);
}

/** Changes the address in place: typing a filter must not fill the way back. */
export function replace(href: string): void {
  history.replaceState(history.state, '', href);
  address.value = read();
}

/** A page of ours, in the namespace that is looked at. */
export function href(path: string, params: Record<string, string | undefined> | URLSearchParams = {}): string {
  const query = new URLSearchParams();
  const given = params instanceof URLSearchParams ? params.entries() : Object.entries(params);
  for (const [name, value] of given) if (value !== undefined) query.append(name, value);
  const namespace = address.peek().query.get('namespace');
  if (namespace !== null && !query.has('namespace')) query.set('namespace', namespace);
  const text = query.toString();
  return text === '' ? path : `${path}?${text}`;
}

export function filterOf(query: URLSearchParams): Filter {
  const filter: Filter = {};
  for (const field of FILTER_FIELDS) {
    const value = query.get(field);
    if (value !== null && value !== '') filter[field] = value;
  }
  return filter;
}

/** What of the address concerns only what is shown of the tasks that are here. What makes no sense is passed over. */
export function choiceOf(query: URLSearchParams): Choice {
  const statuses = query.getAll('status').filter((word): word is Status => STATUSES.includes(word as Status));
  const given = query.get('sort') ?? '';
  const isReversed = given.startsWith('-');
  const word = isReversed ? given.slice(1) : given;
  const sort = SORTS.includes(word as Sort) ? (word as Sort) : 'recent';
  return { statuses, sort, isReversed, search: query.get('search') ?? '' };
}

/** The same address with another filter, or without one. */
export function withFilter(query: URLSearchParams, field: FilterField, value: string | undefined): URLSearchParams {
  const changed = new URLSearchParams(query);
  if (value === undefined) changed.delete(field);
  else changed.set(field, value);
  return changed;
}

export function withChoice(query: URLSearchParams, choice: Partial<Choice>): URLSearchParams {
  const changed = new URLSearchParams(query);
  const { statuses, sort, isReversed, search } = { ...choiceOf(query), ...choice };
  for (const name of ['status', 'sort', 'search']) changed.delete(name);
  for (const status of statuses) changed.append('status', status);
  if (sort !== 'recent' || isReversed) changed.set('sort', `${isReversed ? '-' : ''}${sort}`);
  if (search !== '') changed.set('search', search);
  return changed;
}
