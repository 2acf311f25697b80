"""Types of values in concept specs, as JSON: `"string"`, `{"seq": "number"}`, `{"id": "User"}`."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from .large import INLINE_MAX_BYTES, Reference
from .value import canonical

#: A type, in the form of docs/wire.md.
Type = str | dict[str, Any]
#: Path to the part that violates a type, and the problem.
Problem = tuple[str, str]

_TIME = re.compile(
    r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_LARGE: Problem = ("", f"must have at most {INLINE_MAX_BYTES} bytes")
_SIMPLE = {
    "string": "a string",
    "secret": "a string",
    "number": "a number",
    "boolean": "true or false",
    "date": "a date such as 2026-01-31 or 2026-01-31T12:00:00Z",
}


def is_secret(type_: Type) -> bool:
    """Reports whether values of a type are secret."""
    return type_ == "secret" or (isinstance(type_, dict) and "boundedSecret" in type_)


def check(type_: Type, value: Any) -> Problem | None:
    """The first part of a value that violates a type."""
    if (reference := Reference.parse(value)) is not None:
        return _check_large(type_, reference.size)
    if is_secret(type_) and isinstance(value, str) and len(value.encode()) > INLINE_MAX_BYTES:
        return _LARGE
    if isinstance(type_, str):
        fits = type_ == "any" or _is_simple(type_, value)
        return None if fits else ("", f"must be {_SIMPLE[type_]}")
    ((name, of),) = type_.items()
    if name == "nullable":
        return None if value is None else check(of, value)
    if name == "record" and isinstance(value, dict):
        return _record(of, value)
    if name in ("seq", "set") and isinstance(value, list):
        for number, item in enumerate(value):
            found = check(of, item)
            if found:
                return f"[{number}]{found[0]}", found[1]
        if name == "seq" or len({canonical(item) for item in value}) == len(value):
            return None
    elif isinstance(value, str):
        longest = name in ("boundedString", "boundedSecret") and len(value) <= of
        if longest or (name == "id" and value) or (name == "enum" and value in of):
            return None
    return "", f"must be {_describe(type_)}"


def _check_large(type_: Type, size: int) -> Problem | None:
    """Whether a type includes large values; a character has up to four bytes."""
    if type_ in ("any", "string"):
        return None
    if isinstance(type_, dict):
        ((name, of),) = type_.items()
        if name == "nullable":
            return _check_large(of, size)
        if name == "boundedString" and size <= 4 * of:
            return None
        if name == "id":
            return _LARGE
    return _LARGE if is_secret(type_) else ("", f"must be {_describe(type_)}")


def _is_simple(type_: str, value: Any) -> bool:
    if type_ == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if type_ == "boolean":
        return isinstance(value, bool)
    return isinstance(value, str) and (type_ != "date" or _is_date(value))


def _record(fields: list[Any], value: dict[str, Any]) -> Problem | None:
    for entry in fields:
        name = entry["name"]
        if name not in value:
            if not entry.get("optional"):
                return f".{name}", "is missing"
            continue
        found = check(entry["type"], value[name])
        if found:
            return f".{name}{found[0]}", found[1]
    known = {entry["name"] for entry in fields}
    unknown = next((key for key in value if key not in known), None)
    return None if unknown is None else (f".{unknown}", "is not declared")


def _describe(type_: Type) -> str:
    if isinstance(type_, str):
        return _SIMPLE.get(type_, "a value")
    ((name, of),) = type_.items()
    match name:
        case "id":
            return f"a non-empty string (a {of})"
        case "seq":
            return f"a list, each of it {_describe(of)}"
        case "set":
            return f"a list without duplicates, each of it {_describe(of)}"
        case "enum":
            return "one of " + ", ".join(f'"{text}"' for text in of)
        case "nullable":
            return f"{_describe(of)} or null"
        case "record":
            keys = [f"{of['name']}{' (optional)' if of.get('optional') else ''}" for of in of]
            return f"an object with the keys {', '.join(keys)}"
    return f"a string of at most {of} characters"


def _is_date(text: str) -> bool:
    day, _, rest = text.replace("t", "T", 1).partition("T")
    if "T" in text.upper() and not _TIME.fullmatch(rest):
        return False
    return re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII) is not None and _is_day(day)


def _is_day(text: str) -> bool:
    # Python has no year 0, which is a leap year.
    text = text.replace("0000", "2000", 1) if text.startswith("0000") else text
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
