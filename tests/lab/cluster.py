"""A whole lab seen with an administrator's eyes: what the public command line says, and what QEMU really runs."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until

DEADLINE = 180.0
NODES = ("hv1", "hv2", "hv3")
UNHURRIED = 20.0
"""A session timeout for labs in which no session is to end: no stall of a busy machine is as long."""


@dataclass(frozen=True)
class RealCluster:
    """The product in a lab."""

    lab: Lab

    def pvc(self, *words: str, timeout: float = 120.0) -> Finished:
        """Run `pvc` on the lab's client."""
        return self.lab.run(["pvc", *words], timeout=timeout)

    def ok(self, *words: str, timeout: float = 120.0) -> str:
        """Run `pvc`, which must succeed; what it printed."""
        done = self.pvc(*words, timeout=timeout)
        assert done.code == 0, f"pvc {' '.join(words)}: {done.code}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, *words: str) -> str:
        """Run `pvc`, which must refuse in words of its own; what it said."""
        done = self.pvc(*words)
        assert done.code not in (0, None), f"pvc {' '.join(words)} should have been refused: {done.stdout}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def ask(self, *words: str) -> Any:
        """What a listing says."""
        return json.loads(self.ok("--format", "json", *words))

    def begin(self, output: Path, *words: str) -> Running:
        """Start `pvc` beside the test; its output goes to a file."""
        output.touch()
        return SystemProcesses().start(self.lab.enter(["pvc", *words]), output=output)

    def follow(self, output: Path, errors: Path, name: str) -> Running:
        """Follow the console of a VM beside the test; notices go to a file of their own: they may cut a line."""
        errors.touch()
        command = ["sh", "-c", 'exec "$@" 2>"$0"', str(errors), "pvc", "vm", "log", "-f", name]
        return SystemProcesses().start(self.lab.enter(command), output=output)

    def node(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = self.ask("node", "info", name)
        return record

    def vm(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = self.ask("vm", "info", name)
        return record

    def is_on(self, name: str, node: str) -> bool:
        """Whether the records say that a VM is on a node."""
        return bool(self.vm(name)["node"] == node)

    def copies(self) -> dict[str, list[str]]:
        """For each VM the nodes on which a QEMU process of it runs."""
        where: dict[str, list[str]] = {}
        for node in NODES[: self.lab.shape.nodes]:
            for name in self.lab.vm_processes(node):
                where.setdefault(name, []).append(node)
        return where

    def emulators(self, node: str) -> list[str]:
        """The VMs of which a QEMU process exists on a node, whatever libvirt and its files say; a name per process."""
        listed = self.lab.run(["pgrep", "-af", "qemu-system.* guest="], node).stdout
        return sorted(re.findall(r" guest=([^, ]+)", listed))

    def console_numbers(self, name: str) -> dict[str, list[int]]:
        """The counters of a VM's console lines by node, as the QEMU that last ran on each wrote them to its file."""
        numbers = {}
        for node in NODES[: self.lab.shape.nodes]:
            path = self.lab.console_directory(node) / f"{name}-console.log"
            text = path.read_bytes().decode(errors="replace") if path.exists() else ""
            numbers[node] = [int(number) for number in re.findall(rf"^{name} (\d{{6,}}) ", text, re.MULTILINE)]
        return numbers

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = DEADLINE, pause: float = 0.1) -> None:
        """Wait until something is so, looking each `pause` seconds."""
        wait_until(ThreadRuntime(), seconds, lambda: None if condition() else f"not yet: {what}", pause=pause)

    def wait_alive(self, *nodes: str) -> None:
        """Wait until the daemons of these nodes are registered, and by a process that still runs."""
        self.wait(f"{nodes} alive", lambda: all(self.node(name)["alive"] for name in nodes))

    def all_once(self, names: Sequence[str]) -> bool:
        """Whether each of these VMs runs exactly once and the cluster's records agree."""
        copies = self.copies()
        records = {row["name"]: row for row in self.ask("vm", "list")}
        return all(
            len(copies.get(name, [])) == 1
            and records[name]["state"] == "running"
            and records[name]["node"] == copies[name][0]
            for name in names
        )

    def go_home(self, names: Sequence[str]) -> None:
        """Bring the cluster back to where the tests begin: nodes ready, VMs at home."""
        for row in self.ask("node", "list"):
            if row["state"] != "ready":
                self.ok("node", "unflush", row["name"], "--wait", "--timeout", "280", timeout=300)
        homes = self.lab.shape.placement()
        for row in self.ask("vm", "list"):
            if row["name"] in names and (row["node"] != homes[row["name"]] or row["home"]):
                self.ok("vm", "move", row["name"], homes[row["name"]])
