"""The concept as a NATS micro service: queries, and injected actions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.micro import add_service as start_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, ServiceConfig
from nats.micro.service import Service as MicroService

from . import wire
from .bus import BusError
from .intake import open_secrets, record, seal_secrets
from .large import FORGED, NOT_ACCEPTED, Broken, Expired, references, resolved
from .seal import NotASeal, UnknownKey
from .value import BadValue, Object, encode, parse_object
from .worker import Query

if TYPE_CHECKING:
    from .host import Host

_log = logging.getLogger("concert_worker")
_VERSION = "0.1.0"
_HEADERS_BYTES = 1024


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
        for name in (*spec.actions, *spec.queries):
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
        is_query = name.startswith("_")
        try:
            async with self._queries if is_query else self._actions:
                run = self._ask if is_query else self._inject
                flow, output = await run(name, request)
            body = encode(output)
            most = self._host.bus.client.max_payload - _HEADERS_BYTES
            if len(body) > most:
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
        from .host import has_operator, now_ms

        host = self._host
        spec = host.worker.spec.queries[name]
        named = (request.headers or {}).get(wire.FLOW)
        if named is not None and not wire.is_id(named):
            raise _Error(400, f"the header {wire.FLOW} is not a UUID")
        flow = named or wire.new_flow(now_ms())
        try:
            opened = open_secrets(host.sealer, flow, spec.input, parse_object(request.data))
        except (BadValue, NotASeal) as error:
            raise _Error(400, str(error)) from None
        except UnknownKey as error:
            raise _Error(503 if named else 400, str(error)) from None
        mistakes = spec.input.mistakes(opened)
        if not mistakes:
            opened = await self._resolved(opened, named is not None)
            mistakes = spec.input.mistakes(opened)
        if not mistakes and has_operator(opened):
            mistakes = "a key in the input begins with `$`"
        if mistakes:
            raise _Error(400, mistakes)
        query = Query(opened, host.database.proxy, host.settings.own)
        try:
            async with asyncio.timeout(host.settings.request_timeout_ms / 1000):
                rows = await host.worker.queries[name](query)
        except TimeoutError:
            raise _Error(503, f"{name} has no result yet") from None
        except Exception as error:
            _log.exception("the query %s failed", name)
            is_database = type(error).__module__.startswith("pymongo")
            why = f"the handler of {name} failed: {type(error).__name__}"
            raise _Error(503 if is_database else 500, why) from None
        try:
            rows = parse_object(encode({"rows": rows}))["rows"]
        except BadValue as error:
            raise _Error(500, f"the rows of {name} are not JSON: {error}") from None
        found = FORGED if any(references(rows)) else spec.mistakes(rows)
        if found:
            raise _Error(500, found)
        sealed = [seal_secrets(host.sealer, flow, spec.output, row) for row in rows]
        if named is not None:
            sealed = await self._large(host.stored(sealed))
        return flow, {"rows": sealed}

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
        from .host import now_ms

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
