// The form for a suspended task: the fields that it asks for, approve, decline, or any JSON. What it waits for is shown
// above it.

import { useState } from 'preact/hooks';
import { resume, Refused } from '../protocol/api.ts';
import type { TaskRecord } from '../protocol/types.ts';
import { fieldsOf } from '../state/form.ts';
import { Fields } from './fields.tsx';
import { Value } from './json.tsx';
import { Long } from './long.tsx';

/** Where a payload says in words what it asks. */
const WORDS = ['question', 'message', 'prompt', 'title', 'reason', 'description'] as const;

/** What is asked, in words, and what else the payload says. */
export function askedOf(payload: unknown): { words: string; rest: unknown } {
  if (typeof payload === 'string') return { words: payload, rest: undefined };
  if (typeof payload !== 'object' || payload === null || Array.isArray(payload)) return { words: '', rest: payload };
  const fields = payload as Record<string, unknown>;
  const word = WORDS.find((name) => typeof fields[name] === 'string' && fields[name] !== '');
  if (!word) return { words: '', rest: payload };
  const { [word]: words, ...others } = fields;
  const rest = fieldsOf(payload).length > 0 ? withoutSchema(others) : others;
  return { words: words as string, rest: Object.keys(rest).length > 0 ? rest : undefined };
}

/** The schema is shown as the form that it describes. */
function withoutSchema({ schema: _form, requestedSchema: _other, ...rest }: Record<string, unknown>): Record<string, unknown> {
  return rest;
}

/** The answers that a payload offers by itself: `options` or `choices`, a list of texts. */
export function choicesOf(payload: unknown): string[] {
  if (typeof payload !== 'object' || payload === null) return [];
  const { options, choices } = payload as { options?: unknown; choices?: unknown };
  const list = Array.isArray(options) ? options : Array.isArray(choices) ? choices : [];
  const texts = list.filter((item): item is string => typeof item === 'string');
  return texts.length === list.length && list.length <= 12 ? texts : [];
}

export function Asked({ payload }: { payload: unknown }) {
  const { words, rest } = askedOf(payload);
  return (
    <div class="asked">
      {words !== '' && <p class="question"><Long text={words} max={500} /></p>}
      {rest !== undefined && <div class="json"><Value value={rest} depth={0} /></div>}
    </div>
  );
}

export function ResumeForm({ id, payload, onDone }: {
  id: string; payload: unknown; onDone?(record: TaskRecord): void;
}) {
  const [comment, setComment] = useState('');
  const [json, setJson] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  const fields = fieldsOf(payload);
  const send = async (data: string) => {
    setBusy(true);
    setProblem('');
    try {
      const record = await resume(id, data);
      onDone?.(record);
    } catch (error) {
      setProblem(error instanceof Refused ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  const answer = (fields: object) => {
    const said = comment.trim() === '' ? {} : { comment: comment.trim() };
    return JSON.stringify({ ...fields, by: 'dashboard', ...said });
  };
  const sendJson = (event: Event) => {
    event.preventDefault();
    const fault = faultOf(json ?? '');
    if (fault !== null) setProblem(fault);
    else void send(json ?? '');
  };
  return (
    <div class="resume">
      {json === null && fields.length > 0 && <Fields fields={fields} isBusy={isBusy} onSend={send} />}
      {json === null ? (
        <div class="answers">
          <label class="comment"><span>Comment <span class="faint">(optional)</span></span>
            <input value={comment} onInput={(event) => setComment(event.currentTarget.value)} maxLength={2_000} />
          </label>
          {choicesOf(payload).map((choice) => (
            <button key={choice} type="button" disabled={isBusy} onClick={() => send(answer({ choice }))}>{choice}</button>
          ))}
          {fields.length === 0 && (
            <button type="button" class="good" disabled={isBusy} onClick={() => send(answer({ approved: true }))}>Approve</button>
          )}
          <button type="button" class="bad" disabled={isBusy} onClick={() => send(answer({ approved: false }))}>Decline</button>
          <button type="button" class="quiet" onClick={() => setJson(JSON.stringify({ approved: true, by: 'dashboard' }, null, 2))}>
            Answer with JSON…
          </button>
        </div>
      ) : (
        <form onSubmit={sendJson}>
          <label>The answer, as JSON
            <textarea rows={6} value={json} spellcheck={false} onInput={(event) => setJson(event.currentTarget.value)} />
          </label>
          <button type="submit" class="good" disabled={isBusy}>Resume</button>
          <button type="button" class="quiet" onClick={() => setJson(null)}>Back</button>
        </form>
      )}
      {problem !== '' && <p class="problem" role="alert">{problem}</p>}
    </div>
  );
}

/** What keeps a text from being JSON. */
function faultOf(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return `This is not JSON: ${(error as Error).message}`;
  }
}
