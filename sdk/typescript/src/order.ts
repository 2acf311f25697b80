/**
 * State machine of one delivery: lookup, turn, handler, publish, acknowledgement or dead letter.
 *
 * No I/O and no clock. {@link Delivery.on} takes an event and returns effects, as in `crates/worker`.
 * The last effect of a list ends the delivery, or is answered by exactly one event.
 */

import type { JsonObject } from "./value.js";

export const ENDED_ITS_PROCESS =
  "the worker process exited while it ran this action isolated from other redelivered actions";
export const DIVERGED = "diverged: two deliveries of this action had different outcomes";
export const LATE = "ack deadline exceeded; another worker may be processing the action";
const TOO_LARGE = "the completion exceeds the server's maximum message size";

/** Limits of all deliveries; times in milliseconds. */
export interface Limits {
  attempts: number;
  ackWaitMs: number;
  marginMs: number;
}

/** The body of a completion. */
export interface Completion {
  input: JsonObject;
  output: JsonObject;
}

/** Result of a lookup: a completion, nothing, or the reason why it is unknown. */
export type Found =
  | { found: "completion"; completion: Completion }
  | { found: "nothing" }
  | { found: "unread" | "malformed"; why: string };

/** Result of a handler. `failed` counts as an attempt, `noPermit` does not. */
export type Handled =
  | { handled: "completed"; completion: Completion }
  | { handled: "before" }
  | { handled: "failed" | "noPermit"; why: string };

/** Result of a publish. */
export type Published =
  | { published: "stored" | "exists" | "tooLarge" }
  | { published: "failed"; why: string };

/** An event; most answer an {@link Effect}. */
export type Event =
  | { on: "found"; result: Found }
  | { on: "turn" }
  | { on: "noteTaken"; existed: boolean }
  | { on: "noteLeft" }
  | { on: "noteFailed"; why: string }
  | { on: "noteForgotten" }
  | { on: "handled"; result: Handled }
  | { on: "published"; result: Published }
  | { on: "compared"; same: boolean }
  | { on: "locked"; why: string }
  | { on: "letterStored" }
  | { on: "letterNotStored"; why: string };

/** A step for the shell. */
export type Effect =
  | { do: "look" | "releaseTurn" | "takeNote" | "leaveNote" | "forgetNote" | "run" }
  | { do: "awaitTurn"; isolated: boolean }
  | { do: "publish" | "reply"; completion: Completion }
  | { do: "compare"; existing: Completion; own: Completion }
  | { do: "storeLetter"; reason: string }
  | { do: "ack" | "term" }
  /** Redelivery after a delay; `longest` is the maximum delay. */
  | { do: "nak"; why: string; longest: boolean }
  /** Sends nothing: another worker may have the message. */
  | { do: "leave"; why: string };

/** Answer to a handler that is about to write. `look` asks for a lookup first. */
export type Permit = "granted" | "look" | "late" | "completed";

type State =
  | "looking"
  | "waitingForTurn"
  | "lookingInTurn"
  | "takingNote"
  | "leavingNote"
  | "running"
  | "publishing"
  | "lookingAgain"
  | "comparing"
  | "forgettingNote"
  | "storingLetter"
  | "ended";

type Then = { then: "ack" } | { then: "retry" | "letter"; why: string };

/** One delivery of one invocation. All times are of one monotonic clock. */
export class Delivery {
  readonly #attempt: number;
  readonly #limits: Limits;
  #heldSinceMs: number;
  #state: State = "running";
  #hasTurn = false;
  #hasNote = false;
  /** Whether the lookup before the first write found a completion. */
  #looked: boolean | null = null;
  #hasWritten = false;
  #own: Completion | null = null;
  #then: Then = { then: "ack" };

  constructor(attempt: number, limits: Limits, nowMs: number) {
    this.#attempt = attempt;
    this.#limits = limits;
    this.#heldSinceMs = nowMs;
  }

  /** The first effects. A redelivered action is probably completed. */
  begin(): Effect[] {
    return this.#attempt > 1 ? this.#go("looking", { do: "look" }) : this.#run();
  }

  /** The first effects of a message that can only become a dead letter. */
  beginDead(reason: string): Effect[] {
    return this.#letter(reason);
  }

  /** Reports whether no other worker can have the message. */
  isHeld(nowMs: number): boolean {
    return nowMs < this.#heldSinceMs + this.#limits.ackWaitMs - this.#limits.marginMs;
  }

  /** Reports whether to extend the ack deadline; for every quarter of it. */
  extends(nowMs: number): boolean {
    return this.isHeld(nowMs) && (this.#state === "running" || this.#state === "waitingForTurn");
  }

  /** The server confirmed an extension; a confirmation after the deadline has no effect. */
  extended(askedAtMs: number, nowMs: number): void {
    if (this.isHeld(nowMs)) this.#heldSinceMs = Math.max(this.#heldSinceMs, askedAtMs);
  }

  /** The handler is about to write. */
  mayWrite(nowMs: number): Permit {
    if (this.#state !== "running") return "late";
    if (this.#looked === null) return "look";
    if (this.#looked) return "completed";
    if (!this.isHeld(nowMs)) return "late";
    this.#hasWritten = true;
    return "granted";
  }

  /** The answer to `look`; `null` if the lookup failed. */
  looked(result: Found, nowMs: number): Permit | null {
    if (result.found === "unread" || result.found === "malformed") return null;
    this.#looked = result.found === "completion";
    return this.mayWrite(nowMs);
  }

  /** Handles an event and returns the resulting effects. */
  on(event: Event, nowMs: number): Effect[] {
    const state = this.#state;
    this.#state = "ended";
    const isHeld = this.isHeld(nowMs);
    switch (event.on) {
      case "found":
        if (state === "looking" || state === "lookingInTurn" || state === "lookingAgain") {
          return this.#found(state, event.result, nowMs);
        }
        break;
      case "turn":
        if (state !== "waitingForTurn") break;
        this.#hasTurn = true;
        if (!isHeld) return this.#late(nowMs);
        return this.#isLast() ? this.#go("lookingInTurn", { do: "look" }) : this.#run();
      case "noteTaken":
        if (state !== "takingNote") break;
        if (!isHeld) return this.#late(nowMs);
        if (event.existed) return this.#finish({ then: "letter", why: ENDED_ITS_PROCESS }, nowMs);
        return this.#go("leavingNote", { do: "leaveNote" });
      case "noteLeft":
        if (state !== "leavingNote") break;
        this.#hasNote = true;
        return isHeld ? this.#run() : this.#late(nowMs);
      case "noteFailed":
        if (state !== "takingNote" && state !== "leavingNote") break;
        // A note whose storage is unknown would dead-letter an action that never ran.
        this.#hasNote = state === "leavingNote";
        return this.#finish({ then: "retry", why: event.why }, nowMs);
      case "noteForgotten":
        if (state !== "forgettingNote") break;
        this.#hasNote = false;
        return this.#finish(this.#then, nowMs);
      case "handled":
        if (state === "running") return this.#handled(event.result, nowMs);
        break;
      case "published":
        if (state === "publishing") return this.#published(event.result, nowMs);
        break;
      case "compared":
        if (state !== "comparing") break;
        if (event.same) return this.#finish({ then: "ack" }, nowMs);
        return this.#finish({ then: "letter", why: DIVERGED }, nowMs);
      case "locked":
        if (state === "comparing") return this.#failed(event.why, nowMs);
        break;
      case "letterStored":
        if (state !== "storingLetter") break;
        return [isHeld ? { do: "term" } : { do: "leave", why: LATE }];
      case "letterNotStored":
        if (state !== "storingLetter") break;
        if (isHeld) return [{ do: "nak", why: event.why, longest: true }];
        return [{ do: "leave", why: event.why }];
    }
    return [{ do: "leave", why: "unexpected event" }];
  }

  #found(state: State, result: Found, nowMs: number): Effect[] {
    switch (result.found) {
      case "unread":
        return this.#finish({ then: "retry", why: result.why }, nowMs);
      case "malformed":
        return this.#finish({ then: "letter", why: result.why }, nowMs);
      case "nothing":
        if (state === "looking") {
          return this.#go("waitingForTurn", { do: "awaitTurn", isolated: this.#isLast() });
        }
        if (state === "lookingAgain") {
          const why = "the log rejected the completion, but has no other one";
          return this.#finish({ then: "retry", why }, nowMs);
        }
        if (!this.isHeld(nowMs)) return this.#late(nowMs);
        return this.#go("takingNote", { do: "takeNote" });
      case "completion": {
        const existing = result.completion;
        const reply: Effect = { do: "reply", completion: existing };
        if (state !== "lookingAgain") {
          // The isolated attempt had completed the action before the process crashed, so its note
          // may still be stored.
          this.#hasNote = this.#isLast();
        } else if (this.#own && this.#hasWritten) {
          this.#state = "comparing";
          return [reply, { do: "compare", existing, own: this.#own }];
        }
        return [reply, ...this.#finish({ then: "ack" }, nowMs)];
      }
    }
  }

  #handled(result: Handled, nowMs: number): Effect[] {
    switch (result.handled) {
      case "completed":
        // Another worker may have started, and may get another outcome.
        if (!this.isHeld(nowMs)) return this.#late(nowMs);
        this.#own = result.completion;
        return this.#go("publishing", { do: "publish", completion: result.completion });
      case "before":
        this.#hasWritten = false;
        return this.#go("lookingAgain", { do: "look" });
      case "failed":
        return this.#failed(result.why, nowMs);
      case "noPermit":
        return this.#finish({ then: "retry", why: result.why }, nowMs);
    }
  }

  #published(result: Published, nowMs: number): Effect[] {
    switch (result.published) {
      case "stored": {
        const reply: Effect = { do: "reply", completion: this.#own! };
        return [reply, ...this.#finish({ then: "ack" }, nowMs)];
      }
      case "exists":
        return this.#go("lookingAgain", { do: "look" });
      case "tooLarge":
        return this.#finish({ then: "letter", why: TOO_LARGE }, nowMs);
      case "failed":
        return this.#finish({ then: "retry", why: result.why }, nowMs);
    }
  }

  #isLast(): boolean {
    return this.#attempt > this.#limits.attempts;
  }

  #run(): Effect[] {
    return this.#go("running", { do: "run" });
  }

  #go(state: State, effect: Effect): Effect[] {
    this.#state = state;
    return [effect];
  }

  #late(nowMs: number): Effect[] {
    return this.#finish({ then: "retry", why: LATE }, nowMs);
  }

  #failed(why: string, nowMs: number): Effect[] {
    if (!this.#isLast()) return this.#finish({ then: "retry", why }, nowMs);
    const reason = `failed after ${this.#attempt} attempts: ${why}`;
    return this.#finish({ then: "letter", why: reason }, nowMs);
  }

  #finish(then: Then, nowMs: number): Effect[] {
    if (this.#hasNote) {
      this.#then = then;
      return this.#go("forgettingNote", { do: "forgetNote" });
    }
    const effects: Effect[] = this.#hasTurn ? [{ do: "releaseTurn" }] : [];
    this.#hasTurn = false;
    if (then.then === "letter") return [...effects, ...this.#letter(then.why)];
    const why = then.then === "retry" ? then.why : LATE;
    if (!this.isHeld(nowMs)) return [...effects, { do: "leave", why }];
    return [...effects, then.then === "ack" ? { do: "ack" } : { do: "nak", why, longest: false }];
  }

  #letter(reason: string): Effect[] {
    return this.#go("storingLetter", { do: "storeLetter", reason });
  }
}
