"""Turns of redelivered actions: an isolated attempt runs without other redelivered actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_LONGEST_S = 8.0


class Turns:
    """Admits one isolated attempt at a time. No turn is waited for longer than 8 s."""

    def __init__(self) -> None:
        self._isolated = asyncio.Lock()
        self._shared = 0
        self._is_isolated = False
        self._changed = asyncio.Condition()

    async def next(self, isolated: bool) -> Callable[[], None]:
        """Waits for a turn. The result ends it."""
        if isolated:
            await self._isolated.acquire()
            has_all = await self._wait(lambda: self._shared == 0)
            self._is_isolated = has_all
        else:
            await self._wait(lambda: not self._is_isolated)
            self._shared += 1

        def release() -> None:
            if isolated:
                self._is_isolated = False
                self._isolated.release()
            else:
                self._shared -= 1
            task = asyncio.ensure_future(self._notify())
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

        return release

    async def _wait(self, is_free: Callable[[], bool]) -> bool:
        try:
            async with asyncio.timeout(_LONGEST_S), self._changed:
                await self._changed.wait_for(is_free)
            return True
        except TimeoutError:
            return False

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


_tasks: set[asyncio.Task[None]] = set()
