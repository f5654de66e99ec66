// How the connection stands, in words: nothing on the page may look as if it were known when it is not.

import type { Link } from '../protocol/follow.ts';
import { timeText } from './time.tsx';

export function isKnown(link: Link): boolean {
  return link.state === 'live' || link.state === 'ended';
}

export function Connection({ link, loading }: { link: Link; loading?: number | null }) {
  return (
    <p class={`link is-${link.state}`} role="status">
      <span class="dot" aria-hidden="true" />
      <span>{words(link, loading ?? null)}</span>
    </p>
  );
}

function words(link: Link, loading: number | null): string {
  switch (link.state) {
    case 'connecting':
      return 'connecting';
    case 'live':
      if (loading === null) return 'live';
      return loading < 1_000 ? 'loading' : `loading ${Math.floor(loading / 1_000)},000 tasks`;
    case 'reconnecting':
      return `as of ${timeText(link.heardAt)}, reconnecting: ${link.why}`;
    case 'paused':
      return `as of ${timeText(link.heardAt)}, paused while hidden`;
    case 'refused':
      return `refused: ${link.why}`;
    case 'ended':
      return 'complete';
  }
}
