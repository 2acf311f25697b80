"""State machine of one delivery: lookup, turn, handler, publish, acknowledgement or dead letter.

No I/O and no clock. `Delivery.on` takes an event and returns effects, as in `crates/worker`. The
last effect of a list is an `End`, or is answered by exactly one event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .value import Object

ENDED_ITS_PROCESS = (
    "the worker process exited while it ran this action isolated from other redelivered actions"
)
DIVERGED = "diverged: two deliveries of this action had different outcomes"
LATE = "ack deadline exceeded; another worker may be processing the action"
TOO_LARGE = "the completion exceeds the server's maximum message size"


@dataclass(frozen=True)
class Limits:
    """Limits of all deliveries; times in milliseconds."""

    attempts: int = 10
    ack_wait_ms: int = 1750
    margin_ms: int = 500


@dataclass(frozen=True)
class Completion:
    """The body of a completion."""

    input: Object
    output: Object


@dataclass(frozen=True)
class Found:
    """Result of a lookup: a completion, or nothing; or the reason why it is unknown."""

    completion: Completion | None = None
    unread: str | None = None
    malformed: str | None = None


@dataclass(frozen=True)
class Handled:
    """Result of a handler. `before`: an earlier delivery completed the action.

    `failed` counts as an attempt, `no_permit` does not.
    """

    completion: Completion | None = None
    before: bool = False
    failed: str | None = None
    no_permit: str | None = None


@dataclass(frozen=True)
class Published:
    """Result of a publish."""

    result: Literal["stored", "exists", "tooLarge", "failed"]
    why: str = ""


Event = (
    Found
    | Handled
    | Published
    | tuple[Literal["turn"]]
    | tuple[Literal["noteTaken"], bool]
    | tuple[Literal["noteLeft"]]
    | tuple[Literal["noteFailed"], str]
    | tuple[Literal["noteForgotten"]]
    | tuple[Literal["compared"], Literal["same", "different"]]
    | tuple[Literal["locked"], str]
    | tuple[Literal["letterStored"]]
    | tuple[Literal["letterNotStored"], str]
)


@dataclass(frozen=True)
class Effect:
    """A step for the shell. `kind` names it; the other fields are its arguments."""

    kind: Literal[
        "look", "awaitTurn", "releaseTurn", "takeNote", "leaveNote", "forgetNote", "run",
        "publish", "compare", "reply", "storeLetter",
    ]  # fmt: skip
    isolated: bool = False
    completion: Completion | None = None
    own: Completion | None = None
    reason: str = ""


@dataclass(frozen=True)
class End:
    """The final acknowledgement. `leave` sends nothing; `longest` is the maximum delay."""

    kind: Literal["ack", "nak", "term", "leave"]
    why: str = ""
    longest: bool = False


Effects = list[Effect | End]
Permit = Literal["granted", "look", "late", "completed"]
_State = Literal[
    "looking", "waitingForTurn", "lookingInTurn", "takingNote", "leavingNote", "running",
    "publishing", "lookingAgain", "comparing", "forgettingNote", "storingLetter", "ended",
]  # fmt: skip
_Then = tuple[Literal["ack", "retry", "letter"], str]


class Delivery:
    """One delivery of one invocation. All times are of one monotonic clock."""

    def __init__(self, attempt: int, limits: Limits, now_ms: int) -> None:
        self._attempt = attempt
        self._limits = limits
        self._held_since_ms = now_ms
        self._state: _State = "running"
        self._has_turn = False
        self._has_note = False
        self._looked: bool | None = None
        self._has_written = False
        self._own: Completion | None = None
        self._then: _Then = ("ack", "")

    def begin(self) -> Effects:
        """The first effects. A redelivered action is probably completed."""
        if self._attempt > 1:
            self._state = "looking"
            return [Effect("look")]
        return [Effect("run")]

    def begin_dead(self, reason: str) -> Effects:
        """The first effects of a message that can only become a dead letter."""
        return self._letter(reason)

    def is_held(self, now_ms: int) -> bool:
        """Reports whether no other worker can have the message."""
        limits = self._limits
        return now_ms < self._held_since_ms + limits.ack_wait_ms - limits.margin_ms

    def extends(self, now_ms: int) -> bool:
        """Reports whether to extend the ack deadline; for every quarter of it."""
        return self.is_held(now_ms) and self._state in ("running", "waitingForTurn")

    def extended(self, asked_at_ms: int, now_ms: int) -> None:
        """The server confirmed an extension; a confirmation after the deadline has no effect."""
        if self.is_held(now_ms):
            self._held_since_ms = max(self._held_since_ms, asked_at_ms)

    def may_write(self, now_ms: int) -> Permit:
        """The handler is about to write; `look` asks for a lookup first, see `looked`."""
        if self._state != "running":
            return "late"
        if self._looked is None:
            return "look"
        if self._looked:
            return "completed"
        if not self.is_held(now_ms):
            return "late"
        self._has_written = True
        return "granted"

    def looked(self, found: Found, now_ms: int) -> Permit | None:
        """The answer to `look`; `None` if the lookup failed."""
        if found.unread is not None or found.malformed is not None:
            return None
        self._looked = found.completion is not None
        return self.may_write(now_ms)

    def on(self, event: Event, now_ms: int) -> Effects:
        """Handles an event."""
        state, self._state = self._state, "ended"
        held = self.is_held(now_ms)
        match state, event:
            case ("looking" | "lookingInTurn" | "lookingAgain"), Found():
                return self._found(state, event, now_ms)
            case "waitingForTurn", ("turn",):
                self._has_turn = True
                if not held:
                    return self._late(now_ms)
                if self._is_last():
                    return self._go("lookingInTurn", Effect("look"))
                return self._run()
            case ("takingNote" | "leavingNote"), ("noteFailed", str(why)):
                # A note whose storage is unknown would dead-letter an action that never ran.
                self._has_note = state == "leavingNote"
                return self._finish(("retry", why), now_ms)
            case "takingNote", ("noteTaken", bool(existed)):
                if not held:
                    return self._late(now_ms)
                if existed:
                    return self._finish(("letter", ENDED_ITS_PROCESS), now_ms)
                return self._go("leavingNote", Effect("leaveNote"))
            case "leavingNote", ("noteLeft",):
                self._has_note = True
                return self._run() if held else self._late(now_ms)
            case "running", Handled():
                return self._handled(event, now_ms)
            case "publishing", Published():
                return self._published(event, now_ms)
            case "comparing", ("compared", "same"):
                return self._finish(("ack", ""), now_ms)
            case "comparing", ("compared", "different"):
                return self._finish(("letter", DIVERGED), now_ms)
            case "comparing", ("locked", str(why)):
                return self._failed(why, now_ms)
            case "forgettingNote", ("noteForgotten",):
                self._has_note = False
                return self._finish(self._then, now_ms)
            case "storingLetter", ("letterStored",):
                return [End("term") if held else End("leave", LATE)]
            case "storingLetter", ("letterNotStored", str(why)):
                return [End("nak", why, longest=True) if held else End("leave", why)]
        return [End("leave", "unexpected event")]

    def _found(self, state: _State, found: Found, now_ms: int) -> Effects:
        existing = found.completion
        if found.unread is not None:
            return self._finish(("retry", found.unread), now_ms)
        if found.malformed is not None:
            return self._finish(("letter", found.malformed), now_ms)
        if existing is None:
            if state == "looking":
                return self._go(
                    "waitingForTurn", Effect("awaitTurn", isolated=self._is_last())
                )
            if state == "lookingAgain":
                why = "the log rejected the completion, but has no other one"
                return self._finish(("retry", why), now_ms)
            if not self.is_held(now_ms):
                return self._late(now_ms)
            return self._go("takingNote", Effect("takeNote"))
        if state == "lookingAgain":
            if self._own is not None and self._has_written:
                self._state = "comparing"
                compare = Effect("compare", completion=existing, own=self._own)
                return [Effect("reply", completion=existing), compare]
        else:
            # The isolated attempt had completed the action before the process crashed, so its note
            # may still be stored.
            self._has_note = self._is_last()
        return [Effect("reply", completion=existing), *self._finish(("ack", ""), now_ms)]

    def _handled(self, handled: Handled, now_ms: int) -> Effects:
        if handled.completion is not None:
            if not self.is_held(now_ms):
                # Another worker may have started, and may get another outcome.
                return self._late(now_ms)
            self._own = handled.completion
            return self._go("publishing", Effect("publish", completion=self._own))
        if handled.before:
            self._has_written = False
            return self._go("lookingAgain", Effect("look"))
        if handled.no_permit is not None:
            return self._finish(("retry", handled.no_permit), now_ms)
        return self._failed(handled.failed or "unknown failure", now_ms)

    def _published(self, published: Published, now_ms: int) -> Effects:
        match published.result:
            case "stored":
                reply = Effect("reply", completion=self._own)
                return [reply, *self._finish(("ack", ""), now_ms)]
            case "exists":
                return self._go("lookingAgain", Effect("look"))
            case "tooLarge":
                return self._finish(("letter", TOO_LARGE), now_ms)
            case "failed":
                return self._finish(("retry", published.why), now_ms)

    def _is_last(self) -> bool:
        return self._attempt > self._limits.attempts

    def _run(self) -> Effects:
        return self._go("running", Effect("run"))

    def _go(self, state: _State, effect: Effect) -> Effects:
        self._state = state
        return [effect]

    def _late(self, now_ms: int) -> Effects:
        return self._finish(("retry", LATE), now_ms)

    def _failed(self, why: str, now_ms: int) -> Effects:
        if self._is_last():
            return self._finish(("letter", f"failed after {self._attempt} attempts: {why}"), now_ms)
        return self._finish(("retry", why), now_ms)

    def _finish(self, then: _Then, now_ms: int) -> Effects:
        if self._has_note:
            self._then = then
            return self._go("forgettingNote", Effect("forgetNote"))
        effects: Effects = []
        if self._has_turn:
            self._has_turn = False
            effects.append(Effect("releaseTurn"))
        kind, why = then
        if kind == "letter":
            return effects + self._letter(why)
        if not self.is_held(now_ms):
            return [*effects, End("leave", why or LATE)]
        return [*effects, End("ack") if kind == "ack" else End("nak", why)]

    def _letter(self, reason: str) -> Effects:
        return self._go("storingLetter", Effect("storeLetter", reason=reason))
