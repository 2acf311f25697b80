"""JSON values with exactly one meaning."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

from bson import ObjectId

from .large import Reference

#: A JSON object.
Object = dict[str, Any]
#: Every integer up to this one is exactly representable as a double.
MAX_SAFE_INTEGER = 1 << 53
_MAX_DEPTH = 127


class BadValue(ValueError):
    """The text is not JSON, or not one of the values that the protocol accepts."""


def parse_object(text: bytes) -> Object:
    """Reads a JSON object. Raises `BadValue` for what docs/wire.md rejects."""
    value = parse(text)
    if not isinstance(value, dict):
        raise BadValue(f"expected a JSON object, found {kind(value)}")
    return value


def parse(text: bytes) -> Any:
    """Reads a JSON value. Raises `BadValue`."""
    try:
        value = json.loads(
            text.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_double,
            parse_constant=_constant,
        )
    except (ValueError, RecursionError) as error:
        raise BadValue(f"malformed JSON: {error}") from None
    _check(value, 0)
    return value


def kind(value: Any) -> str:
    """Type of a value, for messages."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    names |= {str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a value that JSON does not have")


def canonical(value: Any) -> str:
    """The text that only equal values share: sorted keys, numbers by value, no white space."""
    if (reference := Reference.parse(value)) is not None:
        return reference.canonical()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, (int, float)):
        number = float(value)
        return "0" if number == 0 else _digits(number)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    members = (f"{json.dumps(k, ensure_ascii=False)}:{canonical(value[k])}" for k in sorted(value))
    return "{" + ",".join(members) + "}"


def equal(a: Any, b: Any) -> bool:
    """Reports whether two values are equal.

    Key order is ignored, numbers are equal by value, and references by the values.
    """
    return canonical(a) == canonical(b)


def _other(value: object) -> str:
    if isinstance(value, datetime):
        utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return utc.isoformat().replace("+00:00", "Z")
    if isinstance(value, (date, ObjectId)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def encode(value: Object) -> bytes:
    """The value as JSON; times and database IDs become strings. Raises `BadValue` for a value that JSON does not have."""
    try:
        return json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other
        ).encode()
    except (TypeError, ValueError) as error:
        raise BadValue(f"not a JSON value: {error}") from None


def _digits(number: float) -> str:
    text = format(Decimal(repr(number)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _object(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate key in an object")
    return members


def _integer(text: str) -> int | float:
    if abs(int(text)) > MAX_SAFE_INTEGER:
        raise ValueError("an integer beyond 2^53; write it as a string")
    return int(text)


def _double(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("not a finite number")
    return number


def _constant(text: str) -> float:
    raise ValueError(f"unexpected {text}")


def _check(value: Any, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BadValue("malformed JSON: too deeply nested")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, member in value.items():
            _check_text(key)
            _check(member, depth + 1)


def _check_text(text: str) -> None:
    if any(0xD800 <= ord(char) <= 0xDFFF for char in text):
        raise BadValue("malformed JSON: a lone surrogate in a string")
