// A status: a shape, a word and a colour, so that none of them is needed to tell it.

import { STATUS_WORDS, type Status } from '../protocol/types.ts';

const SHAPES: Record<Status, preact.JSX.Element> = {
  pending: <circle cx="8" cy="8" r="5.5" fill="none" stroke-dasharray="2.6 1.8" />,
  running: <path d="M5 3.2v9.6L13 8z" fill="currentColor" stroke-linejoin="round" />,
  suspended: <path d="M5.5 3.5v9M10.5 3.5v9" fill="none" stroke-width="2.6" />,
  completed: <path d="M3 8.6l3.4 3.4L13 4.6" fill="none" stroke-width="2.2" />,
  failed: <path d="M4 4l8 8M12 4l-8 8" fill="none" stroke-width="2.2" />,
  timed_out: <><circle cx="8" cy="8" r="5.8" fill="none" /><path d="M8 4.6V8l2.4 1.8" fill="none" /></>,
  cancelled: <><circle cx="8" cy="8" r="5.8" fill="none" /><path d="M4.2 11.8l7.6-7.6" fill="none" /></>,
};

export function StatusShape({ status }: { status: Status }) {
  return (
    <svg class={`shape is-${status}`} viewBox="0 0 16 16" width="14" height="14" aria-hidden="true"
      stroke="currentColor" stroke-width="1.6" stroke-linecap="round">
      {SHAPES[status]}
    </svg>
  );
}

export function StatusMark({ status }: { status: Status }) {
  return (
    <span class={`status is-${status}`}>
      <StatusShape status={status} />
      <span>{STATUS_WORDS[status]}</span>
    </span>
  );
}
