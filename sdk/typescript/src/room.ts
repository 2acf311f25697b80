/** Limits concurrent work; further callers wait. */
export class Room {
  readonly #waiting: (() => void)[] = [];

  constructor(private free: number) {}

  async within<T>(run: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await run();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.free++;
    }
  }
}
