// Draws in the browser's frames: however many events come, a view is drawn at most some ten times a second, which is
// more than can be read, and at once when little happens.

import { useEffect, useState } from 'preact/hooks';

const BETWEEN_MS = 100;

/** Draws the calling component anew after changes. */
export function useFrames(listen: (listener: () => void) => () => void, betweenMs = BETWEEN_MS): void {
  const [, draw] = useState(0);
  useEffect(() => {
    let frame = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let drawnAt = 0;
    const now = () => {
      frame = requestAnimationFrame(() => {
        frame = 0;
        drawnAt = performance.now();
        draw((count) => count + 1);
      });
    };
    const later = () => {
      timer = undefined;
      now();
    };
    const ignore = listen(() => {
      if (frame !== 0 || timer !== undefined) return;
      const wait = drawnAt + betweenMs - performance.now();
      if (wait > 0) timer = setTimeout(later, wait);
      else now();
    });
    return () => {
      ignore();
      clearTimeout(timer);
      cancelAnimationFrame(frame);
    };
  }, [listen, betweenMs]);
}
