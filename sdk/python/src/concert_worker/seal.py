"""Sealed (encrypted) secrets and their keys."""

from __future__ import annotations

import base64
import binascii
import logging
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_log = logging.getLogger("concert_worker")
_PREFIX = "sealed:"
_BLOCK_BYTES = 32
_TAG_BYTES = 16
_KEY_BYTES = 64
_READ_INTERVAL_S = 1.0
_MIN_EXTRA_READ_S = 0.01
_KEY_ID = re.compile(r"[a-z0-9]{1,16}", re.ASCII)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class NotASeal(ValueError):
    """The text does not have the form of a seal, was altered, or belongs to another flow."""


class UnknownKey(Exception):
    """The key of a seal is not in the keyring yet."""

    def __init__(self) -> None:
        super().__init__("sealed with a key that this process does not have")


def _decode(text: str) -> bytes | None:
    if not _BASE64URL.fullmatch(text):
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return decoded if _encode(decoded) == text else None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Keyring:
    """Keys by ID in the order of their file; the first one encrypts."""

    keys: dict[str, bytes]

    @staticmethod
    def parse(text: str) -> Keyring:
        """Reads a key file: one `<id> <base64url of 64 bytes>` on a line. Raises `ValueError`."""
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            key_id, _, encoded = line.partition(" ")
            key = _decode(encoded.strip())
            if not _KEY_ID.fullmatch(key_id) or key is None or len(key) != _KEY_BYTES:
                raise ValueError(f"line {number} is not `<id> <{_KEY_BYTES} bytes as base64url>`")
            if key_id in keys:
                raise ValueError(f"line {number} repeats a key id")
            keys[key_id] = key
        if not keys:
            raise ValueError("the file contains no key")
        return Keyring(keys)

    def current(self) -> tuple[str, bytes]:
        """The key for new values."""
        return next(iter(self.keys.items()))

    def password(self, key_id: str) -> str:
        """A key as a password."""
        return _encode(self.keys[key_id])


class KeyFile:
    """Keys that are reread every second, and on a lookup of an unknown ID."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = Keyring.parse(path.read_text())
        self._read_at = time.monotonic()

    def now(self) -> Keyring:
        """The current keys."""
        if time.monotonic() - self._read_at > _READ_INTERVAL_S:
            self._read()
        return self._keys

    def get(self, key_id: str) -> bytes | None:
        """The key with this ID."""
        key = self.now().keys.get(key_id)
        if key is None and time.monotonic() - self._read_at > _MIN_EXTRA_READ_S:
            self._read()
            key = self._keys.keys.get(key_id)
        return key

    def _read(self) -> None:
        self._read_at = time.monotonic()
        try:
            self._keys = Keyring.parse(self._path.read_text())
        except (OSError, ValueError) as error:
            _log.error("cannot use the changed key file %s: %s", self._path, error)


class FixedKeys:
    """Keys that never change, for tests."""

    def __init__(self, keys: Keyring) -> None:
        self._keys = keys

    def now(self) -> Keyring:
        """The keys."""
        return self._keys

    def get(self, key_id: str) -> bytes | None:
        """The key with this ID."""
        return self._keys.keys.get(key_id)


class Sealer:
    """Seals and opens secrets."""

    def __init__(self, keys: KeyFile | FixedKeys) -> None:
        self._keys = keys

    def key(self) -> bytes:
        """The key that encrypts now."""
        return self._keys.now().current()[1]

    def seal(self, flow: str, secret: str) -> str:
        """Seals a secret for a flow."""
        key_id, key = self._keys.now().current()
        padded = secret.encode() + b"\x80"
        padded += bytes(-len(padded) % _BLOCK_BYTES)
        sealed = AESSIV(key).encrypt(padded, [uuid.UUID(flow).bytes])
        return f"{_PREFIX}{key_id}:{_encode(sealed)}"

    def open(self, flow: str, sealed: str) -> str:
        """Opens a seal of this flow. Raises `NotASeal` or `UnknownKey`."""
        parts = _parts(sealed)
        if parts is None:
            raise NotASeal("not a sealed value")
        key_id, data = parts
        key = self._keys.get(key_id)
        if key is None:
            raise UnknownKey
        try:
            padded = AESSIV(key).decrypt(data, [uuid.UUID(flow).bytes])
            end = padded.rindex(b"\x80")
            return padded[:end].decode()
        except (InvalidTag, ValueError):
            raise NotASeal("sealed for another flow, or altered") from None


def _parts(sealed: str) -> tuple[str, bytes] | None:
    if not sealed.startswith(_PREFIX):
        return None
    key_id, colon, encoded = sealed[len(_PREFIX) :].partition(":")
    data = _decode(encoded)
    if not colon or not _KEY_ID.fullmatch(key_id) or data is None:
        return None
    return (key_id, data) if len(data) >= _TAG_BYTES + _BLOCK_BYTES else None


def looks_sealed(value: object) -> bool:
    """Reports whether a value has the prefix of a seal."""
    return isinstance(value, str) and value.startswith(_PREFIX)
