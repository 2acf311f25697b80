/** Settings of a worker process, from environment variables (docs/wire.md). */

import { isObject, parse, type JsonObject } from "./value.js";

/** Settings of a worker process. */
export interface Settings {
  natsUrl: string;
  natsNkey: string | null;
  natsCreds: string | null;
  natsCa: string | null;
  natsApi: string;
  mongodbUri: string;
  databasePrefix: string;
  keys: string;
  concurrency: number;
  attempts: number;
  clockSkewMs: number;
  requestTimeoutMs: number;
  logMaxAgeHours: number;
  /** The worker's own settings. */
  own: JsonObject;
}

/** Reads the variables. Throws an error that names an invalid one. */
export function settingsFrom(env: Record<string, string | undefined> = process.env): Settings {
  const text = (name: string): string | null => env[name] || null;
  const number = (name: string, initial: number): number => {
    const given = env[name] ?? String(initial);
    if (!/^\d+$/.test(given)) throw new Error(`${name} must be a whole number, not \`${given}\``);
    return Number(given);
  };
  const natsNkey = text("NATS_NKEY");
  return {
    natsUrl: text("NATS_URL") ?? "nats://127.0.0.1:4222",
    natsNkey,
    natsCreds: text("NATS_CREDS"),
    natsCa: text("NATS_CA"),
    natsApi: text("CONCERT_NATS_API") ?? (natsNkey ? "bus.API" : "$JS.API"),
    mongodbUri: text("MONGODB_URI") ?? "mongodb://127.0.0.1:27017/?directConnection=true",
    databasePrefix: text("CONCERT_DATABASE_PREFIX") ?? "concert",
    keys: text("CONCERT_KEYS") ?? "keys",
    concurrency: number("CONCERT_WORKERS__CONCURRENCY", 64),
    attempts: number("CONCERT_WORKERS__ATTEMPTS", 10),
    clockSkewMs: number("CONCERT_WORKERS__CLOCK_SKEW_MS", 1000),
    requestTimeoutMs: number("CONCERT_WORKERS__REQUEST_TIMEOUT_MS", 10_000),
    logMaxAgeHours: number("CONCERT_LOG__MAX_AGE_HOURS", 24),
    own: ownSettings(text("CONCERT_WORKER_SETTINGS") ?? "{}"),
  };
}

function ownSettings(text: string): JsonObject {
  try {
    const own = parse(Buffer.from(text));
    if (isObject(own)) return own;
  } catch {
    // The error below names the variable.
  }
  throw new Error("CONCERT_WORKER_SETTINGS must be a JSON object");
}
