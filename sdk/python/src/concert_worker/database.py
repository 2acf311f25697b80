"""One MongoDB transaction for each action, with a stamp that holds its output."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
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


@dataclass
class _Call:
    """The transaction of the action that runs now."""

    session: AsyncClientSession
    #: One operation at a time: a session does not support concurrent ones.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    has_written: bool = False
    errors: list[PyMongoError] = field(default_factory=list)

    async def run(self, operation: Awaitable[_T]) -> _T:
        async with self.lock:
            try:
                return await operation
            except PyMongoError as error:
                self.errors.append(error)
                raise


_call: ContextVar[_Call | None] = ContextVar("concert_call", default=None)


class _Cursor:
    """A cursor whose reads wait for the other operations of the transaction."""

    def __init__(self, inner: Any, call: _Call) -> None:
        self._inner = inner
        self._call = call

    def __aiter__(self) -> _Cursor:
        return self

    async def __anext__(self) -> Any:
        return await self._call.run(self._inner.__anext__())

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
                return self._call.run(result)
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
            return _wrapped(call, result)

        return method


async def _wrapped(call: _Call, operation: Awaitable[Any]) -> Any:
    result = await call.run(operation)
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
        body: Callable[[], Awaitable[Object]],
    ) -> Object:
        """Runs an action, and returns the output of its completion.

        `body` returns that output. If the action has a stamp, `body` does not run. `permit` raises
        if this delivery must not write. Raises `Failed`, `Busy`, or an error of `body` or `permit`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CONFLICTS_S
        delay = 0.002
        while True:
            try:
                return await self._attempt(action, permit, body)
            except PyMongoError as error:
                transient = error.has_error_label("TransientTransactionError")
                taken = isinstance(error, DuplicateKeyError) and STAMPS in str(error)
                if not (transient or taken):
                    raise Failed(f"MongoDB: {type(error).__name__}: {_text(error)}") from error
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
        body: Callable[[], Awaitable[Object]],
    ) -> Object:
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
            call = _Call(session)
            token = _call.set(call)
            try:
                output = await body()
            finally:
                _call.reset(token)
            async with call.lock:
                _check(call, output)
                if not call.has_written or output.get("fault") is not None or call.errors:
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


def _check(call: _Call, output: Object) -> None:
    """An error that the handler caught ended the transaction, so its outcome may not hold.

    A duplicate key is a fact about the committed state, so a refusal because of it holds.
    """
    for error in call.errors:
        if error.has_error_label("TransientTransactionError"):
            raise error
        if not isinstance(error, DuplicateKeyError):
            raise Failed(f"MongoDB: {type(error).__name__}: {_text(error)}")
    if call.errors and "error" not in output:
        raise Failed(
            "the handler continued after a duplicate key, which ends its transaction; "
            "look up the key before the write"
        )


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
