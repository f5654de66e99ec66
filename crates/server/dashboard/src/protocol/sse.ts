// Reads server-sent events from a text that comes in pieces.
//
// Each block that ends with an empty line is handed on, with its `id` if it has one: also a block that is an `id`
// alone, which an EventSource would swallow. It is how a stream says that a snapshot is over, and how its cursor
// moves while nothing matches.

export interface Block {
  data: string;
  id: string | null;
}

const COLON = 58;
const SPACE = 32;
const RETURN = 13;

export class BlockReader {
  /** A line whose end has not come: put together once, because one of a mebibyte comes in many pieces. */
  #rest: string[] = [];
  #data = '';
  #hasData = false;
  #id: string | null = null;
  readonly #take: (block: Block) => void;

  constructor(take: (block: Block) => void) {
    this.#take = take;
  }

  push(piece: string): void {
    if (!piece.includes('\n')) {
      this.#rest.push(piece);
      return;
    }
    const text = this.#rest.length === 0 ? piece : this.#rest.join('') + piece;
    let start = 0;
    let end = text.indexOf('\n');
    while (end !== -1) {
      const stop = end > start && text.charCodeAt(end - 1) === RETURN ? end - 1 : end;
      this.#line(text, start, stop);
      start = end + 1;
      end = text.indexOf('\n', start);
    }
    this.#rest = start === text.length ? [] : [text.slice(start)];
  }

  #line(text: string, start: number, stop: number): void {
    if (start === stop) {
      this.#end();
    } else if (text.charCodeAt(start) === COLON) {
      return;
    } else if (text.startsWith('data:', start)) {
      const value = valueOf(text, start + 5, stop);
      this.#data = this.#hasData ? `${this.#data}\n${value}` : value;
      this.#hasData = true;
    } else if (text.startsWith('id:', start)) {
      this.#id = valueOf(text, start + 3, stop);
    }
  }

  #end(): void {
    if (!this.#hasData && this.#id === null) return;
    const block = { data: this.#data, id: this.#id };
    this.#data = '';
    this.#hasData = false;
    this.#id = null;
    this.#take(block);
  }
}

function valueOf(text: string, start: number, stop: number): string {
  return text.slice(text.charCodeAt(start) === SPACE ? start + 1 : start, stop);
}
