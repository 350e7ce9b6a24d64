"""What a part of the daemon looks like to core: a service that is stepped, and jobs for its long work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pvc.core.runtime import Ended, Runtime, Signal


class Service(Protocol):
    """One part of the daemon: core calls `step` from one thread, whenever `wake` was set or the pause is over.

    A step looks at the world, takes what next step there is, and returns. It may run any number of times: a lost or
    repeated event, or a restart, changes nothing. An exception is logged and counted, and the service is stepped
    again after a growing pause.
    """

    @property
    def name(self) -> str: ...

    @property
    def after(self) -> tuple[str, ...]:
        """Names of services that must have been stepped once before this one is."""

    @property
    def wake(self) -> Signal:
        """Set by watches, callbacks and jobs to have `step` called soon."""

    def step(self) -> float:
        """Take the next step; the seconds after which it wants to be called even if nothing happens."""

    def stop(self) -> None:
        """Give back what the service holds. Called once, after the last step; VMs keep running."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """A job that has ended: normally, or by an error."""

    key: str
    error: Exception | None


class Jobs:
    """Long work beside a service, at most one piece per key; each end is kept for the service and wakes it.

    A job runs until its end has been told: a service that heard of no end must not find the job gone, and act as if it
    had ended well, or take the error that it then hears of for that of a later job.
    """

    def __init__(self, runtime: Runtime, wake: Signal) -> None:
        self._runtime = runtime
        self._wake = wake
        self._lock = runtime.mutex()
        self._running: set[str] = set()
        self._ended: list[JobEnd] = []

    def start(self, key: str, work: Callable[[], None]) -> bool:
        """Start `work` unless a job of that key runs; whether it was started."""
        with self._lock:
            if key in self._running:
                return False
            self._running.add(key)
        self._runtime.spawn(f"job {key}", lambda: self._run(key, work))
        return True

    def running(self, key: str) -> bool:
        """Whether a job of that key runs, or has ended and `ended` has not told it yet."""
        with self._lock:
            return key in self._running

    def count(self) -> int:
        """How many jobs run, in the sense of `running`."""
        with self._lock:
            return len(self._running)

    def ended(self) -> list[JobEnd]:
        """The jobs that have ended since the last call."""
        with self._lock:
            taken, self._ended = self._ended, []
            self._running.difference_update(end.key for end in taken)
            return taken

    def _run(self, key: str, work: Callable[[], None]) -> None:
        error: Exception | None = None
        try:
            work()
        except Ended:
            raise
        except Exception as raised:  # the job's edge: the service that started it hears of it
            error = raised
        except BaseException as raised:  # an exit, which would end the thread without a word
            error = RuntimeError(f"{type(raised).__name__}({raised})")
        with self._lock:
            self._ended.append(JobEnd(key, error))
        self._wake.set()
