/** The state machine of one delivery. */

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  Delivery,
  DIVERGED,
  ENDED_ITS_PROCESS,
  LATE,
  type Completion,
  type Effect,
  type Event,
  type Found,
} from "../src/order.js";

const OWN: Completion = { input: { a: 1 }, output: { b: 2 } };
const FIRST: Completion = { input: { a: 1 }, output: { b: 3 } };
const LATER = 7000;

const delivery = (attempt: number): Delivery =>
  new Delivery(attempt, { attempts: 2, ackWaitMs: 8000, marginMs: 1000 }, 0);
const found = (completion: Completion): Event => ({
  on: "found",
  result: { found: "completion", completion },
});
const NOTHING: Event = { on: "found", result: { found: "nothing" } };
const TURN: Event = { on: "turn" };
const DONE: Event = { on: "handled", result: { handled: "completed", completion: OWN } };
const FAILED: Event = { on: "handled", result: { handled: "failed", why: "x" } };
const STORED: Event = { on: "published", result: { published: "stored" } };
const EXISTS: Event = { on: "published", result: { published: "exists" } };

function words(effects: Effect[]): string[] {
  return effects.map((effect) => {
    const why = "reason" in effect ? effect.reason : "why" in effect ? effect.why : "";
    return why ? `${effect.do}(${why})` : effect.do;
  });
}

/** Checks the effects of all events. */
function play(attempt: number, events: Event[], expected: string, nowMs = 0): void {
  const machine = delivery(attempt);
  const effects = [machine.begin(), ...events.map((event) => machine.on(event, nowMs))];
  assert.equal(words(effects.flat()).join(" "), expected);
}

function write(machine: Delivery, result: Found): unknown {
  assert.equal(machine.mayWrite(0), "look");
  return machine.looked(result, 0);
}

test("a first delivery runs, publishes and acknowledges", () => {
  play(1, [DONE, STORED], "run publish reply ack");
});

test("a redelivery of a completed action does not run", () => {
  play(2, [found(FIRST)], "look reply ack");
});

test("a redelivery waits for its turn", () => {
  play(2, [NOTHING, TURN, DONE, STORED], "look awaitTurn run publish reply releaseTurn ack");
});

const LAST = [NOTHING, TURN, NOTHING];
const LOOKED = "look awaitTurn look takeNote";
const NO_NOTE: Event = { on: "noteTaken", existed: false };
const FORGOTTEN: Event = { on: "noteForgotten" };

test("a last attempt leaves a note and deletes it", () => {
  const events: Event[] = [NO_NOTE, { on: "noteLeft" }, FAILED, FORGOTTEN, { on: "letterStored" }];
  const letter = "storeLetter(failed after 3 attempts: x)";
  play(3, [...LAST, ...events], `${LOOKED} leaveNote run forgetNote releaseTurn ${letter} term`);
});

test("a note of an earlier attempt is a dead letter", () => {
  const taken: Event = { on: "noteTaken", existed: true };
  play(3, [...LAST, taken], `${LOOKED} releaseTurn storeLetter(${ENDED_ITS_PROCESS})`);
});

test("a note that may be stored is deleted", () => {
  const events: Event[] = [NO_NOTE, { on: "noteFailed", why: "x" }, FORGOTTEN];
  play(3, [...LAST, ...events], `${LOOKED} leaveNote forgetNote releaseTurn nak(x)`);
});

test("a failed attempt is retried", () => {
  play(1, [FAILED], "run nak(x)");
  play(1, [DONE, { on: "published", result: { published: "failed", why: "x" } }], "run publish nak(x)");
  const large: Event = { on: "published", result: { published: "tooLarge" } };
  const reason = "the completion exceeds the server's maximum message size";
  play(1, [DONE, large], `run publish storeLetter(${reason})`);
});

test("a second completion is ignored if nothing was written", () => {
  play(1, [DONE, EXISTS, found(FIRST)], "run publish look reply ack");
});

test("a second completion is compared if something was written", () => {
  for (const [event, expected] of [
    [{ on: "compared", same: true }, "ack"],
    [{ on: "compared", same: false }, `storeLetter(${DIVERGED})`],
    [{ on: "locked", why: "x" }, "nak(x)"],
  ] as [Event, string][]) {
    const machine = delivery(1);
    machine.begin();
    assert.equal(write(machine, { found: "nothing" }), "granted");
    const effects: Effect[][] = [DONE, EXISTS, found(FIRST)].map((of) => machine.on(of, 0));
    assert.deepEqual(words(effects[2]!), ["reply", "compare"]);
    assert.deepEqual(words(machine.on(event, 0)), [expected]);
  }
});

test("a write needs a lookup and time", () => {
  const machine = delivery(1);
  machine.begin();
  assert.equal(write(machine, { found: "unread", why: "x" }), null);
  assert.equal(write(machine, { found: "nothing" }), "granted");
  assert.equal(machine.mayWrite(LATER - 1), "granted");
  assert.equal(machine.mayWrite(LATER), "late");
  const other = delivery(1);
  other.begin();
  assert.equal(write(other, { found: "completion", completion: FIRST }), "completed");
  const before: Event = { on: "handled", result: { handled: "before" } };
  assert.deepEqual(words(other.on(before, 0)), ["look"]);
  assert.deepEqual(words(other.on(found(FIRST), 0)), ["reply", "ack"]);
});

test("a late delivery sends nothing", () => {
  play(1, [DONE], `run leave(${LATE})`, LATER);
  play(2, [found(FIRST)], `look reply leave(${LATE})`, LATER);
  play(1, [FAILED], "run leave(x)", LATER);
});

test("an extension counts from its request", () => {
  const machine = delivery(1);
  machine.begin();
  assert.ok(machine.extends(2667));
  machine.extended(2667, 2700);
  assert.ok(machine.isHeld(2667 + LATER - 1) && !machine.isHeld(2667 + LATER));
  machine.extended(20_000, 20_001);
  assert.ok(!machine.isHeld(20_001));
  machine.on(FAILED, 3000);
  assert.ok(!machine.extends(3000));
});

test("a dead letter that is not stored is retried", () => {
  const machine = delivery(1);
  assert.deepEqual(words(machine.beginDead("x")), ["storeLetter(x)"]);
  const effects = machine.on({ on: "letterNotStored", why: "y" }, 0);
  assert.deepEqual(effects, [{ do: "nak", why: "y", longest: true }]);
});

test("an unexpected event leaves the message", () => {
  play(1, [{ on: "noteLeft" }], "run leave(unexpected event)");
});
