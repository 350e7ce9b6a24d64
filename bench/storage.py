"""How long volumes, snapshots and clones take beside plain commands; a status of many; flushes of VMs with disks."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.pings import shell
from bench.report import Result, result
from bench.starting import inside
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.settings import SHARED
from pvc.lab.shape import Shape

WORK = Shape(nodes=2, vms=0, storage=True, ceph=True)
"""Few nodes: all hear of each task, and here they share the processors with the one that is at it."""
AT = "hv1"
"""The node that works on volumes."""
DISKS = Shape(nodes=5, vms=0, storage=True, ceph=True)
WITH, WITHOUT = "hv4", "hv5"
"""Nodes whose VMs have disks, and have none. Neither has an OSD: their flushes ask Ceph for nothing."""
FILES, BLOCKS = "files", "blocks"
RBD_POOL = "vms"
"""Ceph's, that the lab has made."""
DATA = "64M"
"""What is in the file that is copied, and in the image of which linked clones are made."""
MANY = 1000
VMS = 3
ROOT = Path(__file__).resolve().parent.parent
"""Where programs of this package are started from."""


def measure(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """All but flushes, in a lab of the shape `WORK`."""
    _add_pools(lab)
    return [
        *measure_barest(lab, rounds * 10),
        *measure_work(lab, FILES, f"qemu-img {SHARED}", rounds),
        *measure_work(lab, BLOCKS, f"rbd {RBD_POOL}", rounds),
        *measure_command_line(lab, runtime, rounds),
        *measure_status(lab, runtime, rounds),
    ]


def measure_work(lab: Lab, pool: str, plain: str, rounds: int) -> list[Result]:
    """From the request of a client that is connected to the end as it sees it, in turns with the plain command."""
    tool = plain.split()[0]
    found = json.loads(_client(lab, AT, "work", AT, pool, plain, DATA, str(rounds)))
    results = []
    for kind, rows in found.items():
        whole, node, by_hand = zip(*rows, strict=True)
        middle = sorted(by_hand)[len(by_hand) // 2]
        ratios = [one / other for one, other in zip(whole, by_hand, strict=True)]
        results += [
            result(f"volume {kind} / plain {tool}", ratios, "", target=1.3, baseline=middle),
            result("the same, of which the node is at it", node, "s", baseline=middle),
            result("the same, beside the command", [a - b for a, b in zip(whole, by_hand, strict=True)], "s"),
        ]
    return results


def measure_barest(lab: Lab, rounds: int) -> list[Result]:
    """Below this no task on a volume can be, whatever it does."""
    seconds = json.loads(_program(lab, AT, "bench.barest", str(rounds)))
    return [result("a task's three transactions and two wakes alone", seconds, "s")]


def measure_command_line(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """`pvc storage volume add`, from the start of the command line to its end."""
    seconds = {
        pool: [_inside(lab, runtime, "storage", "volume", "add", pool, f"typed{n}", "1G") for n in range(rounds)]
        for pool in (FILES, BLOCKS)
    }
    return [result(f"pvc storage volume add, in pool {pool}", each, "s") for pool, each in seconds.items()]


def measure_status(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """`pvc storage status` where one pool has many volumes. They are records only: a status asks no storage."""
    _client(lab, AT, "fill", FILES, str(MANY))
    status = [_inside(lab, runtime, "storage", "status") for _round in range(rounds)]
    listing = [_inside(lab, runtime, "storage", "volume", "list") for _round in range(rounds)]
    return [
        result(f"pvc storage status with {MANY} volumes", status, "s", target=2.0),
        result(f"pvc storage volume list with {MANY} volumes", listing, "s"),
    ]


def measure_flush(lab: Lab, rounds: int) -> list[Result]:
    """Flushes of a node whose VMs have two disks each, one of a file and one in Ceph, in turns with those of a node
    whose VMs have none; in a lab of the shape `DISKS`."""
    _add_pools(lab)
    for number in range(1, VMS + 1):
        disks = [f"{pool}/disk{number}" for pool in (FILES, BLOCKS)]
        for disk in disks:
            shell(lab, None, f"pvc storage volume add {disk.replace('/', ' ')} 64M")
        _start(lab, f"with{number}", WITH, disks)
        _start(lab, f"without{number}", WITHOUT, ())
    pairs = [(_flush(lab, WITH), _flush(lab, WITHOUT)) for _round in range(rounds + 1)][1:]
    seconds = [without for _, without in pairs]
    ratios = [with_disks / without for with_disks, without in pairs]
    baseline = sorted(seconds)[len(seconds) // 2]
    return [result(f"flush of {VMS} VMs with shared disks / without", ratios, "", target=1.05, baseline=baseline)]


def _add_pools(lab: Lab) -> None:
    shell(lab, None, f"pvc storage pool add {FILES} --path {SHARED}")
    shell(lab, None, f"pvc storage pool add {BLOCKS} --backend ceph --rbd-pool {RBD_POOL}")


def _start(lab: Lab, name: str, node: str, disks: Sequence[str]) -> None:
    path = lab.write_vm(name, disks=disks)
    shell(lab, None, f"pvc vm define {path} --node {node} && pvc vm start {name}")


def _flush(lab: Lab, node: str) -> float:
    """Seconds from the request of a flush to its end; its VMs are back afterwards."""
    operation = _operation(lab, "flush", node)
    _operation(lab, "unflush", node)
    return float(operation["finished"]) - float(operation["requested"])


def _operation(lab: Lab, what: str, node: str) -> Mapping[str, Any]:
    lines = shell(lab, None, f"pvc node {what} {node} --wait --format jsonl").splitlines()
    operation: dict[str, Any] = json.loads(lines[-1])
    return operation


def _inside(lab: Lab, runtime: Runtime, *words: str) -> float:
    """Seconds of a `pvc` command, the entering of the lab included."""
    return inside(lab, runtime, ["pvc", *words])


def _client(lab: Lab, node: str, what: str, *words: str) -> str:
    """What the client on a node of the lab prints."""
    return _program(lab, node, "bench.storageclient", *words, what=what)


def _program(lab: Lab, node: str, module: str, *words: str, what: str = "") -> str:
    """What a program of this package prints on a node of the lab."""
    server, *_ = lab.shape.zookeeper_hosts()
    command = " ".join([sys.executable, "-m", module, *([what] if what else []), server, *words])
    return shell(lab, node, f"cd {ROOT} && {command}")
