"""Plays a scenario directory on a simulated cluster and compares what happened with its golden log.

A directory has `README.md` (what it shows), `cluster.yml` (nodes and VMs), `steps.yml` (see `steps.py`) and
`log.expect` (what was asked for, ordered, and became of it). `Invariants` are checked after every step.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pvc.core.errors import PvcError
from pvc.testing.cluster import SimCluster
from pvc.testing.invariants import Invariants
from pvc.testing.steps import ScenarioError, Step, Steps, described, parsed

BEGIN = 10.0
"""Simulated seconds after which the steps begin: by then the cluster of `cluster.yml` is up."""
FILES = ("README.md", "cluster.yml", "steps.yml")
TRANSITION = re.compile(
    r"^ *(?P<time>[\d.]+) (?P<node>\S+) +"
    r"(?P<text>configuration: .*|\S.*: (.+ => .+ \(.*\)|ordered .+|.+ has lost its turn))$"
)
SILENT = frozenset({"expect", "foreseen", "run", "until"})
"""Steps that change nothing and are not logged."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario directory as read."""

    directory: Path
    nodes: Mapping[str, Mapping[str, Any]]
    vms: Mapping[str, Mapping[str, Any]]
    steps: Sequence[Step]
    seed: int = 0

    @property
    def golden(self) -> Path:
        """The file that holds the log as it should be."""
        return self.directory / "log.expect"


def load(directory: Path) -> Scenario:
    """Read a scenario directory. Raises ScenarioError naming what is missing."""
    missing = [name for name in FILES if not (directory / name).is_file()]
    if missing:
        raise ScenarioError(f"{directory}: {', '.join(missing)} is missing")
    cluster = yaml.safe_load((directory / "cluster.yml").read_text())
    steps = yaml.safe_load((directory / "steps.yml").read_text())
    nodes = {name: extra or {} for name, extra in cluster["nodes"].items()}
    return Scenario(directory, nodes, cluster.get("vms") or {}, steps, cluster.get("seed", 0))


def play(scenario: Scenario) -> str:
    """Play a scenario to its end; its log. Raises ScenarioError if a step or a promise fails."""
    with SimCluster(scenario.nodes, seed=scenario.seed, latency=(0.0, 0.0)) as cluster:
        invariants = Invariants(cluster)
        steps = Steps(cluster)
        cluster.start()
        for name, how in scenario.vms.items():
            steps.perform({"define": {"name": name, **how}})
        cluster.settle()
        cluster.run(BEGIN - cluster.world.time)
        invariants.journal.lines.clear()
        for number, step in enumerate(scenario.steps, 1):
            try:
                _perform(cluster, invariants, steps, step)
            except (PvcError, AssertionError) as error:
                raise ScenarioError(f"{_at(scenario, number, step)}: {error}\n{log(invariants)}") from error
            if problems := invariants.problems():
                raise ScenarioError(f"{_at(scenario, number, step)}: {'; '.join(problems)}\n{log(invariants)}")
        if problems := invariants.problems_at_rest():
            raise ScenarioError(f"{scenario.directory.name}, at the end: {'; '.join(problems)}\n{log(invariants)}")
        return log(invariants)


def log(invariants: Invariants) -> str:
    """What was asked for, every order, every transition: seconds since the first step, who, what.

    Calls take no time here, so that the log does not depend on their number.
    """
    lines = []
    for line in invariants.journal.lines:
        match = TRANSITION.match(line)
        if match:
            lines.append(f"{float(match['time']) - BEGIN:7.1f} {match['node']:<6} {match['text']}\n")
        elif " >>> " in line:
            lines.append(f"{float(line[:8]) - BEGIN:7.1f} {line.partition(' >>> ')[2]}\n")
    return "".join(lines)


def _perform(cluster: SimCluster, invariants: Invariants, steps: Steps, step: Step) -> None:
    if parsed(step)[0] not in SILENT:
        invariants.journal.lines.append(f"{cluster.world.time:8.2f} >>> ------ {described(step)}")
    steps.perform(step)


def _at(scenario: Scenario, number: int, step: Step) -> str:
    return f"{scenario.directory.name}, step {number} ({described(step)})"
