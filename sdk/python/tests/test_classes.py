"""Existing classes: results in other forms, and duplicate keys that they catch."""

import asyncio
from typing import Any, cast

from concert_worker.database import _Call, _Caught
from concert_worker.worker import Worker, result_of
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

SPEC = """concept Names
actions
    add (name: String) : (name: String)
queries
    _all () : (name: String)*
"""


class Names:
    def __init__(self, db: Any) -> None:
        self.db = db

    async def insert(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        return [value]

    def all(self, _: dict[str, Any]) -> list[str]:
        return [self.db]


def test_results_in_other_forms() -> None:
    assert result_of({"list": [], "error": "none"}) == {"error": "none"}
    assert result_of({"user": "a", "error": None}) == {"user": "a"}
    assert result_of([{"user": "a"}]) == {"user": "a"}
    assert result_of(None) == {}


def test_methods_and_constructors_with_other_names() -> None:
    methods = {"add": "insert", "_all": "all"}
    worker = Worker.of_class(Names, SPEC, methods=methods, create=lambda _: Names("own"))
    worker.check()

    async def rows() -> Any:
        await worker.prepare(cast(Any, None))
        return await worker.queries["_all"](cast(Any, type("Query", (), {"input": {}})))

    assert asyncio.run(rows()) == [{"name": "own"}]


class Post:
    """Has a method whose name would be a keyword."""

    def __init__(self, _: Any) -> None: ...

    async def import_(self, value: Any) -> dict[str, Any]:
        return {"value": value}


def test_method_of_a_keyword_has_an_underscore() -> None:
    spec = "concept Post\nactions\n    import (value: Any) : (value: Any)\n"
    Worker.of_class(Post, spec).check()
    worker = Worker(spec).handlers(Post(None))
    worker.check()
    assert asyncio.run(cast(Any, worker.actions["import"](cast(Any, 1)))) == {"value": 1}


def test_caught_duplicate_key_is_raised_again_without_the_operation() -> None:
    caught: _Caught = {}
    done: list[str] = []

    async def insert() -> None:
        done.append("insert")
        raise DuplicateKeyError("E11000")

    async def find() -> None:
        done.append("find")

    async def run() -> bool:
        call = _Call(cast(AsyncClientSession, None), caught)
        try:
            await call.run("users.insert_one", insert())
        except DuplicateKeyError:
            pass
        await call.run("users.find_one", find())
        return call.has_caught()

    assert asyncio.run(run())
    assert done == ["insert", "find"]
    assert not asyncio.run(run())
    assert done == ["insert", "find", "find"]
