"""The lab's use of the product: only through the public command line, as an administrator would.

Knows the commands and the JSON that they print; knows no path of the cluster's tree.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pvc.core.process import Finished
from pvc.lab.errors import LabError

RunClient = Callable[[Sequence[str]], Finished]
"""Runs a command on the lab's client."""


class Product:
    """The `pvc` command on the lab's client."""

    def __init__(self, run: RunClient) -> None:
        self._run = run

    def init(self) -> None:
        """Make the cluster's tree."""
        self._check(["init"])

    def missing_nodes(self, names: Sequence[str]) -> list[str]:
        """Those of these nodes that the cluster does not see alive."""
        return [name for name in names if name not in live_nodes(self._rows(["node", "list"]))]

    def vms(self) -> dict[str, str]:
        """The cluster's VMs and the state of each."""
        return vm_states(self._rows(["vm", "list"]))

    def define(self, definition: Path, node: str) -> None:
        """Make a VM known whose home is that node."""
        self._check(["vm", "define", str(definition), "--node", node])

    def start(self, name: str) -> None:
        """Ask for a VM to be started; does not wait for it."""
        self._check(["vm", "start", name, "--no-wait"])

    def _rows(self, command: Sequence[str]) -> list[dict[str, Any]]:
        text = self._check(["--format", "json", *command])
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise LabError(f"`pvc {' '.join(command)}` printed no JSON ({error}); run it in `pvc lab shell`") from error
        return [row for row in rows if isinstance(row, dict)]

    def _check(self, command: Sequence[str]) -> str:
        done = self._run(["pvc", *command])
        if done.code != 0:
            said = (done.stderr or done.stdout).strip()[-1000:]
            raise LabError(f"`pvc {' '.join(command)}` ended with code {done.code}: {said}; try it in `pvc lab shell`")
        return done.stdout


def live_nodes(rows: Sequence[dict[str, Any]]) -> set[str]:
    """Names of the nodes that are alive, from `pvc node list`."""
    return {str(row.get("name", row.get("node"))) for row in rows if row.get("alive") is True}


def vm_states(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """VMs by name with their states, from `pvc vm list`."""
    return {str(row["name"]): str(row.get("state", "")) for row in rows if "name" in row}
