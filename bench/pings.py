"""Probes on the hosts of a lab, plugged into networks of the cluster, and exact pings from one of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError

PATIENCE = 60.0
MOMENT = 0.5
"""Seconds: pings are answered before anything is done, and what comes late is seen."""
INSIDE, OUTSIDE = "probe", "probe-port"
"""The two ends of a probe's cable; the second is in the bridge."""


@dataclass
class Pings:
    """What came of a series of pings, complete once `pinging` has ended."""

    sent: list[float] = field(default_factory=list)
    """When each was sent; seconds."""
    answered: list[float] = field(default_factory=list)
    """The same of those that were answered."""

    @property
    def lost(self) -> int:
        return len(self.sent) - len(self.answered)

    @property
    def longest_gap(self) -> float:
        """From sending one that was answered to sending the next one, at most; seconds.

        The first and the last ping count as answered, so that a gap at either end is seen. Raises LabError if none was
        answered.
        """
        if not self.answered:
            raise LabError(f"none of {len(self.sent)} pings was answered; look at the logs of the lab's nodes")
        return max(after - before for before, after in pairwise([self.sent[0], *self.answered, self.sent[-1]]))


def plug(lab: Lab, node: str, network: str, address: str) -> None:
    """Plug a probe with that address (with the length of its prefix) into a network on a node; replaces an old one."""
    lines = (
        f"ip link del {INSIDE} 2> /dev/null",
        f"set -e; ip link add {INSIDE} mtu 1400 type veth peer name {OUTSIDE} mtu 1400",
        f"ip link set {OUTSIDE} master pvb-{network} up; ip link set {INSIDE} up; ip addr add {address} dev {INSIDE}",
    )
    shell(lab, node, "; ".join(lines))


def unplug(lab: Lab, node: str) -> None:
    """Take the probe away from a node."""
    shell(lab, node, f"ip link del {INSIDE}")


def until_answered(lab: Lab, node: str, address: str, runtime: Runtime) -> None:
    """Wait until an address answers the probe of a node. Raises LabError if it never does."""

    def missing() -> str | None:
        done = lab.run(["busybox", "ping", "-c", "1", "-W", "1", address], node)
        return None if done.code == 0 else f"{address} does not answer {node}"

    wait_until(runtime, PATIENCE, missing)


@contextmanager
def pinging(lab: Lab, node: str, address: str, every: float, runtime: Runtime) -> Iterator[Pings]:
    """Ping from a node's probe each `every` seconds as long as the block lasts, and a moment before and after it.

    The result is complete after the block.
    """
    pings = Pings()
    ping = f"{lab.pinger()} {address} {every * 1000:g}"
    place = shell(lab, node, f"d=$(mktemp -d); {{ {ping} > $d/all 2>&1 & }}; echo $! > $d/pid; echo $d").strip()
    try:
        runtime.sleep(MOMENT)
        yield pings
        runtime.sleep(MOMENT)
    finally:
        end = f"pid=$(cat {place}/pid); kill $pid; while [ -d /proc/$pid ]; do sleep 0.1; done"
        rows = [line.split() for line in shell(lab, node, f"{end}; cat {place}/all; rm -r {place}").splitlines()]
        pings.sent[:] = [int(sent) / 1e6 for _number, sent, _round in rows]
        pings.answered[:] = [int(sent) / 1e6 for _number, sent, answer in rows if int(answer) >= 0]


def shell(lab: Lab, node: str | None, line: str) -> str:
    """What a line of shell prints on a host. Raises LabError if it fails."""
    done = lab.run(["sh", "-c", line], node, timeout=300)
    if done.code != 0:
        raise LabError(f"`{line}` ended with code {done.code}: {done.stderr.strip()}")
    return done.stdout
