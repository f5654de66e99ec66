// Single keys, for the whole page: not while somebody types, nor in a dialog.

import { useLayoutEffect, useRef } from 'preact/hooks';

export type Keys = Record<string, () => void>;

export function useKeys(keys: Keys, isOn: boolean): void {
  const current = useRef(keys);
  current.current = keys;
  // At once, not after the next frame: a key may follow the click that turned the keys off.
  useLayoutEffect(() => {
    if (!isOn) return;
    const onKeyDown = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as HTMLElement;
      // The key that closes a dialog is still the dialog's, though it may be closed by now.
      if (document.querySelector('dialog[open]') || target.closest('dialog') || takesText(target)) return;
      if (event.key === 'Enter' && target.closest('a, button, summary, [role=grid]')) return;
      const act = current.current[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    };
    addEventListener('keydown', onKeyDown);
    return () => removeEventListener('keydown', onKeyDown);
  }, [isOn]);
}

function takesText(element: HTMLElement): boolean {
  return element.closest('input, textarea, select, [contenteditable]') !== null;
}
