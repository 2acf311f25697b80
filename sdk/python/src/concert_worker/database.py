"""One MongoDB transaction for each action, with a stamp that holds its output."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncCommandCursor
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from .external import Calls, TooManyCalls
from .external import current as current_calls
from .seal import Keyring
from .settings import Settings
from .value import Object

_T = TypeVar("_T")
_log = logging.getLogger("concert_worker")
STAMPS = "concert_stamps"
#: A flow of a repeatable request can be a day older than the log; an hour covers clock differences.
_MARGIN_H = 25
_CONFLICTS_S = 5.0
#: A killed process leaves its transaction open, which locks documents for a minute. A worker that
#: such a transaction blocks ends it when it had no operation for this long.
_INACTIVE_S = 5.0
_END_INTERVAL_S = 1.0
_START_S = 30.0
#: Maximum number of duplicate keys that a handler may catch in one run.
_MAX_CAUGHT = 20

_WRITES = frozenset(
    "insert_one insert_many replace_one update_one update_many delete_one delete_many bulk_write "
    "find_one_and_delete find_one_and_replace find_one_and_update".split()
)
_READS = frozenset("find find_one aggregate count_documents distinct".split())
#: Outside the transaction, which does not support them.
_OUTSIDE = frozenset(
    "create_index create_indexes drop_index drop_indexes list_indexes index_information "
    "estimated_document_count create_collection list_collection_names list_collections".split()
)


class Failed(Exception):
    """The attempt failed and is retried."""


class Busy(Exception):
    """Another transaction holds the documents; the action is retried without limit."""


#: Duplicate keys that a handler caught, by the number of the operation, with its name. The next run
#: raises them again without the operation.
_Caught = dict[int, tuple[str, PyMongoError]]


@dataclass
class _Call:
    """The transaction of the action that runs now."""

    session: AsyncClientSession
    caught: _Caught
    #: One operation at a time: a session does not support concurrent ones.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    has_written: bool = False
    errors: list[PyMongoError] = field(default_factory=list)
    number: int = 0
    #: The run has ended, because it waits for a call of a service.
    is_closed: bool = False

    async def run(self, name: str, operation: Awaitable[_T]) -> _T:
        number = self.number
        self.number += 1
        known = self.caught.get(number)
        if known is not None and known[0] == name:
            if asyncio.iscoroutine(operation):
                operation.close()
            raise known[1]
        async with self.lock:
            if self.is_closed:
                if asyncio.iscoroutine(operation):
                    operation.close()
                raise asyncio.CancelledError
            try:
                return await operation
            except PyMongoError as error:
                self.errors.append(error)
                if isinstance(error, DuplicateKeyError):
                    self.caught[number] = (name, error)
                raise

    def has_caught(self) -> bool:
        """Whether the first error of this run is a duplicate key: the action must run again."""
        return bool(self.errors) and isinstance(self.errors[0], DuplicateKeyError)


_call: ContextVar[_Call | None] = ContextVar("concert_call", default=None)


class _Cursor:
    """A cursor whose reads wait for the other operations of the transaction."""

    def __init__(self, inner: Any, call: _Call) -> None:
        self._inner = inner
        self._call = call

    def __aiter__(self) -> _Cursor:
        return self

    async def __anext__(self) -> Any:
        return await self._call.run("next", self._inner.__anext__())

    async def __aenter__(self) -> _Cursor:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.close()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if not callable(attribute):
            return attribute

        def method(*args: Any, **kwargs: Any) -> Any:
            result = attribute(*args, **kwargs)
            if asyncio.iscoroutine(result):
                return self._call.run(name, result)
            return self if result is self._inner else result

        return method


class _Collection:
    """A collection whose operations belong to the transaction of the action that runs."""

    def __init__(self, inner: AsyncCollection[Any]) -> None:
        self._inner = inner

    def __getitem__(self, name: str) -> _Collection:
        return _Collection(self._inner[name])

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if isinstance(attribute, AsyncCollection) and not callable(
            getattr(AsyncCollection, name, None)
        ):
            return _Collection(attribute)
        call = _call.get()
        if name in ("with_options",):
            return lambda *args, **kwargs: _Collection(attribute(*args, **kwargs))
        if call is None or name in _OUTSIDE or not callable(attribute):
            return attribute
        if name not in _WRITES and name not in _READS:
            raise Failed(f"the operation `{name}` is not available in a transaction")

        def method(*args: Any, **kwargs: Any) -> Any:
            call.has_written |= name in _WRITES
            result = attribute(*args, session=call.session, **kwargs)
            if isinstance(result, AsyncCursor):
                return _Cursor(result, call)
            return _wrapped(call, f"{self._inner.name}.{name}", result)

        return method


async def _wrapped(call: _Call, name: str, operation: Awaitable[Any]) -> Any:
    result = await call.run(name, operation)
    return _Cursor(result, call) if isinstance(result, AsyncCommandCursor) else result


class _Database:
    """A database whose operations belong to the transaction of the action that runs."""

    def __init__(self, inner: AsyncDatabase[Any]) -> None:
        self._inner = inner

    def __getitem__(self, name: str) -> _Collection:
        return _Collection(self._inner[name])

    def get_collection(self, name: str, *args: Any, **kwargs: Any) -> _Collection:
        """A collection of the database."""
        return _Collection(self._inner.get_collection(name, *args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if isinstance(attribute, AsyncCollection):
            return _Collection(attribute)
        call = _call.get()
        if call is None or name in _OUTSIDE or not callable(attribute):
            return attribute
        raise Failed(f"the operation `{name}` of a database is not available in a transaction")


class Database:
    """The database of a concept."""

    def __init__(self, inner: AsyncDatabase[Any], app: str, log_max_age_hours: int) -> None:
        self._inner = inner
        self._app = app
        self._kept = timedelta(hours=log_max_age_hours + _MARGIN_H)
        self._ended_at = 0.0
        #: For handlers: operations of an action belong to its transaction.
        self.proxy = cast("AsyncDatabase[dict[str, Any]]", _Database(inner))

    @staticmethod
    async def connect(settings: Settings, concept: str) -> Database:
        """Connects, and waits until the server responds. Raises `PyMongoError`."""
        owner = concept.lower()
        name = f"{settings.database_prefix}_{owner}"
        app = f"concert-{owner}"
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            for user in _users(settings, owner, name):
                client: AsyncMongoClient[Any] = AsyncMongoClient(
                    settings.mongodb_uri,
                    appname=app,
                    serverSelectionTimeoutMS=5000,
                    retryWrites=False,
                    **user,
                )
                inner = client.get_database(
                    name,
                    read_preference=ReadPreference.PRIMARY,
                    read_concern=ReadConcern("majority"),
                    write_concern=WriteConcern("majority", j=True),
                )
                try:
                    await inner.command("ping")
                except PyMongoError as error:
                    await client.close()
                    why = error
                    continue
                database = Database(inner, app, settings.log_max_age_hours)
                await inner[STAMPS].create_index("purge_at", expireAfterSeconds=0)
                return database
            if asyncio.get_running_loop().time() > deadline:
                raise why
            await asyncio.sleep(0.25)

    async def transact(
        self,
        action: str,
        permit: Callable[[], Awaitable[None]],
        body: Callable[[], Coroutine[Any, Any, Object]],
    ) -> Object:
        """Runs an action, and returns the output of its completion.

        `body` returns that output. If the action has a stamp, `body` does not run. `permit` raises
        if this delivery must not write. Calls with `external` are made between transactions.

        Raises `Failed`, `Busy`, or an error of `body` or `permit`.
        """
        calls = Calls()
        try:
            return await self._transact(action, permit, body, calls)
        except TooManyCalls as error:
            raise Failed(str(error)) from None
        finally:
            calls.drop()

    async def _transact(
        self,
        action: str,
        permit: Callable[[], Awaitable[None]],
        body: Callable[[], Coroutine[Any, Any, Object]],
        calls: Calls,
    ) -> Object:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONFLICTS_S
        delay = 0.002
        caught: _Caught = {}
        while True:
            try:
                known = len(caught)
                output = await self._attempt(action, permit, body, caught, calls)
                if output is not None:
                    return output
                if len(caught) > _MAX_CAUGHT:
                    why = f"the handler catches {_MAX_CAUGHT} duplicate keys"
                    raise Failed(f"{why}; look up keys before writes")
                if len(caught) == known:
                    await calls.make()
                deadline = loop.time() + _CONFLICTS_S
                continue
            except PyMongoError as error:
                transient = error.has_error_label("TransientTransactionError")
                taken = isinstance(error, DuplicateKeyError) and STAMPS in str(error)
                if not (transient or taken):
                    raise Failed(f"MongoDB: {type(error).__name__}: {_text(error)}") from error
                # The other document with the key may be gone in the next run.
                caught.clear()
                if loop.time() > deadline:
                    why = f"another action holds the documents: {_text(error)}"
                    raise Busy(why) from error
            # Another action wrote the same document, or another delivery committed.
            await asyncio.sleep(delay * random.uniform(0.5, 1))
            delay = min(delay * 2, 0.25)
            if loop.time() - self._ended_at > _END_INTERVAL_S:
                self._ended_at = loop.time()
                await self._end_abandoned()

    async def _end_abandoned(self) -> None:
        """Ends transactions of killed processes. A MongoDB user may end its own sessions."""
        admin = self._inner.client.admin
        inactive = {"$gt": int(_INACTIVE_S * 1e6)}
        try:
            found = await admin.aggregate(
                [
                    {"$currentOp": {"allUsers": False, "idleSessions": True}},
                    {"$match": {"appName": self._app, "transaction.timeInactiveMicros": inactive}},
                ]
            )
            sessions = [{"id": of["lsid"]["id"]} async for of in found]
            if sessions:
                await admin.command("killSessions", sessions)
        except PyMongoError as error:
            _log.warning("cannot end abandoned transactions: %s", _text(error))

    async def _attempt(
        self,
        action: str,
        permit: Callable[[], Awaitable[None]],
        body: Callable[[], Coroutine[Any, Any, Object]],
        caught: _Caught,
        calls: Calls,
    ) -> Object | None:
        """One run; `None` if the action must run again with what `caught` and `calls` have now."""
        stamps = self._inner[STAMPS]
        async with self._inner.client.start_session() as session:
            await session.start_transaction(
                ReadConcern("snapshot"),
                WriteConcern("majority", j=True),
                ReadPreference.PRIMARY,
            )
            stamp = await stamps.find_one({"_id": action}, session=session)
            if stamp is not None:
                return cast(Object, json.loads(stamp["output"]))
            known = dict(caught)
            call = _Call(session, caught)
            try:
                output = await _run(call, calls, body)
            except Exception:
                # Later errors follow from the duplicate key, which ended the transaction.
                if call.has_caught():
                    return None
                raise
            if output is None:
                caught.clear()
                caught.update(known)
                return None
            async with call.lock:
                if call.has_caught():
                    return None
                _check(call)
                if not call.has_written or output.get("fault") is not None:
                    return output
                await permit()
                now = datetime.now(UTC)
                document = {
                    "_id": action,
                    "output": json.dumps(output),
                    "at": now,
                    "purge_at": now + self._kept,
                }
                await stamps.insert_one(document, session=session)
                await session.commit_transaction()
                return output


async def _run(
    call: _Call, calls: Calls, body: Callable[[], Coroutine[Any, Any, Object]]
) -> Object | None:
    """The output of `body`; `None` if it needs the result of a call that is missing."""
    calls.begin()
    tokens = _call.set(call), current_calls.set(calls)
    try:
        running = asyncio.ensure_future(body())
    finally:
        _call.reset(tokens[0])
        current_calls.reset(tokens[1])
    suspended = asyncio.ensure_future(calls.suspended.wait())
    try:
        await asyncio.wait({running, suspended}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        # The operation in progress ends; later ones do not run.
        async with call.lock:
            call.is_closed = True
        return None
    finally:
        suspended.cancel()
        if not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _check(call: _Call) -> None:
    """An error that the handler caught ended the transaction, so its outcome may not hold."""
    for error in call.errors:
        if error.has_error_label("TransientTransactionError"):
            raise error
        raise Failed(f"MongoDB: {type(error).__name__}: {_text(error)}")


def _text(error: PyMongoError) -> str:
    """The message of an error without values of documents."""
    if isinstance(error, OperationFailure):
        return f"code {error.code}"
    return str(error).partition(",")[0]


def _users(settings: Settings, owner: str, name: str) -> list[dict[str, Any]]:
    path = settings.keys / "mongo" / f"{owner}.key"
    if not path.exists():
        return [{}]
    ring = Keyring.parse(path.read_text())
    return [
        {
            "username": f"{owner}_{key_id}",
            "password": ring.password(key_id),
            "authSource": name,
            "authMechanism": "SCRAM-SHA-256",
        }
        for key_id in ring.keys
    ]
