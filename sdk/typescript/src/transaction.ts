/** The operations of an action in its MongoDB transaction. */

import { MongoError, type ClientSession } from "mongodb";
import { sleep } from "./bus.js";
import type { Calls } from "./external.js";

const DUPLICATE_KEY = 11000;
const CLOSE_MS = 5000;

/** A duplicate key that a handler caught; the next run raises it again without the operation. */
export interface Caught {
  operation: string;
  error: MongoError;
}

/** The transaction of the action that runs now. */
export class Transaction {
  hasWritten = false;
  /** The class aborted the transaction that it believes to have; see `clientOf`. */
  isRolledBack = false;
  readonly errors: MongoError[] = [];
  #last: Promise<unknown> = Promise.resolve();
  #number = 0;
  #isClosed = false;

  constructor(
    readonly session: ClientSession,
    readonly caught: Map<number, Caught>,
    readonly calls: Calls | null,
  ) {}

  /** Runs an operation after the others: a session does not support concurrent ones. */
  run<T>(name: string, operation: () => Promise<T>): Promise<T> {
    const number = this.#number++;
    const known = this.caught.get(number);
    const result = this.#last.then(() => {
      if (this.#isClosed) return new Promise<never>(() => {});
      if (known?.operation === name) throw known.error;
      return operation();
    });
    this.#last = result.catch((error: unknown) => {
      if (!(error instanceof MongoError) || error === known?.error) return;
      this.errors.push(error);
      if (isDuplicate(error)) this.caught.set(number, { operation: name, error });
    });
    return result;
  }

  /** Reports whether the first error of this run is a duplicate key: the action must run again. */
  hasCaught(): boolean {
    const [first] = this.errors;
    return first !== undefined && isDuplicate(first);
  }

  /** Waits for the operations that were started. */
  async idle(): Promise<void> {
    let last;
    do {
      last = this.#last;
      await last;
    } while (last !== this.#last);
  }

  /** Waits for the operation in progress; later ones never run. */
  async close(): Promise<void> {
    const last = this.#last;
    this.#isClosed = true;
    await Promise.race([last, sleep(CLOSE_MS)]);
  }
}

/** Reports whether another document has the key. */
export function isDuplicate(error: MongoError): boolean {
  return error.code === DUPLICATE_KEY;
}
