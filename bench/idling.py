"""What a daemon costs that has six silent VMs and nothing to do."""

import os
from pathlib import Path

from bench.report import Result, result
from pvc.core.runtime import Runtime
from pvc.lab import pidfile
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape

SHAPE = Shape(nodes=1, vms=6, vm_args="rate=0")
SETTLE = 15.0
"""Seconds after the lab is up before measuring."""


def measure(lab: Lab, runtime: Runtime, rounds: int, seconds: float) -> list[Result]:
    """CPU time of pvcd over `seconds`, several times, and its resident memory."""
    process = pidfile.recorded(lab.state.record(lab.shape.host("hv1"), "pvcd"))
    if process is None:
        raise LabError("pvcd of hv1 does not run")
    runtime.sleep(SETTLE)
    shares, memory = [], []
    for _round in range(rounds):
        began, before = runtime.monotonic(), cpu_seconds(process.pid)
        runtime.sleep(seconds)
        shares.append((cpu_seconds(process.pid) - before) / (runtime.monotonic() - began) * 100)
        memory.append(resident(process.pid))
    return [
        result("CPU of an idle daemon with 6 VMs", shares, "% of a core", target=1.0),
        result("memory of an idle daemon with 6 VMs", memory, "MB", target=80.0),
    ]


def cpu_seconds(pid: int) -> float:
    """User and system time, proc(5) fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LabError(f"process {pid} has ended")
