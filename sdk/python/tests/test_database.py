"""Conflicts of actions with others."""

import asyncio
from typing import Any, cast

import pytest
from pymongo.errors import PyMongoError

from concert_worker.database import Busy, Database, _Caught

_LONGER_THAN_CONFLICTS_S = 6.0


def conflict() -> PyMongoError:
    error = PyMongoError("WriteConflict")
    error._add_error_label("TransientTransactionError")
    return error


class Fake(Database):
    """Runs steps instead of attempts. `late` is added to the clock."""

    def __init__(self, *steps: str) -> None:
        super().__init__(cast(Any, None), "concert-note", 24)
        self.steps = iter(steps)
        self.late = 0.0

    async def _attempt(self, *of: Any) -> dict[str, Any] | None:
        caught: _Caught = of[3]
        step = next(self.steps)
        if step == "commit":
            return {"n": 1}
        if step == "brief conflict":
            raise conflict()
        self.late += _LONGER_THAN_CONFLICTS_S
        if step == "long conflict":
            raise conflict()
        caught[len(caught)] = ("notes.insert_one", PyMongoError("E11000"))
        return None

    async def _end_abandoned(self) -> None: ...


async def transact(database: Fake, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + database.late)
    return await database.transact("action", cast(Any, None), cast(Any, None))


async def test_conflicts_leave_the_action_to_its_redelivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Busy):
        await transact(Fake("long conflict"), monkeypatch)


async def test_conflict_after_a_caught_duplicate_key_is_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Fake("duplicate", "brief conflict", "commit")
    assert await transact(database, monkeypatch) == {"n": 1}
