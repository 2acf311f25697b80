"""A worker of `sdk/tests/counters`: `class` runs a class, `native` has a handler for each action."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pymongo.errors import DuplicateKeyError, PyMongoError

from concert_worker import Call, Query, Refused, Worker, external
from concert_worker.bus import Bus
from concert_worker.order import Published

from counter_types import (
    AddInput,
    AddOutput,
    ClaimInput,
    ClaimOutput,
    CountQuery,
    CountRow,
    CounterHandlers,
    EntriesQuery,
    EntriesRow,
    NoteInput,
    NoteOutput,
    NoteQuery,
    NoteRow,
    QuoteInput,
    QuoteOutput,
    Refusal,
    SizedQuery,
    SizedRow,
    SlowInput,
    SlowOutput,
    SwallowInput,
    SwallowOutput,
    TicketInput,
    TicketOutput,
)

SPEC = Path("concepts/Counter.concept")


@external
async def text_of(url: str) -> str:
    """The text of another service."""

    def read() -> str:
        with urlopen(url) as response:
            return str(response.read().decode())

    return await asyncio.to_thread(read)


class CounterConcept:
    """A class that knows nothing of Concert."""

    def __init__(self, db: Any) -> None:
        self.counters = db["counters"]
        self.entries = db["entries"]
        self.claims = db["claims"]
        self.notes = db["notes"]

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

    async def note(self, body: dict[str, Any]) -> dict[str, Any]:
        given = {key: body[key] for key in ("note", "alias") if key in body}
        await self.notes.update_one({"_id": body["name"]}, {"$set": given}, upsert=True)
        kept = await self.notes.find_one({"_id": body["name"]}, {"_id": 0})
        # The spec does not allow this null.
        return {"kept": kept | {"alias": None} if given.get("alias") == "null" else kept}

    async def quote(self, body: dict[str, Any]) -> dict[str, Any]:
        await self.counters.update_one({"_id": body["name"]}, {"$inc": {"count": 1}}, upsert=True)
        return {"quote": await text_of(os.environ["COUNTER_SERVICE"])}

    async def _count(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        counter = await self.counters.find_one({"_id": body["name"]})
        return [{"count": counter["count"] if counter else 0}]

    async def _entries(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        found = self.entries.find({"name": body["name"]})
        return [{"entry": entry["entry"]} async for entry in found]

    async def _note(self, body: dict[str, Any]) -> Any:
        if body["name"] == "wrong":
            return [{"note": 5}]
        found = await self.notes.find_one({"_id": body["name"]})
        # A value, and not a list of rows.
        return found.get("note") if found else None

    async def _sized(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        least = {"count": {"$gte": body["least"]}}
        counter = await self.counters.find_one({"_id": body["name"], **least})
        return [{"name": counter["_id"]}] if counter else []


class Handlers:
    """A handler for each action and query."""

    async def add(self, call: Call[AddInput]) -> AddOutput | Refusal:
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

    async def ticket(self, call: Call[TicketInput]) -> TicketOutput:
        return {"ticket": f"{call.input['name']}:{call.input['word']}"}

    async def claim(self, call: Call[ClaimInput]) -> ClaimOutput | Refusal:
        try:
            await call.db["claims"].insert_one({"_id": call.input["name"]})
        except DuplicateKeyError:
            return {"error": "The name is stored"}
        return {}

    async def swallow(self, call: Call[SwallowInput]) -> SwallowOutput:
        await CounterConcept(call.db).swallow({**call.input})
        return {}

    async def slow(self, call: Call[SlowInput]) -> SlowOutput:
        counted = await CounterConcept(call.db).slow({**call.input})
        return {"count": counted["count"]}

    async def note(self, call: Call[NoteInput]) -> NoteOutput:
        noted = await CounterConcept(call.db).note({**call.input})
        return {"kept": noted["kept"]}

    async def quote(self, call: Call[QuoteInput]) -> QuoteOutput:
        quoted = await CounterConcept(call.db).quote({**call.input})
        return {"quote": quoted["quote"]}

    async def _count(self, query: Query[CountQuery]) -> list[CountRow]:
        counter = await query.db["counters"].find_one({"_id": query.input["name"]})
        return [{"count": counter["count"] if counter else 0}]

    async def _entries(self, query: Query[EntriesQuery]) -> list[EntriesRow]:
        found = query.db["entries"].find({"name": query.input["name"]})
        return [{"entry": entry["entry"]} async for entry in found]

    async def _note(self, query: Query[NoteQuery]) -> list[NoteRow]:
        found = await CounterConcept(query.db)._note({**query.input})
        return found if isinstance(found, list) else [{"note": found}]

    async def _sized(self, query: Query[SizedQuery]) -> list[SizedRow]:
        counter = {"_id": query.input["name"], "count": {"$gte": query.input["least"]}}
        found = await query.db["counters"].find_one(counter)
        return [{"name": found["_id"]}] if found else []


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
    handlers: CounterHandlers = Handlers()
    if sys.argv[1] == "native":
        worker = Worker(SPEC).handlers(handlers)
    else:
        worker = Worker.of_class(CounterConcept, SPEC)
    worker.main()
