"""Reads invocations, and checks inputs and outputs against the spec. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from . import wire
from .large import FORGED, NOT_ACCEPTED, references
from .order import Completion
from .seal import NotASeal, Sealer, UnknownKey, looks_sealed
from .spec import Action, Params
from .value import BadValue, Object, encode, equal, parse_object

ERROR = "error"
FAULT = "fault"


@dataclass(frozen=True)
class Invocation:
    """An invocation, as its subject and headers describe it."""

    action: str
    id: str
    flow: str
    reply: str | None = None
    deadline_ms: int | None = None
    client: str | None = None
    device: str | None = None
    position: str | None = None

    @staticmethod
    def read(
        subject: str, headers: Mapping[str, str], injected: Callable[[], str]
    ) -> Invocation:
        """Reads a message. `injected` derives the ID that the subject lacks.

        Raises `wire.Malformed`.
        """
        parts = wire.InvocationSubject.parse(subject)
        action_id = parts.id or injected()
        flow = headers.get(wire.FLOW, action_id)
        if not wire.is_id(flow):
            raise wire.Malformed(f"the header {wire.FLOW} is not a UUID")
        reply = headers.get(wire.REPLY)
        deadline = headers.get(wire.DEADLINE, "")
        return Invocation(
            action=parts.action,
            id=action_id,
            flow=flow,
            reply=reply if reply and wire.is_inbox(reply) else None,
            deadline_ms=int(deadline) if deadline.isascii() and deadline.isdigit() else None,
            client=headers.get(wire.CLIENT),
            device=headers.get(wire.DEVICE),
            position=headers.get(wire.POSITION),
        )

    @property
    def is_root(self) -> bool:
        """Reports whether the action begins its flow."""
        return self.flow == self.id


@dataclass(frozen=True)
class Input:
    """An input that fits the spec: with secrets in clear, and with secrets sealed."""

    opened: Object
    recorded: Object


class Locked(Exception):
    """The key of a secret may arrive later."""


def fault(kind: str, why: str) -> Object:
    """The output of an action that ended with a fault."""
    return {ERROR: why, FAULT: kind}


def open_secrets(sealer: Sealer, flow: str, params: Params, value: Object) -> Object:
    """The value with secrets in clear. Raises `NotASeal` or `UnknownKey`."""
    opened = dict(value)
    for name in params.secrets():
        if looks_sealed(opened.get(name)):
            opened[name] = sealer.open(flow, opened[name])
    return opened


def record(sealer: Sealer, flow: str, is_root: bool, params: Params, value: Object) -> Object:
    """The value for publishing: secrets are sealed; keys that the spec does not name are removed.

    A removed key may be a misspelt secret.
    """
    names = params.names()
    recorded = {key: item for key, item in value.items() if params.open or key in names}
    for name in params.secrets():
        if name in recorded:
            recorded[name] = _sealed(sealer, flow, is_root, recorded[name])
    return recorded


def seal_secrets(sealer: Sealer, flow: str, params: Params, value: Object) -> Object:
    """The output or row with secrets sealed."""
    sealed = dict(value)
    for name in params.secrets():
        if isinstance(sealed.get(name), str):
            sealed[name] = sealer.seal(flow, sealed[name])
    return sealed


def _sealed(sealer: Sealer, flow: str, is_root: bool, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        sealer.open(flow, value)
        return value
    except UnknownKey:
        return sealer.seal(flow, value) if is_root else value
    except NotASeal:
        return sealer.seal(flow, value)


def intake(
    concept: str,
    spec: Action | None,
    sealer: Sealer,
    invocation: Invocation,
    payload: bytes,
    now_ms: int,
) -> Input | Completion:
    """Checks an invocation. Returns a completion if the handler must not run. Raises `Locked`.

    `now_ms` is in milliseconds since 1970, minus the maximum clock difference.
    """
    if spec is None:
        why = f"{concept} has no action `{invocation.action}` that can be invoked"
        return Completion({}, fault("invalid", why))
    try:
        value = parse_object(payload)
    except BadValue as error:
        return Completion({}, fault("invalid", str(error)))
    flow, is_root = invocation.flow, invocation.is_root
    if is_root and any(references(value)):
        return Completion({}, fault("invalid", NOT_ACCEPTED))
    recorded = record(sealer, flow, is_root, spec.input, value)
    try:
        opened = open_secrets(sealer, flow, spec.input, value)
    except UnknownKey as error:
        if not is_root:
            raise Locked(f"a secret of {invocation.action} is {error}") from None
        return Completion(recorded, fault("invalid", str(error)))
    except NotASeal as error:
        return Completion(recorded, fault("invalid", str(error)))
    mistakes = spec.input.mistakes(opened)
    if mistakes:
        return Completion(recorded, fault("invalid", mistakes))
    deadline = invocation.deadline_ms
    if not spec.has_effects and deadline is not None and deadline < now_ms:
        return Completion(
            recorded, fault("deadline", "the deadline passed before the action started")
        )
    if has_operator(opened):
        return Completion(recorded, fault("invalid", OPERATOR))
    return Input(opened, recorded)


OPERATOR = "a key in the input begins with `$`"


def has_operator(value: object) -> bool:
    """Returns whether a key begins with `$`, which would be an operator in a filter."""
    if isinstance(value, dict):
        return any(key.startswith("$") or has_operator(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_operator, value))


def output_of(spec: Action, sealer: Sealer, flow: str, output: object) -> Object:
    """The output of a completion, with secrets sealed; a fault if it does not fit the spec."""
    if not isinstance(output, dict):
        return fault("invalid", f"the handler of {spec.name} must return a dict")
    if ERROR in output and "error" not in (spec.success.names() if spec.success else ()):
        error = output[ERROR]
        if spec.can_fail and isinstance(error, str) and error and len(output) == 1:
            return output
        return fault(
            "invalid", f"{spec.name} was refused, but its spec declares no error: {error}"
        )
    if spec.success is None:
        return fault("invalid", "the spec declares no success")
    try:
        # Values that JSON does not have, such as database IDs, must not reach the log.
        output = parse_object(encode(output))
    except BadValue as error:
        return fault("invalid", f"the output does not fit the spec: {error}")
    if any(references(output)):
        return fault("invalid", FORGED)
    mistakes = spec.success.mistakes(output)
    if mistakes:
        return fault("invalid", f"the output does not fit the spec: {mistakes}")
    return seal_secrets(sealer, flow, spec.success, output)


def is_same(spec: Action | None, sealer: Sealer, flow: str, a: Object, b: Object) -> bool:
    """Compares two outputs; a secret may be sealed under two keys. Raises `UnknownKey`."""
    params = spec.success if spec and spec.success else Params()

    def opened(output: Object) -> Object:
        try:
            return open_secrets(sealer, flow, params, output)
        except NotASeal:
            return output

    return equal(opened(a), opened(b))
