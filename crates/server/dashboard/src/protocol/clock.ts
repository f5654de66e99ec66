// The server's time, as far as it can be known: elapsed times are counted by it, not by this machine's clock.

/** A difference below this is the `Date` header's own coarseness and the way here. */
const NOTABLE_MS = 2_000;

let ahead = 0;

/** Takes note of an answer's `Date`. */
export function noteServerTime(date: string | null, now = Date.now()): void {
  const at = date === null ? Number.NaN : Date.parse(date);
  if (Number.isNaN(at)) return;
  // The header is cut to whole seconds: on average half a second is missing.
  const difference = at + 500 - now;
  ahead = Math.abs(difference) < NOTABLE_MS ? 0 : difference;
}

/** Now, as the server would say, in milliseconds since 1970. */
export function serverNow(): number {
  return Date.now() + ahead;
}
