"""Large values (docs/wire.md): a reference in a message stands for a string beside the log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

#: Longest string that a message contains itself, in bytes of UTF-8.
INLINE_MAX_BYTES = 32 * 1024
#: The stream of the chunks and manifests.
STREAM = "BLOBS"
#: Why an input that nobody stored is refused.
NOT_ACCEPTED = "the input contains a text in the form of a reference to a large value"
#: Why an output with a reference is refused.
FORGED = "the output contains a text in the form of a reference to a large value"
_VALUE_MAX_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 512 * 1024
_MANIFEST_VERSION = 1
_HASH_BYTES = 32
_FORM = re.compile(r"large:([A-Za-z0-9_-]{22}):([1-9][0-9]{4,7}):([0-9a-f]{64})", re.ASCII)

#: Reads the last message on a subject of the stream; `None` if there is none.
Read = Callable[[str], Awaitable[bytes | None]]


class Expired(Exception):
    """The value is no longer stored."""

    def __init__(self) -> None:
        super().__init__("a large value of the input has expired")


class Broken(Exception):
    """A stored message was altered, or a newer version wrote it."""


@dataclass(frozen=True)
class Reference:
    """A reference to a large value."""

    place: bytes
    size: int
    digest: bytes

    @staticmethod
    def parse(text: object) -> Reference | None:
        """Reads a text; only the exact form is a reference."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            return None
        place = base64.urlsafe_b64decode(found[1] + "==")
        size = int(found[2])
        is_exact = _name(place) == found[1]
        if not is_exact or not INLINE_MAX_BYTES < size <= _VALUE_MAX_BYTES:
            return None
        return Reference(place, size, bytes.fromhex(found[3]))

    def canonical(self) -> str:
        """The text that equal values share at every place."""
        return f"large:{self.size}:{self.digest.hex()}"

    async def load(self, read: Read) -> str:
        """The value. Raises `Expired` or `Broken`."""
        manifest = self._part(b"manifest", self.digest)
        text = await manifest.read(read)
        hashes = [text[at : at + _HASH_BYTES] for at in range(9, len(text), _HASH_BYTES)]
        if text[:1] != bytes([_MANIFEST_VERSION]):
            raise Broken("the version of a manifest is unknown; update this process")
        is_whole = hashlib.sha256(b"".join(hashes)).digest() == self.digest
        if not is_whole or len(hashes) != -(-self.size // _CHUNK_BYTES):
            raise Broken("a manifest does not match its reference")
        value = bytearray()
        for index, expected in enumerate(hashes):
            part = self._part(b"chunk", index.to_bytes(8), expected)
            chunk = await part.read(read)
            if hashlib.sha256(chunk).digest() != expected:
                raise Broken("a chunk does not match its reference")
            value += chunk
        if len(value) != self.size:
            raise Broken("a large value has a wrong length")
        return value.decode()

    def _part(self, label: bytes, *parts: bytes) -> _Part:
        def derive(*of: bytes) -> bytes:
            return hmac.digest(self.place, b"".join(of), "sha512")

        folder = _name(derive(b"folder")[:16])
        name = _name(derive(b"name ", label, *parts)[:16])
        return _Part(f"blob.{folder}.{name}", derive(b"key ", label, *parts))


@dataclass(frozen=True)
class _Part:
    """One stored message."""

    subject: str
    key: bytes

    async def read(self, read: Read) -> bytes:
        body = await read(self.subject)
        if body is None:
            raise Expired
        try:
            return AESSIV(self.key).decrypt(body, None)
        except (InvalidTag, ValueError):
            raise Broken("a stored part of a large value was altered") from None


def _name(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def references(value: Any) -> Iterator[Reference]:
    """The references in a value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif (found := Reference.parse(value)) is not None:
        yield found


async def resolved(value: Any, read: Read) -> Any:
    """The value with large values instead of references. Raises `Expired` or `Broken`."""
    if isinstance(value, dict):
        return {key: await resolved(item, read) for key, item in value.items()}
    if isinstance(value, list):
        return [await resolved(item, read) for item in value]
    reference = Reference.parse(value)
    return value if reference is None else await reference.load(read)
