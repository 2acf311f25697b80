"""Calls of services, and queries with several inputs."""

import asyncio
from typing import Any, cast

import pytest

from concert_worker import external
from concert_worker.database import _Call, _run
from concert_worker.external import Calls, TooManyCalls
from concert_worker.service import each_within
from pymongo.asynchronous.client_session import AsyncClientSession


class Client:
    """A client of a service, with a part of its own."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.texts = self

    async def get(self, text: str) -> str:
        if text == "fails":
            raise ConnectionError(text)
        self.requests.append(text)
        return text.upper()

    def base(self) -> str:
        return "base"


async def runs(action: Any) -> tuple[Any, int]:
    """The output of an action, and the number of its runs."""
    calls, number = Calls(), 0
    while True:
        number += 1
        output = await _run(_Call(cast(AsyncClientSession, None), {}), calls, action)
        if output is not None:
            return output, number
        await calls.make()


async def test_calls_are_made_between_runs_and_once() -> None:
    client = Client()
    service = external(client)
    cancelled = []

    async def action() -> dict[str, Any]:
        try:
            found = await asyncio.gather(service.get("a"), service.texts.get("b"))
            with pytest.raises(ConnectionError):
                await service.get("fails")
            return {"found": [*found, await service.get("c"), service.base()]}
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    assert await runs(action) == ({"found": ["A", "B", "C", "base"]}, 4)
    assert client.requests == ["a", "b", "c"]
    assert len(cancelled) == 3


async def test_operations_of_an_ended_run_do_not_execute() -> None:
    get = external(Client().get)
    call, done = _Call(cast(AsyncClientSession, None), {}), []

    async def write() -> None:
        done.append("write")

    async def action() -> dict[str, Any]:
        try:
            return {"found": await get("a")}
        finally:
            await call.run("notes.insert_one", write())

    calls = Calls()
    assert await _run(call, calls, action) is None
    calls.drop()
    assert done == []


async def test_action_whose_calls_differ_from_run_to_run_fails() -> None:
    get = external(Client().get)
    run = iter(range(100))

    async def action() -> dict[str, Any]:
        return {"found": await get(str(next(run)))}

    with pytest.raises(TooManyCalls, match="or other calls in each run"):
        await runs(action)


async def test_call_outside_of_an_action_is_made_directly() -> None:
    assert await external(Client().get)("a") == "A"


async def test_inputs_of_a_batch_run_concurrently_up_to_a_limit() -> None:
    running, most = 0, 0

    async def run(item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if item == 90:
            raise ValueError(item)
        return item * 2

    assert await each_within(4, range(10), run) == list(range(0, 20, 2))
    assert most == 4
    assert await each_within(4, [], run) == []
    with pytest.raises(ValueError):
        await each_within(4, range(90, 95), run)
