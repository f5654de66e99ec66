// JSON that is shown as it was sent: a number that JavaScript cannot hold keeps its digits.

/** A number as it was written, such as 12345678901234567890 or 1e999. */
export class ExactNumber {
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }

  toJSON(): unknown {
    const raw = (JSON as { rawJSON?: (text: string) => unknown }).rawJSON;
    return raw ? raw(this.source) : Number(this.source);
  }
}

/** Longer digits than these may say more than a double holds. */
const MAYBE_INEXACT = /[0-9]{16}|[0-9][eE]/;

type Reviver = (this: unknown, key: string, value: unknown, context?: { source?: string }) => unknown;

export function parseExactly(text: string): unknown {
  if (!MAYBE_INEXACT.test(text)) return JSON.parse(text);
  const revive: Reviver = (_key, value, context) => {
    if (typeof value !== 'number' || context?.source === undefined) return value;
    return isExact(value, context.source) ? value : new ExactNumber(context.source);
  };
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown);
}

function isExact(value: number, source: string): boolean {
  return String(value) === source || (Number.isFinite(value) && !/[0-9]{16}/.test(source));
}

/** A value as JSON, for reading (indented) or on one line. */
export function textOfJson(value: unknown, indent?: number): string {
  try {
    return JSON.stringify(value, null, indent) ?? '';
  } catch {
    return '(nested too deeply to be shown)';
  }
}
