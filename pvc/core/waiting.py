"""Waiting for the tree to say something: by watches, with a deadline, never by polling."""

from collections.abc import Callable
from typing import TypeVar

from pvc.core.coordination import Coordinator, Disconnected
from pvc.core.mirror import Mirror
from pvc.core.runtime import Runtime

T = TypeVar("T")

LOOK_AFRESH = 30.0
"""Seconds between looks that trust nothing remembered."""


def wait_for(
    coordinator: Coordinator, runtime: Runtime, look: Callable[[Mirror], T | None], timeout: float
) -> T | None:
    """What `look` finds, as soon as it finds something; None if it has found nothing after `timeout` seconds.

    `look` is called again whenever anything it has read changes. A lost connection is waited out.
    """
    wake = runtime.signal()
    mirror = Mirror(coordinator, runtime, wake)
    deadline = runtime.monotonic() + timeout
    while True:
        try:
            found = look(mirror)
        except Disconnected:
            found = None
        left = deadline - runtime.monotonic()
        if found is not None or left <= 0:
            return found
        if not wake.wait(min(left, LOOK_AFRESH)):
            mirror.forget()
