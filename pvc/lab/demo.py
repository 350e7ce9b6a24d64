"""The whole story on real VMs, told on the screen and checked: `make demo`.

Every claim of the closing summary is verified against what the programs printed, what the nodes run and what the
cluster recorded; a false one ends the demo with an error.
"""

import json
import re
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pvc.core.process import SystemProcesses
from pvc.core.runtime import Runtime
from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.narration import Narrator, Voice
from pvc.lab.shape import Shape

SHAPE = Shape(nodes=3, vms=6, vm_memory=128, vm_args="rate=5 fill=64")
"""Each VM fills half its memory, so that a move takes a moment that can be watched."""
WATCHED = "vm1"
"""The VM whose console is followed; it lives on hv1."""
LONGEST = 180.0
"""Seconds that any one part of the story may take."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the summary says, and whether it is so."""

    text: str
    true: bool


def tell(name: str, runtime: Runtime, say: Callable[[str], None]) -> bool:
    """Tell the story in the lab of that name, made or repaired as needed; whether every claim was true."""
    lab = _prepared(name, runtime, say)
    with tempfile.TemporaryDirectory(prefix="pvc-demo-") as directory:
        narrator = Narrator(lab, Path(directory), SystemProcesses(), runtime, say)
        try:
            claims = _Story(lab, narrator, runtime).tell()
        finally:
            narrator.end_all(signal.SIGTERM)
    say("\n== Summary: every line was checked against what the nodes and the cluster say")
    for claim in claims:
        say(f"  [{'ok' if claim.true else 'NOT TRUE'}] {claim.text}")
    _say_how_to_play(name, say)
    return all(claim.true for claim in claims)


def _prepared(name: str, runtime: Runtime, say: Callable[[str], None]) -> Lab:
    """A lab in which every node is ready and every VM is at home, whatever was there before."""
    lab = Lab(name, SHAPE, runtime=runtime, say=say)
    try:
        lab.up()
        _bring_home(lab)
    except LabError as error:
        say(f"the lab that is there cannot be used ({error}); making a new one")
        lab.down()
        lab.up()
    return lab


def _bring_home(lab: Lab) -> None:
    """Undo what an earlier run may have left: operations, flushed nodes, VMs away from home. Raises LabError."""
    for node in _listing(lab, ["node", "list"]):
        if node["active"]:
            lab.run(["pvc", "node", "cancel", node["name"]])
            lab.run(["pvc", "node", "watch", node["name"], "--timeout", "60"], timeout=90)
    for node in _listing(lab, ["node", "list"]):
        if node["state"] != "ready":
            _check(lab, ["pvc", "node", "unflush", node["name"], "--wait", "--timeout", "120"])
    homes = SHAPE.placement()
    for vm in _listing(lab, ["vm", "list"]):
        if vm["name"] in homes and (vm["node"] != homes[vm["name"]] or vm["home"]):
            _check(lab, ["pvc", "vm", "move", vm["name"], homes[vm["name"]]])


def _listing(lab: Lab, command: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(_check(lab, ["pvc", "--format", "json", *command]))
    return rows


def _check(lab: Lab, command: list[str]) -> str:
    done = lab.run(command, timeout=150)
    if done.code != 0:
        raise LabError(f"`{' '.join(command)}` ended with code {done.code}: {done.stderr.strip()}")
    return done.stdout


class _Story:
    """The story, and what was seen on the way."""

    def __init__(self, lab: Lab, narrator: Narrator, runtime: Runtime) -> None:
        self._lab = lab
        self._narrator = narrator
        self._runtime = runtime

    def tell(self) -> list[Claim]:
        narrator = self._narrator
        narrator.title("Three nodes, six VMs")
        narrator.run(["pvc", "node", "list"])
        narrator.run(["pvc", "vm", "list"])
        narrator.title(f"The console of {WATCHED}, followed live from a machine that runs no VM")
        console = narrator.begin(WATCHED, ["pvc", "vm", "log", WATCHED, "-f", "-n", "2"])
        narrator.listen(lambda: len(_numbers(console)) >= 6, LONGEST, "the console's first lines")
        began = self._runtime.monotonic()
        first, second = self._flush_two(console)
        seconds = self._runtime.monotonic() - began
        narrator.run(["pvc", "vm", "list"])
        flushed = self._outcomes()
        states = self._node_states()
        left = sum(len(self._lab.vm_processes(node)) for node in ("hv1", "hv2"))
        home = self._unflush_two(console)
        return [
            *self._claims_of_flushes(first, second, flushed, states, left, seconds),
            *self._claims_of_the_end(console, home),
        ]

    def _flush_two(self, console: Voice) -> tuple[Voice, Voice]:
        narrator = self._narrator
        narrator.title("hv1 is flushed; hv2 is to be flushed meanwhile and waits its turn")
        reason = ["--reason", "new memory"]
        first = narrator.begin("flush hv1", ["pvc", "node", "flush", "hv1", "--wait", *reason])
        narrator.listen(lambda: bool(first.lines) or first.code() is not None, LONGEST, "the first flush's turn")
        second = narrator.begin("flush hv2", ["pvc", "node", "flush", "hv2", "--wait"])
        self._hear_out(first, second)
        seen = len(_numbers(console))
        narrator.listen(lambda: len(_numbers(console)) > seen + 5, LONGEST, "console lines after the move")
        return first, second

    def _unflush_two(self, console: Voice) -> list[dict[str, Any]]:
        narrator = self._narrator
        narrator.title("Both come back into service, and their VMs come home")
        voices = [narrator.begin(f"home {node}", ["pvc", "node", "unflush", node, "--wait"]) for node in ("hv1", "hv2")]
        self._hear_out(*voices)
        seen = len(_numbers(console))
        narrator.listen(lambda: len(_numbers(console)) > seen + 5, LONGEST, "console lines after the way home")
        narrator.run(["pvc", "vm", "list"])
        return self._outcomes()

    def _hear_out(self, *voices: Voice) -> None:
        def over() -> bool:
            return all(voice.code() is not None for voice in voices)

        self._narrator.listen(over, LONGEST, "the end of " + " and ".join(voice.name for voice in voices))

    def _outcomes(self) -> list[dict[str, Any]]:
        return [o for node in ("hv1", "hv2") for o in self._narrator.ask(["node", "info", node])["outcomes"]]

    def _node_states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self._narrator.ask(["node", "list"])}

    def _claims_of_flushes(
        self,
        first: Voice,
        second: Voice,
        outcomes: list[dict[str, Any]],
        states: dict[str, str],
        left: int,
        seconds: float,
    ) -> list[Claim]:
        moved = [outcome["vm"] for outcome in outcomes if outcome["state"] == "moved"]
        waited = [index for index, line in enumerate(second.lines) if "waiting: the flush lock is held" in line]
        began = [index for index, line in enumerate(second.lines) if " -> " in line]
        return [
            Claim(
                f"VMs moved by the two flushes: {len(moved)} moves of {len(set(moved))} VMs, in {seconds:.1f} s",
                len(moved) == len(outcomes) and set(moved) >= {"vm1", "vm2", "vm4", "vm5"},
            ),
            Claim(f"VMs left on the two nodes: {left}", left == 0),
            Claim("both flushes ended as done", first.code() == 0 and second.code() == 0),
            Claim("both nodes are recorded as flushed", states["hv1"] == states["hv2"] == "flushed"),
            Claim(
                "the second flush was told who held the lock and its place, and moved nothing before its turn",
                bool(waited) and bool(began) and waited[-1] < began[0],
            ),
        ]

    def _claims_of_the_end(self, console: Voice, home: list[dict[str, Any]]) -> list[Claim]:
        numbers = _numbers(console)
        missed = sum(b - a - 1 for a, b in pairwise(numbers) if b > a + 1)
        repeated = sum(b <= a for a, b in pairwise(numbers))
        markers = [line for line in console.lines if "moved from" in line]
        placement = SHAPE.placement()
        running = {node: set(self._lab.vm_processes(node)) for node in ("hv1", "hv2", "hv3")}
        copies = {vm: sum(vm in there for there in running.values()) for vm in placement}
        at_home = sum(vm in running[node] for vm, node in placement.items())
        back = sum(outcome["state"] == "moved" for outcome in home)
        lost = sum(count == 0 for count in copies.values())
        twice = sum(count > 1 for count in copies.values())
        return [
            Claim(f"VMs brought home: {back} of 4; VMs on their home node: {at_home} of 6", back == 4 and at_home == 6),
            Claim(f"VMs lost: {lost}; VMs running twice: {twice}", lost == 0 and twice == 0),
            Claim(f"console of {WATCHED} went on across its moves ({len(markers)} seen)", len(markers) >= 2),
            Claim(
                f"console lines followed: {len(numbers)}; missed: {missed}; repeated: {repeated}",
                missed == 0 and repeated == 0 and len(numbers) > 20,
            ),
        ]


def _numbers(console: Voice) -> list[int]:
    """The line numbers that the VM counted."""
    return [int(found[1]) for line in console.lines if (found := re.match(rf"{WATCHED} (\d+) ", line))]


def _say_how_to_play(name: str, say: Callable[[str], None]) -> None:
    option = "" if name == "lab" else f" --name {name}"
    for line in (
        "",
        "The lab is still up. Play with it:",
        f"  .venv/bin/pvc lab shell{option}",
        "      there: pvc node list, pvc node flush hv1 --wait, pvc vm log -f vm1",
        f"  .venv/bin/pvc lab kill pvcd hv1{option}",
        f"      breaks something; .venv/bin/pvc lab start pvcd hv1{option} mends it",
        f"  make lab-down{'' if name == 'lab' else f' LAB={name}'}",
        "      ends it; nothing is left behind",
    ):
        say(line)
