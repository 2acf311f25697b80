"""Large values (docs/wire.md): a reference in a message stands for a string beside the log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .seal import looks_sealed

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
#: Each key encrypts one text only.
_NONCE = bytes(12)
_FORM = re.compile(r"large:([A-Za-z0-9_-]{22}):([1-9][0-9]{4,7}):([0-9a-f]{64})", re.ASCII)

_PLACE_BYTES = 16

#: Stores a message on a subject of the stream; one that is stored already stays.
Write = Callable[[str, bytes], Awaitable[None]]
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

    def __str__(self) -> str:
        return f"large:{_name(self.place)}:{self.size}:{self.digest.hex()}"

    def canonical(self) -> str:
        """The text that equal values share at every place."""
        return f"large:{self.size}:{self.digest.hex()}"

    async def load(self, read: Read) -> str:
        """The value. Raises `Expired` or `Broken`."""
        manifest = self.manifest()
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

    def manifest(self) -> _Part:
        """The last stored message of the value."""
        return self._part(b"manifest", self.digest)

    def _part(self, label: bytes, *parts: bytes) -> _Part:
        def derive(*of: bytes) -> bytes:
            return hmac.digest(self.place, b"".join(of), "sha512")

        folder = _name(derive(b"folder")[:16])
        name = _name(derive(b"name ", label, *parts)[:16])
        return _Part(f"blob.{folder}.{name}", derive(b"key ", label, *parts)[:32])


@dataclass(frozen=True)
class _Part:
    """One stored message."""

    subject: str
    key: bytes

    def seal(self, text: bytes) -> bytes:
        """The body of the message."""
        return AESGCM(self.key).encrypt(_NONCE, text, None)

    async def read(self, read: Read) -> bytes:
        body = await read(self.subject)
        if body is None:
            raise Expired
        try:
            return AESGCM(self.key).decrypt(_NONCE, body, None)
        except (InvalidTag, ValueError):
            raise Broken("a stored part of a large value was altered") from None


def _name(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def derived_place(key: bytes, parts: list[bytes]) -> bytes:
    """The place of a repeatable action: equal parts have the same place under one key."""
    text = b"concert large place\0" + b"".join(len(of).to_bytes(8) + of for of in parts)
    return hmac.digest(key, text, "sha256")[:_PLACE_BYTES]


class LargeText:
    """A text that is to be stored: its chunks and their hashes. Raises `Broken` if too large."""

    def __init__(self, text: str) -> None:
        data = text.encode()
        if len(data) > _VALUE_MAX_BYTES:
            raise Broken(f"the value is larger than {_VALUE_MAX_BYTES} bytes")
        self._size = len(data)
        self._json_bytes = len(json.dumps(text, ensure_ascii=False).encode()) - 2
        self._chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
        self._hashes = [hashlib.sha256(chunk).digest() for chunk in self._chunks]
        self.digest = hashlib.sha256(b"".join(self._hashes)).digest()

    async def store(self, place: bytes, read: Read, write: Write) -> Reference:
        """Stores the text at a place, unless it is stored there."""
        reference = Reference(place, self._size, self.digest)
        manifest = reference.manifest()
        if await read(manifest.subject) is not None:
            return reference
        for index, (chunk, digest) in enumerate(zip(self._chunks, self._hashes, strict=True)):
            part = reference._part(b"chunk", index.to_bytes(8), digest)
            await write(part.subject, part.seal(chunk))
        head = bytes([_MANIFEST_VERSION]) + self._json_bytes.to_bytes(8)
        await write(manifest.subject, manifest.seal(head + b"".join(self._hashes)))
        return reference


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

    async def load(text: str) -> str:
        reference = Reference.parse(text)
        return text if reference is None else await reference.load(read)

    return await _replaced(value, load)


async def stored(value: Any, store: Callable[[str], Awaitable[Reference]]) -> Any:
    """The value with references instead of large strings, except seals. `store` stores one."""

    async def keep(text: str) -> str:
        if looks_sealed(text):
            return text
        # A character has at most four bytes.
        is_large = len(text) * 4 > INLINE_MAX_BYTES and len(text.encode()) > INLINE_MAX_BYTES
        return str(await store(text)) if is_large else text

    return await _replaced(value, keep)


async def _replaced(value: Any, replace: Callable[[str], Awaitable[str]]) -> Any:
    """The value with other texts, one after the other."""
    if isinstance(value, dict):
        return {key: await _replaced(item, replace) for key, item in value.items()}
    if isinstance(value, list):
        return [await _replaced(item, replace) for item in value]
    return await replace(value) if isinstance(value, str) else value
