"""The worker that `concert conform` checks; `worker.py <guard>` runs it without a guard."""

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from concert_worker import Call, Query, Refused, Retry, Worker

SPEC = Path(__file__).parents[3] / "concert/src/conform/Conformance.concept"
_Object = dict[str, Any]

worker = Worker(SPEC)
#: Failed attempts of this process, by name.
failures: Counter[str] = Counter()


@worker.action()
async def add(call: Call) -> _Object:
    """Stores an entry."""
    name, entry = call.input["name"], call.input["entry"]
    if not entry:
        raise Refused("An entry is not empty")
    await call.db["entries"].insert_one({"name": name, "entry": entry})
    return {"entry": entry}


@worker.action()
async def claim(call: Call) -> _Object:
    """Stores an owner; a second one is refused."""
    name, owner = call.input["name"], call.input["owner"]
    if await call.db["owners"].find_one({"_id": name}):
        raise Refused("The name has an owner")
    await call.db["owners"].insert_one({"_id": name, "owner": owner})
    return {"owner": owner}


@worker.action()
async def release(call: Call) -> _Object:
    """Deletes an owner."""
    await call.db["owners"].delete_one({"_id": call.input["name"]})
    return {}


@worker.action()
async def put(call: Call) -> _Object:
    """Replaces a value."""
    name, value = call.input["name"], call.input["value"]
    await call.db["values"].update_one({"_id": name}, {"$set": {"value": value}}, upsert=True)
    return {"value": value}


@worker.action()
async def wait(call: Call) -> _Object:
    """Stores an entry after a while."""
    await asyncio.sleep(call.input["milliseconds"] / 1000)
    return await add(call)


@worker.action()
async def fail(call: Call) -> _Object:
    """Fails at the first attempts."""
    name = call.input["name"]
    failures[name] += 1
    if failures[name] <= call.input["times"]:
        raise Retry("failing on demand")
    await call.db["entries"].insert_one({"name": name, "entry": "done"})
    return {"name": name}


@worker.action()
async def crash(call: Call) -> _Object:
    """Kills the process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@worker.action()
async def echo(call: Call) -> _Object:
    """Returns its input."""
    return call.input


@worker.action()
async def measure(call: Call) -> _Object:
    """Returns a secret and its length."""
    return {"word": call.input["word"], "length": len(call.input["word"])}


@worker.action()
async def misbehave(call: Call) -> _Object:
    """Returns what the spec does not allow."""
    return {"entry": 5} if call.input["kind"] == "type" else {"error": "not in the spec"}


@worker.query()
async def _entries(query: Query) -> list[_Object]:
    found = query.db["entries"].find({"name": query.input["name"]})
    return [{"entry": entry["entry"]} async for entry in found]


@worker.query()
async def _owner(query: Query) -> list[_Object]:
    found = query.db["owners"].find({"_id": query.input["name"]})
    return [{"owner": owner["owner"]} async for owner in found]


@worker.query()
async def _value(query: Query) -> list[_Object]:
    found = query.db["values"].find({"_id": query.input["name"]})
    return [{"value": value["value"]} async for value in found]


@worker.query()
async def _rows(query: Query) -> list[_Object]:
    return [{"row": row} for row in range(int(query.input["count"]))]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from without import GUARDS

        GUARDS[sys.argv[1]]()
    worker.main()
