"""How long the command line takes to start, and a daemon to be ready."""

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.report import Result, result
from pvc.core.process import SystemProcesses
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape

MANY = Shape(nodes=1, vms=100, vm_memory=32, vm_args="rate=0")
"""A node with many small VMs that have nothing to say."""
PATIENCE = 60.0
"""Seconds after which something is broken rather than slow."""
PVC = str(Path(sys.executable).with_name("pvc"))


def measure_help(runtime: Runtime, rounds: int) -> list[Result]:
    """`pvc --help` beside a Python that does nothing."""
    plain = [_seconds(runtime, [sys.executable, "-c", "pass"]) for _ in range(rounds)]
    shown = [_seconds(runtime, [PVC, "--help"]) for _ in range(rounds)]
    return [result("pvc --help", shown, "s", target=0.25, baseline=sorted(plain)[len(plain) // 2])]


def measure_list(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """`pvc node list` against the lab's ZooKeeper, the entering of its namespace taken off."""
    entered = [inside(lab, runtime, ["true"]) for _ in range(rounds)]
    listed = [inside(lab, runtime, ["pvc", "node", "list"]) for _ in range(rounds)]
    entering = sorted(entered)[len(entered) // 2]
    return [result("pvc node list", [seconds - entering for seconds in listed], "s", target=0.5)]


def measure_daemon(lab: Lab, runtime: Runtime, rounds: int) -> list[Result]:
    """A daemon of a node with many running VMs: until it says that it is ready, and until it has published them all."""
    lab.kill("pvcd", "hv1", signal.SIGTERM)
    pairs = [_start_once(lab, runtime) for _round in range(rounds)]
    number = len(lab.shape.placement())
    return [
        result(f"daemon with {number} VMs: start to ready", [ready for ready, _ in pairs], "s", target=2.0),
        result("the same, until all its VMs are in its facts", [known for _, known in pairs], "s"),
    ]


def _start_once(lab: Lab, runtime: Runtime) -> tuple[float, float]:
    """Seconds to READY=1, and to facts of its own with every VM."""
    path = lab.state.path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path.unlink(missing_ok=True)
        told.bind(str(path))
        told.settimeout(PATIENCE)
        began, moment = runtime.monotonic(), runtime.now()
        command = lab.enter(["env", f"NOTIFY_SOCKET={path}", "pvcd", "--config", "/etc/pvc/pvc.yaml"], "hv1")
        daemon = SystemProcesses().start(command, output=lab.state.path / "started.log")
        try:
            while b"READY=1" not in told.recv(4096):
                continue
            ready = runtime.monotonic() - began
            known = _published(lab, runtime, moment)
        finally:
            lab.run(["pkill", "-TERM", "-f", "pvcd --config"], "hv1")  # what was started only waits for it
            daemon.wait(PATIENCE)
    return ready, known


def _published(lab: Lab, runtime: Runtime, since: float) -> float:
    """Seconds from `since`, on the clock of records, to the first facts after it that have all VMs."""
    end = runtime.now() + PATIENCE
    while runtime.now() < end:
        row = json.loads(lab.run(["pvc", "node", "info", "hv1", "--format", "json"]).stdout)
        if row["facts_at"] and row["facts_at"] > since and row["vms"] == len(lab.shape.placement()):
            return float(row["facts_at"]) - since
    raise LabError(f"the daemon of hv1 did not publish its VMs within {PATIENCE:g} s")


def _seconds(runtime: Runtime, command: Sequence[str]) -> float:
    began = runtime.monotonic()
    done = SystemProcesses().run(command, timeout=60, env=dict(os.environ))
    assert done.code == 0, done
    return runtime.monotonic() - began


def inside(lab: Lab, runtime: Runtime, command: list[str]) -> float:
    """Seconds of a command in the lab, its entering included."""
    began = runtime.monotonic()
    done = lab.run(command, None, timeout=60)
    assert done.code == 0, done
    return runtime.monotonic() - began
