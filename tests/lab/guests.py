"""Real VMs as their users see them: commands run inside of one, and exact pings from one or from a host.

Needs VMs with the image `linux`; their side is in pvc/lab/kernel/init.
"""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Protocol
from uuid import uuid4

from pvc.core.process import Finished
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until
from pvc.lab.shape import Kind

PATIENCE = 1.0
"""Seconds after which a request that no VM has heard is sent again, to where the VM may be now."""


class Seat(Protocol):
    """Where commands are run: inside of a VM, or on a host of the lab."""

    @property
    def pinger(self) -> str:
        """The program `pinger` there."""

    def run(self, command: str, *, timeout: float = 30.0) -> Finished:
        """Run one line of shell; what it wrote to both streams, and its code."""


@dataclass(frozen=True)
class HostSeat:
    """A host of the lab, such as `upstream`."""

    lab: Lab
    name: str

    @property
    def pinger(self) -> str:
        """The lab's own, which all hosts see."""
        return str(self.lab.pinger())

    def run(self, command: str, *, timeout: float = 30.0) -> Finished:
        return self.lab.run(["sh", "-c", f"exec 2>&1; {command}"], self.name, timeout=timeout)


@dataclass(frozen=True)
class Guest:
    """A VM of the lab. It is found wherever it runs; a command outlives that the VM moves meanwhile."""

    lab: Lab
    name: str
    runtime: Runtime = field(default_factory=ThreadRuntime)

    @property
    def pinger(self) -> str:
        """The one in its image."""
        return "pinger"

    def run(self, command: str, *, timeout: float = 30.0) -> Finished:
        """Run one line of shell; what it wrote to both streams, and its code. Fails if that takes too long.

        What it leaves in the background must write elsewhere.
        """
        assert "\n" not in command, command
        ask = uuid4().hex
        end = self.runtime.monotonic() + timeout
        for place in cycle(host.name for host in self.lab.shape.of_kind(Kind.NODE)):
            left = end - self.runtime.monotonic()
            assert left > 0, f"{self.name} did not answer `{command}` within {timeout:g} s; it ran on {self._places()}"
            if place in self._places() and (done := self._ask(place, f"{ask} {command} {ask}", left)):
                return done
            self.runtime.sleep(0.02)
        raise AssertionError("the lab has no nodes")

    def ok(self, command: str, *, timeout: float = 30.0) -> str:
        """Run one line of shell that must succeed; what it wrote."""
        done = self.run(command, timeout=timeout)
        assert done.code == 0, f"{self.name}: {command}: {done.code}\n{done.stdout}"
        return done.stdout

    def address(self, device: str = "eth0", *, seconds: float = 60.0) -> str:
        """Wait until it has an IPv4 address on a device, by DHCP or given: its address."""

        def missing() -> str | None:
            done = self.run(f"test -s /run/lease.{device}", timeout=seconds)
            return None if done.code == 0 else f"{self.name} has no address on {device}"

        wait_until(self.runtime, seconds, missing)
        return self.ok(f"cat /run/lease.{device}").split("/")[0]

    def _places(self) -> list[str]:
        nodes = [node.name for node in self.lab.shape.of_kind(Kind.NODE)]
        return [node for node in nodes if self.name in self.lab.vm_processes(node)]

    def _ask(self, place: str, question: str, seconds: float) -> Finished | None:
        """The answer; None if nobody has heard the question there, or the VM has gone meanwhile."""
        ask, end = question.split()[0], self.runtime.monotonic() + seconds
        heard, text = False, ""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as line:  # a timeout is an OSError, too
            line.connect(str(self.lab.shell_socket(self.name, place)))
            line.sendall(f"\n{question}\n".encode())
            while (left := end - self.runtime.monotonic()) > 0:
                line.settimeout(left if heard else min(left, PATIENCE))
                if not (piece := line.recv(65536)):
                    return None
                text += piece.decode(errors="replace")
                heard = heard or f"{ask} begin\n" in text
                if done := re.search(rf"^{ask} begin\n(.*?){ask} end (\d+)\n", text, re.MULTILINE | re.DOTALL):
                    return Finished(int(done[2]), done[1], "")
        return None


@dataclass(frozen=True)
class Ping:
    """One ping; times in seconds by the clock of who sent it."""

    number: int
    sent: float
    round: float | None
    """None: it was not answered."""


@dataclass
class Pings:
    """What came of a series of pings, complete once `pinging` has ended."""

    all: list[Ping] = field(default_factory=list)

    @property
    def lost(self) -> list[Ping]:
        return [ping for ping in self.all if ping.round is None]

    @property
    def outages(self) -> list[list[Ping]]:
        """Pings lost one after the other."""
        runs: list[list[Ping]] = [[]]
        for ping in self.all:
            if ping.round is None:
                runs[-1].append(ping)
            elif runs[-1]:
                runs.append([])
        return [run for run in runs if run]

    @property
    def longest_gap(self) -> float:
        """The longest time from sending one ping that was answered to sending the next one; seconds."""
        times = [ping.sent for ping in self.all if ping.round is not None]
        return max((after - before for before, after in pairwise(times)), default=float("inf"))

    def __str__(self) -> str:
        runs = ", ".join(f"{len(run)} from number {run[0].number}" for run in self.outages)
        slowest = max((ping.round or 0.0 for ping in self.all), default=0.0)
        return (
            f"{len(self.all)} pings, {len(self.lost)} lost ({runs or 'none'}), longest gap "
            f"{self.longest_gap * 1000:.0f} ms, slowest answer {slowest * 1000:.0f} ms"
        )


def pings_from(text: str) -> list[Ping]:
    """The pings that `pinger` tells of."""
    rows = [[int(word) for word in line.split()] for line in text.splitlines()]
    return [Ping(number, sent / 1e6, None if answer < 0 else answer / 1e6) for number, sent, answer in rows]


@contextmanager
def pinging(seat: Seat, address: str, *, every: float = 0.01) -> Iterator[Pings]:
    """Ping an address each `every` seconds as long as the block lasts; the result is complete after it.

    The clock of a VM stands still while the VM is moved: for that time, ping it from somewhere else.
    """
    pings = Pings()
    ping = f"{seat.pinger} {address} {every * 1000:g}"
    started = seat.run(f"d=$(mktemp -d /run/pings.XXXXXX); {{ {ping} > $d/all 2>&1 & }}; echo $! > $d/pid; echo $d")
    assert started.code == 0, started.stdout
    place = started.stdout.strip()
    try:
        yield pings
    finally:
        end = f"pid=$(cat {place}/pid); kill $pid; while [ -d /proc/$pid ]; do sleep 0.1; done"
        ended = seat.run(f"{end}; cat {place}/all")
        assert ended.code == 0, ended.stdout
        pings.all[:] = pings_from(ended.stdout)


def until_answered(seat: Seat, address: str, runtime: Runtime, *, seconds: float = 60.0) -> None:
    """Wait until an address answers pings."""

    def missing() -> str | None:
        done = seat.run(f"busybox ping -c 1 -W 1 {address}")
        return None if done.code == 0 else f"{address} does not answer"

    wait_until(runtime, seconds, missing, pause=0.1)
