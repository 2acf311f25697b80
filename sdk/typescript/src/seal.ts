/** Sealed (encrypted) secrets and their keys. */

import { readFileSync } from "node:fs";
import { aessiv } from "@noble/ciphers/aes.js";

const PREFIX = "sealed:";
const BLOCK_BYTES = 32;
const TAG_BYTES = 16;
const KEY_BYTES = 64;
const READ_INTERVAL_MS = 1000;
const MIN_EXTRA_READ_MS = 10;
const KEY_ID = /^[a-z0-9]{1,16}$/;

/** The text does not have the form of a seal, was altered, or belongs to another flow. */
export class NotASeal extends Error {}

/** The key of a seal is not in the keyring yet. */
export class UnknownKey extends Error {
  constructor() {
    super("sealed with a key that this process does not have");
  }
}

/** Keys by ID in the order of their file; the first one encrypts. */
export type Keyring = ReadonlyMap<string, Uint8Array>;

/** A source of keys. */
export interface Keys {
  now(): Keyring;
  get(id: string): Uint8Array | undefined;
}

function decode(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64url");
  return text !== "" && bytes.toString("base64url") === text ? new Uint8Array(bytes) : undefined;
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

/** Reads a key file: one `<id> <base64url of 64 bytes>` on a line. */
export function parseKeyring(text: string): Keyring {
  const keys = new Map<string, Uint8Array>();
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const space = line.indexOf(" ");
    const id = line.slice(0, Math.max(space, 0));
    const key = decode(line.slice(space + 1).trim());
    if (!KEY_ID.test(id) || key?.length !== KEY_BYTES) {
      throw new Error(`line ${index + 1} is not \`<id> <${KEY_BYTES} bytes as base64url>\``);
    }
    if (keys.has(id)) throw new Error(`line ${index + 1} repeats a key id`);
    keys.set(id, key);
  }
  if (keys.size === 0) throw new Error("the file contains no key");
  return keys;
}

/** A key as a password. */
export function password(key: Uint8Array): string {
  return encode(key);
}

/** Keys that are reread every second, and on a lookup of an unknown ID. */
export class KeyFile implements Keys {
  readonly #path: string;
  #keys: Keyring;
  #readAt = performance.now();

  constructor(path: string) {
    this.#path = path;
    this.#keys = parseKeyring(readFileSync(path, "utf8"));
  }

  now(): Keyring {
    if (performance.now() - this.#readAt > READ_INTERVAL_MS) this.#read();
    return this.#keys;
  }

  get(id: string): Uint8Array | undefined {
    const key = this.now().get(id);
    if (key || performance.now() - this.#readAt <= MIN_EXTRA_READ_MS) return key;
    this.#read();
    return this.#keys.get(id);
  }

  #read(): void {
    this.#readAt = performance.now();
    try {
      this.#keys = parseKeyring(readFileSync(this.#path, "utf8"));
    } catch (error) {
      console.error(`cannot use the changed key file ${this.#path}: ${error}`);
    }
  }
}

/** Keys that never change, for tests. */
export function fixedKeys(keys: Keyring): Keys {
  return { now: () => keys, get: (id) => keys.get(id) };
}

/** Seals and opens secrets. */
export class Sealer {
  readonly #keys: Keys;

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  /** The key that encrypts now. */
  get key(): Uint8Array {
    const [key] = this.#keys.now().values();
    return key!;
  }

  /** Seals a secret for a flow. */
  seal(flow: string, secret: string): string {
    const [id, key] = this.#keys.now().entries().next().value!;
    const text = Buffer.from(secret);
    const length = Math.ceil((text.length + 1) / BLOCK_BYTES) * BLOCK_BYTES;
    const padded = new Uint8Array(length);
    padded.set(text);
    padded[text.length] = 0x80;
    return `${PREFIX}${id}:${encode(aessiv(key, bytesOf(flow)).encrypt(padded))}`;
  }

  /** Opens a seal of this flow. Throws {@link NotASeal} or {@link UnknownKey}. */
  open(flow: string, sealed: string): string {
    const [id, bytes] = parts(sealed);
    const key = this.#keys.get(id);
    if (!key) throw new UnknownKey();
    try {
      const padded = aessiv(key, bytesOf(flow)).decrypt(bytes);
      const end = padded.lastIndexOf(0x80);
      if (end < 0) throw new NotASeal();
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        padded.subarray(0, end),
      );
    } catch {
      throw new NotASeal("sealed for another flow, or altered");
    }
  }
}

function bytesOf(flow: string): Uint8Array {
  return new Uint8Array(Buffer.from(flow.replaceAll("-", ""), "hex"));
}

function parts(sealed: string): [string, Uint8Array] {
  const colon = sealed.indexOf(":", PREFIX.length);
  const id = sealed.slice(PREFIX.length, Math.max(colon, 0));
  const bytes = decode(sealed.slice(colon + 1));
  const isForm = sealed.startsWith(PREFIX) && colon >= 0 && KEY_ID.test(id);
  if (!isForm || !bytes || bytes.length < TAG_BYTES + BLOCK_BYTES) {
    throw new NotASeal("not a sealed value");
  }
  return [id, bytes];
}

/** Reports whether a value has the prefix of a seal. */
export function looksSealed(value: unknown): value is string {
  return typeof value === "string" && value.startsWith(PREFIX);
}
