"""The concept as a NATS micro service: queries, and injected actions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import nats.errors
from nats.micro import add_service as start_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig
from nats.micro.service import Service as MicroService

from . import wire
from .bus import BusError
from .intake import OPERATOR, has_operator, open_secrets, record, seal_secrets
from .large import FORGED, NOT_ACCEPTED, Broken, Expired, references, resolved
from .seal import NotASeal, UnknownKey
from .value import BadValue, Object, encode, parse_object
from .wire import now_ms
from .worker import Query

if TYPE_CHECKING:
    from .host import Host

_log = logging.getLogger("concert_worker")
_VERSION = "0.1.0"
_HEADERS_BYTES = 1024
#: Endpoint of queries with several inputs.
_BATCH = "query-batch"
#: Maximum number of a batch's inputs that run concurrently.
_BATCH_CONCURRENCY = 32
_T = TypeVar("_T")
_R = TypeVar("_R")


class _Error(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class Service:
    """The endpoints of a worker."""

    def __init__(self, host: Host, service: MicroService) -> None:
        self._host = host
        self._service = service
        self._actions = asyncio.Semaphore(host.settings.concurrency)
        self._queries = asyncio.Semaphore(host.settings.concurrency)

    @staticmethod
    async def start(host: Host) -> Service:
        """Registers an endpoint for each action and query."""
        spec = host.worker.spec
        config = ServiceConfig(
            name=spec.name,
            version=_VERSION,
            description=spec.purpose,
            metadata={
                "concert-protocol": str(wire.PROTOCOL),
                "concert-spec": spec.hash(),
                "concert-timeout-ms": str(host.settings.request_timeout_ms),
            },
        )
        service = Service(host, await start_service(host.bus.client, config))
        batch = (_BATCH,) if spec.queries else ()
        for name in (*spec.actions, *spec.queries, *batch):
            await service._add(name)
        await host.bus.client.flush()
        return service

    async def stop(self) -> None:
        """Removes the endpoints; requests in progress continue."""
        await self._service.stop()

    async def _add(self, name: str) -> None:
        async def handle(request: Request) -> None:
            # The subscription passes one request after the other.
            self._host.spawn(self._answer(name, request))

        subject = f"concept.{self._host.worker.spec.name}.{name}"
        await self._service.add_endpoint(
            EndpointConfig(name=name, subject=subject, handler=handle)
        )

    async def _answer(self, name: str, request: Request) -> None:
        began = time.perf_counter_ns()
        is_batch = name == _BATCH
        is_query = is_batch or name.startswith("_")
        try:
            async with self._queries if is_query else self._actions:
                if is_batch:
                    flow, output = await self._ask_each(request)
                else:
                    run = self._ask if is_query else self._inject
                    flow, output = await run(name, request)
            body = encode(output)
            most = self._host.bus.client.max_payload - _HEADERS_BYTES
            if len(body) > most:
                if is_batch:
                    # The caller runs the query once for each input.
                    raise _Error(413, "the results of the batch are too large for one message")
                why = f"the response of {name} has {len(body)} bytes; the maximum is {most}"
                raise _Error(500, why)
            work = str((time.perf_counter_ns() - began) // 1000)
            await request.respond(body, {wire.FLOW: flow, wire.WORK: work})
        except _Error as error:
            if error.code == 500:
                _log.error("%s failed: %s", name, error)
            await request.respond_error(str(error.code), wire.one_line(str(error)))
        except Exception as error:
            _log.exception("%s failed", name)
            why = f"the handler of {name} failed: {type(error).__name__}"
            await request.respond_error("500", why)

    async def _ask(self, name: str, request: Request) -> tuple[str, Object]:
        """Runs a query for the input of a request."""
        named = _flow_of(request)
        flow = named or wire.new_flow(now_ms())
        rows = await self._rows(name, flow, named is not None, lambda: parse_object(request.data))
        return flow, {"rows": rows}

    async def _ask_each(self, request: Request) -> tuple[str, Object]:
        """Runs a query for each input of a batch. One that fails fails the batch."""
        flow = _flow_of(request)
        if flow is None:
            raise _Error(400, f"a batch needs the header {wire.FLOW}; send one input to the query")
        query, inputs = _batch_of(request)

        async def run(value: Object) -> list[Object]:
            return await self._rows(query, flow, True, lambda: value)

        return flow, {"results": await each_within(_BATCH_CONCURRENCY, inputs, run)}

    async def _rows(
        self, name: str, flow: str, is_of_flow: bool, read: Callable[[], Object]
    ) -> list[Object]:
        """The rows of one input, as they are sent. A manual request has no flow."""
        host = self._host
        spec = host.worker.spec.queries.get(name)
        if spec is None:
            raise _Error(400, f"{host.worker.spec.name} has no query `{name}`")
        try:
            opened = open_secrets(host.sealer, flow, spec.input, read())
        except (BadValue, NotASeal) as error:
            raise _Error(400, str(error)) from None
        except UnknownKey as error:
            raise _Error(503 if is_of_flow else 400, str(error)) from None
        mistakes = spec.input.mistakes(opened)
        if not mistakes:
            opened = await self._resolved(opened, is_of_flow)
            mistakes = spec.input.mistakes(opened)
        if not mistakes and has_operator(opened):
            mistakes = OPERATOR
        if mistakes:
            raise _Error(400, mistakes)
        query = Query(opened, host.database.proxy, host.settings.own)
        absent = {of.name for of in spec.input.params if of.optional and of.name not in opened}
        try:
            async with asyncio.timeout(host.settings.request_timeout_ms / 1000):
                found: Any = await host.worker.queries[name](query)
        except TimeoutError:
            raise _Error(503, f"{name} has no result yet") from None
        except Exception as error:
            is_missing = isinstance(error, KeyError) and absent.intersection(error.args)
            if is_missing and spec.rows != "one":
                # A handler that requires an optional key finds no row for an input without it.
                return []
            _log.exception("the query %s failed", name)
            is_database = type(error).__module__.startswith("pymongo")
            why = f"the handler of {name} failed: {type(error).__name__}"
            raise _Error(503 if is_database else 500, why) from None
        rows = _rows_in(name, found)
        wrong = FORGED if any(references(rows)) else spec.mistakes(rows)
        if wrong:
            raise _Error(500, wrong)
        sealed = [seal_secrets(host.sealer, flow, spec.output, row) for row in rows]
        # The caller of a manual request gets whole texts.
        if is_of_flow:
            sealed = await self._large(host.stored(sealed))
        return sealed

    async def _resolved(self, opened: Object, is_of_flow: bool) -> Object:
        if not is_of_flow and any(references(opened)):
            raise _Error(400, NOT_ACCEPTED)
        async with self._host.large:
            value: Object = await self._large(resolved(opened, self._host.bus.blob))
            return value

    @staticmethod
    async def _large(coming: Awaitable[Any]) -> Any:
        """Reads or stores large values."""
        try:
            return await coming
        except Expired as error:
            raise _Error(410, str(error)) from None
        except Broken as error:
            raise _Error(500, str(error)) from None
        except BusError as error:
            raise _Error(503, str(error)) from None

    async def _inject(self, name: str, request: Request) -> tuple[str, Object]:
        host, client = self._host, self._host.bus.client
        spec = host.worker.spec.actions[name]
        try:
            value = parse_object(request.data)
        except BadValue as error:
            raise _Error(400, str(error)) from None
        mistakes = NOT_ACCEPTED if any(references(value)) else spec.input.mistakes(value)
        if mistakes:
            raise _Error(400, mistakes)
        flow = wire.new_flow(now_ms())
        sealed = record(host.sealer, flow, True, spec.input, value)
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        try:
            subject = wire.invocation(host.worker.spec.name, name, flow)
            headers = {wire.FLOW: flow, wire.REPLY: inbox}
            stored = await host.bus.publish_once(subject, encode(sealed), headers)
            if stored.result != "stored":
                raise _Error(503, stored.why or "the action cannot be stored")
            answer = await answers.next_msg(host.settings.request_timeout_ms / 1000)
            return flow, parse_object(answer.data)
        except (TimeoutError, nats.errors.TimeoutError):
            why = "timed out waiting for the action; it may still complete"
            raise _Error(504, why) from None
        finally:
            await answers.unsubscribe()


def _flow_of(request: Request) -> str | None:
    """The flow in the header of a request; `None` for a manual one."""
    flow = (request.headers or {}).get(wire.FLOW)
    if flow is not None and not wire.is_id(flow):
        raise _Error(400, f"the header {wire.FLOW} is not a UUID")
    return flow


def _batch_of(request: Request) -> tuple[str, list[Object]]:
    """Query and inputs of a batch."""
    why = "a batch has a query and a list of its inputs"
    try:
        batch = parse_object(request.data)
        query, inputs = batch.get("query"), batch.get("inputs")
        if isinstance(query, str) and isinstance(inputs, list):
            if all(isinstance(of, dict) for of in inputs):
                return query, inputs
    except BadValue as error:
        why = str(error)
    raise _Error(400, f"not a batch of a query's inputs: {why}")


def _rows_in(name: str, found: Any) -> list[Object]:
    """The rows that a handler returned, as JSON."""
    try:
        rows = parse_object(encode({"rows": found}))["rows"]
    except BadValue as error:
        raise _Error(500, f"the rows of {name} do not fit the spec: {error}") from None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return rows
    raise _Error(500, f"the handler of {name} must return a list of dicts")


async def each_within(
    most: int, items: Sequence[_T], run: Callable[[_T], Awaitable[_R]]
) -> list[_R]:
    """The results for all items, in order. `most` of them run at a time; an error ends all."""
    results: dict[int, _R] = {}
    numbered = iter(enumerate(items))

    async def runner() -> None:
        for at, item in numbered:
            results[at] = await run(item)

    runners = [asyncio.ensure_future(runner()) for _ in range(min(most, len(items)))]
    try:
        await asyncio.gather(*runners)
    finally:
        for task in runners:
            task.cancel()
    return [results[at] for at in range(len(items))]
