"""How long a flush takes beside a plain loop of `virsh migrate`, and how fast the lock is handed over."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.report import Result, result
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape

VMS = [f"vm{number}" for number in range(1, 7)]
MANAGED = Shape(nodes=3, vms=6, vm_memory=128, vm_args="rate=1 fill=64")
PLAIN = Shape(nodes=2, bare=True)
FROM, TO = "hv1", "hv2"


def measure(managed: Lab, plain: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """Flushes and plain loops in turns, so that all meet the same noise."""
    _gather(managed)
    _make_plain(plain)
    serial, by_three, flushes, commands, parallel, first = [], [], [], [], [], []
    for _round in range(rounds):
        serial.append(_plain_loop(plain, runtime, 1))
        began = runtime.monotonic()
        operation = _operation(managed, ["flush", FROM])
        commands.append(runtime.monotonic() - began)
        flushes.append(_seconds(operation))
        first.append(min(outcome["since"] for outcome in operation["outcomes"].values()) - operation["began"])
        _operation(managed, ["unflush", FROM])
        by_three.append(_plain_loop(plain, runtime, 3))
        parallel.append(_seconds(_operation(managed, ["flush", FROM, "--parallel", "3"])))
        _operation(managed, ["unflush", FROM])
    one, three = _middle(serial), _middle(by_three)
    return [
        result("flush of 6 VMs / serial virsh loop", _ratios(flushes, serial), "", target=1.05, baseline=one),
        result("the same, with the start of the command line", _ratios(commands, serial), "", baseline=one),
        result("flush of 6 VMs", flushes, "s", baseline=one),
        result("time for each VM besides migrating", _besides(flushes, serial), "s", target=0.05),
        result("first move after the lock", first, "s", target=0.5),
        result(
            "flush --parallel 3 / loop of three at a time", _ratios(parallel, by_three), "", target=1.10, baseline=three
        ),
        result("flush --parallel 3 / serial virsh loop", _ratios(parallel, serial), "", target=0.6, baseline=one),
        result("loop of three at a time / serial virsh loop", _ratios(by_three, serial), "", baseline=one),
    ]


def _seconds(operation: Mapping[str, Any]) -> float:
    """From the request to the end."""
    return float(operation["finished"]) - float(operation["requested"])


def _ratios(some: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(some, others, strict=True)]


def _besides(flushes: Sequence[float], loops: Sequence[float]) -> list[float]:
    return [(flush - loop) / len(VMS) for flush, loop in zip(flushes, loops, strict=True)]


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def measure_hand_over(managed: Lab, rounds: int) -> list[Result]:
    """From the end of one flush to the first move of the next one in the queue."""
    _spread(managed)
    gaps = []
    for _round in range(rounds):
        both = "pvc node flush hv1 --wait & pvc node flush hv2 --wait & wait"
        _run(managed, ["sh", "-c", both])
        first, second = sorted((_last(managed, "hv1"), _last(managed, "hv2")), key=lambda o: float(o["began"]))
        moves = [outcome["since"] for outcome in second["outcomes"].values()]
        if moves:
            gaps.append(max(0.0, min(moves) - first["finished"]))
        for node in ("hv1", "hv2"):
            _operation(managed, ["unflush", node])
    return [result("hand-over of the lock to the next flush's first move", gaps, "s", target=0.1)]


def _operation(lab: Lab, what: list[str]) -> dict[str, Any]:
    """Run a flush or an unflush to its end; the operation as it was recorded."""
    lines = _run(lab, ["pvc", "node", *what, "--wait", "--format", "jsonl"]).splitlines()
    operation: dict[str, Any] = json.loads(lines[-1])
    return operation


def _last(lab: Lab, node: str) -> dict[str, Any]:
    operation: dict[str, Any] = json.loads(
        _run(lab, ["pvc", "node", "watch", node, "--format", "jsonl"]).splitlines()[-1]
    )
    return operation


def _gather(lab: Lab) -> None:
    """Every VM's home is the one node."""
    for vm in json.loads(_run(lab, ["pvc", "--format", "json", "vm", "list"])):
        if vm["node"] != FROM or vm["home"]:
            _run(lab, ["pvc", "vm", "move", vm["name"], FROM])


def _spread(lab: Lab) -> None:
    """Every VM at the home that the lab gives it."""
    homes = lab.shape.placement()
    for vm in json.loads(_run(lab, ["pvc", "--format", "json", "vm", "list"])):
        if vm["node"] != homes[vm["name"]] or vm["home"]:
            _run(lab, ["pvc", "vm", "move", vm["name"], homes[vm["name"]]])


def _make_plain(lab: Lab) -> None:
    for name in VMS:
        path = lab.write_vm(name, arguments=MANAGED.vm_args, memory=MANAGED.vm_memory)
        _run(lab, ["virsh", "-q", "create", str(path)], FROM)


def _plain_loop(lab: Lab, runtime: Runtime, parallel: int) -> float:
    """Seconds of the loop there; the way back is not measured."""
    began = runtime.monotonic()
    _migrate_all(lab, FROM, TO, parallel)
    seconds = runtime.monotonic() - began
    _migrate_all(lab, TO, FROM, parallel)
    return seconds


def _migrate_all(lab: Lab, source: str, target: str, parallel: int) -> None:
    """What an administrator would type: one command for each VM, in one shell on the source."""
    address = lab.shape.host(target).address
    one = f"virsh -q migrate --live --p2p {{}} qemu+tcp://{address}/system tcp://{address}"
    _run(lab, ["sh", "-ec", f"printf '%s\\n' {' '.join(VMS)} | xargs -P {parallel} -I {{}} {one}"], source)


def _run(lab: Lab, command: list[str], node: str | None = None) -> str:
    done = lab.run(command, node, timeout=300)
    if done.code != 0:
        raise LabError(f"`{' '.join(command)}` ended with code {done.code}: {done.stderr.strip()}")
    return done.stdout
