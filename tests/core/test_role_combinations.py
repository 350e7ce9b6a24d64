"""Every combination of roles, each in an interpreter of its own: what it imports, runs, and publishes."""

import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pvc.core.process import SystemProcesses

ROLES = ("hypervisor", "networking", "storage")
COMBINATIONS = list(itertools.product((False, True), repeat=len(ROLES)))

START = """
import json, logging, sys

text, blocked, awaited = json.loads(sys.argv[1])
for library in blocked:
    sys.modules[library] = None  # whoever imports it fails as if it were not installed

from pvc.core.config.document import parse
from pvc.core.config.validation import validate
from pvc.core.config.switches import enabled_plugins
from pvc.core.daemon import Daemon
from pvc.core.keys import node, node_facts
from pvc.core.machine import LinuxMachine
from pvc.core.plugins import Plugins, installed
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeEnsemble
from pvc.core.threads import ThreadRuntime

class Hooks(logging.Handler):
    def __init__(self):
        super().__init__(logging.INFO)
        self.called = set()
    def emit(self, record):
        words = record.getMessage().split()
        if words[:1] == ["hook"] and words[1].startswith("pvc_"):
            self.called.add(words[1])

log, hooks = logging.getLogger("pvc"), Hooks()
log.setLevel(logging.INFO)
log.addHandler(hooks)
document, known = parse(text, "pvc.yaml"), sorted(installed())
names = enabled_plugins(document, known)
plugins, runtime, ready = Plugins(log), ThreadRuntime(), {}
if "hypervisor" in names:
    from pvc.plugins.hypervisor.plugin import HypervisorPlugin
    from pvc.testing.hypervisor import FakeFabric
    host = FakeFabric(runtime).host("n1")
    ready = {"hypervisor": HypervisorPlugin(lambda context: host)}
plugins.load(names, ready)
config = validate(document, plugins.schemas(), known, host_name="n1", declarations=plugins.declarations())
ensemble = FakeEnsemble(runtime)
admin = ensemble.connect("admin")
admin.commit(tree_ops())
daemon = Daemon(config, plugins, ensemble.connect("daemon"), ensemble.connect, runtime, LinuxMachine(), log)
daemon.start()

def facts():
    znode = admin.get(node_facts("n1"))
    return {} if znode is None else json.loads(znode.data)

def is_up():
    published = facts()
    sources = {name.partition(".")[0] for name in published.get("extra", ())}
    told = {finding["source"] for finding in published.get("findings", ())}
    running = all(status.state.value == "running" for status in daemon.lifecycle.status())
    known = sources >= set(awaited) and told >= set(awaited) & {"networking"}
    return running and known and ("hypervisor" not in names or published["memory"] is not None)

until = runtime.monotonic() + 20
while not is_up() and runtime.monotonic() < until:
    runtime.sleep(0.05)
print(json.dumps({
    "modules": sorted(name for name, module in sys.modules.items() if module is not None),
    "hooks": sorted(hooks.called),
    "plugins": {status.name: status.failures for status in plugins.status()},
    "services": {status.name: status.state.value for status in daemon.lifecycle.status()},
    "node": json.loads(admin.get(node("n1")).data),
    "facts": facts(),
}))
daemon.stop()
"""


@dataclass(frozen=True)
class Started:
    """What a daemon in an interpreter of its own said of itself."""

    on: frozenset[str]
    said: Mapping[str, Any]

    def packages(self) -> set[str]:
        """Names of the plugins of which anything was imported."""
        parts = [name.split(".") for name in self.said["modules"] if name.startswith("pvc.plugins.")]
        return {part[2] for part in parts}


def start(on: frozenset[str], directory: Path, further: str = "") -> Started:
    """Start a daemon with these roles; the libraries of the others cannot be imported."""
    roles = ", ".join(f"{role}: {str(role in on).lower()}" for role in ROLES)
    sections = {
        "networking": "networking: {bridges: [no-such-bridge]}\n",
        "storage": f"storage: {{directories: {{vms: {{path: {directory}, mount: false}}}}}}\n",
    }
    text = f"node: n1\nroles: {{{roles}}}\n{further}" + "".join(
        sections[role] for role in sorted(on) if role in sections
    )
    if "hypervisor" in on:
        text += f"consolelog: {{directory: {directory}}}\n"
    of_role = {"hypervisor": ["libvirt", "inotify_simple"], "networking": ["pyroute2"]}
    without = [library for role, libraries in of_role.items() if role not in on for library in libraries]
    blocked = ["kazoo", "typer", "rich", *without]
    command = [sys.executable, "-c", START, json.dumps([text, blocked, sorted(on & sections.keys())])]
    out = SystemProcesses().check(command, timeout=60, env={"PVC_TRACE_HOOKS": "1"})
    return Started(on, json.loads(out))


@pytest.fixture(
    scope="module", params=COMBINATIONS, ids=lambda flags: "+".join(itertools.compress(ROLES, flags)) or "none"
)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    yield start(frozenset(itertools.compress(ROLES, request.param)), tmp_path_factory.mktemp("directory"))


def expected(on: frozenset[str], always: set[str], **by_role: str) -> set[str]:
    return {*always, *(thing for role, things in by_role.items() if role in on for thing in things.split())}


def test_nothing_of_a_role_that_is_off_is_imported(started: Started) -> None:
    assert started.packages() == expected(
        started.on, {"flushlock"}, hypervisor="hypervisor consolelog", networking="networking", storage="storage"
    )
    assert ("inotify_simple" in started.said["modules"]) == ("hypervisor" in started.on)
    assert ("pyroute2" in started.said["modules"]) == ("networking" in started.on)


def test_the_hooks_and_services_are_those_of_the_roles(started: Started) -> None:
    always = {
        *("pvc_declaration", "pvc_config_schema", "pvc_flush_gates", "pvc_flush_steps", "pvc_node_facts"),
    }
    assert set(started.said["services"]) == expected(
        started.on,
        {"liveness", "facts", "operations", "plugins"},
        hypervisor="vms secrets consolelog",
        networking="networking evpn networks firewall traffic gateways tenure trace",
        storage="storage storage-leftovers storage-pools storage-readmission storage-tasks storage-ceph",
    )
    assert set(started.said["services"].values()) == {"running"}
    assert started.said["plugins"] == dict.fromkeys(started.packages(), 0)
    some = "pvc_services pvc_health"
    secrets = " pvc_hypervisor_secrets" if "hypervisor" in started.on else ""
    assert set(started.said["hooks"]) == expected(
        started.on,
        always - {"pvc_flush_steps"},
        hypervisor=f"{some} pvc_flush_steps pvc_vm_observers pvc_console_sinks",
        networking=f"{some} pvc_flush_steps pvc_vm_observers",
        storage=f"{some}{secrets} pvc_flush_steps",
    )


def test_the_node_publishes_its_roles_and_what_they_know(started: Started) -> None:
    said = started.said
    assert said["node"]["roles"] == sorted(started.on)
    assert said["node"]["plugins"] == sorted(
        expected(started.on, {"flushlock"}, hypervisor="consolelog"), key=["flushlock", "consolelog"].index
    )
    assert (said["facts"]["memory"] is not None) == ("hypervisor" in started.on)
    assert {fact.partition(".")[0] for fact in said["facts"]["extra"]} == expected(
        started.on, {"flushlock"}, networking="networking", storage="storage"
    )
    found = {finding["source"]: finding["text"] for finding in said["facts"]["findings"]}
    assert set(found) == expected(started.on, set(), networking="networking")
    assert "no-such-bridge does not exist" in found.get("networking", "no-such-bridge does not exist")


def test_every_combination_is_tried() -> None:
    assert len({frozenset(itertools.compress(ROLES, flags)) for flags in COMBINATIONS}) == 8
