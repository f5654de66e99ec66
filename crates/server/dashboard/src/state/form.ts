// The form that a suspended task asks for: a payload that bears a JSON schema of a flat object, as `schema` or
// `requestedSchema`, names the fields of its answer.

export interface Field {
  name: string;
  label: string;
  help: string;
  kind: 'text' | 'number' | 'yes-no' | 'choice';
  choices: string[];
  isNeeded: boolean;
  isWhole: boolean;
  initial: string;
}

interface Schema {
  type?: unknown;
  properties?: unknown;
  required?: unknown;
}

interface Property {
  type?: unknown;
  title?: unknown;
  description?: unknown;
  enum?: unknown;
  default?: unknown;
}

/** More fields than these are not asked for by hand. */
const FIELDS_MAX = 20;

/** The fields that a payload asks for; none where it has no schema, or one that is not flat. */
export function fieldsOf(payload: unknown): Field[] {
  if (typeof payload !== 'object' || payload === null) return [];
  const { requestedSchema, schema } = payload as { requestedSchema?: unknown; schema?: unknown };
  const { type, properties, required } = ((requestedSchema ?? schema) as Schema | null | undefined) ?? {};
  if (type !== 'object' || typeof properties !== 'object' || properties === null) return [];
  const needed = Array.isArray(required) ? required : [];
  const fields = Object.entries(properties).map(([name, property]) => fieldOf(name, property as Property, needed.includes(name)));
  const known = fields.filter((field) => field !== null);
  return known.length === fields.length && fields.length <= FIELDS_MAX ? known : [];
}

function fieldOf(name: string, property: Property | null, isNeeded: boolean): Field | null {
  const { type, title, description, enum: values, default: initial } = property ?? {};
  const choices = Array.isArray(values) ? values.filter((value) => typeof value === 'string') : [];
  const kind = choices.length > 0 ? 'choice' : KINDS[String(type)];
  if (kind === undefined) return null;
  return {
    name, kind, choices, isNeeded,
    isWhole: type === 'integer',
    label: typeof title === 'string' && title !== '' ? title : name,
    help: typeof description === 'string' ? description : '',
    initial: initial === undefined || typeof initial === 'object' ? '' : String(initial),
  };
}

const KINDS: Record<string, Field['kind'] | undefined> = { string: 'text', number: 'number', integer: 'number', boolean: 'yes-no' };

/** The answer that was filled in, as JSON. What was left empty and is not needed is left out. */
export function answerOf(fields: readonly Field[], filled: Readonly<Record<string, string>>): string {
  const answer: [string, unknown][] = [];
  for (const { name, kind, isNeeded } of fields) {
    const text = filled[name] ?? '';
    if (kind === 'yes-no') answer.push([name, text === 'true']);
    else if (text === '' && !isNeeded) continue;
    else answer.push([name, kind === 'number' ? Number(text) : text]);
  }
  return JSON.stringify(Object.fromEntries(answer));
}
