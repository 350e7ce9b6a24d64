"""How long a line takes from the file that QEMU writes to the screen of a follower."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.report import Result, result
from pvc.core.process import SystemProcesses
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError

LOOK = 0.002
"""Seconds between looks at the two files: the error of each figure."""


def measure(lab: Lab, vm: str, node: str, runtime: Runtime, lines: int) -> list[Result]:
    """Follow a VM that prints about a line a second, and time each line in both files."""
    written = _console_file(lab, vm, node)
    with tempfile.TemporaryDirectory(prefix="pvc-bench-") as directory:
        shown = Path(directory) / "follower"
        shown.touch()
        follower = SystemProcesses().start(lab.enter(["pvc", "vm", "log", "-f", "-n", "1", vm]), output=shown)
        try:
            _wait(runtime, lambda: bool(_numbers(shown.read_bytes(), vm)), 30.0)
            delays = _delays(written, shown, vm, runtime, lines)
        finally:
            follower.signal(15)
            follower.wait(10.0)
    return [
        result("console line from QEMU's file to the follower's screen", delays, "s", target=0.06),
        result("the same, 99th percentile", [sorted(delays)[int(len(delays) * 0.99)]], "s"),
    ]


def _delays(written: Path, shown: Path, vm: str, runtime: Runtime, lines: int) -> list[float]:
    first = max(_numbers(written.read_bytes(), vm)) + 1
    wanted = range(first, first + lines)
    at_source: dict[int, float] = {}
    at_screen: dict[int, float] = {}
    sizes = {written: -1, shown: -1}

    def look() -> bool:
        for path, seen in ((written, at_source), (shown, at_screen)):
            size = path.stat().st_size
            if size != sizes[path]:
                sizes[path] = size
                now = runtime.monotonic()
                for number in _numbers(path.read_bytes(), vm):
                    seen.setdefault(number, now)
        return wanted[-1] in at_screen

    _wait(runtime, look, 3.0 * lines + 30.0)
    return [at_screen[number] - at_source[number] for number in wanted]


def _console_file(lab: Lab, vm: str, node: str) -> Path:
    """The file in the node's console directory that carries the VM's lines."""
    for path in sorted(lab.console_directory(node).rglob("*")):
        if path.is_file() and _numbers(path.read_bytes(), vm):
            return path
    raise LabError(f"no console file of {vm} in {lab.console_directory(node)}")


def _numbers(data: bytes, vm: str) -> list[int]:
    """The numbers of the complete lines."""
    return [int(number) for number in re.findall(rf"^{vm} (\d+) .*\n".encode(), data, re.MULTILINE)]


def _wait(runtime: Runtime, condition: Callable[[], bool], seconds: float) -> None:
    deadline = runtime.monotonic() + seconds
    while not condition():
        if runtime.monotonic() > deadline:
            raise LabError(f"nothing came within {seconds:g} s")
        runtime.sleep(LOOK)
