"""Waiting for something to become true, never for ever."""

from collections.abc import Callable
from pathlib import Path

from pvc.core.runtime import Runtime
from pvc.lab.errors import LabError

PAUSE = 0.05


def wait_until(
    runtime: Runtime,
    seconds: float,
    missing: Callable[[], str | None],
    *,
    log: Path | None = None,
    pause: float = PAUSE,
) -> None:
    """Call `missing` until it says None.

    Raises LabError after `seconds` with what it said last and the end of `log`.
    """
    end = runtime.monotonic() + seconds
    while (what := missing()) is not None:
        if runtime.monotonic() >= end:
            raise LabError(f"{what}, even after {seconds:g} s" + (f"; {tail_of(log)}" if log else ""))
        runtime.sleep(pause)


def tail_of(log: Path, lines: int = 8) -> str:
    """Which log to read, and its last lines."""
    try:
        last = log.read_text(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return f"there is no log {log} yet"
    return f"see {log}, which ends with:\n" + "\n".join(f"    {line}" for line in last)
