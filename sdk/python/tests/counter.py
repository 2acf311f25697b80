"""A worker of `sdk/tests/counters`: `class` runs a class, `native` has a handler for each action."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError

from concert_worker import Call, Query, Refused, Worker
from concert_worker.bus import Bus
from concert_worker.order import Published

SPEC = Path("concepts/Counter.concept")


class CounterConcept:
    """A class that knows nothing of Concert."""

    def __init__(self, db: Any) -> None:
        self.counters = db["counters"]
        self.entries = db["entries"]
        self.claims = db["claims"]

    async def add(self, body: dict[str, Any]) -> dict[str, Any]:
        name, entry = body["name"], body["entry"]
        if not entry:
            return {"error": "An entry is not empty"}
        await self.entries.insert_one({"name": name, "entry": entry})
        await self.counters.update_one({"_id": name}, {"$inc": {"count": 1}}, upsert=True)
        counter = await self.counters.find_one({"_id": name})
        return {"count": counter["count"]}

    async def ticket(self, body: dict[str, Any]) -> dict[str, Any]:
        await self.counters.update_one({"_id": "tickets"}, {"$inc": {"count": 1}}, upsert=True)
        return {"ticket": f"{body['name']}:{body['word']}"}

    async def claim(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            await self.claims.insert_one({"_id": body["name"]})
        except DuplicateKeyError:
            return {"error": "The name is stored"}
        return {}

    async def swallow(self, body: dict[str, Any]) -> dict[str, Any]:
        try:
            await self.counters.update_one({"_id": body["name"]}, {"$nonsense": 1})
        except PyMongoError:
            pass
        return {}

    async def slow(self, body: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(9)
        await self.counters.update_one({"_id": body["name"]}, {"$inc": {"count": 1}}, upsert=True)
        (counter,) = await self._count(body)
        return counter

    async def _count(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        counter = await self.counters.find_one({"_id": body["name"]})
        return [{"count": counter["count"] if counter else 0}]

    async def _entries(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        found = self.entries.find({"name": body["name"]})
        return [{"entry": entry["entry"]} async for entry in found]


native = Worker(SPEC) if SPEC.exists() else None

if native:

    @native.action()
    async def add(call: Call) -> dict[str, Any]:
        """Adds an entry."""
        name, entry = call.input["name"], call.input["entry"]
        if not entry:
            raise Refused("An entry is not empty")
        await call.db["entries"].insert_one(
            {"_id": call.new_id("Entry"), "name": name, "entry": entry}
        )
        await call.db["counters"].update_one({"_id": name}, {"$inc": {"count": 1}}, upsert=True)
        counter = await call.db["counters"].find_one({"_id": name})
        assert counter
        return {"count": counter["count"]}

    @native.action()
    async def ticket(call: Call) -> dict[str, Any]:
        """Returns a secret."""
        return {"ticket": f"{call.input['name']}:{call.input['word']}"}

    @native.action()
    async def claim(call: Call) -> dict[str, Any]:
        """Stores a name; a duplicate is a refusal."""
        return await CounterConcept(call.db).claim(call.input)

    @native.action()
    async def swallow(call: Call) -> dict[str, Any]:
        """Ignores an error of the database."""
        return await CounterConcept(call.db).swallow(call.input)

    @native.action()
    async def slow(call: Call) -> dict[str, Any]:
        """Takes longer than the ack deadline."""
        return await CounterConcept(call.db).slow(call.input)

    @native.query()
    async def _count(query: Query) -> list[dict[str, Any]]:
        counter = await query.db["counters"].find_one({"_id": query.input["name"]})
        return [{"count": counter["count"] if counter else 0}]

    @native.query()
    async def _entries(query: Query) -> list[dict[str, Any]]:
        found = query.db["entries"].find({"name": query.input["name"]})
        return [{"entry": entry["entry"]} async for entry in found]


publish_once = Bus.publish_once


async def crash_once(
    bus: Bus, subject: str, body: bytes, headers: dict[str, str] | None = None
) -> Published:
    """Kills the process after the write of some actions, before their completion is published."""
    entry = json.loads(body).get("input", {}).get("entry", "")
    if entry.endswith("44"):
        marker = Path(os.environ["CONCERT_KEYS"]).parent / f"crashed-{entry}"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return await publish_once(bus, subject, body, headers)


if __name__ == "__main__":
    Bus.publish_once = crash_once  # type: ignore[method-assign,assignment]
    worker = native if sys.argv[1] == "native" else Worker.of_class(CounterConcept, SPEC)
    assert worker
    worker.main()
