"""Compares the SDK with the test vectors of the worker protocol."""

import asyncio
import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from concert_worker import Spec, wire
from concert_worker.large import Broken, Expired, LargeText, Reference, resolved
from concert_worker.seal import FixedKeys, Keyring, NotASeal, Sealer, UnknownKey
from concert_worker.types import check
from concert_worker.value import BadValue, canonical, equal, parse, parse_object

VECTORS: Any = json.loads(
    (Path(__file__).parents[3] / "docs/protocol/vectors.json").read_text()
)
IDS, SEALS, VALUES = VECTORS["ids"], VECTORS["seals"], VECTORS["values"]
SUBJECTS, HEADERS = VECTORS["subjects"], VECTORS["headers"]


def test_ids() -> None:
    assert all(map(wire.is_id, IDS["accepted"]))
    assert not any(map(wire.is_id, IDS["rejected"]))
    for of in IDS["uuidV5"]:
        assert wire.uuid_v5(of["namespace"], of["name"].encode()) == of["id"]
    for of in IDS["firings"]:
        assert wire.firing_id(of["flow"], of["rule"], of["causes"]) == of["id"]
    for of in IDS["calls"]:
        assert wire.call_id(of["firing"], of["frame"], of["position"]) == of["id"]
    for of in IDS["injected"]:
        injected = wire.injected_id(of["stream"], of["sequence"], int(of["timestampNs"]))
        assert injected == of["id"]
    for of in IDS["createdBefore"]:
        assert wire.created_before_ms(of["flow"]) == of["ms"]


def test_seals() -> None:
    sealer = Sealer(FixedKeys(Keyring.parse("\n".join(SEALS["keys"]))))
    for of in SEALS["sealed"]:
        assert sealer.seal(SEALS["flow"], of["text"]) == of["sealed"]
        assert sealer.open(SEALS["flow"], of["sealed"]) == of["text"]
    for of in SEALS["opened"]:
        assert sealer.open(of["flow"], of["sealed"]) == of["text"]
    errors = {"notASeal": NotASeal, "unknownKey": UnknownKey}
    for of in SEALS["notOpened"]:
        with pytest.raises(errors[of["error"]]):
            sealer.open(of["flow"], of["sealed"])


def test_values() -> None:
    for of in VALUES["objects"]:
        assert canonical(parse_object(of["text"].encode())) == of["canonical"]
    for text in VALUES["rejected"]:
        with pytest.raises(BadValue):
            parse_object(text.encode())
    for a, b in VALUES["equal"]:
        assert equal(parse(a.encode()), parse(b.encode())), (a, b)
    for a, b in VALUES["different"]:
        assert not equal(parse(a.encode()), parse(b.encode())), (a, b)


def test_subjects_and_headers() -> None:
    of = SUBJECTS["invocation"]
    assert wire.invocation(of["concept"], of["action"], of["id"]) == of["subject"]
    of = SUBJECTS["completion"]
    completion = wire.completion(of["flow"], of["concept"], of["action"], of["id"])
    assert completion == of["subject"]
    for of in SUBJECTS["dead"]:
        assert wire.dead(of["concept"], of["action"]) == of["subject"]
    for of in SUBJECTS["parsed"]:
        parsed = wire.InvocationSubject.parse(of.pop("subject"))
        assert parsed == wire.InvocationSubject(**of)
    for subject in SUBJECTS["malformed"]:
        with pytest.raises(wire.Malformed):
            wire.InvocationSubject.parse(subject)
    names = dict(HEADERS)
    assert names.pop("deadLetterKeeps") == list(wire.OF_DEAD)
    assert names.pop("expectedSequence") == wire.EXPECTED_SEQUENCE
    assert names == {name: getattr(wire, name.upper()) for name in names}


def test_specs() -> None:
    for of in VECTORS["specs"]:
        spec = Spec.parse(of["text"])
        assert spec.signature() == of["signature"]
        assert spec.hash() == of["hash"]


def test_null_and_missing_keys() -> None:
    for of in VECTORS["parameters"]:
        text = f"concept Of\nactions\n    take {of['text']} : ()\n"
        params = Spec.parse(text).actions["take"].input
        for check_ in of["checks"]:
            assert params.mistakes(check_["value"]) == check_["mistakes"]


def test_types() -> None:
    for of in VECTORS["types"]:
        assert [value for value in of["accepts"] if check(of["type"], value)] == []
        assert [value for value in of["rejects"] if not check(of["type"], value)] == []


def test_large_values() -> None:
    vectors = VECTORS["largeValues"]
    text = "".join(chr(ord("a") + at % 23) for at in range(vectors["bytes"]))
    reference = Reference.parse(vectors["reference"])
    assert reference is not None
    stored: dict[str, bytes] = {}
    for index, expected in enumerate(vectors["chunks"]):
        chunk = text.encode()[index << 19 : (index + 1) << 19]
        part = reference._part(b"chunk", index.to_bytes(8), hashlib.sha256(chunk).digest())
        stored[part.subject] = AESGCM(part.key).encrypt(bytes(12), chunk, None)
        assert part.subject == expected["subject"]
        assert hashlib.sha256(stored[part.subject]).hexdigest() == expected["bodySha256"]
    manifest = vectors["manifest"]
    body = base64.urlsafe_b64decode(manifest["body"] + "=" * (-len(manifest["body"]) % 4))
    stored[manifest["subject"]] = body

    written: dict[str, bytes] = {}

    async def write(subject: str, body: bytes) -> None:
        written[subject] = body

    async def nothing(_: str) -> bytes | None:
        return None

    large = LargeText(text)
    assert str(asyncio.run(large.store(reference.place, nothing, write))) == vectors["reference"]
    assert written == stored
    written.clear()

    async def read(subject: str) -> bytes | None:
        return stored.get(subject)

    value = {"books": [{"content": vectors["reference"], "name": "large:"}]}
    found = asyncio.run(resolved(value, read))
    assert found == {"books": [{"content": text, "name": "large:"}]}
    assert equal(vectors["reference"], vectors["same"])
    assert canonical(vectors["reference"]) == vectors["canonical"]
    assert not any(map(Reference.parse, vectors["rejected"]))
    assert check({"boundedString": 131_074}, vectors["reference"]) is None
    for kind in ("secret", {"id": "User"}, {"boundedString": 131_072}, "number"):
        assert check(kind, vectors["reference"]) is not None

    stored[vectors["chunks"][1]["subject"]] = bytes(40)
    with pytest.raises(Broken):
        asyncio.run(reference.load(read))
    del stored[vectors["chunks"][1]["subject"]]
    with pytest.raises(Expired):
        asyncio.run(reference.load(read))
