"""Simulated time: a whole cluster in one thread, on a clock that jumps from event to event.

Tasks are greenlets. One runs until it sleeps, waits or ends; then the next one due goes on. Nothing runs by itself:
the test drives with `run_for` or `run_until`. With the same calls and the same seed every run is the same.
"""

import heapq
import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from uuid import UUID

import greenlet

from pvc.core.runtime import Ended, Signal

log = logging.getLogger(__name__)


class Killed(Ended):
    """Thrown into a simulated task whose process has died: nothing may catch it and go on."""


class SimTask:
    """A `Task` of a simulated process."""

    def __init__(self, name: str, process: "SimProcess", work: Callable[[], None]) -> None:
        self._name = name
        self._process = process
        self._work = work
        self.fiber = greenlet.greenlet(self._run)
        self.ended = False

    @property
    def name(self) -> str:
        return self._name

    def alive(self) -> bool:
        return not self.ended

    def join(self, timeout: float) -> bool:
        deadline = self._process.world.time + timeout
        while not self.ended and self._process.world.time < deadline:
            self._process.sleep(min(0.01, timeout))
        return self.ended

    def kill(self) -> None:
        """End it where it waits, or before it began."""
        if self.fiber and self.fiber is not greenlet.getcurrent():
            self.fiber.parent = greenlet.getcurrent()
            self.fiber.throw(Killed)
        self.ended = True

    def _run(self) -> None:
        if self.ended:
            return
        try:
            self._work()
        except Killed:
            pass
        except Exception as error:
            log.exception("task %s ended by an error that it should have handled", self._name)
            self._process.world.failures.append(error)
        finally:
            self.ended = True


class SimSignal:
    """A `Signal` on simulated time."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._flag = False
        self._waiter: greenlet.greenlet | None = None

    def set(self) -> None:
        self._flag = True
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            self._world.resume(waiter, 0.0)

    def wait(self, timeout: float | None) -> bool:
        """As `Signal.wait`. In the test itself, which is no task, time passes meanwhile."""
        if self._world.at_hub():
            self._world.run_until(lambda: self._flag, 3600.0 if timeout is None else timeout)
        elif not self._flag:
            self._waiter = greenlet.getcurrent()
            self._world.park(timeout)
            self._waiter = None
        was_set, self._flag = self._flag, False
        return was_set


class World:
    """The clock and the queue of what is due; `process()` gives each simulated process its runtime."""

    def __init__(self, seed: int = 0, start: float = 1_700_000_000.0) -> None:
        self.time = 0.0
        self.start = start
        self.random = random.Random(seed)
        self.failures: list[BaseException] = []
        self._due: list[tuple[float, int, int, greenlet.greenlet]] = []
        self._count = 0
        self._tokens: dict[greenlet.greenlet, int] = {}
        self._hub = greenlet.getcurrent()

    def process(self, name: str) -> "SimProcess":
        """A runtime for one simulated process: it can be killed as a whole."""
        return SimProcess(self, name)

    def at_hub(self) -> bool:
        """Whether the caller is the test itself, and not a simulated task."""
        return greenlet.getcurrent() is self._hub

    def park(self, timeout: float | None) -> None:
        """Let others run until this task is resumed or `timeout` seconds have passed."""
        me = greenlet.getcurrent()
        if me is self._hub:
            raise RuntimeError("only a simulated task can wait; the test drives with run_for or run_until")
        token = self._new_token(me)
        if timeout is not None:
            self._push(self.time + max(0.0, timeout), token, me)
        try:
            self._hub.switch()
        except greenlet.GreenletExit as end:  # nobody knows the task any more: the same end as of a killed one
            raise Killed from end

    def resume(self, fiber: greenlet.greenlet, delay: float) -> None:
        """Let a parked task go on after `delay` seconds; its own timeout no longer counts."""
        self._push(self.time + delay, self._new_token(fiber), fiber)

    def run_until(self, condition: Callable[[], bool], timeout: float = 3600.0) -> bool:
        """Run until the condition holds, at most `timeout` simulated seconds; whether it holds."""
        deadline = self.time + timeout
        while not condition():
            if not self._due or self._due[0][0] > deadline:
                self.time = deadline
                return condition()
            self._run_next()
        return True

    def run_for(self, seconds: float) -> None:
        """Run so many simulated seconds."""
        deadline = self.time + seconds
        while self._due and self._due[0][0] <= deadline:
            self._run_next()
        self.time = max(self.time, deadline)

    def _run_next(self) -> None:
        due, _, token, fiber = heapq.heappop(self._due)
        if self._tokens.get(fiber) != token or fiber.dead:
            return
        self.time = max(self.time, due)
        del self._tokens[fiber]
        fiber.parent = self._hub
        fiber.switch()

    def _new_token(self, fiber: greenlet.greenlet) -> int:
        self._count += 1
        self._tokens[fiber] = self._count
        return self._count

    def _push(self, due: float, token: int, fiber: greenlet.greenlet) -> None:
        self._count += 1
        heapq.heappush(self._due, (due, self._count, token, fiber))


class SimProcess:
    """The `Runtime` of one simulated process."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self._tasks: list[SimTask] = []

    def now(self) -> float:
        return self.world.start + self.world.time

    def monotonic(self) -> float:
        return self.world.time

    def sleep(self, seconds: float) -> None:
        self._check()
        self.world.park(seconds)
        self._check()

    def signal(self) -> Signal:
        return SimSignal(self.world)

    def mutex(self) -> AbstractContextManager[object]:
        return nullcontext()

    def spawn(self, name: str, work: Callable[[], None]) -> SimTask:
        self._check()
        task = SimTask(f"{self.name}/{name}", self, work)
        self._tasks = [other for other in self._tasks if not other.ended] + [task]
        self.world.resume(task.fiber, 0.0)
        return task

    def new_id(self) -> str:
        return str(UUID(int=self.world.random.getrandbits(128), version=4))

    def kill(self) -> None:
        """The process dies where it stands: its tasks never run again."""
        self.dead = True
        for task in self._tasks:
            task.kill()

    def _check(self) -> None:
        if self.dead:
            raise Killed
