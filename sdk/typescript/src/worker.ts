/** The definition of a worker: the spec of a concept, and a handler for each action and query. */

import { readFileSync } from "node:fs";
import type { Db } from "mongodb";
import { Host } from "./host.js";
import { messageOf } from "./intake.js";
import { settingsFrom, type Settings } from "./settings.js";
import { Spec, type Query as QuerySpec } from "./spec.js";
import { check } from "./types.js";
import { isObject, toJson, type Json, type JsonObject } from "./value.js";
import { uuidV5 } from "./wire.js";

/** The failure that the spec declares; undoes the writes of the action. */
export class Refused extends Error {}

/** A temporary failure: the action is retried, and dead-lettered after all attempts. */
export class Retry extends Error {}

/** Not attempted, because too many similar attempts failed recently. */
export class Throttled extends Error {
  constructor(
    message: string,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
  }
}

/** An action to execute. Its secrets are in clear. */
export interface Call<Input = JsonObject> {
  /** The same at every delivery. */
  readonly id: string;
  readonly flow: string;
  readonly input: Input;
  /** Operations belong to the transaction of this action. */
  readonly db: Db;
  readonly settings: JsonObject;
  /** The client that sent the request of this flow; equal for requests of one client. */
  readonly client: string | null;
  readonly device: string | null;
  readonly position: string | null;
}

/** A query to answer. Its secrets are in clear. */
export interface Query<Input = JsonObject> {
  readonly input: Input;
  readonly db: Db;
  readonly settings: JsonObject;
}

/** An ID for a document that an action creates: the same at every delivery. */
export function newId(call: Pick<Call, "id">, kind: string): string {
  return uuidV5(call.id, kind);
}

/** The handler of an action. */
export type ActionHandler<Input = any> = (call: Call<Input>) => Promise<unknown>;
/** The handler of a query. */
export type QueryHandler<Input = any> = (query: Query<Input>) => Promise<readonly object[]>;
/** Options of {@link Worker.ofClass}. */
export interface ClassOptions<Concept = object> {
  /** Names of methods that differ from those of the spec, such as `{ _getUser: "getUser" }`. */
  methods?: Record<string, string>;
  /** Makes the instance, for example with the client of a service; `new Concept(db)` by default. */
  create?: (db: Db) => Concept;
  /** See {@link Worker.external}. */
  external?: boolean;
}

/** A worker of one concept. `spec` is the path of its spec, or the text. */
export class Worker {
  readonly spec: Spec;
  readonly actions = new Map<string, ActionHandler>();
  readonly queries = new Map<string, QueryHandler>();
  /**
   * Actions call other services with `fetch`. No transaction is open in the meantime: after each
   * response, the action runs again from the start, with the responses that it has. A redelivered
   * action may repeat its calls.
   */
  external = false;
  readonly #opens: ((db: Db) => unknown)[] = [];

  constructor(spec: string) {
    this.spec = Spec.parse(spec.includes("\n") ? spec : readFileSync(spec, "utf8"));
  }

  /**
   * A worker that runs a class: its constructor takes a `Db`, its methods one object. Actions
   * return an object, which is a failure if it has the key `error`. Queries have names with `_` and
   * return a list of objects; see {@link rowsOf} for other results.
   */
  static ofClass<Concept extends object>(
    Concept: new (db: Db, ...others: any[]) => Concept,
    spec: string,
    options: ClassOptions<Concept> = {},
  ): Worker {
    const { methods = {}, create = (db) => new Concept(db) } = options;
    const worker = new Worker(spec);
    worker.external = options.external ?? false;
    let instance: Record<string, (input: JsonObject) => unknown>;
    worker.open((db) => {
      instance = create(db) as typeof instance;
    });
    const methodOf = (name: string): string => methods[name] ?? name;
    const has = (name: string): boolean => methodOf(name) in Concept.prototype;
    for (const name of worker.spec.actions.keys()) {
      const method = methodOf(name);
      if (has(name))
        worker.action(name, async ({ input }) => resultOf(await instance[method]!(input)));
    }
    for (const [name, query] of worker.spec.queries) {
      const method = methodOf(name);
      if (has(name)) {
        worker.query(name, async ({ input }) => rowsOf(query, await instance[method]!(input)));
      }
    }
    return worker;
  }

  /** Registers the handler of an action. */
  action<Input = any>(name: string, handler: ActionHandler<Input>): this {
    this.actions.set(name, handler);
    return this;
  }

  /** Registers the handler of a query. */
  query<Input = any>(name: string, handler: QueryHandler<Input>): this {
    this.queries.set(name, handler);
    return this;
  }

  /**
   * Registers the methods with the names of actions and queries. `concert gen` writes the interface
   * of such an object.
   */
  handlers(handlers: object): this {
    const methods = handlers as Record<string, (of: unknown) => Promise<any>>;
    for (const name of this.spec.actions.keys()) {
      if (name in methods) this.action(name, (call) => methods[name]!(call));
    }
    for (const name of this.spec.queries.keys()) {
      if (name in methods) this.query(name, (query) => methods[name]!(query));
    }
    return this;
  }

  /** Runs a function when the worker starts, for example to create indexes. */
  open(prepare: (db: Db) => unknown): this {
    this.#opens.push(prepare);
    return this;
  }

  /** Compares the handlers with the spec. Throws an error that names every difference. */
  check(): void {
    const { actions, queries, name } = this.spec;
    const problems = [
      ["action", actions, this.actions] as const,
      ["query", queries, this.queries] as const,
    ].flatMap(([kind, known, found]) => [
      ...[...known.keys()]
        .filter((of) => !found.has(of))
        .map((of) => `the ${kind} \`${of}\` has no handler`),
      ...[...found.keys()]
        .filter((of) => !known.has(of))
        .map((of) => `the spec has no ${kind} \`${of}\``),
    ]);
    if (problems.length > 0) {
      throw new Error(`the worker of ${name} differs from its spec: ${problems.join("; ")}`);
    }
  }

  /** Runs the functions of {@link open}. */
  async prepare(db: Db): Promise<void> {
    for (const open of this.#opens) await open(db);
  }

  /** Runs until the signal, and finishes the actions in progress. */
  async run(settings: Settings, stop: AbortSignal): Promise<void> {
    this.check();
    await Host.run(this, settings, stop);
  }

  /** Runs until SIGTERM or SIGINT, with settings from the environment. */
  async main(): Promise<void> {
    const stop = new AbortController();
    for (const signal of ["SIGTERM", "SIGINT"]) process.once(signal, () => stop.abort());
    try {
      await this.run(settingsFrom(), stop.signal);
      process.exit(0);
    } catch (error) {
      console.error(`the worker of ${this.spec.name} stopped: ${messageOf(error)}`);
      process.exit(1);
    }
  }
}

/** The output in the result of a method: an error is alone, and a list has its only element. */
export function resultOf(result: unknown): unknown {
  const output = Array.isArray(result) && result.length <= 1 ? (result[0] ?? {}) : result;
  if (typeof output !== "object" || output === null || !("error" in output)) return output ?? {};
  const { error, ...others } = output;
  return error === undefined || error === null || error === "" ? others : { error: String(error) };
}

/**
 * The rows in the result of a method: one object is one row, null and an error are no row. If the
 * spec declares exactly one row with one output that accepts null, null is that row.
 */
export function rowsOf(query: QuerySpec, result: unknown): JsonObject[] {
  const [first, second] = query.output.params;
  const only = first && !second ? first : null;
  const isValue = query.rows === "one" && only !== null && check(only.type, null) === null;
  if (!isValue && (result === null || result === undefined)) return [];
  const found = toJson(Array.isArray(result) ? result : [result]) as Json[];
  const row = (of: Json): JsonObject =>
    only && !isObject(of) ? { [only.name]: of } : (of as JsonObject);
  const isError = (of: Json): boolean => isObject(of) && Object.keys(of).join() === "error";
  return found.filter((of) => !isError(of)).map(row);
}
