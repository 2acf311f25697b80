"""IDs, subjects and headers of the worker protocol (docs/wire.md)."""

from __future__ import annotations

import hashlib
import re
import struct
import time
import uuid
from dataclasses import dataclass

PROTOCOL = 1

FLOW = "Concert-Flow"
REPLY = "Concert-Reply"
DEADLINE = "Concert-Deadline"
CLIENT = "Concert-Client"
DEVICE = "Concert-Device"
POSITION = "Concert-Position"
WORK = "Concert-Work"
REASON = "Concert-Reason"
ACTION = "Concert-Action"
ATTEMPTS = "Concert-Attempts"
SUBJECT = "Concert-Subject"
#: Makes the server reject a second message on a subject.
EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
#: Headers of an invocation that its dead letter keeps.
OF_DEAD = (
    *(FLOW, "Concert-Cause", "Concert-Sync", "Concert-Rules", CLIENT, DEVICE, POSITION),
    *("traceparent", DEADLINE),
)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_CONCEPT = re.compile(r"[A-Z][A-Za-z0-9_]{0,127}", re.ASCII)
_NAME = re.compile(r"[a-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_DAY_MS = 86_400_000


class Malformed(ValueError):
    """A message that no retry fixes; the text is the reason of its dead letter."""


def is_id(text: str) -> bool:
    """Reports whether a text is a UUID in the only accepted form."""
    return _UUID.fullmatch(text) is not None


def uuid_v5(namespace: str, name: bytes) -> str:
    """The UUIDv5 of a name in a namespace."""
    digest = hashlib.sha1(uuid.UUID(namespace).bytes + name).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))


def firing_id(flow: str, rule: str, causes: list[str]) -> str:
    """ID of the firing of a rule on these completions."""
    name = rule.encode() + b"\0" + b"".join(uuid.UUID(cause).bytes for cause in causes)
    return uuid_v5(flow, name)


def call_id(firing: str, frame: int, position: int) -> str:
    """Action ID of a call of a firing."""
    return uuid_v5(firing, struct.pack(">II", frame, position))


def injected_id(stream: str, sequence: int, timestamp_ns: int) -> str:
    """Action ID of a message whose subject has none."""
    name = stream.encode() + b"\0" + struct.pack(">QQ", sequence, timestamp_ns)
    data = bytearray(struct.pack(">Q", timestamp_ns // 1_000_000)[2:])
    data += hashlib.sha256(name).digest()[:10]
    data[6] = data[6] & 0x0F | 0x70
    data[8] = data[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(data)))


def created_before_ms(flow: str) -> int | None:
    """Latest creation time of a flow in milliseconds since 1970, if its ID contains it."""
    value = uuid.UUID(flow)
    if value.variant != uuid.RFC_4122:
        return None
    ms = int.from_bytes(value.bytes[:6], "big")
    return {7: ms, 8: ms + _DAY_MS}.get(value.version or 0)


def new_flow(now_ms: int) -> str:
    """A new UUIDv7."""
    data = bytearray(struct.pack(">Q", now_ms)[2:] + uuid.uuid4().bytes[:10])
    data[6] = data[6] & 0x0F | 0x70
    data[8] = data[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(data)))


def invocation(concept: str, action: str, action_id: str) -> str:
    """Subject of an invocation."""
    return f"action.{concept}.{action}.{action_id}"


def completion(flow: str, concept: str, action: str, action_id: str) -> str:
    """Subject of a completion."""
    return f"done.{flow}.{concept}.{action}.{action_id}"


def dead(concept: str, action: str | None) -> str:
    """Subject of a dead letter."""
    return f"dead.{concept}.{action or '_'}"


@dataclass(frozen=True)
class InvocationSubject:
    """Parts of `action.<Concept>.<action>[.<action id>]`."""

    concept: str
    action: str
    id: str | None

    @staticmethod
    def parse(subject: str) -> InvocationSubject:
        """Raises `Malformed`."""
        parts = subject.split(".")
        if (
            len(parts) not in (3, 4)
            or parts[0] != "action"
            or not _CONCEPT.fullmatch(parts[1])
            or not _NAME.fullmatch(parts[2])
        ):
            form = "action.<Concept>.<action>[.<action id>]"
            raise Malformed(f"the subject is not of the form {form}")
        action_id = parts[3] if len(parts) == 4 else None
        if action_id is not None and not is_id(action_id):
            raise Malformed("the action id in the subject is not a UUID")
        return InvocationSubject(parts[1], parts[2], action_id)


def is_inbox(subject: str) -> bool:
    """Reports whether a subject is one inbox: a header must not make a worker publish elsewhere."""
    return (
        subject.startswith("_INBOX.")
        and not re.search(r"[*> \t\r\n]", subject)
        and all(subject.split("."))
    )


def one_line(text: str) -> str:
    """A text as a header value."""
    return re.sub(r"[\x00-\x1f\x7f]+", " ", text).strip()[:1000]


def now_ms() -> int:
    """The time in milliseconds since 1970."""
    return time.time_ns() // 1_000_000
