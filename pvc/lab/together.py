"""Doing many small things a few at a time."""

from collections import deque
from collections.abc import Callable, Sequence

from pvc.core.runtime import Runtime
from pvc.lab.errors import LabError


def do_together(runtime: Runtime, works: Sequence[Callable[[], None]], at_once: int, seconds: float) -> None:
    """Do all works, `at_once` at a time. Stops at the first error and raises it; each work must end by itself.

    Raises LabError if they take longer than `seconds` altogether.
    """
    rest = deque(works)
    errors: list[Exception] = []

    def worker() -> None:
        while rest and not errors:
            try:
                rest.popleft()()
            except Exception as error:  # carried to the caller, who waits below
                errors.append(error)

    end = runtime.monotonic() + seconds
    tasks = [runtime.spawn(f"lab worker {n}", worker) for n in range(min(at_once, len(works)))]
    ended = [task.join(max(0.0, end - runtime.monotonic())) for task in tasks]
    if errors:
        raise errors[0]
    if not all(ended):
        raise LabError(f"{len(rest)} of {len(works)} commands had not begun after {seconds:g} s; try it with fewer VMs")
