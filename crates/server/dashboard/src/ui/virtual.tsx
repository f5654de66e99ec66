// A list of rows of one height, of which only those that can be seen are in the document.

import type { ComponentChildren } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

/** So many rows more than can be seen, on either side: scrolling shows no emptiness. */
const MARGIN = 8;

export interface ElementRef<E extends Element = HTMLElement> {
  readonly current: E | null;
}

export interface Span {
  first: number;
  end: number;
}

/** Which of the rows are in sight: follows the scrolling and the size of the element. */
export function useSpan(scroller: ElementRef, count: number, height: number, headHeight = 0): Span {
  const [place, setPlace] = useState({ top: 0, view: 600 });
  useLayoutEffect(() => {
    const element = scroller.current;
    if (!element) return;
    let frame = 0;
    const measure = () => {
      frame = 0;
      const { scrollTop: top, clientHeight: view } = element;
      setPlace((known) => (known.top === top && known.view === view ? known : { top, view }));
    };
    const soon = () => (frame ||= requestAnimationFrame(measure));
    measure();
    element.addEventListener('scroll', soon, { passive: true });
    const sizes = new ResizeObserver(soon);
    sizes.observe(element);
    return () => {
      cancelAnimationFrame(frame);
      element.removeEventListener('scroll', soon);
      sizes.disconnect();
    };
  }, [scroller]);
  const top = Math.min(place.top, Math.max(0, count * height - place.view + headHeight));
  const first = Math.max(0, Math.floor(top / height) - MARGIN);
  const end = Math.min(count, Math.ceil((top + place.view) / height) + MARGIN);
  return { first, end };
}

/** Brings a row into sight, under a head that stays on top. */
export function reveal(scroller: HTMLElement, index: number, height: number, headHeight: number): void {
  const top = index * height;
  const room = scroller.clientHeight - headHeight;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  else if (top + height > scroller.scrollTop + room) scroller.scrollTop = top + height - room;
}

/** Rows with all the room that those out of sight would take. */
export function Room({ count, height, span, children, role }: {
  count: number; height: number; span: Span; children: ComponentChildren; role?: 'rowgroup' | 'list';
}) {
  return (
    <div class="room" role={role} style={{ height: `${count * height}px` }}>
      <div class="sight" role="presentation" style={{ transform: `translateY(${span.first * height}px)` }}>
        {children}
      </div>
    </div>
  );
}

/** What a media query says, as it changes. */
export function useMedia(query: string): boolean {
  const list = useRef(matchMedia(query));
  const [matches, setMatches] = useState(list.current.matches);
  useEffect(() => {
    const known = list.current;
    const change = () => setMatches(known.matches);
    known.addEventListener('change', change);
    return () => known.removeEventListener('change', change);
  }, []);
  return matches;
}
