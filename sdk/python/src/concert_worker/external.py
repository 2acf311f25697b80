"""Calls of an action to other services, with no transaction open in the meantime.

A call ends the transaction. After its result, the action runs again from the start, and gets the
stored results of the calls that it has made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, cast

_T = TypeVar("_T")
#: Maximum number of times that one action makes calls, which may differ from run to run.
_MAX_TURNS = 50


@dataclass
class _Made:
    name: str
    value: Any = None
    error: BaseException | None = None


class TooManyCalls(Exception):
    """The action makes too many calls, or other calls in each run."""


class Calls:
    """The results of the calls that one action has made."""

    def __init__(self) -> None:
        self._made: list[_Made] = []
        self._pending: list[tuple[str, Coroutine[Any, Any, Any]]] = []
        self._next = 0
        self._turns = 0
        #: Set when the run needs a result that is missing.
        self.suspended = asyncio.Event()

    def begin(self) -> None:
        """Begins a run."""
        self._next = 0
        self.suspended = asyncio.Event()
        self.drop()

    def drop(self) -> None:
        """Forgets the calls that were not made."""
        for _, call in self._pending:
            call.close()
        self._pending = []

    async def result(self, name: str, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a call. Never returns if it is missing: the run is cancelled."""
        if self.suspended.is_set():
            # The run has ended already.
            call.close()
            raise asyncio.CancelledError
        at = self._next
        self._next += 1
        if at < len(self._made) and self._made[at].name == name:
            call.close()
            made = self._made[at]
            if made.error is not None:
                raise made.error
            return made.value
        del self._made[at:]
        self._pending.append((name, call))
        # Calls of the same moment, such as those of `asyncio.gather`, are made together.
        asyncio.get_running_loop().call_soon(self.suspended.set)
        await asyncio.get_running_loop().create_future()

    async def make(self) -> None:
        """Makes the calls that the last run needs. Raises `TooManyCalls`."""
        self._turns += 1
        if self._turns > _MAX_TURNS:
            self.drop()
            why = f"the action makes more than {_MAX_TURNS} calls, or other calls in each run"
            raise TooManyCalls(why)
        pending, self._pending = self._pending, []
        calls = (call for _, call in pending)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for (name, _), result in zip(pending, results, strict=True):
            failed = isinstance(result, BaseException)
            self._made.append(_Made(name, error=result) if failed else _Made(name, result))


#: The calls of the action that runs now.
current: ContextVar[Calls | None] = ContextVar("concert_calls", default=None)


class _External:
    """A function or client whose coroutines run outside the transaction of the action."""

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        is_part = callable(found) or type(found).__module__ not in ("builtins", "collections")
        is_data = hasattr(type(found), "__getitem__") or hasattr(type(found), "__iter__")
        return _External(found, f"{self._name}.{name}") if is_part and not is_data else found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._target(*args, **kwargs)
        calls = current.get()
        if calls is None or not asyncio.iscoroutine(result):
            return result
        texts = [of for of in args if isinstance(of, str)]
        return calls.result(" ".join([self._name, *texts]), result)


def external(target: _T) -> _T:
    """Makes an async function, or the async methods of a client, run outside of transactions.

    An action that calls it ends its transaction, and runs again when the result is there. The
    result must be complete: a response whose body is read later keeps the transaction open.
    """
    return cast(_T, _External(target, getattr(target, "__qualname__", type(target).__qualname__)))
