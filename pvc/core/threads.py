"""The door to time and threads: the only module that imports them."""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager

from pvc.core.runtime import Signal, Task

log = logging.getLogger(__name__)


class ThreadSignal:
    """A `Signal` on threading.Event."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, timeout: float | None) -> bool:
        was_set = self._event.wait(timeout)
        self._event.clear()
        return was_set


class ThreadTask:
    """A `Task` on a daemon thread: it never keeps the process from ending."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._work = work
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception:  # the edge of a thread: nobody above would ever see it
            log.exception("task %s ended by an error that it should have handled", self.name)

    @property
    def name(self) -> str:
        return self._thread.name

    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()


class ThreadRuntime:
    """The real `Runtime`."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def signal(self) -> Signal:
        return ThreadSignal()

    def mutex(self) -> AbstractContextManager[object]:
        return threading.Lock()

    def spawn(self, name: str, work: Callable[[], None]) -> Task:
        return ThreadTask(name, work)

    def new_id(self) -> str:
        return str(uuid.uuid4())
