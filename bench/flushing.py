"""How long a flush takes beside a plain loop of `virsh migrate`, and how fast the lock is handed over."""

import json
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
    """Flush and plain loop in turns, so that both meet the same noise."""
    _gather(managed)
    _make_plain(plain)
    by_flush, by_command, by_virsh = [], [], []
    for _round in range(rounds):
        by_virsh.append(_plain_loop(plain, runtime))
        began = runtime.monotonic()
        operation = _operation(managed, ["flush", FROM])
        by_command.append(runtime.monotonic() - began)
        by_flush.append(operation["finished"] - operation["requested"])
        _operation(managed, ["unflush", FROM])
    ratios = [flush / virsh for flush, virsh in zip(by_flush, by_virsh, strict=True)]
    whole = [command / virsh for command, virsh in zip(by_command, by_virsh, strict=True)]
    middle = sorted(by_virsh)[len(by_virsh) // 2]
    return [
        result("flush of 6 VMs / serial virsh loop", ratios, "", target=1.10, baseline=middle),
        result("the same, with the start of the command line", whole, "", baseline=middle),
        result("flush of 6 VMs", by_flush, "s", baseline=middle),
    ]


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
    return [result("hand-over of the lock to the next flush's first move", gaps, "s", target=0.3)]


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


def _plain_loop(lab: Lab, runtime: Runtime) -> float:
    """Seconds of the loop there; the way back is not measured."""
    began = runtime.monotonic()
    _migrate_all(lab, FROM, TO)
    seconds = runtime.monotonic() - began
    _migrate_all(lab, TO, FROM)
    return seconds


def _migrate_all(lab: Lab, source: str, target: str) -> None:
    """What an administrator would type: one command for each VM, in one shell on the source."""
    address = lab.shape.host(target).address
    one = f"virsh -q migrate --live --p2p $vm qemu+tcp://{address}/system tcp://{address}"
    _run(lab, ["sh", "-ec", f"for vm in {' '.join(VMS)}; do {one}; done"], source)


def _run(lab: Lab, command: list[str], node: str | None = None) -> str:
    done = lab.run(command, node, timeout=300)
    if done.code != 0:
        raise LabError(f"`{' '.join(command)}` ended with code {done.code}: {done.stderr.strip()}")
    return done.stdout
