"""NATS: the requests of a worker."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from .large import STREAM
from .order import Completion, Found, Published
from .settings import Settings
from .value import BadValue, Object, parse_object
from .wire import EXPECTED_SEQUENCE

_log = logging.getLogger("concert_worker")
_TIMEOUT_S = 5.0
_START_S = 60.0
_EXPIRES_S = 1.0
_WRONG_LAST_SEQUENCE = 10071


class BusError(Exception):
    """A request to NATS has no result."""


@dataclass(frozen=True)
class Info:
    """Position and delivery count of a message, from its reply subject."""

    stream: str
    delivered: int
    sequence: int
    timestamp_ns: int

    @staticmethod
    def of(message: Msg) -> Info:
        """Reads the reply subject. Raises `BusError`."""
        tokens = message.reply.split(".")
        at = 2 if len(tokens) == 9 else 4
        try:
            stream, _, delivered, sequence, _, timestamp = tokens[at : at + 6]
            return Info(stream, int(delivered), int(sequence), int(timestamp))
        except ValueError:
            raise BusError(f"the message has no stream position: {message.reply}") from None


class Bus:
    """A connection."""

    def __init__(self, client: Client, api: str) -> None:
        self.client = client
        self.prefix = api
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @staticmethod
    async def connect(settings: Settings, name: str) -> Bus:
        """Connects, and waits for a server that starts. Raises `BusError`."""
        options: dict[str, Any] = {
            "servers": [url.strip() for url in settings.nats_url.split(",")],
            "name": name,
            "inbox_prefix": f"_INBOX.{name}",
            "reconnect_time_wait": 0.25,
            "ping_interval": 10,
        }
        if settings.nats_creds:
            options["user_credentials"] = str(settings.nats_creds)
        if settings.nats_ca:
            options["tls"] = ssl.create_default_context(cafile=str(settings.nats_ca))
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            # Read again: during a key rotation, the server may know only some of the keys.
            for seed in _seeds(settings):
                try:
                    return await _open(options | seed, settings.nats_api)
                except (nats.errors.Error, OSError, TimeoutError) as error:
                    why = error
            if asyncio.get_running_loop().time() > deadline:
                raise BusError(f"cannot connect to NATS: {why}; check that the server runs")
            await asyncio.sleep(0.25)

    async def api(self, request: str, body: Object | None = None) -> Object:
        """A request of the JetStream API. Raises `BusError`."""
        payload = json.dumps(body).encode() if body is not None else b""
        reply = await self._request(f"{self.prefix}.{request}", payload)
        response = parse_object(reply.data)
        if "error" in response:
            raise BusError(f"{request}: {response['error'].get('description')}")
        return response

    async def wait_for_log(self) -> None:
        """Waits until a router has created the log. Raises `BusError`."""
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            try:
                await self.log_begin_ms()
                return
            except BusError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def log_begin_ms(self) -> int:
        """Time of the log's first message, in milliseconds since 1970. Raises `BusError`."""
        info = await self.api("STREAM.INFO.COMPLETIONS")
        state = info["state"]
        if state["messages"]:
            return _ms(state["first_ts"])
        return max(_ms(state["last_ts"]), _ms(info["created"]))

    async def find(self, subject: str) -> Found:
        """Looks up a completion."""
        try:
            reply = await self._request(f"{self.prefix}.DIRECT.GET.COMPLETIONS.{subject}", b"")
            status = (reply.headers or {}).get("Status")
            if status is not None:
                return Found() if status == "404" else Found(unread=f"status {status}")
            body = parse_object(reply.data)
        except BusError as error:
            return Found(unread=f"cannot read the log: {error}")
        except BadValue as error:
            return Found(malformed=f"malformed completion in the log: {error}")
        given, output = body.get("input"), body.get("output")
        if len(body) != 2 or not isinstance(given, dict) or not isinstance(output, dict):
            return Found(malformed="malformed completion in the log")
        return Found(Completion(given, output))

    async def blob(self, subject: str) -> bytes | None:
        """Reads a part of a large value; `None` if it has expired. Raises `BusError`."""
        reply = await self._request(f"{self.prefix}.DIRECT.GET.{STREAM}.{subject}", b"")
        status = (reply.headers or {}).get("Status")
        if status is not None and status != "404":
            raise BusError(f"cannot read a large value: status {status}")
        return None if status else reply.data

    async def store_blob(self, subject: str, body: bytes) -> None:
        """Stores a part of a large value, unless it is stored. Raises `BusError`."""
        published = await self.publish(subject, body, {EXPECTED_SEQUENCE: "0"})
        if published.result not in ("stored", "exists"):
            why = published.why or "the message is too large for the server"
            raise BusError(f"cannot store a large value: {why}")

    async def publish_once(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Published:
        """Publishes on an unused subject of a stream."""
        once = {EXPECTED_SEQUENCE: "0"}
        return await self.publish(subject, body, (headers or {}) | once)

    async def publish(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Published:
        """Publishes to a stream, and waits until it is stored."""
        try:
            reply = await self._request(subject, body, headers)
            response = parse_object(reply.data)
        except nats.errors.MaxPayloadError:
            return Published("tooLarge")
        except (BusError, BadValue) as error:
            return Published("failed", f"no confirmation: {error}")
        rejected = response.get("error")
        if rejected is None:
            return Published("stored")
        if rejected.get("err_code") == _WRONG_LAST_SEQUENCE:
            return Published("exists")
        why = f"the stream rejects the message: {rejected.get('description')}"
        return Published("failed", why)

    async def take_note(self, bucket: str, key: str) -> bool:
        """Deletes a note. Returns whether there was one. Raises `BusError`."""
        subject = f"$KV.{bucket}.{key}"
        reply = await self._request(f"{self.prefix}.DIRECT.GET.KV_{bucket}.{subject}", b"")
        status = (reply.headers or {}).get("Status")
        if status == "404":
            return False
        if status is not None:
            raise BusError(f"cannot read the note: status {status}")
        await self.forget_note(bucket, key)
        return True

    async def leave_note(self, bucket: str, key: str) -> None:
        """Stores a note. Raises `BusError`."""
        prefix = "" if self.prefix == "$JS.API" else f"{self.prefix}."
        stored = await self.publish(f"{prefix}$KV.{bucket}.{key}", b"")
        if stored.result != "stored":
            raise BusError(f"cannot store the note: {stored.why}")

    async def forget_note(self, bucket: str, key: str) -> None:
        """Deletes a note without a marker. Raises `BusError`."""
        await self.api(f"STREAM.PURGE.KV_{bucket}", {"filter": f"$KV.{bucket}.{key}"})

    async def ack(self, message: Msg, kind: bytes) -> None:
        """Sends an acknowledgement; a lost one costs a redelivery."""
        try:
            await self.client.publish(message.reply, kind)
        except nats.errors.Error as error:
            _log.warning("cannot send an acknowledgement: %s", error)

    async def extend(self, message: Msg) -> bool:
        """Extends the ack deadline. Returns whether the server confirmed it."""
        try:
            await self._request(message.reply, b"+WPI")
        except BusError as error:
            _log.warning("the server did not confirm a longer ack deadline: %s", error)
            return False
        return True

    async def _request(
        self, subject: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Msg:
        try:
            return await self.client.request(subject, body, timeout=_TIMEOUT_S, headers=headers)
        except nats.errors.MaxPayloadError:
            raise
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusError(f"{type(error).__name__}: {error}") from error


class Fetcher:
    """Fetches messages of the consumer that the workers of a concept share."""

    def __init__(self, bus: Bus, concept: str) -> None:
        self._bus = bus
        self._stream = f"ACTIONS_{concept}"
        self._inbox = bus.client.new_inbox()
        self._messages: asyncio.Queue[Msg] = asyncio.Queue()

    async def open(self) -> None:
        """Subscribes. Raises `BusError` if the consumer is missing."""
        await self._bus.api(f"CONSUMER.INFO.{self._stream}.workers")
        await self._bus.client.subscribe(self._inbox, cb=self._messages.put)

    async def fetch(self, count: int) -> AsyncIterator[Msg]:
        """Yields up to this number of messages that arrive within a second."""
        request = {"batch": count, "expires": int(_EXPIRES_S * 1e9)}
        subject = f"{self._bus.prefix}.CONSUMER.MSG.NEXT.{self._stream}.workers"
        body = json.dumps(request).encode()
        try:
            await self._bus.client.publish(subject, body, reply=self._inbox)
            # Longer than the server waits, so that no message arrives between two requests.
            async with asyncio.timeout(_EXPIRES_S + 1):
                while count > 0:
                    message = await self._messages.get()
                    if not message.reply:
                        # The status of an ended request.
                        return
                    count -= 1
                    yield message
        except TimeoutError:
            return
        except nats.errors.Error as error:
            _log.warning("cannot fetch messages: %s", error)
            await asyncio.sleep(0.25)


def _seeds(settings: Settings) -> list[dict[str, str]]:
    if settings.nats_nkey is None:
        return [{}]
    lines = (line.strip() for line in settings.nats_nkey.read_text().splitlines())
    seeds = [{"nkeys_seed_str": line} for line in lines if line and not line.startswith("#")]
    if not seeds:
        raise BusError(f"the NATS key file {settings.nats_nkey} has no seed")
    return seeds


async def _open(options: dict[str, Any], api: str) -> Bus:
    client = Client()
    bus = Bus(client, api)

    async def report(error: Exception) -> None:
        _log.warning("NATS: %s", error)
        # A key that is no longer valid; a restart reads the file again.
        if isinstance(error, nats.errors.AuthorizationError) and not bus.failed.done():
            bus.failed.set_result("NATS rejects the key")

    async def closed() -> None:
        if not bus.failed.done():
            bus.failed.set_result("the connection to NATS is closed")

    try:
        await client.connect(
            **options, max_reconnect_attempts=1, error_cb=report, closed_cb=closed
        )
    except BaseException:
        await client.close()
        raise
    client.options["max_reconnect_attempts"] = -1
    return bus


def _ms(text: str) -> int:
    # The server's times have nanoseconds, and the year 1 stands for none.
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=UTC)
    return max(0, int(moment.timestamp() * 1000) + int((fraction + "000")[:3]))
