// A button that copies a text.

import { useState } from 'preact/hooks';

export function Copy({ text, what }: { text(): string; what: string }) {
  const [answer, setAnswer] = useState('');
  const copy = async () => {
    setAnswer((await write(text())) ? 'Copied' : 'Not copied');
    setTimeout(() => setAnswer(''), 1_500);
  };
  return (
    <button type="button" class="quiet small" onClick={copy} aria-label={`Copy ${what}`}>
      <span aria-live="polite">{answer || 'Copy'}</span>
    </button>
  );
}

async function write(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeByHand(text);
  }
}

/** The way of old, for a page that came by plain HTTP from another machine: there, browsers have no clipboard. */
function writeByHand(text: string): boolean {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'hidden';
  document.body.append(area);
  area.select();
  const isDone = document.execCommand('copy');
  area.remove();
  return isDone;
}
