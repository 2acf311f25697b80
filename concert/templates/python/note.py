"""The worker of Note."""

from pathlib import Path
from typing import Any

from concert_worker import Call, Query, Refused, Worker

worker = Worker(Path("concepts/Note.concept"))


@worker.action()
async def create(call: Call) -> dict[str, Any]:
    """Adds a Note of the writer."""
    if not call.input["text"]:
        raise Refused("The text is empty")
    created = call.new_id("Note")
    await call.db["all"].insert_one({"_id": created, **call.input})
    return {"note": created}


@worker.action()
async def delete(call: Call) -> dict[str, Any]:
    """Removes the Note."""
    deleted = await call.db["all"].delete_one({"_id": call.input["note"]})
    if deleted.deleted_count == 0:
        raise Refused("There is no such Note")
    return {}


@worker.query()
async def _byWriter(query: Query) -> list[dict[str, Any]]:
    found = query.db["all"].find({"writer": query.input["writer"]})
    return [{"note": of["_id"], "text": of["text"]} async for of in found]


if __name__ == "__main__":
    worker.main()
