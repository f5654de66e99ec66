// The fields of the form that a suspended task asks for.

import { useState } from 'preact/hooks';
import { answerOf, type Field } from '../state/form.ts';

export function Fields({ fields, isBusy, onSend }: { fields: readonly Field[]; isBusy: boolean; onSend(data: string): void }) {
  const [filled, setFilled] = useState<Record<string, string>>(() => Object.fromEntries(fields.map((field) => [field.name, field.initial])));
  const submit = (event: Event) => {
    event.preventDefault();
    onSend(answerOf(fields, filled));
  };
  return (
    <form class="fields" onSubmit={submit}>
      {fields.map((field) => (
        <label key={field.name} class={field.kind === 'yes-no' ? 'switch' : ''}>
          {field.kind === 'yes-no' && <Input field={field} value={filled[field.name] ?? ''} onFill={(text) => setFilled({ ...filled, [field.name]: text })} />}
          <span>{field.label.slice(0, 200)} {!field.isNeeded && field.kind !== 'yes-no' && <span class="faint">(optional)</span>}</span>
          {field.help !== '' && <span class="faint">{field.help.slice(0, 500)}</span>}
          {field.kind !== 'yes-no' && <Input field={field} value={filled[field.name] ?? ''} onFill={(text) => setFilled({ ...filled, [field.name]: text })} />}
        </label>
      ))}
      <button type="submit" class="good" disabled={isBusy}>Answer</button>
    </form>
  );
}

function Input({ field, value, onFill }: { field: Field; value: string; onFill(text: string): void }) {
  switch (field.kind) {
    case 'yes-no':
      return <input type="checkbox" checked={value === 'true'} onChange={(event) => onFill(String(event.currentTarget.checked))} />;
    case 'choice':
      return (
        <select value={value} required={field.isNeeded} onChange={(event) => onFill(event.currentTarget.value)}>
          <option value="">…</option>
          {field.choices.map((choice) => <option key={choice} value={choice}>{choice.slice(0, 200)}</option>)}
        </select>
      );
    case 'number':
      return (
        <input type="number" step={field.isWhole ? 1 : 'any'} value={value} required={field.isNeeded}
          onInput={(event) => onFill(event.currentTarget.value)} />
      );
    case 'text':
      return <input value={value} required={field.isNeeded} onInput={(event) => onFill(event.currentTarget.value)} />;
  }
}
