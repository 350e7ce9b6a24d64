"""How soon networks are usable, how long a gateway is missed when it moves or dies, and what restarts cost."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from bench.pings import pinging, plug, shell, unplug, until_answered
from bench.report import Result, result
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape
from pvc.plugins.networking.netlink import MARK

SHAPE = Shape(nodes=3, vms=0, networking=True)
NODES = ("hv1", "hv2", "hv3")
SESSION = 4.0
"""Seconds of session timeout that the nodes of a lab have: only after it may another node take over from a dead one."""
MANY = tuple(f"n{number}" for number in range(200))
GATEWAY = "10.1.0.1"
OFTEN = 0.005
"""Seconds between two pings: the least gap that is seen."""
PATIENCE = 60.0
ROOT = Path(__file__).resolve().parent.parent
"""Where programs of this package are started from."""


def measure(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """Every figure; those that take a node's death or 200 networks in fewer rounds."""
    few = max(1, rounds // 2)
    return [
        *measure_adding(lab, rounds),
        *measure_gateway(lab, runtime, rounds, few),
        *measure_many(lab, runtime, few),
    ]


def measure_adding(lab: Lab, rounds: int) -> list[Result]:
    """From the request of a client that is connected until all nodes have published the network as usable."""
    seconds = []
    for number in range(rounds):
        seconds.append(_client(lab, "add", ",".join(NODES), f"new{number}"))
        _pvc(lab, "network", "remove", f"new{number}", "--yes")
    return [result("network add to usable on 3 nodes", seconds, "s", target=1.0)]


def measure_gateway(lab: Lab, runtime: Runtime, rounds: int, deaths: int) -> list[Result]:
    """The longest gap in pings to a gateway from another node: while it is moved, and when its node dies."""
    _client(lab, "add", ",".join(NODES), "lan")
    _pvc(lab, "network", "modify", "lan", "--ipv4", "10.1.0.0/24", "--ipv4-gateway", GATEWAY)
    for node in NODES:
        _plug(lab, node)
    for node in NODES:
        until_answered(lab, node, GATEWAY, runtime)
    away, back = [], []
    for _round in range(rounds):
        holder = _holder(lab, runtime)
        away.append(_gap_while(lab, runtime, holder, "flush"))
        back.append(_gap_while(lab, runtime, holder, "unflush"))
    died = [_gap_of_death(lab, runtime) for _round in range(deaths)]
    for node in NODES:
        unplug(lab, node)
    _pvc(lab, "network", "remove", "lan", "--yes")
    return [
        result("gap when a flush moves a gateway", away, "s", target=0.05),
        result("gap when an unflush brings it back", back, "s", target=0.05),
        result("gap when its node dies, without the session timeout", [gap - SESSION for gap in died], "s", target=1.0),
    ]


def measure_many(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """A node with many networks: making all of their devices from the daemon's start, and restarts under traffic."""
    added = _client(lab, "add", ",".join(NODES), *MANY)
    made = [_make_all(lab, runtime, "hv3") for _round in range(rounds)]
    plug(lab, "hv1", MANY[0], "10.3.0.1/24")
    plug(lab, "hv2", MANY[0], "10.3.0.2/24")
    until_answered(lab, "hv1", "10.3.0.2", runtime)
    lost = [_lost_in_restarts(lab, runtime) for _round in range(rounds)]
    return [
        result(f"{len(MANY)} networks added one by one, until usable on 3 nodes", [added], "s"),
        result(f"daemon start to {len(MANY)} networks usable, no device there", made, "s", target=5.0),
        result(f"pings lost in restarts of 2 daemons with {len(MANY)} networks", lost, "", target=0.0),
    ]


def _gap_while(lab: Lab, runtime: Runtime, holder: str, way: str) -> float:
    """The longest gap, as seen from a node that is not the holder, while that is flushed or unflushed."""
    watcher = next(node for node in NODES if node != holder)
    with pinging(lab, watcher, GATEWAY, OFTEN, runtime) as pings:
        _pvc(lab, "node", way, holder, "--wait")
        there = _holder(lab, runtime)
    if (there == holder) != (way == "unflush"):
        raise LabError(f"the {way} of {holder} left the gateway on {there}; see the logs of pvcd there")
    return pings.longest_gap


def _gap_of_death(lab: Lab, runtime: Runtime) -> float:
    """The longest gap, as seen from another node, when the holder's node loses its power; it is back afterwards.

    The session ends up to a third of its timeout earlier than that after the death: its last sign of life was then.
    """
    holder = _holder(lab, runtime)
    watcher = next(node for node in NODES if node != holder)
    with pinging(lab, watcher, GATEWAY, OFTEN, runtime) as pings:
        lab.kill("node", holder)
        _holder(lab, runtime, but=holder)
        until_answered(lab, watcher, GATEWAY, runtime)
    began = runtime.now()
    lab.start("node", holder)
    _client(lab, "published", holder, str(began), "lan")
    _plug(lab, holder)
    until_answered(lab, holder, GATEWAY, runtime)
    return pings.longest_gap


def _make_all(lab: Lab, runtime: Runtime, node: str) -> float:
    """Seconds from a daemon's start until its node has published all networks, which it has to make."""
    lab.kill("pvcd", node, signal.SIGTERM)
    shell(lab, node, f"ip link del group {MARK}")
    if left := _bridges(lab, node):
        raise LabError(f"{left} bridges are left on {node}; delete them first")
    began = runtime.now()
    lab.start("pvcd", node, wait=False)
    seconds = _client(lab, "published", node, str(began), *MANY)
    if (there := _bridges(lab, node)) != len(MANY):
        raise LabError(f"{node} tells of {len(MANY)} networks and has {there}; see its pvcd.log")
    return seconds


def _lost_in_restarts(lab: Lab, runtime: Runtime) -> float:
    """How many pings from one node's probe to the other's were lost while both daemons were restarted, one by one."""
    with pinging(lab, "hv1", "10.3.0.2", OFTEN, runtime) as pings:
        for node in ("hv1", "hv2"):
            lab.kill("pvcd", node, signal.SIGTERM)
            began = runtime.now()
            lab.start("pvcd", node)
            _client(lab, "published", node, str(began), *MANY)
    if not pings.answered:
        raise LabError("no ping was answered between the two probes; look at the logs of the lab's nodes")
    return float(pings.lost)


def _plug(lab: Lab, node: str) -> None:
    plug(lab, node, "lan", f"10.1.0.{100 + lab.shape.host(node).number}/24")


def _holder(lab: Lab, runtime: Runtime, but: str | None = None) -> str:
    """The node that is the gateway, once there is one that is not `but`. Raises LabError."""
    found: list[str] = []

    def missing() -> str | None:
        node = _network(lab, "lan")["gateway"]
        found[:] = [] if node in (None, but) else [node]
        return None if found else "lan has no gateway"

    wait_until(runtime, PATIENCE, missing)
    return found[0]


def _network(lab: Lab, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_pvc(lab, "--format", "json", "network", "info", name))
    return found


def _bridges(lab: Lab, node: str) -> int:
    return shell(lab, node, "ip -oneline link show type bridge").count(": pvb-")


def _pvc(lab: Lab, *words: str) -> str:
    return shell(lab, None, " ".join(("pvc", *words)))


def _client(lab: Lab, what: str, *words: str) -> float:
    """The figure that the client inside the lab prints."""
    server, *_ = lab.shape.zookeeper_hosts()
    command = " ".join([sys.executable, "-m", "bench.networkclient", what, server, *words])
    return float(shell(lab, None, f"cd {ROOT} && {command}"))
