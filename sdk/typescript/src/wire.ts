/** IDs, subjects and headers of the worker protocol (docs/wire.md). */

import { createHash, randomBytes } from "node:crypto";

export const PROTOCOL = 1;

export const HEADERS = {
  flow: "Concert-Flow",
  reply: "Concert-Reply",
  deadline: "Concert-Deadline",
  client: "Concert-Client",
  device: "Concert-Device",
  position: "Concert-Position",
  work: "Concert-Work",
  reason: "Concert-Reason",
  action: "Concert-Action",
  attempts: "Concert-Attempts",
  subject: "Concert-Subject",
} as const;
/** Makes the server reject a second message on a subject. */
export const EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence";
/** Headers of an invocation that its dead letter keeps. */
export const OF_DEAD = [
  HEADERS.flow,
  "Concert-Cause",
  "Concert-Sync",
  "Concert-Rules",
  HEADERS.client,
  HEADERS.device,
  HEADERS.position,
  "traceparent",
  HEADERS.deadline,
];

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const CONCEPT = /^[A-Z][A-Za-z0-9_]{0,127}$/;
const NAME = /^[a-z_][A-Za-z0-9_]{0,127}$/;
const DAY_MS = 86_400_000;

/** A message that no retry fixes; the text is the reason of its dead letter. */
export class Malformed extends Error {}

/** Reports whether a text is a UUID in the only accepted form. */
export function isId(text: string): boolean {
  return UUID.test(text);
}

function bytesOf(id: string): Buffer {
  return Buffer.from(id.replaceAll("-", ""), "hex");
}

function uuid(bytes: Buffer, version: number): string {
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString("hex", 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** The UUIDv5 of a name in a namespace. */
export function uuidV5(namespace: string, name: string | Uint8Array): string {
  return uuid(createHash("sha1").update(bytesOf(namespace)).update(name).digest(), 5);
}

/** ID of the firing of a rule on these completions. */
export function firingId(flow: string, rule: string, causes: readonly string[]): string {
  return uuidV5(flow, Buffer.concat([Buffer.from(`${rule}\0`), ...causes.map(bytesOf)]));
}

/** Action ID of a call of a firing. */
export function callId(firing: string, frame: number, position: number): string {
  const name = Buffer.alloc(8);
  name.writeUInt32BE(frame, 0);
  name.writeUInt32BE(position, 4);
  return uuidV5(firing, name);
}

function timestamped(ms: bigint, rest: Uint8Array): string {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(ms << 16n);
  bytes.set(rest.subarray(0, 10), 6);
  return uuid(bytes, 7);
}

/** Action ID of a message whose subject has none. */
export function injectedId(stream: string, sequence: bigint, timestampNs: bigint): string {
  const position = Buffer.alloc(16);
  position.writeBigUInt64BE(sequence, 0);
  position.writeBigUInt64BE(timestampNs, 8);
  const digest = createHash("sha256").update(`${stream}\0`).update(position).digest();
  return timestamped(timestampNs / 1_000_000n, digest);
}

/** Latest creation time of a flow in milliseconds since 1970, if its ID contains it. */
export function createdBeforeMs(flow: string): number | null {
  const bytes = bytesOf(flow);
  if ((bytes[8]! & 0xc0) !== 0x80) return null;
  const ms = bytes.readUIntBE(0, 6);
  const version = bytes[6]! >> 4;
  return version === 7 ? ms : version === 8 ? ms + DAY_MS : null;
}

/** A new UUIDv7. */
export function newFlow(nowMs: number): string {
  return timestamped(BigInt(nowMs), randomBytes(10));
}

/** Subject of an invocation. */
export function invocation(concept: string, action: string, id: string): string {
  return `action.${concept}.${action}.${id}`;
}

/** Subject of a completion. */
export function completion(flow: string, concept: string, action: string, id: string): string {
  return `done.${flow}.${concept}.${action}.${id}`;
}

/** Subject of a dead letter. */
export function dead(concept: string, action: string | null): string {
  return `dead.${concept}.${action ?? "_"}`;
}

/** Parts of `action.<Concept>.<action>[.<action id>]`. */
export interface InvocationSubject {
  concept: string;
  action: string;
  id: string | null;
}

/** Reads the subject of an invocation. Throws {@link Malformed}. */
export function parseInvocation(subject: string): InvocationSubject {
  const [kind, concept = "", action = "", id, ...more] = subject.split(".");
  if (kind !== "action" || !CONCEPT.test(concept) || !NAME.test(action) || more.length > 0) {
    throw new Malformed("the subject is not of the form action.<Concept>.<action>[.<action id>]");
  }
  if (id !== undefined && !isId(id)) {
    throw new Malformed("the action id in the subject is not a UUID");
  }
  return { concept, action, id: id ?? null };
}

/** Reports whether a subject is one inbox: a header must not make a worker publish elsewhere. */
export function isInbox(subject: string): boolean {
  return /^_INBOX\.[^*> \t\r\n]+$/.test(subject) && subject.split(".").every((part) => part !== "");
}

/** A text as a header value. */
export function oneLine(text: string): string {
  return text.replaceAll(/[\u0000-\u001f\u007f]+/g, " ").trim().slice(0, 1000);
}
