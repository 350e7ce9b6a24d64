"""The section `webhook` of pvc.yaml, and its settings with their types."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pvc.core.config.settings import Config

from pvc_webhook.windows import BadWindow, Windows, zone

SECTION = "webhook"
FACT = "webhook_windows"
"""The fact of each node that holds its windows."""
EVENTS = ("operation", "node")


def _is_url(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, str) and not value.startswith(("http://", "https://")):
        error(field, "use an address that begins with https:// or http://")


def _is_window(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        Windows((value,)) if isinstance(value, str) else None
    except BadWindow as bad:
        error(field, str(bad))


def _is_zone(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        zone(value) if isinstance(value, str) else None
    except BadWindow as bad:
        error(field, str(bad))


SCHEMA: dict[str, Any] = {
    "url": {
        "type": "string",
        "nullable": True,
        "default": None,
        "check_with": _is_url,
        "meta": {"help": "Where events are posted; null: nowhere.", "allowed": "an http or https address"},
    },
    "events": {
        "type": "list",
        "default": list(EVENTS),
        "schema": {"type": "string", "allowed": list(EVENTS)},
        "meta": {"help": "What is posted: phases of flushes and unflushes, states of nodes."},
    },
    "timeout": {
        "type": "number",
        "min": 1,
        "max": 60,
        "default": 10.0,
        "meta": {"help": "Time that the receiver has to answer.", "unit": "s"},
    },
    "windows": {
        "type": "list",
        "default": [],
        "schema": {"type": "string", "check_with": _is_window},
        "meta": {"help": "When flushes may begin, such as 'Mon-Fri 22:00-04:00'; none: always."},
    },
    "timezone": {
        "type": "string",
        "default": "UTC",
        "check_with": _is_zone,
        "meta": {"help": "The zone of the windows, such as Europe/Zurich.", "allowed": "a name of the zone database"},
    },
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed."""

    url: str | None
    events: tuple[str, ...]
    timeout: float
    windows: Windows


def settings(config: Config) -> Settings:
    """The settings of a validated configuration."""
    section: Mapping[str, Any] = config.section(SECTION)
    windows = Windows(tuple(section["windows"]), section["timezone"])
    return Settings(section["url"], tuple(section["events"]), float(section["timeout"]), windows)
