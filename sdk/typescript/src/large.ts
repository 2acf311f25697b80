/** Large values (docs/wire.md): a reference in a message stands for a string beside the log. */

import { createCipheriv, createDecipheriv, createHash, createHmac } from "node:crypto";
import { looksSealed } from "./seal.js";
import type { Json } from "./value.js";

/** Longest string that a message contains itself, in bytes of UTF-8. */
export const INLINE_MAX_BYTES = 32 * 1024;
/** The stream of the chunks and manifests. */
export const STREAM = "BLOBS";
/** Why an input that nobody stored is refused. */
export const NOT_ACCEPTED = "the input contains a text in the form of a reference to a large value";
/** Why an output with a reference is refused. */
export const FORGED = "the output contains a text in the form of a reference to a large value";

const VALUE_MAX_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 512 * 1024;
const MANIFEST_VERSION = 1;
const MANIFEST_HEAD_BYTES = 9;
const HASH_BYTES = 32;
const CIPHER = "aes-256-gcm";
const KEY_BYTES = 32;
const TAG_BYTES = 16;
/** Each key encrypts one text only. */
const NONCE = new Uint8Array(12);
const FORM = /^large:([A-Za-z0-9_-]{22}):([1-9][0-9]{4,7}):([0-9a-f]{64})$/;

const PLACE_BYTES = 16;

/** Stores a message on a subject of the stream; one that is stored already stays. */
export type Write = (subject: string, body: Uint8Array) => Promise<void>;
/** Reads the last message on a subject of the stream; `null` if there is none. */
export type Read = (subject: string) => Promise<Uint8Array | null>;

/** The value is no longer stored. */
export class Expired extends Error {
  constructor() {
    super("a large value of the input has expired");
  }
}

/** A stored message was altered, or a newer version wrote it. */
export class Broken extends Error {}

const sha256 = (...parts: Uint8Array[]): Buffer => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** The place of a repeatable action: equal parts have the same place under one key. */
export function derivedPlace(key: Uint8Array, parts: readonly Uint8Array[]): Buffer {
  const mac = createHmac("sha256", key).update("concert large place\0");
  for (const part of parts) mac.update(number64(part.length)).update(part);
  return mac.digest().subarray(0, PLACE_BYTES);
}

/** A number in eight bytes, the highest first. */
export function number64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** A text that is to be stored: its chunks and their hashes. */
export class LargeText {
  readonly digest: Buffer;
  readonly #bytes: Buffer;
  readonly #jsonBytes: number;
  readonly #hashes: Buffer[] = [];

  /** Throws {@link Broken} if the text is too large. */
  constructor(text: string) {
    this.#bytes = Buffer.from(text);
    this.#jsonBytes = Buffer.byteLength(JSON.stringify(text)) - 2;
    if (this.#bytes.length > VALUE_MAX_BYTES) {
      throw new Broken(`the value is larger than ${VALUE_MAX_BYTES} bytes`);
    }
    for (const chunk of this.#chunks()) this.#hashes.push(sha256(chunk));
    this.digest = sha256(...this.#hashes);
  }

  *#chunks(): Generator<Buffer> {
    for (let at = 0; at < this.#bytes.length; at += CHUNK_BYTES) {
      yield this.#bytes.subarray(at, at + CHUNK_BYTES);
    }
  }

  /** Stores the text at a place, unless it is stored there. */
  async store(place: Buffer, read: Read, write: Write): Promise<Reference> {
    const reference = new Reference(place, this.#bytes.length, this.digest);
    const manifest = reference.part("manifest", this.digest);
    if ((await read(manifest.subject)) !== null) return reference;
    let index = 0;
    for (const chunk of this.#chunks()) {
      const hash = this.#hashes[index]!;
      const part = reference.part("chunk", number64(index++), hash);
      await write(part.subject, part.seal(chunk));
    }
    const head = [Buffer.of(MANIFEST_VERSION), number64(this.#jsonBytes)];
    await write(manifest.subject, manifest.seal(Buffer.concat([...head, ...this.#hashes])));
    return reference;
  }
}

/** A reference to a large value. */
export class Reference {
  constructor(
    readonly place: Buffer,
    readonly size: number,
    readonly digest: Buffer,
  ) {}

  /** Reads a text; only the exact form is a reference. */
  static parse(text: unknown): Reference | null {
    const found = typeof text === "string" ? FORM.exec(text) : null;
    if (!found) return null;
    const place = Buffer.from(found[1]!, "base64url");
    const size = Number(found[2]);
    const isExact = place.toString("base64url") === found[1];
    if (!isExact || size <= INLINE_MAX_BYTES || size > VALUE_MAX_BYTES) return null;
    return new Reference(place, size, Buffer.from(found[3]!, "hex"));
  }

  /** The text of the reference. */
  toString(): string {
    const { place, size, digest } = this;
    return `large:${place.toString("base64url")}:${size}:${digest.toString("hex")}`;
  }

  /** The text that equal values share at every place. */
  canonical(): string {
    return `large:${this.size}:${this.digest.toString("hex")}`;
  }

  /** The value. Throws {@link Expired} or {@link Broken}. */
  async load(read: Read): Promise<string> {
    const manifest = await this.part("manifest", this.digest).read(read);
    if (manifest[0] !== MANIFEST_VERSION) {
      throw new Broken("the version of a manifest is unknown; update this process");
    }
    const hashes: Uint8Array[] = [];
    for (let at = MANIFEST_HEAD_BYTES; at < manifest.length; at += HASH_BYTES) {
      hashes.push(manifest.subarray(at, at + HASH_BYTES));
    }
    const isWhole = sha256(...hashes).equals(this.digest);
    if (!isWhole || hashes.length !== Math.ceil(this.size / CHUNK_BYTES)) {
      throw new Broken("a manifest does not match its reference");
    }
    const chunks: Uint8Array[] = [];
    for (const [index, expected] of hashes.entries()) {
      const chunk = await this.part("chunk", number64(index), expected).read(read);
      if (!sha256(chunk).equals(expected)) {
        throw new Broken("a chunk does not match its reference");
      }
      chunks.push(chunk);
    }
    const value = Buffer.concat(chunks);
    if (value.length !== this.size) throw new Broken("a large value has a wrong length");
    return value.toString("utf8");
  }

  /** One stored message of the value. */
  part(label: "manifest" | "chunk", ...parts: Uint8Array[]): Part {
    const derive = (text: string, ...of: Uint8Array[]): Buffer => {
      const mac = createHmac("sha512", this.place).update(text);
      for (const part of of) mac.update(part);
      return mac.digest();
    };
    const short = (bytes: Buffer): string => bytes.subarray(0, 16).toString("base64url");
    const folder = short(derive("folder"));
    const name = short(derive(`name ${label}`, ...parts));
    return new Part(`blob.${folder}.${name}`, derive(`key ${label}`, ...parts).subarray(0, KEY_BYTES));
  }
}

/** One stored message: its subject and key. */
export class Part {
  constructor(
    readonly subject: string,
    readonly key: Uint8Array,
  ) {}

  /** The body of the message. */
  seal(text: Uint8Array): Uint8Array {
    const cipher = createCipheriv(CIPHER, this.key, NONCE);
    return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  }

  async read(read: Read): Promise<Uint8Array> {
    const body = await read(this.subject);
    if (body === null) throw new Expired();
    try {
      const cipher = createDecipheriv(CIPHER, this.key, NONCE);
      cipher.setAuthTag(body.subarray(-TAG_BYTES));
      return Buffer.concat([cipher.update(body.subarray(0, -TAG_BYTES)), cipher.final()]);
    } catch {
      throw new Broken("a stored part of a large value was altered");
    }
  }
}

/** Reports whether a value contains a reference. */
export function holdsReference(value: Json): boolean {
  if (Array.isArray(value)) return value.some(holdsReference);
  if (typeof value === "object" && value !== null) return Object.values(value).some(holdsReference);
  return Reference.parse(value) !== null;
}

/** The value with large values instead of references. Throws {@link Expired} or {@link Broken}. */
export async function resolved<T extends Json>(value: T, read: Read): Promise<T> {
  return (await replaced(
    value,
    async (text) => (await Reference.parse(text)?.load(read)) ?? text,
  )) as T;
}

/** The value with references instead of large strings, except seals. `store` stores one. */
export async function stored<T extends Json>(
  value: T,
  store: (text: string) => Promise<Reference>,
): Promise<T> {
  const isLarge = (text: string): boolean =>
    Buffer.byteLength(text) > INLINE_MAX_BYTES && !looksSealed(text);
  return (await replaced(value, async (text) =>
    isLarge(text) ? String(await store(text)) : text,
  )) as T;
}

/** The value with other texts, one after the other. */
async function replaced(value: Json, replace: (text: string) => Promise<string>): Promise<Json> {
  if (typeof value === "string") return replace(value);
  if (Array.isArray(value)) {
    const items: Json[] = [];
    for (const item of value) items.push(await replaced(item, replace));
    return items;
  }
  if (typeof value !== "object" || value === null) return value;
  const members: [string, Json][] = [];
  for (const [key, item] of Object.entries(value))
    members.push([key, await replaced(item, replace)]);
  return Object.fromEntries(members);
}
