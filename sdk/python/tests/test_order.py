"""The state machine of one delivery."""

import pytest

from concert_worker.order import (
    DIVERGED,
    ENDED_ITS_PROCESS,
    LATE,
    Completion,
    Delivery,
    Effect,
    Effects,
    End,
    Event,
    Found,
    Handled,
    Limits,
    Published,
)

OWN = Completion({"a": 1}, {"b": 2})
FIRST = Completion({"a": 1}, {"b": 3})
LATER = 1250


def delivery(attempt: int) -> Delivery:
    return Delivery(attempt, Limits(attempts=2), 0)


def play(machine: Delivery, events: list[Event], now_ms: int = 0) -> list[str]:
    """The effects of all events, as words."""
    effects = words(machine.begin())
    for event in events:
        effects += words(machine.on(event, now_ms))
    return effects


def words(effects: Effects) -> list[str]:
    return [
        f"{of.kind}({of.reason})" if isinstance(of, Effect) and of.reason
        else f"{of.kind}({of.why})" if isinstance(of, End) and of.why
        else of.kind
        for of in effects
    ]  # fmt: skip


def write(machine: Delivery, found: Found = Found(), now_ms: int = 0) -> str | None:
    assert machine.may_write(now_ms) == "look"
    return machine.looked(found, now_ms)


def test_first_delivery_runs_publishes_and_acknowledges() -> None:
    events: list[Event] = [Handled(OWN), Published("stored")]
    assert play(delivery(1), events) == ["run", "publish", "reply", "ack"]


def test_completed_redelivery_does_not_run() -> None:
    assert play(delivery(2), [Found(FIRST)]) == ["look", "reply", "ack"]


def test_redelivery_waits_for_its_turn() -> None:
    events: list[Event] = [Found(), ("turn",), Handled(OWN), Published("stored")]
    expected = ["look", "awaitTurn", "run", "publish", "reply", "releaseTurn", "ack"]
    assert play(delivery(2), events) == expected


LAST: list[Event] = [Found(), ("turn",), Found()]
LAST_EFFECTS = ["look", "awaitTurn", "look", "takeNote"]


def test_last_attempt_leaves_a_note_and_deletes_it() -> None:
    run: list[Event] = [("noteTaken", False), ("noteLeft",), Handled(failed="x")]
    rest: list[Event] = [("noteForgotten",), ("letterStored",)]
    letter = "storeLetter(failed after 3 attempts: x)"
    expected = ["leaveNote", "run", "forgetNote", "releaseTurn", letter, "term"]
    assert play(delivery(3), LAST + run + rest) == LAST_EFFECTS + expected


def test_found_note_is_a_dead_letter() -> None:
    expected = ["releaseTurn", f"storeLetter({ENDED_ITS_PROCESS})"]
    assert play(delivery(3), [*LAST, ("noteTaken", True)]) == LAST_EFFECTS + expected


def test_note_that_may_be_stored_is_deleted() -> None:
    events: list[Event] = [("noteTaken", False), ("noteFailed", "x"), ("noteForgotten",)]
    expected = ["leaveNote", "forgetNote", "releaseTurn", "nak(x)"]
    assert play(delivery(3), LAST + events) == LAST_EFFECTS + expected


def test_failed_attempt_is_retried() -> None:
    assert play(delivery(1), [Handled(failed="x")]) == ["run", "nak(x)"]


def test_second_completion_is_ignored_if_nothing_was_written() -> None:
    events: list[Event] = [Handled(OWN), Published("exists"), Found(FIRST)]
    assert play(delivery(1), events) == ["run", "publish", "look", "reply", "ack"]


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (("compared", "same"), "ack"),
        (("compared", "different"), f"storeLetter({DIVERGED})"),
        (("locked", "x"), "nak(x)"),
    ],
)
def test_second_completion_is_compared_if_something_was_written(
    comparison: Event, expected: str
) -> None:
    machine = delivery(1)
    machine.begin()
    assert write(machine) == "granted"
    effects = [machine.on(of, 0) for of in (Handled(OWN), Published("exists"), Found(FIRST))]
    assert words(effects[-1]) == ["reply", "compare"]
    assert words(machine.on(comparison, 0)) == [expected]


def test_publish_errors() -> None:
    for published, expected in [
        (Published("failed", "x"), "nak(x)"),
        (Published("tooLarge"), "storeLetter"),
    ]:
        found = play(delivery(1), [Handled(OWN), published])
        assert found[-1].startswith(expected)


def test_write_needs_a_lookup_and_time() -> None:
    machine = delivery(1)
    machine.begin()
    assert machine.may_write(0) == "look"
    assert machine.looked(Found(unread="x"), 0) is None
    assert write(machine) == "granted"
    assert machine.may_write(LATER - 1) == "granted"
    assert machine.may_write(LATER) == "late"
    machine = delivery(1)
    machine.begin()
    assert write(machine, Found(FIRST)) == "completed"
    assert words(machine.on(Handled(before=True), 0)) == ["look"]
    assert words(machine.on(Found(FIRST), 0)) == ["reply", "ack"]


def test_late_delivery_sends_nothing() -> None:
    assert play(delivery(1), [Handled(OWN)], LATER) == ["run", f"leave({LATE})"]
    assert play(delivery(2), [Found(FIRST)], LATER) == ["look", "reply", f"leave({LATE})"]
    assert play(delivery(1), [Handled(failed="x")], LATER) == ["run", "leave(x)"]


def test_extension_counts_from_its_request() -> None:
    machine = delivery(1)
    machine.begin()
    assert machine.extends(437)
    machine.extended(437, 470)
    assert machine.is_held(437 + LATER - 1) and not machine.is_held(437 + LATER)
    machine.extended(20_000, 20_001)
    assert not machine.is_held(20_001)
    machine.on(Handled(failed="x"), 500)
    assert not machine.extends(500)


def test_dead_letter_that_is_not_stored_is_retried() -> None:
    machine = delivery(1)
    assert words(machine.begin_dead("x")) == ["storeLetter(x)"]
    (end,) = machine.on(("letterNotStored", "y"), 0)
    assert end == End("nak", "y", longest=True)


def test_unexpected_event_leaves_the_message() -> None:
    assert play(delivery(1), [("noteLeft",)]) == ["run", "leave(unexpected event)"]
