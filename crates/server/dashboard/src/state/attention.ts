// A tab that is not looked at gives its connections back after a while: a browser has but six for one server, and
// every tab of ours holds one. Its streams go on from their cursors as soon as it is looked at.

export interface Pausable {
  pause(): void;
  resume(): void;
}

const HIDDEN_MS = 20_000;
const open = new Set<Pausable>();

/** Has it paused and resumed, until the function that this gives is called. */
export function pauseWhenHidden(stream: Pausable): () => void {
  open.add(stream);
  return () => open.delete(stream);
}

export function watchAttention(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener('visibilitychange', () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(() => open.forEach((stream) => stream.pause()), HIDDEN_MS);
    else open.forEach((stream) => stream.resume());
  });
  addEventListener('online', () => open.forEach((stream) => stream.resume()));
}
