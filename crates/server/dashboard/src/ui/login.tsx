// The page that takes a key. It is sent once, and then kept by the browser in a cookie that no script can read.

import { useRef, useState } from 'preact/hooks';
import { logIn, Refused } from '../protocol/api.ts';
import { address, go } from '../state/address.ts';
import { countWaiting, nextPage, session } from '../state/app.ts';
import { forgetNow } from './now.tsx';

export function LoginPage() {
  const key = useRef<HTMLInputElement>(null);
  const [problem, setProblem] = useState('');
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      session.value = await logIn(key.current?.value.trim() ?? '');
      forgetNow();
      void countWaiting();
      go(nextPage(address.value.query.get('next')));
    } catch (error) {
      setProblem(error instanceof Refused ? error.message : String(error));
      setBusy(false);
      key.current?.select();
    }
  };
  return (
    <main id="content" tabIndex={-1} class="login" aria-labelledby="title">
      <form class="panel" onSubmit={submit}>
        <h1 id="title">Sidestream</h1>
        {session.value === null
          ? <p>This server asks for an API key. <code>sidestream keys add --role read</code> makes one that may look.</p>
          : <p>You are in, as {session.value.role} of the namespace {session.value.namespace.slice(0, 100)}. Another key takes its place.</p>}
        <label>API key
          <input ref={key} type="password" name="key" autocomplete="current-password" required autofocus />
        </label>
        {problem !== '' && <p class="problem" role="alert">{problem}</p>}
        <button type="submit" class="good" disabled={isBusy}>Log in</button>
        <p class="faint">Kept in a cookie until the browser is closed; no script can read it.</p>
      </form>
    </main>
  );
}
