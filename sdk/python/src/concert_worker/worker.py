"""The definition of a worker: the spec of a concept, and a handler for each action and query."""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from pymongo.asynchronous.database import AsyncDatabase

from . import wire
from .settings import Settings
from .spec import Query as QuerySpec
from .spec import Spec
from .types import check
from .value import Object

if TYPE_CHECKING:
    # Python 3.11 has no defaults of type variables, but type checkers do.
    from typing_extensions import TypeVar

    Input = TypeVar("Input", default=Object)
else:
    from typing import TypeVar

    Input = TypeVar("Input")


class Refused(Exception):
    """The failure that the spec declares; undoes the writes of the action."""


class Retry(Exception):
    """A temporary failure: the action is retried, and dead-lettered after all attempts."""


class Throttled(Exception):
    """Not attempted, because too many similar attempts failed recently."""

    def __init__(self, error: str, retry_after_s: int | None = None) -> None:
        super().__init__(error)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Call(Generic[Input]):
    """An action to execute. Its secrets are in clear."""

    #: The same at every delivery.
    id: str
    flow: str
    input: Input
    #: Operations belong to the transaction of this action.
    db: AsyncDatabase[dict[str, Any]]
    settings: Object
    #: The client that sent the request of this flow; equal for requests of one client.
    client: str | None = None
    device: str | None = None
    position: str | None = None

    def new_id(self, kind: str) -> str:
        """An ID for a document that this action creates: the same at every delivery."""
        return wire.uuid_v5(self.id, kind.encode())


@dataclass(frozen=True)
class Query(Generic[Input]):
    """A query to answer. Its secrets are in clear."""

    input: Input
    db: AsyncDatabase[dict[str, Any]]
    settings: Object


def _name(handler: Callable[..., Any]) -> str:
    return str(getattr(handler, "__name__", ""))


def _method(name: str) -> str:
    """Name of the method of an action or query: a keyword gets a `_` after it."""
    return f"{name}_" if iskeyword(name) else name


#: The handler of an action; returns its output.
ActionHandler = Callable[[Call[Any]], Awaitable[Mapping[str, Any]]]
#: The handler of a query; returns its rows.
QueryHandler = Callable[[Query[Any]], Awaitable[Sequence[Mapping[str, Any]]]]
_Action = TypeVar("_Action", bound=ActionHandler)
_Query = TypeVar("_Query", bound=QueryHandler)


def rows_of(query: QuerySpec, result: Any) -> list[Object]:
    """The rows in the result of a method: one dict is one row, `None` and an error are no row.

    If the spec declares exactly one row with one output that accepts null, `None` is that row.
    """
    params = query.output.params
    only = params[0] if len(params) == 1 else None
    is_value = query.rows == "one" and only is not None and check(only.type, None) is None
    if result is None and not is_value:
        return []
    found = result if isinstance(result, (list, tuple)) else [result]
    if only is not None:
        found = [row if isinstance(row, dict) else {only.name: row} for row in found]
    return [row for row in found if not (isinstance(row, dict) and set(row) == {"error"})]


def result_of(result: Any) -> Any:
    """The output in the result of a method: an error is alone, and a list has its only element."""
    if isinstance(result, (list, tuple)) and len(result) <= 1:
        result = result[0] if result else None
    if not isinstance(result, dict) or "error" not in result:
        return {} if result is None else result
    if result["error"] in (None, ""):
        return {key: value for key, value in result.items() if key != "error"}
    return {"error": str(result["error"])}


class Mismatch(Exception):
    """The handlers do not match the spec."""


class Worker:
    """A worker of one concept. `spec` is the path of a spec, or its text."""

    def __init__(self, spec: Path | str) -> None:
        text = spec.read_text() if isinstance(spec, Path) else spec
        self.spec = Spec.parse(text)
        self.actions: dict[str, ActionHandler] = {}
        self.queries: dict[str, QueryHandler] = {}
        self._opens: list[Callable[[AsyncDatabase[dict[str, Any]]], Any]] = []

    @staticmethod
    def of_class(
        concept: type[Any],
        spec: Path | str,
        *,
        methods: dict[str, str] | None = None,
        create: Callable[[AsyncDatabase[dict[str, Any]]], Any] | None = None,
    ) -> Worker:
        """A worker that runs a class: its constructor takes a database, its methods one dict.

        Actions return a dict, which is a failure if it has the key `error`. Queries have names with
        `_` and return a list of dicts; see `rows_of` for other results. `methods` has the names of
        methods that differ from those of the spec. `create` makes the instance.
        """
        worker = Worker(spec)
        own = methods or {}
        holder: dict[str, Any] = {}

        def method_of(name: str) -> str:
            return own.get(name) or _method(name)

        async def open_(db: AsyncDatabase[dict[str, Any]]) -> None:
            holder["instance"] = (create or concept)(db)

        async def method(name: str, value: Object) -> Any:
            result = getattr(holder["instance"], method_of(name))(value)
            return await result if inspect.isawaitable(result) else result

        def action(name: str) -> ActionHandler:
            async def run(call: Call) -> Object:
                result: Object = result_of(await method(name, call.input))
                return result

            return run

        def query(name: str) -> QueryHandler:
            async def run(query: Query) -> list[Object]:
                result = await method(name, query.input)
                return rows_of(worker.spec.queries[name], result)

            return run

        worker._opens.append(open_)
        for name in worker.spec.actions:
            if hasattr(concept, method_of(name)):
                worker.actions[name] = action(name)
        for name in worker.spec.queries:
            if hasattr(concept, method_of(name)):
                worker.queries[name] = query(name)
        return worker

    def handlers(self, handlers: object) -> Worker:
        """Registers the methods with the names of actions and queries, and returns the worker.

        `concert gen` writes the protocol of such an object. A name that is a Python keyword has a
        `_` after it.
        """
        for name in self.spec.actions:
            if hasattr(handlers, _method(name)):
                self.actions[name] = getattr(handlers, _method(name))
        for name in self.spec.queries:
            if hasattr(handlers, _method(name)):
                self.queries[name] = getattr(handlers, _method(name))
        return self

    def action(self, name: str | None = None) -> Callable[[_Action], _Action]:
        """Registers the handler of an action; its name is that of the function by default."""

        def register(handler: _Action) -> _Action:
            self.actions[name or _name(handler)] = handler
            return handler

        return register

    def query(self, name: str | None = None) -> Callable[[_Query], _Query]:
        """Registers the handler of a query."""

        def register(handler: _Query) -> _Query:
            self.queries[name or _name(handler)] = handler
            return handler

        return register

    def open(self, prepare: Callable[[AsyncDatabase[dict[str, Any]]], Awaitable[None]]) -> None:
        """Runs a function when the worker starts, for example to create indexes."""
        self._opens.append(prepare)

    def check(self) -> None:
        """Compares the handlers with the spec. Raises `Mismatch`."""
        problems = []
        for kind, known, found in (
            ("action", self.spec.actions, self.actions),
            ("query", self.spec.queries, self.queries),
        ):
            problems += [f"the {kind} `{name}` has no handler" for name in known if name not in found]
            problems += [f"the spec has no {kind} `{name}`" for name in found if name not in known]
        if problems:
            raise Mismatch(f"the worker of {self.spec.name} differs from its spec: {problems}")

    async def prepare(self, db: AsyncDatabase[dict[str, Any]]) -> None:
        """Runs the functions of `open`."""
        for prepare in self._opens:
            await prepare(db)

    async def run(self, settings: Settings, stop: asyncio.Event) -> None:
        """Runs until `stop`, and finishes the actions in progress."""
        from .host import Host

        self.check()
        await Host.run(self, settings, stop)

    def main(self) -> None:
        """Runs until SIGTERM or SIGINT, with settings from the environment."""
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
        try:
            asyncio.run(self._until_signal())
        except Exception as error:
            sys.exit(f"the worker of {self.spec.name} stopped: {error}")

    async def _until_signal(self) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await self.run(Settings.from_environment(), stop)
