/** One MongoDB transaction for each action, with a stamp that holds its output. */

import { AsyncLocalStorage } from "node:async_hooks";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  MongoClient,
  MongoError,
  MongoServerError,
  type Collection,
  type Db,
  type MongoClientOptions,
} from "mongodb";
import { sleep } from "./bus.js";
import { Calls, interceptFetch } from "./external.js";
import { isDuplicate, Transaction, type Caught } from "./transaction.js";
import { parseKeyring, password } from "./seal.js";
import type { Settings } from "./settings.js";
import type { JsonObject } from "./value.js";

const STAMPS = "concert_stamps";
/** A flow of a repeatable request can be a day older than the log; an hour covers clock differences. */
const MARGIN_H = 25;
const CONFLICTS_MS = 5000;
/**
 * A killed process leaves its transaction open, which locks documents for a minute. A transaction
 * that is in the way and had no operation for this long is ended.
 */
const INACTIVE_MS = 5000;
const END_INTERVAL_MS = 1000;
const START_MS = 30_000;
/** Maximum number of duplicate keys that a handler may catch in one run. */
const MAX_CAUGHT = 20;
const MAJORITY = { w: "majority", journal: true } as const;

/** Operations of an action, with the position of their options. */
const READS = { find: 1, findOne: 1, aggregate: 1, countDocuments: 1, distinct: 2 };
const WRITES = {
  insertOne: 1,
  insertMany: 1,
  updateOne: 2,
  updateMany: 2,
  replaceOne: 2,
  deleteOne: 1,
  deleteMany: 1,
  findOneAndUpdate: 2,
  findOneAndReplace: 2,
  findOneAndDelete: 1,
  bulkWrite: 1,
};
const OPTIONS = new Map(Object.entries({ ...READS, ...WRITES }));
/** Outside the transaction, which does not support them. */
const OUTSIDE = new Set([
  ...["createIndex", "createIndexes", "dropIndex", "dropIndexes", "listIndexes", "indexes"],
  ...["indexExists", "estimatedDocumentCount", "createCollection", "listCollections"],
]);

/** The attempt failed and is retried. */
export class Failed extends Error {}

/** Another transaction holds the documents; the action is retried without limit. */
export class Busy extends Error {}

const current = new AsyncLocalStorage<Transaction>();
let intercepts = false;

type Methods = Record<string | symbol, unknown>;

/** A property of an object; methods stay bound to it, because they use private members. */
function property(target: object, name: string | symbol): unknown {
  const value = (target as Methods)[name];
  return typeof value === "function" ? value.bind(target) : value;
}

/** A database whose operations belong to the transaction of the action that runs. */
function proxyOf(db: Db): Db {
  return new Proxy(db, {
    get(target, name) {
      if (name === "collection") {
        return (...args: Parameters<Db["collection"]>) =>
          collectionProxy(target.collection(...args));
      }
      const value = property(target, name);
      if (typeof value !== "function" || !current.getStore() || OUTSIDE.has(String(name))) {
        return value;
      }
      throw new Failed(`the operation ${String(name)} of a Db is not available in a transaction`);
    },
  });
}

function collectionProxy(collection: Collection): Collection {
  return new Proxy(collection, {
    get(target, name) {
      const value = property(target, name);
      const transaction = current.getStore();
      if (typeof value !== "function" || !transaction || OUTSIDE.has(String(name))) return value;
      const at = OPTIONS.get(String(name));
      if (at === undefined) {
        throw new Failed(`the operation ${String(name)} is not available in a transaction`);
      }
      return (...args: unknown[]) => {
        const options = { ...(args[at] as object | undefined), session: transaction.session };
        const given = [
          ...args.slice(0, at),
          ...Array(Math.max(0, at - args.length)).fill(undefined),
        ];
        if (name === "find" || name === "aggregate") {
          return cursorProxy(value(...given.map((of) => of ?? empty(name)), options), transaction);
        }
        transaction.hasWritten ||= String(name) in WRITES;
        const operation = `${target.collectionName}.${String(name)}`;
        return transaction.run(operation, async () =>
          value(...given.map((of) => of ?? {}), options),
        );
      };
    },
  });
}

/**
 * A client for classes that make transactions of their own. Their operations belong to the
 * transaction of the action; an aborted transaction undoes all writes of the action.
 */
export function clientOf(db: Db): MongoClient {
  const session = {
    startTransaction: () => {},
    inTransaction: () => current.getStore() !== undefined,
    commitTransaction: async () => {},
    abortTransaction: async () => {
      const transaction = current.getStore();
      if (transaction) transaction.isRolledBack = true;
    },
    withTransaction: async <T>(run: (session: unknown) => Promise<T>): Promise<T> => run(session),
    endSession: async () => {},
  };
  const client = {
    db: () => db,
    startSession: () => session,
    withSession: async <T>(run: (session: unknown) => Promise<T>): Promise<T> => run(session),
  };
  return client as unknown as MongoClient;
}

function empty(name: string): object {
  return name === "aggregate" ? [] : {};
}

/** A cursor whose reads wait for the other operations of the transaction. */
function cursorProxy(cursor: object, transaction: Transaction): object {
  const next = (): Promise<unknown> =>
    transaction.run("next", async () => (cursor as { next(): Promise<unknown> }).next());
  const proxy: object = new Proxy(cursor, {
    get(target, name) {
      if (name === "next") return next;
      if (name === Symbol.asyncIterator) {
        return async function* () {
          for (let row = await next(); row !== null; row = await next()) yield row;
        };
      }
      if (name === "forEach") {
        return async (each: (row: unknown) => unknown) => {
          for (let row = await next(); row !== null; row = await next()) {
            if (each(row) === false) return;
          }
        };
      }
      const value = property(target, name);
      if (typeof value !== "function") return value;
      if (["toArray", "hasNext", "tryNext", "count", "explain"].includes(String(name))) {
        return (...args: unknown[]) => transaction.run(String(name), async () => value(...args));
      }
      return (...args: unknown[]) => {
        const result: unknown = value(...args);
        return result === target ? proxy : result;
      };
    },
  });
  return proxy;
}

interface Stamp {
  _id: string;
  output: string;
  at: Date;
  purge_at: Date;
}

/** The database of a concept. */
export class Database {
  /** For handlers: operations of an action belong to its transaction. */
  readonly proxy: Db;
  readonly #client: MongoClient;
  readonly #db: Db;
  readonly #app: string;
  readonly #keptMs: number;
  #endedAt = 0;

  private constructor(client: MongoClient, db: Db, app: string, logMaxAgeHours: number) {
    this.#client = client;
    this.#db = db;
    this.#app = app;
    this.#keptMs = (logMaxAgeHours + MARGIN_H) * 3_600_000;
    this.proxy = proxyOf(db);
  }

  /** Connects, and waits until the server responds. */
  static async connect(settings: Settings, concept: string): Promise<Database> {
    const owner = concept.toLowerCase();
    const name = `${settings.databasePrefix}_${owner}`;
    const appName = `concert-${owner}`;
    const deadline = performance.now() + START_MS;
    for (;;) {
      let failure: unknown;
      for (const user of users(settings, owner, name)) {
        const client = new MongoClient(settings.mongodbUri, {
          appName,
          serverSelectionTimeoutMS: 5000,
          retryWrites: false,
          readPreference: "primary",
          readConcernLevel: "majority",
          writeConcern: MAJORITY,
          ...user,
        });
        try {
          const db = client.db(name);
          await db.command({ ping: 1 });
          const stamps = db.collection(STAMPS);
          await stamps.createIndex({ purge_at: 1 }, { expireAfterSeconds: 0 });
          return new Database(client, db, appName, settings.logMaxAgeHours);
        } catch (error) {
          failure = error;
          await client.close();
        }
      }
      if (performance.now() > deadline) throw failure;
      await sleep(250);
    }
  }

  /** Closes the connection. */
  async close(): Promise<void> {
    await this.#client.close();
  }

  /**
   * Runs an action, and returns the output of its completion. `body` returns that output. If the
   * action has a stamp, `body` does not run. `permit` throws if this delivery must not write. If
   * the action is `external`, its calls with `fetch` are made between transactions.
   *
   * Throws {@link Failed}, {@link Busy}, or an error of `body` or `permit`.
   */
  async transact(
    action: string,
    permit: () => Promise<void>,
    body: () => Promise<JsonObject>,
    external = false,
  ): Promise<JsonObject> {
    if (external && !intercepts) {
      intercepts = true;
      interceptFetch(() => current.getStore()?.calls ?? null);
    }
    const calls = external ? new Calls() : null;
    const caught = new Map<number, Caught>();
    let deadline = performance.now() + CONFLICTS_MS;
    for (let delay = 2; ; delay = Math.min(delay * 2, 250)) {
      const known = caught.size;
      try {
        const output = await this.#attempt(action, permit, body, caught, calls);
        if (output !== null) return output;
        if (caught.size > MAX_CAUGHT) {
          throw new Failed(
            `the handler catches ${MAX_CAUGHT} duplicate keys; look up keys before writes`,
          );
        }
        if (caught.size === known) await calls?.make();
        deadline = performance.now() + CONFLICTS_MS;
        continue;
      } catch (error) {
        if (!(error instanceof MongoError)) throw error;
        const isTaken = isDuplicate(error) && error.message.includes(STAMPS);
        if (!error.hasErrorLabel("TransientTransactionError") && !isTaken) {
          throw new Failed(`MongoDB: ${textOf(error)}`);
        }
        // The other document with the key may be gone in the next run.
        caught.clear();
        if (performance.now() > deadline) {
          throw new Busy(`another action holds the documents: ${textOf(error)}`);
        }
      }
      // Another action wrote the same document, or another delivery committed.
      await sleep(delay * (0.5 + Math.random() / 2));
      if (performance.now() - this.#endedAt > END_INTERVAL_MS) {
        this.#endedAt = performance.now();
        await this.#endAbandoned();
      }
    }
  }

  /** One run; `null` if the action must run again with what `caught` and `calls` contain now. */
  async #attempt(
    action: string,
    permit: () => Promise<void>,
    body: () => Promise<JsonObject>,
    caught: Map<number, Caught>,
    calls: Calls | null,
  ): Promise<JsonObject | null> {
    const stamps = this.#db.collection<Stamp>(STAMPS);
    const session = this.#client.startSession();
    try {
      session.startTransaction({
        readConcern: { level: "snapshot" },
        writeConcern: MAJORITY,
        readPreference: "primary",
      });
      const stamp = await stamps.findOne({ _id: action }, { session });
      if (stamp) return JSON.parse(stamp.output) as JsonObject;
      const known = new Map(caught);
      const transaction = new Transaction(session, caught, calls);
      const suspended = calls?.begin().then(() => null);
      const running = current.run(transaction, body);
      let output: JsonObject | null;
      try {
        output = await (suspended ? Promise.race([running, suspended]) : running);
      } catch (error) {
        await transaction.idle();
        // Later errors follow from the duplicate key, which ended the transaction.
        if (transaction.hasCaught()) return null;
        throw error;
      }
      if (output === null) {
        running.catch(() => {});
        await transaction.close();
        caught.clear();
        for (const [number, of] of known) caught.set(number, of);
        return null;
      }
      await transaction.idle();
      if (transaction.hasCaught()) return null;
      const { errors, hasWritten } = transaction;
      const [first] = errors;
      if (first?.hasErrorLabel("TransientTransactionError")) throw first;
      if (first) throw new Failed(`MongoDB: ${textOf(first)}`);
      if (!hasWritten || transaction.isRolledBack || "fault" in output) return output;
      await permit();
      const at = new Date();
      const purge_at = new Date(at.getTime() + this.#keptMs);
      await stamps.insertOne(
        { _id: action, output: JSON.stringify(output), at, purge_at },
        { session },
      );
      await session.commitTransaction();
      return output;
    } finally {
      await session.endSession();
    }
  }

  /** Ends transactions of killed processes. A MongoDB user may end its own sessions. */
  async #endAbandoned(): Promise<void> {
    const inactive = { $gt: INACTIVE_MS * 1000 };
    const admin = this.#client.db("admin");
    try {
      const found = await admin
        .aggregate<{ lsid: { id: unknown } }>(
          [
            { $currentOp: { allUsers: false, idleSessions: true } },
            { $match: { appName: this.#app, "transaction.timeInactiveMicros": inactive } },
          ],
          { readConcern: { level: "local" } },
        )
        .toArray();
      const sessions = found.map(({ lsid: { id } }) => ({ id }));
      if (sessions.length > 0) await admin.command({ killSessions: sessions });
    } catch (error) {
      console.warn(`cannot end abandoned transactions: ${String(error)}`);
    }
  }
}

/** The message of an error without values of documents. */
function textOf(error: MongoError): string {
  return error instanceof MongoServerError ? `code ${error.code}` : error.message;
}

function users(settings: Settings, owner: string, name: string): MongoClientOptions[] {
  const path = join(settings.keys, "mongo", `${owner}.key`);
  if (!existsSync(path)) return [{}];
  return [...parseKeyring(readFileSync(path, "utf8"))].map(([id, key]) => ({
    auth: { username: `${owner}_${id}`, password: password(key) },
    authSource: name,
    authMechanism: "SCRAM-SHA-256",
  }));
}
