"""The `flushlock` section of pvc.yaml."""

from typing import Any

SECTION = "flushlock"

SCHEMA: dict[str, Any] = {
    "concurrent": {
        "type": "integer",
        "min": 1,
        "default": 1,
        "meta": {
            "help": "How many flushes and unflushes may move VMs at the same time in the whole cluster. "
            "Keep it the same on all nodes.",
            "unit": "operations",
        },
    },
}
