"""Runs services: the only place that starts their threads, waits for them, retries and stops them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

from pvc.core.coordination import Conflict, Disconnected
from pvc.core.model import Finding, Severity
from pvc.core.runtime import Ended, Runtime, Task
from pvc.core.service import Service

LONGEST_PAUSE = 60.0
"""Seconds between tries of a service that keeps failing."""
CONFLICTS_IN_A_ROW = 20
"""Refused writes after which looking again does not help: from then on they count as failures."""
SLOW = 60.0
"""Seconds after which a step that has not returned is told of: a step does not block, long work goes to jobs."""
STOP_WITHIN = 5.0
"""Seconds that a service may take over its last step before the daemon ends without it."""
HUNG_AFTER = 180.0
"""Seconds in one step after which a service counts as hung. Every call of a step ends by itself long before: libvirt's
keepalive gives up after 15 seconds, ZooKeeper's answers are awaited for one session timeout, long work is a job."""


class ServiceState(Enum):
    """WAITING -> RUNNING <-> FAILING; any -> STOPPED."""

    WAITING = "waiting"
    """Those it comes after have not been stepped yet."""
    RUNNING = "running"
    FAILING = "failing"
    """Its last step raised; it is tried again after a growing pause."""
    STOPPED = "stopped"


@dataclass(slots=True)
class ServiceStatus:
    """How a service is."""

    name: str
    state: ServiceState = ServiceState.WAITING
    failures: int = 0
    """Failed steps in a row."""
    conflicts: int = 0
    """Refused writes in a row."""
    last_error: str = ""
    stepping_since: float | None = None
    """When the step it is in began, on the clock that never jumps; None between steps."""


class Lifecycle:
    """The services of one daemon, each on a task of its own."""

    def __init__(self, services: Sequence[Service], runtime: Runtime, log: logging.Logger) -> None:
        self._services = list(services)
        self._runtime = runtime
        self._log = log
        self._stopping = False
        self._tasks: list[Task] = []
        self._status = {service.name: ServiceStatus(service.name) for service in services}

    def start(self) -> None:
        """Start every service; each waits for those it comes after."""
        for service in self._services:
            self._tasks.append(self._runtime.spawn(service.name, partial(self._run, service)))

    def stop(self) -> None:
        """Ask every service to end and wait a while for each."""
        self._stopping = True
        for service in self._services:
            service.wake.set()
        for task in self._tasks:
            if not task.join(STOP_WITHIN):
                self._log.warning("service %s did not stop within %g s; leaving it", task.name, STOP_WITHIN)

    def rouse(self) -> None:
        """Have every service stepped soon: what it goes by has changed."""
        for service in self._services:
            service.wake.set()

    def status(self) -> list[ServiceStatus]:
        """How each service is."""
        return list(self._status.values())

    def hung(self) -> list[str]:
        """Names of services that make no progress: in one step for too long, or without the task that steps them."""
        begun_by = self._runtime.monotonic() - HUNG_AFTER
        lost = {s.name for s, task in zip(self._services, self._tasks, strict=False) if not task.alive()}
        return [
            s.name
            for s in self._status.values()
            if (s.stepping_since is not None and s.stepping_since <= begun_by)
            or (s.name in lost and s.state is not ServiceState.STOPPED)
        ]

    def findings(self) -> list[Finding]:
        """A warning for each service that is failing, or does not come back from its step."""
        failing = [
            Finding(f"service {s.name}", Severity.WARNING, f"failed {s.failures} times in a row: {s.last_error}")
            for s in self._status.values()
            if s.state is ServiceState.FAILING
        ]
        hung = self.hung()
        given_up = [
            Finding(f"service {name}", Severity.WARNING, "hangs; restart pvcd on this node, its VMs keep running")
            for name in hung
        ]
        long_ago = self._runtime.monotonic() - SLOW
        hanging = [
            Finding(f"service {s.name}", Severity.WARNING, "does not come back from its step; see what it waits for")
            for s in self._status.values()
            if s.stepping_since is not None and s.stepping_since < long_ago and s.name not in hung
        ]
        return failing + hanging + given_up

    def _run(self, service: Service) -> None:
        status = self._status[service.name]
        while not self._stopping:
            if status.state is ServiceState.WAITING and not self._may_begin(service):
                service.wake.wait(1.0)
                continue
            pause = self._step(service, status)
            if status.state is ServiceState.FAILING:
                self._wait_out(service, pause)
            else:
                service.wake.wait(pause)
        try:
            service.stop()
        finally:
            status.state = ServiceState.STOPPED

    def _may_begin(self, service: Service) -> bool:
        return all(
            self._status[name].state is not ServiceState.WAITING for name in service.after if name in self._status
        )

    def _step(self, service: Service, status: ServiceStatus) -> float:
        was_waiting = status.state is ServiceState.WAITING
        status.stepping_since = self._runtime.monotonic()
        try:
            pause = float(service.step())
        except Disconnected:  # expected weather: the session's return wakes the service
            pause = 1.0
            if was_waiting:
                return pause
        except Conflict as conflict:  # somebody else was faster: look again
            status.conflicts += 1
            if status.conflicts > CONFLICTS_IN_A_ROW:
                return self._failed(service, status, conflict)
            self._log.debug("service %s: %s; looking again", service.name, conflict)
            return 0.0
        except Ended:
            raise
        except BaseException as error:  # the step boundary, an exit included: contained, counted, retried
            return self._failed(service, status, error)
        finally:
            status.stepping_since = None
        status.state, status.failures, status.conflicts = ServiceState.RUNNING, 0, 0
        if was_waiting:
            for other in self._services:
                if service.name in other.after:
                    other.wake.set()
        return pause

    def _failed(self, service: Service, status: ServiceStatus, error: BaseException) -> float:
        status.failures += 1
        status.state, status.last_error = ServiceState.FAILING, str(error) or type(error).__name__
        pause = min(LONGEST_PAUSE, 2.0 ** min(status.failures - 1, 16))
        self._log.error("service %s: %s; again in %g s", service.name, error, pause, exc_info=error)
        return pause

    def _wait_out(self, service: Service, pause: float) -> None:
        """Wait the whole pause: events must not turn a failing service into a busy loop."""
        until = self._runtime.monotonic() + pause
        while not self._stopping and (left := until - self._runtime.monotonic()) > 0:
            service.wake.wait(left)
