"""Runs a worker: executes the effects of the state machine with NATS, MongoDB and the handlers."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

from nats.aio.msg import Msg

from . import wire
from .bus import Bus, BusError, Fetcher, Info
from .database import Busy, Database, Failed
from .intake import (
    Input,
    Invocation,
    Locked,
    fault,
    intake,
    is_same,
    output_of,
    record,
)
from .large import Broken, Expired, LargeText, Reference, derived_place, resolved, stored
from .order import (
    LATE,
    Completion,
    Delivery,
    Effect,
    Effects,
    End,
    Event,
    Handled,
    Limits,
)
from .seal import KeyFile, Sealer, UnknownKey
from .service import Service
from .settings import Settings
from .turns import Turns
from .value import BadValue, Object, encode, parse_object
from .wire import now_ms
from .worker import Call, Refused, Retry, Throttled, Worker

_log = logging.getLogger("concert_worker")
_LIMITS_ACK_MS = 1750
_OLDEST_POLL_S = 30.0
_CLOCK_SKEW_MS = 60_000
_DRAIN_S = 10.0
_LARGE_CONCURRENCY = 4


class Host:
    """A running worker."""

    def __init__(self, worker: Worker, settings: Settings, bus: Bus, database: Database) -> None:
        self.worker = worker
        self.settings = settings
        self.bus = bus
        self.database = database
        self.sealer = Sealer(KeyFile(settings.keys / "seal.key"))
        self.turns = Turns()
        #: Limits the large values that are read concurrently.
        self.large = asyncio.Semaphore(_LARGE_CONCURRENCY)
        self.log_begin_ms = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @staticmethod
    async def run(worker: Worker, settings: Settings, stop: asyncio.Event) -> None:
        """Runs until `stop`. Raises `BusError` if the connection cannot be used any longer."""
        concept = worker.spec.name
        bus = await Bus.connect(settings, concept)
        database = await Database.connect(settings, concept)
        host = Host(worker, settings, bus, database)
        await worker.prepare(database.proxy)
        await bus.wait_for_log()
        host.log_begin_ms = await bus.log_begin_ms()
        fetcher = Fetcher(bus, concept)
        await fetcher.open()
        service = await Service.start(host)
        _log.info("the worker of %s has started", concept)
        poll = asyncio.ensure_future(host._poll_log())
        stopped = asyncio.ensure_future(_until(stop))
        failed = bus.failed
        receive = asyncio.ensure_future(host._receive(fetcher, stop))
        try:
            await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                raise BusError(failed.result())
            await service.stop()
            # The last fetch ends within two seconds; its messages are run as well.
            await receive
            if host._tasks:
                await asyncio.wait(host._tasks, timeout=_DRAIN_S)
            await bus.client.flush()
        finally:
            for task in (poll, stopped, receive, *host._tasks):
                task.cancel()
            failed.cancel()
            await bus.client.close()

    async def stored(self, value: Any) -> Any:
        """The output or rows with references instead of large strings.

        Raises `Broken` or `BusError`.
        """
        return await stored(value, self._store)

    async def _store(self, text: str) -> Reference:
        large = LargeText(text)
        # An equal value is stored once in an epoch, such as that of a redelivered action.
        epoch = now_ms() // (self.settings.log_max_age_hours * 3_600_000)
        parts = [b"worker", self.worker.spec.name.encode(), epoch.to_bytes(8), large.digest]
        place = derived_place(self.sealer.key(), parts)
        async with self.large:
            return await large.store(place, self.bus.blob, self.bus.store_blob)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a task that a shutdown waits for."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _receive(self, fetcher: Fetcher, stop: asyncio.Event) -> None:
        free = asyncio.Semaphore(self.settings.concurrency)
        running = 0

        def ended(_: object) -> None:
            nonlocal running
            running -= 1
            free.release()

        while not stop.is_set():
            await free.acquire()
            free.release()
            async for message in fetcher.fetch(self.settings.concurrency - running):
                await free.acquire()
                running += 1
                self.spawn(self.take(message)).add_done_callback(ended)

    async def _poll_log(self) -> None:
        while True:
            await asyncio.sleep(_OLDEST_POLL_S)
            try:
                self.log_begin_ms = max(self.log_begin_ms, await self.bus.log_begin_ms())
            except BusError as error:
                _log.debug("cannot read the time of the log's first message: %s", error)

    async def take(self, message: Msg) -> None:
        """Processes one message completely."""
        try:
            info = Info.of(message)
            await _Doing(self, message, info).run()
        except Exception:
            # The server redelivers the message.
            _log.exception("the delivery of %s failed", message.subject)

    def is_older_than_log(self, invocation: Invocation) -> bool:
        """Reports whether it is unknown whether the action already completed."""
        created = wire.created_before_ms(invocation.flow)
        return (
            not invocation.is_root
            and created is not None
            and created + _CLOCK_SKEW_MS < self.log_begin_ms
        )


class _Doing:
    """One delivery."""

    def __init__(self, host: Host, message: Msg, info: Info) -> None:
        self._host = host
        self._message = message
        self._info = info
        self._began = time.monotonic()
        limits = Limits(attempts=host.settings.attempts, ack_wait_ms=_LIMITS_ACK_MS)
        self._delivery = Delivery(info.delivered, limits, 0)
        self._invocation: Invocation | None = None
        self._release: Callable[[], None] | None = None
        self._work: int | None = None

    def _now(self) -> int:
        return int((time.monotonic() - self._began) * 1000)

    def _read(self) -> Invocation:
        info = self._info
        return Invocation.read(
            self._message.subject,
            self._message.headers or {},
            lambda: wire.injected_id(info.stream, info.sequence, info.timestamp_ns),
        )

    async def run(self) -> None:
        try:
            self._invocation = self._read()
            if self._host.is_older_than_log(self._invocation):
                effects = self._delivery.begin_dead("the flow is older than the log")
            else:
                effects = self._delivery.begin()
        except wire.Malformed as error:
            effects = self._delivery.begin_dead(str(error))
        try:
            await self._execute_all(effects)
        finally:
            if self._release:
                self._release()

    async def _execute_all(self, effects: Effects) -> None:
        while effects:
            answer = None
            for effect in effects:
                if isinstance(effect, End):
                    await self._end(effect)
                else:
                    answer = await self._execute(effect)
            effects = [] if answer is None else self._delivery.on(answer, self._now())

    async def _execute(self, effect: Effect) -> Event | None:
        host, bus = self._host, self._host.bus
        if effect.kind == "storeLetter":
            return await self._store_letter(effect.reason)
        invocation = self._invocation
        assert invocation is not None
        concept = host.worker.spec.name
        bucket, key = f"concert_{concept}", f"last-attempt.{invocation.id}"
        subject = wire.completion(invocation.flow, concept, invocation.action, invocation.id)
        try:
            match effect.kind:
                case "look":
                    return await bus.find(subject)
                case "awaitTurn":
                    turn = host.turns.next(effect.isolated)
                    self._release = await self._holding(turn)
                    return ("turn",)
                case "releaseTurn":
                    if self._release:
                        self._release()
                        self._release = None
                    return None
                case "takeNote":
                    return ("noteTaken", await bus.take_note(bucket, key))
                case "leaveNote":
                    await bus.leave_note(bucket, key)
                    return ("noteLeft",)
                case "forgetNote":
                    try:
                        await bus.forget_note(bucket, key)
                    except BusError as error:
                        _log.warning("cannot delete the note of an isolated attempt: %s", error)
                    return ("noteForgotten",)
                case "run":
                    return await self._run(invocation, subject)
                case "publish":
                    assert effect.completion
                    body = {"input": effect.completion.input, "output": effect.completion.output}
                    headers = {wire.WORK: str(self._work or 0)}
                    return await bus.publish_once(subject, encode(body), headers)
                case "compare":
                    assert effect.completion and effect.own
                    spec = host.worker.spec.actions.get(invocation.action)
                    a, b = effect.completion.output, effect.own.output
                    same = is_same(spec, host.sealer, invocation.flow, a, b)
                    return ("compared", "same" if same else "different")
                case "reply":
                    assert effect.completion
                    if invocation.reply:
                        output = encode(effect.completion.output)
                        await bus.client.publish(invocation.reply, output)
                    return None
        except BusError as error:
            return ("noteFailed", str(error))
        except UnknownKey as error:
            return ("locked", f"a secret of {invocation.action} is {error}")
        raise AssertionError(effect.kind)

    async def _run(self, invocation: Invocation, subject: str) -> Handled:
        began = time.perf_counter_ns()
        host = self._host
        spec = host.worker.spec.actions.get(invocation.action)
        handler = host.worker.actions.get(invocation.action)
        try:
            taken = intake(
                host.worker.spec.name,
                spec if handler else None,
                host.sealer,
                invocation,
                self._message.data,
                now_ms() - host.settings.clock_skew_ms,
            )
        except Locked as error:
            return Handled(failed=str(error))
        if isinstance(taken, Completion):
            return Handled(taken)
        assert spec is not None and handler is not None
        async with host.large:
            try:
                opened = await self._holding(resolved(taken.opened, host.bus.blob))
            except Expired as error:
                return Handled(Completion(taken.recorded, fault("expired", str(error))))
            except Broken as error:
                return Handled(Completion(taken.recorded, fault("invalid", str(error))))
            except BusError as error:
                return Handled(no_permit=str(error))
            mistakes = spec.input.mistakes(opened)
            if mistakes:
                return Handled(Completion(taken.recorded, fault("invalid", mistakes)))
        call = Call(
            id=invocation.id,
            flow=invocation.flow,
            input=dict(opened),
            db=host.database.proxy,
            settings=host.settings.own,
            client=invocation.client,
            device=invocation.device,
            position=invocation.position,
        )

        async def body() -> Object:
            # A rerun after a conflict begins with an unchanged input.
            call.input.clear()
            call.input.update(parse_object(encode(opened)))
            return output_of(spec, host.sealer, invocation.flow, await handler(call))

        try:
            coming = host.database.transact(invocation.id, self._permit(subject), body)
            output = await self._holding(coming)
        except Refused as error:
            output = output_of(spec, host.sealer, invocation.flow, {"error": str(error)})
        except Throttled as error:
            output = fault("throttled", str(error))
            if error.retry_after_s is not None:
                output["retryAfter"] = error.retry_after_s
        except _Completed:
            return Handled(before=True)
        except (_NoPermit, Busy) as error:
            return Handled(no_permit=str(error))
        except (Failed, Retry) as error:
            return Handled(failed=str(error))
        except Exception as error:
            _log.exception("the handler of %s failed", invocation.action)
            return Handled(failed=f"the handler failed: {type(error).__name__}")
        try:
            output = await self._holding(host.stored(output))
        except Broken as error:
            output = fault("invalid", str(error))
        except BusError as error:
            return Handled(no_permit=str(error))
        if output.get("fault") == "invalid":
            _log.warning("invalid action %s: %s", invocation.action, output["error"])
        self._work = (time.perf_counter_ns() - began) // 1000
        return Handled(Completion(taken.recorded, output))

    def _permit(self, subject: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def permit() -> None:
            answer = self._delivery.may_write(self._now())
            if answer == "look":
                found = await self._host.bus.find(subject)
                looked = self._delivery.looked(found, self._now())
                if looked is None:
                    raise _NoPermit(found.unread or found.malformed or "")
                answer = looked
            if answer == "completed":
                raise _Completed
            if answer == "late":
                raise _NoPermit(LATE)

        return permit

    async def _holding(self, coming: Coroutine[Any, Any, Any]) -> Any:
        """Waits for a result, and extends the ack deadline in the meantime."""
        task = asyncio.ensure_future(coming)
        extending = asyncio.ensure_future(self._extend())
        try:
            return await task
        finally:
            extending.cancel()

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(_LIMITS_ACK_MS / 4000)
            asked_at = self._now()
            if self._delivery.extends(asked_at) and await self._host.bus.extend(self._message):
                self._delivery.extended(asked_at, self._now())

    async def _store_letter(self, reason: str) -> Event:
        host, headers = self._host, self._message.headers or {}
        kept = {name: headers[name] for name in wire.OF_DEAD if name in headers}
        kept[wire.ATTEMPTS] = str(self._info.delivered)
        kept[wire.REASON] = wire.one_line(reason)
        kept[wire.SUBJECT] = wire.one_line(self._message.subject)
        body = b""
        invocation = self._invocation
        if invocation:
            kept |= {wire.ACTION: invocation.id, wire.FLOW: invocation.flow}
            spec = host.worker.spec.actions.get(invocation.action)
            try:
                if spec:
                    value = parse_object(self._message.data)
                    is_root = invocation.is_root
                    body = encode(
                        record(host.sealer, invocation.flow, is_root, spec.input, value)
                    )
            except BadValue:
                pass
        _log.error("dead letter: %s: %s", self._message.subject, reason)
        subject = wire.dead(host.worker.spec.name, invocation.action if invocation else None)
        stored = await host.bus.publish(subject, body, kept)
        if stored.result == "stored":
            return ("letterStored",)
        return ("letterNotStored", f"cannot store the dead letter: {stored.why}")

    async def _end(self, end: End) -> None:
        bus, message = self._host.bus, self._message
        match end.kind:
            case "ack":
                await bus.ack(message, b"+ACK")
            case "term":
                await bus.ack(message, b"+TERM")
            case "nak":
                _log.warning("%s failed and is retried: %s", message.subject, end.why)
                delay_ns = backoff_ns(self._info.delivered, end.longest, random.random())
                await bus.ack(message, b'-NAK {"delay":%d}' % delay_ns)
            case "leave":
                _log.warning("%s is left to its redelivery: %s", message.subject, end.why)


async def _until(stop: asyncio.Event) -> str:
    await stop.wait()
    return "stop"


def backoff_ns(attempt: int, longest: bool, fraction: float) -> int:
    """Delay before the next delivery, in nanoseconds."""
    if longest:
        return 10_000_000_000
    return int(min(100_000_000 * 2 ** min(attempt - 1, 16), 10_000_000_000) * (0.5 + fraction / 2))


class _Completed(Exception):
    """An earlier delivery completed the action."""


class _NoPermit(Exception):
    """This delivery must not write."""


