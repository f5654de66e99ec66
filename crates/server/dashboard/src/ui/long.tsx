// A text of any length: of a long one the beginning, and all of it when asked for.

import { useState } from 'preact/hooks';

export function Long({ text, max }: { text: string; max: number }) {
  const [isWhole, showWhole] = useState(false);
  if (text.length <= max * 1.2) return <>{text}</>;
  return (
    <>
      {isWhole ? text : `${text.slice(0, max)}…`}{' '}
      <button type="button" class="quiet small" aria-expanded={isWhole} onClick={() => showWhole(!isWhole)}>
        {isWhole ? 'less' : 'all of it'}
      </button>
    </>
  );
}
