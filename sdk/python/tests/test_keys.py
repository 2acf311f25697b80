"""Keys are reread from their file."""

from pathlib import Path

import pytest

from concert_worker import seal
from concert_worker.seal import KeyFile, Keyring, Sealer

FLOW = "0199f0a0-0000-7000-8000-000000000001"
KEYS = [f"k{number} {letter * 85}A\n" for number, letter in enumerate("ABC")]


@pytest.fixture(autouse=True)
def _read_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "_MIN_EXTRA_READ_S", -1)


def test_key_of_a_later_rotation_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    path.write_text(KEYS[0])
    sealer = Sealer(KeyFile(path))
    path.write_text(KEYS[1] + KEYS[0])
    other = Sealer(KeyFile(path)).seal(FLOW, "sesame")
    assert other.startswith("sealed:k1:")
    assert sealer.open(FLOW, other) == "sesame"


def test_current_key_is_read_again_after_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "seal.key"
    path.write_text(KEYS[0])
    sealer = Sealer(KeyFile(path))
    path.write_text(KEYS[1] + KEYS[0])
    assert sealer.seal(FLOW, "sesame").startswith("sealed:k0:")
    monkeypatch.setattr(seal, "_READ_INTERVAL_S", -1)
    assert sealer.seal(FLOW, "sesame").startswith("sealed:k1:")


def test_invalid_file_keeps_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    path.write_text(KEYS[0])
    keys = KeyFile(path)
    path.write_text("k0 short")
    assert keys.get("k9") is None
    assert keys.get("k0") is not None


@pytest.mark.parametrize("text", ["", "# none\n", "k0", "K0 " + "A" * 86, KEYS[0] + KEYS[0]])
def test_invalid_keyrings_are_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        Keyring.parse(text)
