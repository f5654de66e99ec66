// What the table is narrowed to: statuses with their counts, fields, and a search by id. All of it is in the address.

import { useRef, useState } from 'preact/hooks';
import {
  FIELD_WORDS, FILTER_FIELDS, STATUSES, STATUS_WORDS, type Filter, type FilterField, type Status,
} from '../protocol/types.ts';
import { StatusShape } from './status.tsx';
import { countText } from './time.tsx';

/** Each status with how many there are: pressed, the table shows only those. */
export function StatusChips({ chosen, count, onChoose }: {
  chosen: readonly Status[]; count(status: Status): number | null; onChoose(statuses: Status[]): void;
}) {
  const toggle = (status: Status) => {
    const without = chosen.filter((other) => other !== status);
    onChoose(without.length < chosen.length ? without : STATUSES.filter((it) => it === status || chosen.includes(it)));
  };
  return (
    <div class="chips" role="group" aria-label="Statuses">
      {STATUSES.map((status) => {
        const number = count(status);
        return (
          <button key={status} type="button" class={`chip is-${status}`} aria-pressed={chosen.includes(status)}
            onClick={() => toggle(status)}>
            <StatusShape status={status} />
            <span>{STATUS_WORDS[status]}</span>
            <b class="number">{number === null ? '…' : countText(number)}</b>
          </button>
        );
      })}
    </div>
  );
}

export function FieldFilters({ filter, known, onChange }: {
  filter: Filter; known(field: FilterField): string[]; onChange(field: FilterField, value: string | undefined): void;
}) {
  const set = FILTER_FIELDS.filter((field) => filter[field] !== undefined);
  return (
    <div class="filters">
      {set.map((field) => (
        <span key={field} class="filter">
          <span class="faint">{FIELD_WORDS[field]}</span> <b title={filter[field]}>{filter[field]}</b>
          <button type="button" class="plain" aria-label={`Remove the filter ${FIELD_WORDS[field]}`}
            onClick={() => onChange(field, undefined)}>×</button>
        </span>
      ))}
      <AddFilter known={known} onAdd={onChange} />
    </div>
  );
}

function AddFilter({ known, onAdd }: {
  known(field: FilterField): string[]; onAdd(field: FilterField, value: string): void;
}) {
  const [isOpen, setOpen] = useState(false);
  const [field, setField] = useState<FilterField>('agentId');
  const value = useRef<HTMLInputElement>(null);
  if (!isOpen) return <button type="button" class="quiet" onClick={() => setOpen(true)}>+ Filter</button>;
  const submit = (event: Event) => {
    event.preventDefault();
    const text = value.current?.value ?? '';
    if (text === '') return;
    setOpen(false);
    onAdd(field, text);
  };
  return (
    <form class="add-filter" onSubmit={submit} onKeyDown={(event) => event.key === 'Escape' && setOpen(false)}>
      <label><span class="hidden">Filter by</span>
        <select value={field} onChange={(event) => setField(event.currentTarget.value as FilterField)}>
          {FILTER_FIELDS.map((it) => <option key={it} value={it}>{FIELD_WORDS[it]}</option>)}
        </select>
      </label>
      <label><span class="hidden">Value</span>
        <input ref={value} list="known-values" placeholder="is exactly…" autofocus required />
      </label>
      <datalist id="known-values">{known(field).map((it) => <option key={it} value={it} />)}</datalist>
      <button type="submit">Add</button>
      <button type="button" class="quiet" onClick={() => setOpen(false)}>Cancel</button>
    </form>
  );
}
