/** The concept as a NATS micro service: queries, and injected actions. */

import { nuid, type Msg, type Subscription } from "@nats-io/transport-node";
import { encode, headersOf, within } from "./bus.js";
import type { Host } from "./host.js";
import { hasOperator, messageOf, openSecrets, OPERATOR, record, sealSecrets } from "./intake.js";
import { Broken, Expired, FORGED, holdsReference, NOT_ACCEPTED } from "./large.js";
import { Room } from "./room.js";
import { UnknownKey } from "./seal.js";
import { rowMistakes } from "./spec.js";
import { isObject, parseObject, toJson, type Json, type JsonObject } from "./value.js";
import * as wire from "./wire.js";

const VERSION = "0.1.0";
const QUEUE = "q";
/** Endpoint of queries with several inputs. */
const BATCH = "query-batch";
/** Maximum number of a batch's inputs that run concurrently. */
const BATCH_CONCURRENCY = 32;
const TOO_LARGE = "the results of the batch are too large for one message";
const TYPE = "io.nats.micro.v1.";

class ServiceError extends Error {
  constructor(
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

/** The endpoints of a worker. */
export class Service {
  readonly #host: Host;
  readonly #id = nuid.next();
  readonly #started = new Date().toISOString();
  readonly #requests = new Map<string, number>();
  readonly #actions: Room;
  readonly #queries: Room;
  readonly #subscriptions: Subscription[] = [];

  private constructor(host: Host) {
    this.#host = host;
    this.#actions = new Room(host.settings.concurrency);
    this.#queries = new Room(host.settings.concurrency);
  }

  /** Registers an endpoint for each action and query. */
  static async start(host: Host): Promise<Service> {
    const service = new Service(host);
    const { name, actions, queries } = host.worker.spec;
    for (const verb of ["PING", "INFO", "STATS"]) {
      for (const whose of ["", `.${name}`, `.${name}.${service.#id}`]) {
        service.#subscribe(`$SRV.${verb}${whose}`, null, (message) => {
          message.respond(encode(service.#about(verb)));
        });
      }
    }
    const batch = queries.size > 0 ? [BATCH] : [];
    for (const endpoint of [...actions.keys(), ...queries.keys(), ...batch]) {
      service.#requests.set(endpoint, 0);
      service.#subscribe(`concept.${name}.${endpoint}`, QUEUE, (message) => {
        service.#requests.set(endpoint, service.#requests.get(endpoint)! + 1);
        void host.spawn(service.#answer(endpoint, message));
      });
    }
    await host.bus.client.flush();
    return service;
  }

  /** Removes the endpoints; requests in progress continue. */
  stop(): void {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
  }

  #subscribe(subject: string, queue: string | null, take: (message: Msg) => void): void {
    const callback = (error: Error | null, message: Msg): void => {
      if (error) console.warn(`the subscription of ${subject} failed: ${error.message}`);
      else take(message);
    };
    const options = queue === null ? { callback } : { callback, queue };
    this.#subscriptions.push(this.#host.bus.client.subscribe(subject, options));
  }

  #about(verb: string): JsonObject {
    const { spec } = this.#host.worker;
    const of = {
      name: spec.name,
      id: this.#id,
      version: VERSION,
      metadata: {
        "concert-protocol": String(wire.PROTOCOL),
        "concert-spec": spec.hash(),
        "concert-timeout-ms": String(this.#host.settings.requestTimeoutMs),
      },
    };
    const endpoints = [...this.#requests].map(([name, count]) => ({
      name,
      subject: `concept.${spec.name}.${name}`,
      queue_group: QUEUE,
      ...(verb === "STATS"
        ? { num_requests: count, num_errors: 0, processing_time: 0, average_processing_time: 0 }
        : {}),
    }));
    const type = `${TYPE}${verb.toLowerCase()}_response`;
    if (verb === "PING") return { type, ...of };
    if (verb === "INFO") return { type, ...of, description: spec.purpose, endpoints };
    return { type, ...of, started: this.#started, endpoints };
  }

  async #answer(name: string, message: Msg): Promise<void> {
    const began = performance.now();
    const isBatch = name === BATCH;
    const isQuery = isBatch || name.startsWith("_");
    try {
      const room = isQuery ? this.#queries : this.#actions;
      const [flow, output] = await room.within(() => {
        if (isBatch) return this.#askEach(message);
        return isQuery ? this.#ask(name, message) : this.#inject(name, message);
      });
      const body = encode(output);
      const most = this.#host.bus.maxBytes;
      if (body.length > most) {
        // The caller runs the query once for each input.
        if (isBatch) throw new ServiceError(413, TOO_LARGE);
        const why = `the response of ${name} has ${body.length} bytes; the maximum is ${most}`;
        throw new ServiceError(500, why);
      }
      const work = String(Math.round((performance.now() - began) * 1000));
      const headers = headersOf({ [wire.HEADERS.flow]: flow, [wire.HEADERS.work]: work });
      message.respond(body, { headers });
    } catch (error) {
      const code = error instanceof ServiceError ? error.code : 500;
      if (code === 500) console.error(`${name} failed:`, error);
      const why = code === 500 && !(error instanceof ServiceError) ? `${name} failed` : messageOf(error);
      const headers = headersOf({
        "Nats-Service-Error": wire.oneLine(why),
        "Nats-Service-Error-Code": String(code),
      });
      message.respond("", { headers });
    }
  }

  /** Runs a query for the input of a message. */
  async #ask(name: string, message: Msg): Promise<[string, JsonObject]> {
    const named = flowOf(message);
    const flow = named ?? wire.newFlow(Date.now());
    const rows = await this.#rows(name, flow, named === null, () => parseObject(message.data));
    return [flow, { rows }];
  }

  /** Runs a query for each input of a batch. One that fails fails the batch. */
  async #askEach(message: Msg): Promise<[string, JsonObject]> {
    const flow = flowOf(message);
    if (flow === null) {
      const why = `a batch needs the header ${wire.HEADERS.flow}; send one input to the query`;
      throw new ServiceError(400, why);
    }
    const { query, inputs } = batchOf(message);
    const results = await eachWithin(BATCH_CONCURRENCY, inputs, (input) =>
      this.#rows(query, flow, false, () => input),
    );
    return [flow, { results }];
  }

  /** The rows of one input, as they are sent. A manual request has no flow. */
  async #rows(
    name: string,
    flow: string,
    isManual: boolean,
    read: () => JsonObject,
  ): Promise<JsonObject[]> {
    const { worker, sealer, settings, database } = this.#host;
    const spec = worker.spec.queries.get(name);
    if (!spec) throw new ServiceError(400, `${worker.spec.name} has no query \`${name}\``);
    let input: JsonObject;
    try {
      input = openSecrets(sealer, flow, spec.input, read());
    } catch (error) {
      const code = error instanceof UnknownKey && !isManual ? 503 : 400;
      throw new ServiceError(code, messageOf(error));
    }
    const mistakes = spec.input.mistakes(input) ?? (hasOperator(input) ? OPERATOR : null);
    if (mistakes) throw new ServiceError(400, mistakes);
    if (isManual && holdsReference(input)) throw new ServiceError(400, NOT_ACCEPTED);
    input = await this.#large(() => this.#host.resolved(input));
    const tooLong = spec.input.mistakes(input);
    if (tooLong) throw new ServiceError(400, tooLong);
    const handler = worker.queries.get(name)!;
    const run = async (): Promise<{ of: unknown }> => ({
      of: await handler({ input, db: database.proxy, settings: settings.own }),
    });
    const found = await within(run(), settings.requestTimeoutMs).catch((error: unknown) => {
      console.error(`the query ${name} failed:`, error);
      const isDatabase = error instanceof Error && error.name.startsWith("Mongo");
      throw new ServiceError(isDatabase ? 503 : 500, `the handler of ${name} failed`);
    });
    if (found === null) throw new ServiceError(503, `${name} has no result yet`);
    const rows = rowsIn(name, found.of);
    const wrong = holdsReference(rows) ? FORGED : rowMistakes(spec, rows);
    if (wrong) throw new ServiceError(500, wrong);
    const sealed = rows.map((row) => sealSecrets(sealer, flow, spec.output, row));
    // The caller of a manual request gets whole texts.
    return isManual ? sealed : this.#large(() => this.#host.stored(sealed));
  }

  /** Reads or stores large values. */
  async #large<T>(run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      const code = error instanceof Expired ? 410 : error instanceof Broken ? 500 : 503;
      throw new ServiceError(code, messageOf(error));
    }
  }

  async #inject(name: string, message: Msg): Promise<[string, JsonObject]> {
    const { worker, sealer, settings, bus } = this.#host;
    const spec = worker.spec.actions.get(name)!;
    let input: JsonObject;
    try {
      input = parseObject(message.data);
    } catch (error) {
      throw new ServiceError(400, messageOf(error));
    }
    const mistakes = holdsReference(input) ? NOT_ACCEPTED : spec.input.mistakes(input);
    if (mistakes) throw new ServiceError(400, mistakes);
    const flow = wire.newFlow(Date.now());
    const sealed = record(sealer, { flow, id: flow }, spec.input, input);
    const inbox = bus.newInbox();
    const answers = bus.client.subscribe(inbox, { max: 1, timeout: settings.requestTimeoutMs });
    try {
      const subject = wire.invocation(worker.spec.name, name, flow);
      const headers = { [wire.HEADERS.flow]: flow, [wire.HEADERS.reply]: inbox };
      const stored = await bus.publishOnce(subject, sealed, headers);
      if (stored.published !== "stored") {
        throw new ServiceError(503, "why" in stored ? stored.why : "the action cannot be stored");
      }
      for await (const answer of answers) return [flow, parseObject(answer.data)];
    } catch (error) {
      if (!(error instanceof Error) || error.name !== "TimeoutError") throw error;
    } finally {
      answers.unsubscribe();
    }
    throw new ServiceError(504, "timed out waiting for the action; it may still complete");
  }
}

/** The flow in the header of a request; `null` for a manual one. */
function flowOf(message: Msg): string | null {
  const flow = message.headers?.get(wire.HEADERS.flow) || null;
  if (flow === null || wire.isId(flow)) return flow;
  throw new ServiceError(400, `the header ${wire.HEADERS.flow} is not a UUID`);
}

/** Query and inputs of a batch. */
function batchOf(message: Msg): { query: string; inputs: JsonObject[] } {
  let why = "a batch has a query and a list of its inputs";
  try {
    const { query, inputs } = parseObject(message.data);
    if (typeof query === "string" && Array.isArray(inputs) && inputs.every(isObject)) {
      return { query, inputs };
    }
  } catch (error) {
    why = messageOf(error);
  }
  throw new ServiceError(400, `not a batch of a query's inputs: ${why}`);
}

/** The rows that a handler returned, as JSON. */
function rowsIn(name: string, found: unknown): JsonObject[] {
  let rows: Json;
  try {
    rows = toJson(found);
  } catch (error) {
    throw new ServiceError(500, `the rows of ${name} do not fit the spec: ${messageOf(error)}`);
  }
  if (Array.isArray(rows) && rows.every(isObject)) return rows;
  throw new ServiceError(500, `the handler of ${name} must return a list of objects`);
}

/** The results for all items, in order. `most` of them run at a time; an error ends all. */
export async function eachWithin<T, R>(
  most: number,
  items: readonly T[],
  run: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const runner = async (): Promise<void> => {
    while (next < items.length) {
      const at = next++;
      try {
        results[at] = await run(items[at]!);
      } catch (error) {
        next = items.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, runner));
  return results;
}
