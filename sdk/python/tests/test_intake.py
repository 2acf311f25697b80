"""Inputs and outputs are checked against the spec."""

from typing import Any

import pytest

from concert_worker import Spec, wire
from concert_worker.host import backoff_ns
from concert_worker.intake import (
    Input,
    Invocation,
    Locked,
    has_operator,
    intake,
    is_same,
    output_of,
)
from concert_worker.order import Completion
from concert_worker.seal import FixedKeys, Keyring, Sealer
from concert_worker.value import encode
from concert_worker.worker import rows_of

SPEC = Spec.parse("""concept Door
purpose keep it shut
actions
    enter (name: String, word: Secret) : (pass: Secret, place: Number)
        effects counts
    enter (name: String, word: Secret) : (error: String)
    look (name: String) : (place: Number)
    note (note?: String | null, alias?: String) : (note?: String | null, alias?: String)
""")
FLOW, ID = "0199f0a0-0000-7000-8000-000000000001", "0199f0a0-0001-7000-8000-00000000000a"
KEY = "A" * 85 + "A"


def sealer(key_id: str = "k1") -> Sealer:
    return Sealer(FixedKeys(Keyring.parse(f"{key_id} {KEY}")))


def taken(body: bytes, action: str = "enter", **more: Any) -> Input | Completion:
    invocation = Invocation(action, ID, more.pop("flow", FLOW), **more)
    spec = SPEC.actions.get(action)
    return intake("Door", spec, sealer(), invocation, body, 1000)


def test_secret_is_opened_for_the_handler_and_sealed_in_the_record() -> None:
    sealed = sealer().seal(FLOW, "sesame")
    for word in ("sesame", sealed):
        found = taken(f'{{"name":"a","word":"{word}"}}'.encode())
        assert isinstance(found, Input)
        assert found.opened == {"name": "a", "word": "sesame"}
        assert found.recorded == {"name": "a", "word": sealed}


@pytest.mark.parametrize(
    ("body", "action"),
    [
        (b"{}", "close"),
        (b"not JSON", "enter"),
        (b'{"name":1,"word":"sesame"}', "enter"),
        (b'{"name":"a","word":"sesame","wrod":"sesame"}', "enter"),
        (b'{"name":"a","word":{"is":"sesame"}}', "enter"),
        (b'{"name":"a","word":"sealed:k1:sesame"}', "enter"),
    ],
)
def test_invalid_input_is_a_fault_without_a_secret(body: bytes, action: str) -> None:
    found = taken(body, action)
    assert isinstance(found, Completion)
    assert found.output["fault"] == "invalid"
    assert "sesame" not in str(found)


def test_unknown_key_is_retried_except_at_a_root() -> None:
    sealed = sealer("k2").seal(FLOW, "sesame")
    body = f'{{"name":"a","word":"{sealed}"}}'.encode()
    with pytest.raises(Locked):
        taken(body)
    found = taken(body, flow=ID)
    assert isinstance(found, Completion) and found.output["fault"] == "invalid"


def test_only_an_action_without_effects_has_a_deadline() -> None:
    late = taken(b'{"name":"a"}', "look", deadline_ms=999)
    assert isinstance(late, Completion) and late.output["fault"] == "deadline"
    assert isinstance(taken(b'{"name":"a"}', "look", deadline_ms=1000), Input)
    assert isinstance(taken(b'{"name":"a","word":"x"}', deadline_ms=1), Input)


def test_output_is_sealed_and_checked() -> None:
    enter, look = SPEC.actions["enter"], SPEC.actions["look"]
    output = output_of(enter, sealer(), FLOW, {"pass": "p", "place": 1})
    assert output == {"pass": sealer().seal(FLOW, "p"), "place": 1}
    assert output_of(enter, sealer(), FLOW, {"error": "no"}) == {"error": "no"}
    for spec, wrong in [(enter, {"error": ""}), (look, {"error": "no"}), (look, {}), (look, 5)]:
        assert output_of(spec, sealer(), FLOW, wrong)["fault"] == "invalid"
    assert output_of(look, sealer(), FLOW, {"place": {1}})["fault"] == "invalid"


def test_null_is_not_a_missing_key() -> None:
    note = SPEC.actions["note"]
    for value in ({}, {"note": None}, {"note": "n", "alias": "a"}):
        found = taken(encode(value), "note")
        assert isinstance(found, Input) and found.opened == value
        assert output_of(note, sealer(), FLOW, value) == value
    found = taken(b'{"alias":null}', "note")
    assert isinstance(found, Completion)
    assert found.output == {"error": "`alias` must be a string", "fault": "invalid"}
    output = output_of(note, sealer(), FLOW, {"alias": None})
    why = "the output does not fit the spec: `alias` must be a string"
    assert output == {"error": why, "fault": "invalid"}


def test_outputs_with_secrets_under_two_keys_are_the_same() -> None:
    both = Sealer(FixedKeys(Keyring.parse(f"k1 {KEY}\nk2 {KEY}")))
    enter = SPEC.actions["enter"]
    one, other = (
        {"pass": sealer(key).seal(FLOW, "p"), "place": place}
        for key, place in (("k1", 1), ("k2", 1.0))
    )
    assert is_same(enter, both, FLOW, one, other)
    assert not is_same(enter, both, FLOW, one, {**other, "place": 2})


def test_invocation_needs_valid_ids_and_an_inbox() -> None:
    def read(subject: str, **headers: str) -> Invocation:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return Invocation.read(subject, named, lambda: ID)

    injected = read("action.Door.enter")
    assert injected.id == ID and injected.is_root
    found = read(f"action.Door.enter.{ID}", Concert_Flow=FLOW, Concert_Reply="_INBOX.a.b")
    assert not found.is_root and found.reply == "_INBOX.a.b"
    for inbox in ("done.x", "_INBOX.*", "_INBOX.>", "_INBOX..a", "_INBOX.a b"):
        assert read("action.Door.enter", Concert_Reply=inbox).reply is None
    with pytest.raises(wire.Malformed):
        read("action.Door.enter", Concert_Flow="*")


def test_operators_in_an_input_are_detected() -> None:
    assert has_operator({"a": [{"$gt": ""}]})
    assert not has_operator({"a": ["$gt", {"b": "$"}]})


def test_backoff_doubles_up_to_ten_seconds() -> None:
    assert [backoff_ns(attempt, False, 1) // 1_000_000 for attempt in (1, 2, 7, 8, 99)] == [
        *(100, 200, 6400),
        *(10_000, 10_000),
    ]
    assert backoff_ns(1, False, 0) == 50_000_000
    assert backoff_ns(1, True, 0) == 10_000_000_000


def test_results_of_a_method_become_rows() -> None:
    one = Spec.parse("concept A\nqueries\n    _q () : (n: Number)*\n").queries["_q"]
    for result, rows in [
        (None, []),
        ({"n": 1}, [{"n": 1}]),
        ([{"n": 1}, {"n": 2}], [{"n": 1}, {"n": 2}]),
        ([{"error": "no"}], []),
        (5, [{"n": 5}]),
    ]:
        assert rows_of(one, result) == rows


def test_none_is_a_row_only_if_the_spec_declares_that_value() -> None:
    text = """concept A
queries
    _one () : (note: String | null)
    _some () : (note: String | null)?
    _both () : (note: String | null, n: Number)
"""
    queries = Spec.parse(text).queries
    assert rows_of(queries["_one"], None) == [{"note": None}]
    assert rows_of(queries["_one"], [None]) == [{"note": None}]
    assert rows_of(queries["_some"], None) == []
    assert rows_of(queries["_both"], None) == []
