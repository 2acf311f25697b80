"""Settings of a worker process, from environment variables (docs/wire.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .value import Object


class BadSetting(ValueError):
    """A variable has an invalid value."""


@dataclass(frozen=True)
class Settings:
    """Settings of a worker process."""

    nats_url: str = "nats://127.0.0.1:4222"
    nats_nkey: Path | None = None
    nats_creds: Path | None = None
    nats_ca: Path | None = None
    nats_api: str = "$JS.API"
    mongodb_uri: str = "mongodb://127.0.0.1:27017/?directConnection=true"
    database_prefix: str = "concert"
    keys: Path = Path("keys")
    concurrency: int = 64
    attempts: int = 10
    clock_skew_ms: int = 1000
    request_timeout_ms: int = 10_000
    log_max_age_hours: int = 24
    own: Object = field(default_factory=dict)

    @staticmethod
    def from_environment(env: Mapping[str, str] = os.environ) -> Settings:
        """Reads the variables. Raises `BadSetting`."""
        default = Settings()

        def path(name: str) -> Path | None:
            return Path(env[name]) if env.get(name) else None

        def number(name: str, default: int) -> int:
            text = env.get(name, str(default))
            if not (text.isascii() and text.isdigit()):
                raise BadSetting(f"{name} must be a whole number, not `{text}`")
            return int(text)

        nkey = path("NATS_NKEY")
        try:
            own = json.loads(env.get("CONCERT_WORKER_SETTINGS") or "{}")
        except ValueError:
            own = None
        if not isinstance(own, dict):
            raise BadSetting("CONCERT_WORKER_SETTINGS must be a JSON object")
        return Settings(
            nats_url=env.get("NATS_URL", default.nats_url),
            nats_nkey=nkey,
            nats_creds=path("NATS_CREDS"),
            nats_ca=path("NATS_CA"),
            nats_api=env.get("CONCERT_NATS_API", "bus.API" if nkey else default.nats_api),
            mongodb_uri=env.get("MONGODB_URI", default.mongodb_uri),
            database_prefix=env.get("CONCERT_DATABASE_PREFIX", default.database_prefix),
            keys=path("CONCERT_KEYS") or default.keys,
            concurrency=number("CONCERT_WORKERS__CONCURRENCY", default.concurrency),
            attempts=number("CONCERT_WORKERS__ATTEMPTS", default.attempts),
            clock_skew_ms=number("CONCERT_WORKERS__CLOCK_SKEW_MS", default.clock_skew_ms),
            request_timeout_ms=number(
                "CONCERT_WORKERS__REQUEST_TIMEOUT_MS", default.request_timeout_ms
            ),
            log_max_age_hours=number("CONCERT_LOG__MAX_AGE_HOURS", default.log_max_age_hours),
            own=own,
        )
