// The keys, told in a dialog, and the switch that turns them off.

import { useEffect, useRef } from 'preact/hooks';
import { hasShortcuts } from '../state/app.ts';

const KEYS: readonly (readonly [string, string])[] = [
  ['/', 'search'],
  ['j  k', 'next and previous task'],
  ['Enter', 'open the task'],
  ['Esc', 'back, or leave the field'],
  ['p', 'hold the table, or let it go on'],
  ['f', 'follow the output, or stop'],
  ['n  w  r', 'Now, Needs you, Runs'],
  ['?', 'this help'],
];

export function Help({ isOpen, onClose }: { isOpen: boolean; onClose(): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (isOpen) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen]);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={onClose}
      onClick={(event) => event.target === dialog.current && onClose()}>
      <h2 id="help-title">Keys</h2>
      <table>
        <tbody>
          {KEYS.map(([keys, what]) => (
            <tr key={keys}>
              <th scope="row">{keys.split('  ').map((key) => <kbd key={key}>{key}</kbd>)}</th>
              <td>{what}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <label class="switch">
        <input type="checkbox" checked={hasShortcuts.value} onChange={(event) => (hasShortcuts.value = event.currentTarget.checked)} />
        Single keys work
      </label>
      <p class="faint">
        A status is told by its shape and its word. Times are those of this browser; the exact one is in the title.
        {' '}<a href="/assets/licenses.txt">Libraries and their licences</a>
      </p>
      <button type="button" onClick={onClose} autofocus>Close</button>
    </dialog>
  );
}
