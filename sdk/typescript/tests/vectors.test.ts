/** Compares the SDK with the test vectors of the worker protocol. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createHash } from "node:crypto";
import { Broken, Expired, holdsReference, LargeText, Reference, resolved } from "../src/large.js";
import { fixedKeys, NotASeal, parseKeyring, Sealer, UnknownKey } from "../src/seal.js";
import { Spec } from "../src/spec.js";
import { check } from "../src/types.js";
import { BadValue, canonical, equal, parse, parseObject } from "../src/value.js";
import * as wire from "../src/wire.js";

const file = new URL("../../../../docs/protocol/vectors.json", import.meta.url);
const { ids, seals, values, subjects, headers, specs, parameters, types, largeValues } = JSON.parse(
  readFileSync(file, "utf8"),
);
const bytes = (text: string): Uint8Array => Buffer.from(text);

test("ids", () => {
  for (const id of ids.accepted) assert.ok(wire.isId(id));
  for (const id of ids.rejected) assert.ok(!wire.isId(id), id);
  for (const of of ids.uuidV5) assert.equal(wire.uuidV5(of.namespace, of.name), of.id);
  for (const of of ids.firings) assert.equal(wire.firingId(of.flow, of.rule, of.causes), of.id);
  for (const of of ids.calls) assert.equal(wire.callId(of.firing, of.frame, of.position), of.id);
  for (const { stream, sequence, timestampNs, id } of ids.injected) {
    assert.equal(wire.injectedId(stream, BigInt(sequence), BigInt(timestampNs)), id);
  }
  for (const of of ids.createdBefore) assert.equal(wire.createdBeforeMs(of.flow), of.ms);
});

test("seals", () => {
  const sealer = new Sealer(fixedKeys(parseKeyring(seals.keys.join("\n"))));
  for (const { text, sealed } of seals.sealed) {
    assert.equal(sealer.seal(seals.flow, text), sealed);
    assert.equal(sealer.open(seals.flow, sealed), text);
  }
  for (const { flow, sealed, text } of seals.opened) assert.equal(sealer.open(flow, sealed), text);
  for (const { flow, sealed, error } of seals.notOpened) {
    const expected = error === "unknownKey" ? UnknownKey : NotASeal;
    assert.throws(() => sealer.open(flow, sealed), expected, sealed);
  }
});

test("values", () => {
  for (const of of values.objects) assert.equal(canonical(parseObject(bytes(of.text))), of.canonical);
  for (const text of values.rejected) {
    assert.throws(() => parseObject(bytes(text)), BadValue, text);
  }
  for (const [a, b] of values.equal) assert.ok(equal(parse(bytes(a)), parse(bytes(b))), a);
  for (const [a, b] of values.different) assert.ok(!equal(parse(bytes(a)), parse(bytes(b))), a);
  assert.throws(() => parse(new Uint8Array([0x22, 0xff, 0x22])), BadValue);
});

test("subjects and headers", () => {
  const { invocation, completion } = subjects;
  const of = wire.invocation(invocation.concept, invocation.action, invocation.id);
  assert.equal(of, invocation.subject);
  const { flow, concept, action, id } = completion;
  assert.equal(wire.completion(flow, concept, action, id), completion.subject);
  for (const dead of subjects.dead) {
    assert.equal(wire.dead(dead.concept, dead.action), dead.subject);
  }
  for (const { subject, ...parts } of subjects.parsed) {
    assert.deepEqual(wire.parseInvocation(subject), parts);
  }
  for (const subject of subjects.malformed) {
    assert.throws(() => wire.parseInvocation(subject), wire.Malformed, subject);
  }
  const names = {
    ...wire.HEADERS,
    deadLetterKeeps: wire.OF_DEAD,
    expectedSequence: wire.EXPECTED_SEQUENCE,
  };
  assert.deepEqual(names, headers);
});

test("specs", () => {
  for (const { text, signature, hash } of specs) {
    const spec = Spec.parse(text);
    assert.deepEqual(spec.signature(), signature);
    assert.equal(spec.hash(), hash);
  }
});

test("null and missing keys", () => {
  for (const { text, checks } of parameters) {
    const { input } = Spec.parse(`concept Of\nactions\n    take ${text} : ()\n`).actions.get("take")!;
    for (const { value, mistakes } of checks) assert.equal(input.mistakes(value), mistakes);
  }
});

test("types", () => {
  for (const { type, accepts, rejects } of types) {
    for (const value of accepts) assert.equal(check(type, value), null, JSON.stringify([type, value]));
    for (const value of rejects) assert.ok(check(type, value), JSON.stringify([type, value]));
  }
});

test("large values", async () => {
  const { reference: text, chunks, manifest, same, rejected } = largeValues;
  const letters = Array.from({ length: largeValues.bytes }, (_, at) => 97 + (at % 23));
  const content = Buffer.from(letters);
  const reference = Reference.parse(text)!;
  const sha256 = (of: Uint8Array): Buffer => createHash("sha256").update(of).digest();
  const stored = new Map<string, Uint8Array>();
  for (const [index, expected] of chunks.entries()) {
    const chunk = content.subarray(index << 19, (index + 1) << 19);
    const number = Buffer.from([0, 0, 0, 0, 0, 0, 0, index]);
    const part = reference.part("chunk", number, sha256(chunk));
    const body = part.seal(chunk);
    assert.equal(part.subject, expected.subject);
    assert.equal(sha256(body).toString("hex"), expected.bodySha256);
    stored.set(part.subject, body);
  }
  stored.set(manifest.subject, Buffer.from(manifest.body, "base64url"));
  const written = new Map<string, Uint8Array>();
  const write = async (subject: string, body: Uint8Array) => void written.set(subject, body);
  const large = new LargeText(content.toString());
  assert.equal(String(await large.store(reference.place, async () => null, write)), text);
  assert.deepEqual([...written.keys()], [...chunks.map((of: { subject: string }) => of.subject), manifest.subject]);
  assert.equal(Buffer.from(written.get(manifest.subject)!).toString("base64url"), manifest.body);
  written.clear();
  await large.store(reference.place, async () => new Uint8Array(), write);
  assert.equal(written.size, 0);
  const read = async (subject: string) => stored.get(subject) ?? null;
  const value = { books: [{ content: text, name: "large:" }] };
  const expected = { books: [{ content: content.toString(), name: "large:" }] };
  assert.deepEqual(await resolved(value, read), expected);
  assert.ok(equal(text, same));
  assert.equal(canonical(text), largeValues.canonical);
  assert.ok(!holdsReference(rejected));
  assert.equal(check({ boundedString: 131_074 }, text), null);
  for (const type of ["secret", { id: "User" }, { boundedString: 131_072 }, "number"] as const) {
    assert.notEqual(check(type, text), null);
  }
  stored.set(chunks[1].subject, new Uint8Array(40));
  await assert.rejects(reference.load(read), Broken);
  stored.delete(chunks[1].subject);
  await assert.rejects(reference.load(read), Expired);
});
