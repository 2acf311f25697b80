/** Turns of redelivered actions: an isolated attempt runs without other redelivered actions. */

const LONGEST_MS = 8000;

/** Admits one isolated attempt at a time. No turn is waited for longer than 8 s. */
export class Turns {
  #shared = 0;
  #isIsolated = false;
  #isolated: Promise<void> = Promise.resolve();
  #waiting = new Set<() => void>();

  /** Waits for a turn. The result ends it. */
  async next(isolated: boolean): Promise<() => void> {
    if (!isolated) {
      await this.#until(() => !this.#isIsolated);
      this.#shared++;
      return () => this.#change(() => this.#shared--);
    }
    const before = this.#isolated;
    let release = (): void => {};
    this.#isolated = new Promise((resolve) => (release = resolve));
    await before;
    this.#isIsolated = await this.#until(() => this.#shared === 0);
    return () => {
      this.#change(() => (this.#isIsolated = false));
      release();
    };
  }

  #change(change: () => void): void {
    change();
    for (const check of [...this.#waiting]) check();
  }

  #until(isFree: () => boolean): Promise<boolean> {
    if (isFree()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (result: boolean): void => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        resolve(result);
      };
      const check = (): void => {
        if (isFree()) end(true);
      };
      const timer = setTimeout(() => end(false), LONGEST_MS);
      this.#waiting.add(check);
    });
  }
}
