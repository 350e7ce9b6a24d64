"""The `flushlock` section of pvc.yaml."""

from typing import Any

SECTION = "flushlock"

SCHEMA: dict[str, Any] = {
    "concurrent": {
        "type": "integer",
        "min": 1,
        "default": 1,
        "meta": {
            "live": True,
            "help": "How many flushes and unflushes may move VMs at the same time in the whole cluster. "
            "Keep it the same on all nodes.",
            "unit": "operations",
        },
    },
    "max_flushed": {
        "type": "integer",
        "min": 1,
        "nullable": True,
        "default": None,
        "meta": {
            "live": True,
            "help": "A flush waits while so many other nodes are out of service: flushed, not yet back, or not "
            "healthy; null for no limit. Keep it the same on all nodes.",
            "unit": "nodes",
        },
    },
}
