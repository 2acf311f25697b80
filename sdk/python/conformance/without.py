"""Removes single guards of the SDK, to show that `concert conform` notices it."""

import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from concert_worker.bus import Bus
from concert_worker.database import Database
from concert_worker.host import Host
from concert_worker.order import Delivery, Found, Published
from concert_worker.value import Object


def stamp() -> None:
    """A redelivered action does not find its stamp."""
    transact = Database.transact

    async def forgetful(
        self: Database,
        action: str,
        permit: Callable[[], Awaitable[None]],
        body: Callable[[], Coroutine[Any, Any, Object]],
    ) -> Object:
        return await transact(self, str(uuid.uuid4()), permit, body)

    Database.transact = forgetful  # type: ignore[method-assign]


def lookup() -> None:
    """The log is not read."""

    async def find(self: Bus, subject: str) -> Found:
        return Found()

    Bus.find = find  # type: ignore[method-assign]


def extension() -> None:
    """The ack deadline is not extended."""

    async def extend(self: Bus, message: Any) -> bool:
        return True

    Bus.extend = extend  # type: ignore[method-assign]


def lease() -> None:
    """A late delivery continues."""
    Delivery.is_held = lambda self, now_ms: True  # type: ignore[method-assign]


def sequence() -> None:
    """A second completion is stored."""

    async def publish(
        self: Bus, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Published:
        return await self.publish(subject, body, headers)

    Bus.publish_once = publish  # type: ignore[method-assign]


def age() -> None:
    """The age of a flow is not checked."""
    Host.is_older_than_log = lambda self, invocation: False  # type: ignore[method-assign]


def note() -> None:
    """The note of an isolated attempt is not found."""

    async def take(self: Bus, bucket: str, key: str) -> bool:
        return False

    Bus.take_note = take  # type: ignore[method-assign]


GUARDS = {
    "stamp": stamp,
    "lookup": lookup,
    "extension": extension,
    "lease": lease,
    "sequence": sequence,
    "age": age,
    "note": note,
}
