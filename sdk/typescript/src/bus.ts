/** NATS: the requests of a worker. */

import { readFileSync } from "node:fs";
import {
  connect,
  createInbox,
  credsAuthenticator,
  headers as newHeaders,
  nkeyAuthenticator,
  type Authenticator,
  type Msg,
  type NatsConnection,
  type Subscription,
} from "@nats-io/transport-node";
import { messageOf } from "./intake.js";
import { STREAM } from "./large.js";
import type { Found, Published } from "./order.js";
import type { Settings } from "./settings.js";
import { isObject, parseObject, type JsonObject } from "./value.js";
import { EXPECTED_SEQUENCE } from "./wire.js";

const TIMEOUT_MS = 5000;
const START_MS = 60_000;
const EXPIRES_MS = 1000;
const WRONG_LAST_SEQUENCE = 10071;
/** Part of the maximum message size that is reserved for headers, in bytes. */
export const HEADERS_BYTES = 1024;

/** A request to NATS has no result. */
export class BusError extends Error {}

/** Position and delivery count of a message, from its reply subject. */
export interface Info {
  stream: string;
  delivered: number;
  sequence: bigint;
  timestampNs: bigint;
}

/** Reads the reply subject of a message. Throws {@link BusError}. */
export function infoOf(message: Msg): Info {
  const tokens = (message.reply ?? "").split(".");
  const [stream, , delivered, sequence, , timestamp] = tokens.slice(tokens.length === 9 ? 2 : 4);
  if (stream === undefined || sequence === undefined || timestamp === undefined) {
    throw new BusError(`the message has no stream position: ${message.reply}`);
  }
  return {
    stream,
    delivered: Number(delivered),
    sequence: BigInt(sequence),
    timestampNs: BigInt(timestamp),
  };
}

/** A connection. */
export class Bus {
  private constructor(
    readonly client: NatsConnection,
    readonly prefix: string,
    readonly inboxPrefix: string,
  ) {}

  /** Connects, and waits for a server that starts. */
  static async connect(settings: Settings, name: string): Promise<Bus> {
    const inboxPrefix = `_INBOX.${name}`;
    const client = await connect({
      servers: settings.natsUrl.split(",").map((url) => url.trim()),
      name,
      inboxPrefix,
      authenticator: authenticators(settings),
      // During a key rotation, the server may know only some of the keys; each is tried in turn.
      ignoreAuthErrorAbort: true,
      waitOnFirstConnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 250,
      pingInterval: 10_000,
      ...(settings.natsCa ? { tls: { caFile: settings.natsCa } } : {}),
    });
    return new Bus(client, settings.natsApi, inboxPrefix);
  }

  /** A new subject below the inbox prefix of this connection. */
  newInbox(): string {
    return createInbox(this.inboxPrefix);
  }

  /** Maximum size of a body, in bytes. */
  get maxBytes(): number {
    return (this.client.info?.max_payload ?? 1024 * 1024) - HEADERS_BYTES;
  }

  /** A request of the JetStream API. Throws {@link BusError}. */
  async api(request: string, body?: JsonObject): Promise<JsonObject> {
    const reply = await this.#request(`${this.prefix}.${request}`, body ? encode(body) : "");
    const response = parseObject(reply.data);
    const { error } = response;
    if (isObject(error)) throw new BusError(`${request}: ${String(error["description"])}`);
    return response;
  }

  /** Waits until a router has created the log. Returns the time of its first message, in ms. */
  async waitForLog(): Promise<number> {
    const deadline = performance.now() + START_MS;
    for (;;) {
      try {
        return await this.logBeginMs();
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(100);
      }
    }
  }

  /** Time of the log's first message, in milliseconds since 1970. Throws {@link BusError}. */
  async logBeginMs(): Promise<number> {
    const info = await this.api("STREAM.INFO.COMPLETIONS");
    const state = info["state"] as JsonObject;
    const ms = (time: unknown): number => Math.max(0, Date.parse(String(time)));
    if (state["messages"] !== 0) return ms(state["first_ts"]);
    return Math.max(ms(state["last_ts"]), ms(info["created"]));
  }

  /** Looks up a completion. */
  async find(subject: string): Promise<Found> {
    let reply: Msg;
    try {
      reply = await this.#request(`${this.prefix}.DIRECT.GET.COMPLETIONS.${subject}`, "");
    } catch (error) {
      return { found: "unread", why: `cannot read the log: ${messageOf(error)}` };
    }
    const status = reply.headers?.code ?? 0;
    if (status === 404) return { found: "nothing" };
    if (status !== 0) return { found: "unread", why: `cannot read the log: status ${status}` };
    try {
      const { input, output, ...more } = parseObject(reply.data);
      if (isObject(input) && isObject(output) && Object.keys(more).length === 0) {
        return { found: "completion", completion: { input, output } };
      }
    } catch {
      // Malformed as well.
    }
    return { found: "malformed", why: "malformed completion in the log" };
  }

  /** Reads a part of a large value; `null` if it has expired. Throws {@link BusError}. */
  async blob(subject: string): Promise<Uint8Array | null> {
    const reply = await this.#request(`${this.prefix}.DIRECT.GET.${STREAM}.${subject}`, "");
    const status = reply.headers?.code ?? 0;
    if (status !== 0 && status !== 404) {
      throw new BusError(`cannot read a large value: status ${status}`);
    }
    return status === 404 ? null : reply.data;
  }

  /** Stores a part of a large value, unless it is stored. Throws {@link BusError}. */
  async storeBlob(subject: string, body: Uint8Array): Promise<void> {
    const result = await this.publish(subject, body, { [EXPECTED_SEQUENCE]: "0" });
    const isStored = result.published === "stored" || result.published === "exists";
    if (isStored) return;
    const why = "why" in result ? result.why : "the message is too large for the server";
    throw new BusError(`cannot store a large value: ${why}`);
  }

  /** Publishes on an unused subject of a stream. */
  publishOnce(subject: string, body: JsonObject, headers = {}): Promise<Published> {
    return this.publish(subject, encode(body), { ...headers, [EXPECTED_SEQUENCE]: "0" });
  }

  /** Publishes to a stream, and waits until it is stored. */
  async publish(
    subject: string,
    body: Uint8Array,
    headers: Record<string, string>,
  ): Promise<Published> {
    if (body.length > this.maxBytes) return { published: "tooLarge" };
    let response: JsonObject;
    try {
      response = parseObject((await this.#request(subject, body, headers)).data);
    } catch (error) {
      return { published: "failed", why: `no confirmation: ${messageOf(error)}` };
    }
    const { error } = response;
    if (!isObject(error)) return { published: "stored" };
    if (error["err_code"] === WRONG_LAST_SEQUENCE) return { published: "exists" };
    const why = `the stream rejects the message: ${String(error["description"])}`;
    return { published: "failed", why };
  }

  /** Deletes a note. Returns whether there was one. Throws {@link BusError}. */
  async takeNote(bucket: string, key: string): Promise<boolean> {
    const get = `${this.prefix}.DIRECT.GET.KV_${bucket}.$KV.${bucket}.${key}`;
    const status = (await this.#request(get, "")).headers?.code ?? 0;
    if (status === 404) return false;
    if (status !== 0) throw new BusError(`cannot read the note: status ${status}`);
    await this.forgetNote(bucket, key);
    return true;
  }

  /** Stores a note. Throws {@link BusError}. */
  async leaveNote(bucket: string, key: string): Promise<void> {
    const prefix = this.prefix === "$JS.API" ? "" : `${this.prefix}.`;
    const stored = await this.publish(`${prefix}$KV.${bucket}.${key}`, new Uint8Array(), {});
    if (stored.published !== "stored") throw new BusError("cannot store the note");
  }

  /** Deletes a note without a marker. Throws {@link BusError}. */
  async forgetNote(bucket: string, key: string): Promise<void> {
    await this.api(`STREAM.PURGE.KV_${bucket}`, { filter: `$KV.${bucket}.${key}` });
  }

  /** Sends an acknowledgement; a lost one costs a redelivery. */
  ack(message: Msg, kind: string): void {
    try {
      this.client.publish(message.reply!, kind);
    } catch (error) {
      console.warn(`cannot send an acknowledgement: ${messageOf(error)}`);
    }
  }

  /** Extends the ack deadline. Returns whether the server confirmed it. */
  async extend(message: Msg): Promise<boolean> {
    try {
      await this.#request(message.reply!, "+WPI");
      return true;
    } catch (error) {
      console.warn(`the server did not confirm a longer ack deadline: ${messageOf(error)}`);
      return false;
    }
  }

  async #request(
    subject: string,
    body: Uint8Array | string,
    headers: Record<string, string> = {},
  ): Promise<Msg> {
    try {
      return await this.client.request(subject, body, {
        timeout: TIMEOUT_MS,
        headers: headersOf(headers),
      });
    } catch (error) {
      throw new BusError(`${subject}: ${messageOf(error)}`);
    }
  }
}

/** Fetches messages of the consumer that the workers of a concept share. */
export class Fetcher {
  readonly #bus: Bus;
  readonly #stream: string;
  readonly #inbox: string;
  #messages: AsyncIterator<Msg> | null = null;
  #pending: Promise<IteratorResult<Msg>> | null = null;

  constructor(bus: Bus, concept: string) {
    this.#bus = bus;
    this.#stream = `ACTIONS_${concept}`;
    this.#inbox = bus.newInbox();
  }

  /** Subscribes. Throws {@link BusError} if the consumer is missing. */
  async open(): Promise<void> {
    await this.#bus.api(`CONSUMER.INFO.${this.#stream}.workers`);
    const subscription: Subscription = this.#bus.client.subscribe(this.#inbox);
    this.#messages = subscription[Symbol.asyncIterator]();
    await this.#bus.client.flush();
  }

  /** Yields up to this number of messages that arrive within a second. */
  async *fetch(count: number): AsyncGenerator<Msg> {
    const request = { batch: count, expires: EXPIRES_MS * 1_000_000 };
    const subject = `${this.#bus.prefix}.CONSUMER.MSG.NEXT.${this.#stream}.workers`;
    this.#bus.client.publish(subject, encode(request), { reply: this.#inbox });
    // Longer than the server waits, so that no message arrives between two requests.
    const end = performance.now() + EXPIRES_MS + 1000;
    for (; count > 0; count--) {
      this.#pending ??= this.#messages!.next();
      const next = await within(this.#pending, end - performance.now());
      if (!next) return;
      this.#pending = null;
      if (next.done) throw new BusError("the connection to NATS is closed");
      // A status ends the request.
      if (!next.value.reply) return;
      yield next.value;
    }
  }
}

/** Waits for a result at most this long; then the result is `null`. */
export async function within<T>(coming: Promise<T>, ms: number): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), Math.max(0, ms));
  });
  try {
    return await Promise.race([coming, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Waits for this time. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A JSON object as bytes. */
export function encode(value: unknown): Uint8Array {
  return Buffer.from(JSON.stringify(value));
}

/** Headers of a message. */
export function headersOf(values: Record<string, string>): ReturnType<typeof newHeaders> {
  const headers = newHeaders();
  for (const [name, value] of Object.entries(values)) headers.set(name, value);
  return headers;
}

function authenticators({ natsNkey, natsCreds }: Settings): Authenticator[] {
  if (natsCreds) return [credsAuthenticator(new Uint8Array(readFileSync(natsCreds)))];
  if (!natsNkey) return [];
  let turn = 0;
  const seed = (): Uint8Array => {
    // Each connection reads the file again, so that a changed key is used.
    const lines = readFileSync(natsNkey, "utf8").split("\n").map((line) => line.trim());
    const seeds = lines.filter((line) => line !== "" && !line.startsWith("#"));
    if (seeds.length === 0) throw new BusError(`the NATS key file ${natsNkey} has no seed`);
    return new TextEncoder().encode(seeds[turn++ % seeds.length]);
  };
  return [nkeyAuthenticator(seed)];
}
