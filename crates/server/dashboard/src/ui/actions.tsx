// What can be asked of a task that is there: cancel it, try it again. What the server refuses is told in its words.

import { useState } from 'preact/hooks';
import { act, Refused, type Action } from '../protocol/api.ts';
import { hasEnded, RETRYABLE, type TaskRecord } from '../protocol/types.ts';
import { canAct } from '../state/app.ts';

export function Actions({ task, onDone }: { task: TaskRecord; onDone(record: TaskRecord): void }) {
  const [isSure, setSure] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');
  // Somebody else's task is changed by its owner alone.
  if (!canAct() || task.record !== undefined) return null;
  const ask = async (action: Action) => {
    setBusy(true);
    setSure(false);
    setProblem('');
    try {
      onDone(await act(action, task.id));
    } catch (error) {
      setProblem(error instanceof Refused ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <div class="actions">
      {!hasEnded(task.status) && !isSure && (
        <button type="button" class="bad" disabled={isBusy} onClick={() => setSure(true)}>Cancel task…</button>
      )}
      {!hasEnded(task.status) && isSure && (
        <>
          <button type="button" class="bad" autofocus onClick={() => ask('cancel')}>Yes, cancel it</button>
          <button type="button" class="quiet" onClick={() => setSure(false)}>Let it go on</button>
        </>
      )}
      {RETRYABLE.includes(task.status) && (
        <button type="button" disabled={isBusy} onClick={() => ask('retry')}>Retry</button>
      )}
      {problem !== '' && <p class="problem" role="alert">{problem}</p>}
    </div>
  );
}
