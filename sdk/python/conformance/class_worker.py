"""A class that knows nothing of Concert, as a worker that `concert conform` checks."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo.errors import DuplicateKeyError

from concert_worker import Worker

SPEC = Path(__file__).parents[3] / "concert/src/conform/Conformance.concept"
_Object = dict[str, Any]


class ConformanceConcept:
    """Methods take one dict and return a dict; queries return lists."""

    def __init__(self, db: Any) -> None:
        self.entries = db["entries"]
        self.owners = db["owners"]
        self.values = db["values"]
        #: Failed attempts of this process, by name.
        self.failures: Counter[str] = Counter()

    async def add(self, body: _Object) -> _Object:
        name, entry = body["name"], body["entry"]
        if not entry:
            return {"error": "An entry is not empty"}
        await self.entries.insert_one({"name": name, "entry": entry})
        return {"entry": entry}

    async def claim(self, body: _Object) -> _Object:
        name, owner = body["name"], body["owner"]
        try:
            await self.owners.insert_one({"_id": name, "owner": owner})
        except DuplicateKeyError:
            return {"error": "The name has an owner"}
        return {"owner": owner}

    async def release(self, body: _Object) -> _Object:
        await self.owners.delete_one({"_id": body["name"]})
        return {}

    async def put(self, body: _Object) -> _Object:
        change = {"$set": {"value": body["value"]}}
        await self.values.update_one({"_id": body["name"]}, change, upsert=True)
        return {"value": body["value"]}

    async def wait(self, body: _Object) -> _Object:
        await asyncio.sleep(body["milliseconds"] / 1000)
        return await self.add(body)

    async def fail(self, body: _Object) -> _Object:
        name = body["name"]
        self.failures[name] += 1
        if self.failures[name] <= body["times"]:
            raise RuntimeError("failing on demand")
        await self.entries.insert_one({"name": name, "entry": "done"})
        return {"name": name}

    async def crash(self, body: _Object) -> _Object:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    async def echo(self, body: _Object) -> _Object:
        return body

    async def measure(self, body: _Object) -> _Object:
        return {"word": body["word"], "length": len(body["word"])}

    async def misbehave(self, body: _Object) -> _Object:
        return {"entry": 5} if body["kind"] == "type" else {"error": "not in the spec"}

    async def _entries(self, body: _Object) -> list[_Object]:
        found: list[_Object] = await self.entries.find(body, {"_id": 0, "entry": 1}).to_list()
        return found

    async def _owner(self, body: _Object) -> list[_Object]:
        found = await self.owners.find_one({"_id": body["name"]})
        return [{"owner": found["owner"]}] if found else []

    async def _value(self, body: _Object) -> list[_Object]:
        found = await self.values.find_one({"_id": body["name"]})
        return [{"value": found["value"]}] if found else []

    async def _rows(self, body: _Object) -> list[_Object]:
        return [{"row": row} for row in range(int(body["count"]))]


if __name__ == "__main__":
    Worker.of_class(ConformanceConcept, SPEC).main()
