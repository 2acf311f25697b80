/** Runs a worker: executes the effects of the state machine with NATS, MongoDB and the handlers. */

import { join } from "node:path";
import type { Msg } from "@nats-io/transport-node";
import { Bus, BusError, encode, Fetcher, infoOf, sleep, type Info } from "./bus.js";
import { Busy, Database, Failed } from "./database.js";
import * as checks from "./intake.js";
import { fault, isRoot, messageOf, outputOf, type Invocation } from "./intake.js";
import { Broken, derivedPlace, Expired, LargeText, number64, resolved, stored } from "./large.js";
import { Delivery, LATE, type Completion, type Effect, type Event, type Handled } from "./order.js";
import { Room } from "./room.js";
import { KeyFile, Sealer, UnknownKey } from "./seal.js";
import { Service } from "./service.js";
import type { Settings } from "./settings.js";
import { Turns } from "./turns.js";
import { parseObject, type Json, type JsonObject } from "./value.js";
import * as wire from "./wire.js";
import { Refused, Throttled, type Call, type Worker } from "./worker.js";

const ACK_WAIT_MS = 1750;
const MARGIN_MS = 500;
const OLDEST_POLL_MS = 30_000;
const CLOCK_SKEW_MS = 60_000;
const DRAIN_MS = 10_000;
const LARGE_CONCURRENCY = 4;

/** An earlier delivery completed the action. */
class Completed extends Error {}
/** This delivery must not write. */
class NoPermit extends Error {}

/** A running worker. */
export class Host {
  readonly sealer: Sealer;
  readonly turns = new Turns();
  /** Limits the large values that are read concurrently. */
  readonly large = new Room(LARGE_CONCURRENCY);
  #logBeginMs = 0;
  readonly #tasks = new Set<Promise<void>>();

  private constructor(
    readonly worker: Worker,
    readonly settings: Settings,
    readonly bus: Bus,
    readonly database: Database,
  ) {
    this.sealer = new Sealer(new KeyFile(join(settings.keys, "seal.key")));
  }

  /** Runs until the signal. */
  static async run(worker: Worker, settings: Settings, stop: AbortSignal): Promise<void> {
    const concept = worker.spec.name;
    const bus = await Bus.connect(settings, concept);
    const database = await Database.connect(settings, concept);
    const host = new Host(worker, settings, bus, database);
    await worker.prepare(database.proxy);
    host.#logBeginMs = await bus.waitForLog();
    const fetcher = new Fetcher(bus, concept);
    await fetcher.open();
    const service = await Service.start(host);
    console.info(`the worker of ${concept} has started`);
    const poll = setInterval(() => void host.#pollLog(), OLDEST_POLL_MS);
    const stopped = new Promise<void>((resolve) => {
      if (stop.aborted) resolve();
      stop.addEventListener("abort", () => resolve());
    });
    const closed = bus.client.closed().then((error) => {
      throw new BusError(`the connection to NATS is closed: ${error?.message}`);
    });
    closed.catch(() => {});
    const receiving = host.#receive(fetcher, stop);
    try {
      await Promise.race([stopped, closed, receiving]);
      service.stop();
      // The last fetch ends within two seconds; its messages are run as well.
      await receiving;
      await Promise.race([Promise.all(host.#tasks), sleep(DRAIN_MS)]);
      await bus.client.flush();
    } finally {
      clearInterval(poll);
      await bus.client.close();
      await database.close();
    }
  }

  /** The input with large values instead of references. */
  resolved(input: JsonObject): Promise<JsonObject> {
    return this.large.within(() => resolved(input, (subject) => this.bus.blob(subject)));
  }

  /** The output or rows with references instead of large strings. */
  stored<T extends Json>(value: T): Promise<T> {
    const epochMs = this.settings.logMaxAgeHours * 3_600_000;
    return stored(value, (text) =>
      this.large.within(() => {
        const large = new LargeText(text);
        // An equal value is stored once in an epoch, such as that of a redelivered action.
        const epoch = number64(Math.floor(Date.now() / epochMs));
        const { name } = this.worker.spec;
        const parts = [Buffer.from("worker"), Buffer.from(name), epoch, large.digest];
        const { bus } = this;
        const read = (subject: string): Promise<Uint8Array | null> => bus.blob(subject);
        const write = (subject: string, body: Uint8Array): Promise<void> =>
          bus.storeBlob(subject, body);
        return large.store(derivedPlace(this.sealer.key, parts), read, write);
      }),
    );
  }

  /** Runs a task that a shutdown waits for. */
  spawn(task: Promise<void>): Promise<void> {
    const ended = task.finally(() => this.#tasks.delete(ended));
    this.#tasks.add(ended);
    return ended;
  }

  async #receive(fetcher: Fetcher, stop: AbortSignal): Promise<void> {
    const most = this.settings.concurrency;
    let running = 0;
    let wake = (): void => {};
    while (!stop.aborted) {
      if (running >= most) await new Promise<void>((resolve) => (wake = resolve));
      try {
        for await (const message of fetcher.fetch(most - running)) {
          running++;
          void this.spawn(this.take(message)).finally(() => {
            running--;
            wake();
          });
        }
      } catch (error) {
        console.warn(`cannot fetch messages: ${messageOf(error)}`);
        await sleep(250);
      }
    }
  }

  async #pollLog(): Promise<void> {
    try {
      this.#logBeginMs = Math.max(this.#logBeginMs, await this.bus.logBeginMs());
    } catch {
      // An outdated time admits more invocations, never fewer.
    }
  }

  /** Processes one message completely. */
  async take(message: Msg): Promise<void> {
    try {
      await new Doing(this, message, infoOf(message)).run();
    } catch (error) {
      // The server redelivers the message.
      console.error(`the delivery of ${message.subject} failed:`, error);
    }
  }

  /** Reports whether it is unknown whether the action already completed. */
  isOlderThanLog(invocation: Invocation): boolean {
    const created = wire.createdBeforeMs(invocation.flow);
    return !isRoot(invocation) && created !== null && created + CLOCK_SKEW_MS < this.#logBeginMs;
  }
}

/** One delivery. */
class Doing {
  readonly #host: Host;
  readonly #message: Msg;
  readonly #info: Info;
  readonly #began = performance.now();
  readonly #delivery: Delivery;
  #invocation: Invocation | null = null;
  #release: (() => void) | null = null;
  #workUs = 0;

  constructor(host: Host, message: Msg, info: Info) {
    this.#host = host;
    this.#message = message;
    this.#info = info;
    const limits = {
      attempts: host.settings.attempts,
      ackWaitMs: ACK_WAIT_MS,
      marginMs: MARGIN_MS,
    };
    this.#delivery = new Delivery(info.delivered, limits, 0);
  }

  async run(): Promise<void> {
    let effects: Effect[];
    try {
      this.#invocation = this.#read();
      if (this.#host.isOlderThanLog(this.#invocation)) {
        effects = this.#delivery.beginDead("the flow is older than the log");
      } else {
        effects = this.#delivery.begin();
      }
    } catch (error) {
      if (!(error instanceof wire.Malformed)) throw error;
      effects = this.#delivery.beginDead(error.message);
    }
    try {
      while (effects.length > 0) {
        let answer: Event | null = null;
        for (const effect of effects) answer = await this.#execute(effect);
        effects = answer ? this.#delivery.on(answer, this.#now()) : [];
      }
    } finally {
      this.#release?.();
    }
  }

  #now(): number {
    return performance.now() - this.#began;
  }

  #read(): Invocation {
    const { stream, sequence, timestampNs } = this.#info;
    return checks.readInvocation(
      this.#message.subject,
      (name) => this.#message.headers?.get(name) || null,
      () => wire.injectedId(stream, sequence, timestampNs),
    );
  }

  async #execute(effect: Effect): Promise<Event | null> {
    const { bus } = this.#host;
    const message = this.#message;
    switch (effect.do) {
      case "storeLetter":
        return this.#storeLetter(effect.reason);
      case "ack":
        bus.ack(message, "+ACK");
        return null;
      case "term":
        bus.ack(message, "+TERM");
        return null;
      case "nak": {
        console.warn(`${message.subject} failed and is retried: ${effect.why}`);
        const delay = backoffNs(this.#info.delivered, effect.longest, Math.random());
        bus.ack(message, `-NAK {"delay":${delay}}`);
        return null;
      }
      case "leave":
        console.warn(`${message.subject} is left to its redelivery: ${effect.why}`);
        return null;
      default:
        return this.#executeOf(effect, this.#invocation!);
    }
  }

  async #executeOf(
    effect: Exclude<Effect, { do: "storeLetter" | "ack" | "term" | "nak" | "leave" }>,
    invocation: Invocation,
  ): Promise<Event | null> {
    const { bus, worker, turns, sealer } = this.#host;
    const concept = worker.spec.name;
    const [bucket, key] = [`concert_${concept}`, `last-attempt.${invocation.id}`];
    const { flow, action, id } = invocation;
    const subject = wire.completion(flow, concept, action, id);
    switch (effect.do) {
      case "look":
        return { on: "found", result: await bus.find(subject) };
      case "awaitTurn":
        this.#release = await this.#holding(turns.next(effect.isolated));
        return { on: "turn" };
      case "releaseTurn":
        this.#release?.();
        this.#release = null;
        return null;
      case "takeNote":
        return bus.takeNote(bucket, key).then(
          (existed): Event => ({ on: "noteTaken", existed }),
          (error: unknown): Event => ({ on: "noteFailed", why: messageOf(error) }),
        );
      case "leaveNote":
        return bus.leaveNote(bucket, key).then(
          (): Event => ({ on: "noteLeft" }),
          (error: unknown): Event => ({ on: "noteFailed", why: messageOf(error) }),
        );
      case "forgetNote":
        await bus.forgetNote(bucket, key).catch((error: unknown) => {
          console.warn(`cannot delete the note of an isolated attempt: ${messageOf(error)}`);
        });
        return { on: "noteForgotten" };
      case "run":
        return { on: "handled", result: await this.#run(invocation, subject) };
      case "publish": {
        const headers = { [wire.HEADERS.work]: String(this.#workUs) };
        const { input, output } = effect.completion;
        return {
          on: "published",
          result: await bus.publishOnce(subject, { input, output }, headers),
        };
      }
      case "compare": {
        const spec = worker.spec.actions.get(action);
        try {
          const same = checks.isSame(spec, sealer, flow, effect.existing.output, effect.own.output);
          return { on: "compared", same };
        } catch (error) {
          if (error instanceof UnknownKey) return { on: "locked", why: checks.locked(invocation) };
          throw error;
        }
      }
      case "reply":
        if (invocation.reply)
          bus.client.publish(invocation.reply, encode(effect.completion.output));
        return null;
    }
  }

  async #run(invocation: Invocation, subject: string): Promise<Handled> {
    const began = performance.now();
    const { worker, settings, sealer, database } = this.#host;
    const handler = worker.actions.get(invocation.action);
    const spec = handler && worker.spec.actions.get(invocation.action);
    const nowMs = Date.now() - settings.clockSkewMs;
    const { data } = this.#message;
    const taken = checks.intake(worker.spec.name, spec, sealer, invocation, data, nowMs);
    if ("locked" in taken) return { handled: "failed", why: taken.locked };
    if ("completed" in taken) return completed(invocation, taken.completed);
    const { recorded } = taken.run;
    const ended = (kind: "expired" | "invalid", why: string): Handled =>
      completed(invocation, { input: recorded, output: fault(kind, why) });
    let opened: JsonObject;
    try {
      opened = await this.#holding(this.#host.resolved(taken.run.opened));
    } catch (error) {
      if (error instanceof Expired) return ended("expired", error.message);
      if (error instanceof Broken) return ended("invalid", error.message);
      return { handled: "noPermit", why: messageOf(error) };
    }
    const mistakes = spec!.input.mistakes(opened);
    if (mistakes) return ended("invalid", mistakes);
    const body = async (): Promise<JsonObject> => {
      // A rerun after a conflict begins with an unchanged input.
      const call = this.#call(invocation, structuredClone(opened));
      return outputOf(spec!, sealer, invocation.flow, await handler!(call));
    };
    let output: JsonObject;
    try {
      const permit = (): Promise<void> => this.#permit(subject);
      const running = database.transact(invocation.id, permit, body, worker.external);
      output = await this.#holding(running);
    } catch (error) {
      if (error instanceof Refused) {
        output = outputOf(spec!, sealer, invocation.flow, { error: error.message });
      } else if (error instanceof Throttled) {
        output = fault("throttled", error.message);
        if (error.retryAfterS !== null) output["retryAfter"] = error.retryAfterS;
      } else {
        return failed(invocation, error);
      }
    }
    try {
      output = await this.#holding(this.#host.stored(output));
    } catch (error) {
      if (error instanceof Broken) return ended("invalid", error.message);
      return { handled: "noPermit", why: messageOf(error) };
    }
    this.#workUs = Math.round((performance.now() - began) * 1000);
    return completed(invocation, { input: recorded, output });
  }

  #call({ id, flow, client, device, position }: Invocation, input: JsonObject): Call {
    const { database, settings } = this.#host;
    return {
      id,
      flow,
      input,
      client,
      device,
      position,
      db: database.proxy,
      settings: settings.own,
    };
  }

  async #permit(subject: string): Promise<void> {
    let permit: ReturnType<Delivery["looked"]> = this.#delivery.mayWrite(this.#now());
    if (permit === "look") {
      const found = await this.#host.bus.find(subject);
      permit = this.#delivery.looked(found, this.#now());
      if (permit === null) throw new NoPermit("why" in found ? found.why : "the log was not read");
    }
    if (permit === "completed") throw new Completed();
    if (permit === "late") throw new NoPermit(LATE);
  }

  /** Waits for a result, and extends the ack deadline in the meantime. */
  async #holding<T>(coming: Promise<T>): Promise<T> {
    const extend = async (): Promise<void> => {
      const askedAt = this.#now();
      if (this.#delivery.extends(askedAt) && (await this.#host.bus.extend(this.#message))) {
        this.#delivery.extended(askedAt, this.#now());
      }
    };
    const timer = setInterval(() => void extend(), ACK_WAIT_MS / 4);
    try {
      return await coming;
    } finally {
      clearInterval(timer);
    }
  }

  async #storeLetter(reason: string): Promise<Event> {
    const { bus, worker, sealer } = this.#host;
    const { HEADERS, OF_DEAD, oneLine } = wire;
    const message = this.#message;
    const headers: Record<string, string> = {
      [HEADERS.attempts]: String(this.#info.delivered),
      [HEADERS.reason]: oneLine(reason),
      [HEADERS.subject]: oneLine(message.subject),
    };
    for (const name of OF_DEAD) {
      const value = message.headers?.get(name);
      if (value) headers[name] = value;
    }
    const invocation = this.#invocation;
    let body: Uint8Array = new Uint8Array();
    if (invocation) {
      headers[HEADERS.action] = invocation.id;
      headers[HEADERS.flow] = invocation.flow;
      const spec = worker.spec.actions.get(invocation.action);
      try {
        const value = parseObject(message.data);
        if (spec) body = encode(checks.record(sealer, invocation, spec.input, value));
      } catch {
        // A body that is not a JSON object may contain a secret.
      }
    }
    console.error(`dead letter: ${message.subject}: ${reason}`);
    const subject = wire.dead(worker.spec.name, invocation?.action ?? null);
    const stored = await bus.publish(subject, body, headers);
    if (stored.published === "stored") return { on: "letterStored" };
    const why = "why" in stored ? stored.why : stored.published;
    return { on: "letterNotStored", why: `cannot store the dead letter: ${why}` };
  }
}

function completed(invocation: Invocation, completion: Completion): Handled {
  const { output } = completion;
  if (output["fault"] === "invalid") {
    console.warn(`invalid action ${invocation.action}: ${String(output["error"])}`);
  }
  return { handled: "completed", completion };
}

function failed(invocation: Invocation, error: unknown): Handled {
  if (error instanceof Completed) return { handled: "before" };
  if (error instanceof NoPermit || error instanceof Busy) {
    return { handled: "noPermit", why: error.message };
  }
  if (error instanceof Failed) return { handled: "failed", why: error.message };
  console.error(`the handler of ${invocation.action} failed:`, error);
  const name = error instanceof Error ? error.name : typeof error;
  return { handled: "failed", why: `the handler failed: ${name}` };
}

/** Delay before the next delivery, in nanoseconds. */
export function backoffNs(attempt: number, longest: boolean, fraction: number): number {
  if (longest) return 10e9;
  return Math.round(Math.min(1e8 * 2 ** Math.min(attempt - 1, 16), 10e9) * (0.5 + fraction / 2));
}
