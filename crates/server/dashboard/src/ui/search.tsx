// The search by id: narrows the table to ids that contain what is typed; Enter opens the task with exactly this id,
// also one that the table does not have.

import { useState } from 'preact/hooks';
import { getTask, Refused } from '../protocol/api.ts';
import { go } from '../state/address.ts';
import type { Row } from '../state/fold.ts';
import { pageOf } from './table.tsx';
import type { ElementRef } from './virtual.tsx';

export function Search({ input, value, onSearch, rows }: {
  input: ElementRef<HTMLInputElement>; value: string; onSearch(text: string): void; rows: readonly Row[];
}) {
  const [answer, setAnswer] = useState<string | null>(null);
  const change = (text: string) => {
    setAnswer(null);
    onSearch(text);
  };
  const open = async (event: Event) => {
    event.preventDefault();
    const id = input.current?.value ?? '';
    if (id === '') return;
    if (rows.length === 1) return go(pageOf(rows[0]!));
    try {
      go(pageOf(await getTask(id)));
    } catch (error) {
      setAnswer(error instanceof Refused && error.status === 404 ? 'No task has exactly this id.' : String(error));
    }
  };
  return (
    <form class="search" role="search" onSubmit={open}>
      <label>
        <span class="hidden">Search by id</span>
        <input ref={input} type="search" placeholder="Search by id  ( / )" value={value} spellcheck={false} autocomplete="off"
          onInput={(event) => change(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Escape') return;
            change('');
            input.current?.blur();
          }} />
      </label>
      {answer !== null && <span class="answer" role="status">{answer}</span>}
    </form>
  );
}
