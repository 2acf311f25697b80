"""Workers for Concert: durable actions that take effect once."""

from .external import external
from .settings import BadSetting, Settings
from .spec import BadSpec, Spec
from .worker import Call, Mismatch, Query, Refused, Retry, Throttled, Worker

__all__ = [
    "BadSetting",
    "BadSpec",
    "Call",
    "Mismatch",
    "Query",
    "Refused",
    "Retry",
    "Settings",
    "Spec",
    "Throttled",
    "Worker",
    "external",
]
