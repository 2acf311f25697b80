/** Inputs and outputs are checked against the spec. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { backoffNs } from "../src/host.js";
import { intake, isSame, outputOf, readInvocation, type Intake, type Invocation } from "../src/intake.js";
import { fixedKeys, parseKeyring, Sealer } from "../src/seal.js";
import { Spec } from "../src/spec.js";
import { Malformed } from "../src/wire.js";
import { rowsOf } from "../src/worker.js";

const SPEC = Spec.parse(`concept Door
purpose keep it shut
actions
    enter (name: String, word: Secret) : (pass: Secret, place: Number)
        effects counts
    enter (name: String, word: Secret) : (error: String)
    look (name: String) : (place: Number)
    keep (value: Any) : ()
    note (note?: String | null, alias?: String) : (note?: String | null, alias?: String)
    score () : (score: Number | null)
queries
    _q () : (n: Number)*
    _one () : (note: String | null)
    _some () : (note: String | null)?
    _both () : (note: String | null, n: Number)
`);
const FLOW = "0199f0a0-0000-7000-8000-000000000001";
const ID = "0199f0a0-0001-7000-8000-00000000000a";
const KEY = "A".repeat(86);
const sealer = (...ids: string[]): Sealer =>
  new Sealer(fixedKeys(parseKeyring(ids.map((id) => `${id} ${KEY}`).join("\n"))));
const ONE = sealer("k1");
const action = (name: string) => SPEC.actions.get(name)!;

function taken(body: unknown, name = "enter", more: Partial<Invocation> = {}): Intake {
  const none = { reply: null, deadlineMs: null, client: null, device: null, position: null };
  const invocation: Invocation = { action: name, id: ID, flow: FLOW, ...none, ...more };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return intake("Door", SPEC.actions.get(name), ONE, invocation, Buffer.from(text), 1000);
}

function faultOf(found: Intake): unknown {
  return "completed" in found ? found.completed.output["fault"] : null;
}

test("a secret is opened for the handler and sealed in the record", () => {
  const sealed = ONE.seal(FLOW, "sesame");
  for (const word of ["sesame", sealed]) {
    assert.deepEqual(taken({ name: "a", word }), {
      run: { opened: { name: "a", word: "sesame" }, recorded: { name: "a", word: sealed } },
    });
  }
});

test("an invalid input is a fault without a secret", () => {
  for (const [body, name] of [
    [{}, "close"],
    ["not JSON", "enter"],
    [{ name: 1, word: "sesame" }, "enter"],
    [{ name: "a", word: "sesame", wrod: "sesame" }, "enter"],
    [{ name: "a", word: { is: "sesame" } }, "enter"],
    [{ name: "a", word: "sealed:k1:sesame" }, "enter"],
    [{ value: [{ $gt: "" }] }, "keep"],
  ] as [unknown, string][]) {
    const found = taken(body, name);
    assert.equal(faultOf(found), "invalid", JSON.stringify(body));
    assert.ok(!JSON.stringify(found).includes("sesame"));
  }
});

test("an unknown key is retried except at a root", () => {
  const word = sealer("k2").seal(FLOW, "sesame");
  assert.ok("locked" in taken({ name: "a", word }));
  assert.equal(faultOf(taken({ name: "a", word }, "enter", { flow: ID })), "invalid");
});

test("only an action without effects has a deadline", () => {
  assert.equal(faultOf(taken({ name: "a" }, "look", { deadlineMs: 999 })), "deadline");
  assert.ok("run" in taken({ name: "a" }, "look", { deadlineMs: 1000 }));
  assert.ok("run" in taken({ name: "a", word: "x" }, "enter", { deadlineMs: 1 }));
});

test("an output is sealed and checked", () => {
  const output = (name: string, of: unknown) => outputOf(action(name), ONE, FLOW, of);
  const pass = ONE.seal(FLOW, "p");
  assert.deepEqual(output("enter", { pass: "p", place: 1 }), { pass, place: 1 });
  assert.deepEqual(output("enter", { error: "no" }), { error: "no" });
  assert.deepEqual(output("keep", undefined), {});
  for (const [name, wrong] of [
    ["enter", { error: "" }],
    ["look", { error: "no" }],
    ["look", {}],
    ["look", 5],
    ["look", { place: NaN }],
  ] as [string, unknown][]) {
    assert.equal(output(name, wrong)["fault"], "invalid");
  }
});

test("null is not a missing key", () => {
  const output = (of: unknown) => outputOf(action("note"), ONE, FLOW, of);
  for (const value of [{}, { note: null }, { note: "n", alias: "a" }]) {
    const run = { opened: value, recorded: value };
    assert.deepEqual(taken(value, "note"), { run });
    assert.deepEqual(output(value), value);
  }
  assert.deepEqual(output({ note: null, alias: undefined }), { note: null });
  assert.equal(faultOf(taken({ alias: null }, "note")), "invalid");
  const error = "the output does not fit the spec: `alias` must be a string";
  assert.deepEqual(output({ alias: null }), { error, fault: "invalid" });
  const score = (of: unknown) => outputOf(action("score"), ONE, FLOW, { score: of });
  assert.deepEqual(score(null), { score: null });
  // JSON has neither; they are not null.
  for (const wrong of [NaN, new Date(NaN)]) assert.equal(score(wrong)["fault"], "invalid");
});

test("null is a row only if the spec declares that value", () => {
  const rows = (name: string, result: unknown) => rowsOf(SPEC.queries.get(name)!, result);
  assert.deepEqual(rows("_one", null), [{ note: null }]);
  assert.deepEqual(rows("_one", [null]), [{ note: null }]);
  assert.deepEqual(rows("_some", null), []);
  assert.deepEqual(rows("_both", undefined), []);
});

test("outputs with a secret under two keys are the same", () => {
  const [one, other] = ["k1", "k2"].map((id) => ({ pass: sealer(id).seal(FLOW, "p"), place: 1 }));
  const both = sealer("k1", "k2");
  assert.ok(isSame(action("enter"), both, FLOW, one!, other!));
  assert.ok(!isSame(action("enter"), both, FLOW, one!, { ...other!, place: 2 }));
});

test("an invocation needs valid ids and an inbox", () => {
  const read = (subject: string, headers: Record<string, string> = {}): Invocation =>
    readInvocation(subject, (name) => headers[name] ?? null, () => ID);
  const injected = read("action.Door.enter");
  assert.deepEqual([injected.id, injected.flow], [ID, ID]);
  const reply = "_INBOX.a.b";
  const found = read(`action.Door.enter.${ID}`, { "Concert-Flow": FLOW, "Concert-Reply": reply });
  assert.deepEqual([found.flow, found.reply], [FLOW, reply]);
  for (const inbox of ["done.x", "_INBOX.*", "_INBOX.>", "_INBOX..a", "_INBOX.a b"]) {
    assert.equal(read("action.Door.enter", { "Concert-Reply": inbox }).reply, null);
  }
  assert.throws(() => read("action.Door.enter", { "Concert-Flow": "*" }), Malformed);
});

test("results of a method become rows", () => {
  const query = SPEC.queries.get("_q")!;
  for (const [result, rows] of [
    [null, []],
    [{ n: 1 }, [{ n: 1 }]],
    [[{ n: 1 }, { n: 2 }], [{ n: 1 }, { n: 2 }]],
    [[{ error: "no" }], []],
    [5, [{ n: 5 }]],
  ]) {
    assert.deepEqual(rowsOf(query, result), rows);
  }
});

test("the backoff doubles up to ten seconds", () => {
  const delays = [1, 2, 7, 8, 99].map((attempt) => backoffNs(attempt, false, 1) / 1e6);
  assert.deepEqual(delays, [100, 200, 6400, 10_000, 10_000]);
  assert.equal(backoffNs(1, false, 0), 50e6);
  assert.equal(backoffNs(1, true, 0), 10e9);
});
