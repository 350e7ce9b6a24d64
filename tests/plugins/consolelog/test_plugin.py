"""The hooks, and what importing them costs."""

import logging
import sys
from pathlib import Path

from pvc.core.config.schema import check_schema
from pvc.core.context import Context
from pvc.core.daemon import Daemon
from pvc.core.model import Severity, Vm, VmState
from pvc.core.plugins import Plugins
from pvc.core.process import SystemProcesses
from pvc.core.sinks import ConsoleRecord, ConsoleVm
from pvc.plugins.consolelog.plugin import ConsoleLogPlugin
from pvc.plugins.consolelog.schema import SCHEMA, SECTION, Settings, settings
from pvc.plugins.hypervisor.plugin import HypervisorPlugin
from pvc.testing.cluster import SimCluster


def test_the_schema_is_one_that_core_accepts() -> None:
    check_schema(SECTION, ConsoleLogPlugin().pvc_config_schema())


def test_every_default_of_the_schema_is_that_of_the_settings() -> None:
    assert settings({key: rules["default"] for key, rules in SCHEMA.items()}) == Settings()
    assert settings({}) == Settings()


def test_the_command_line_needs_no_door_of_the_daemon() -> None:
    code = (
        "import sys, pvc.plugins.consolelog.plugin, pvc.plugins.consolelog.cli\n"
        "found = {'inotify_simple', 'libvirt', 'pvc.plugins.consolelog.service'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    SystemProcesses().check([sys.executable, "-c", code], timeout=60)


SERIAL = "<domain><devices><serial type='pty'><target port='0'/></serial></devices></domain>"


def test_without_its_directory_a_vm_starts_unlogged_and_the_node_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "consoles"
    plugin = ConsoleLogPlugin()
    context = _context(str(directory))
    vm = Vm("1b4e28ba-2fa1-41d2-883f-0016d3cca427", "vm1", VmState.STOPPED, "hv1", 64, 1)
    findings = plugin.pvc_health(context)
    assert [finding.severity for finding in findings] == [Severity.WARNING]
    assert "does not exist; create it" in findings[0].text
    assert plugin.pvc_vm_definition(context, vm, SERIAL) is None
    directory.mkdir()
    assert plugin.pvc_health(context) == []
    assert f"{directory}/vm1-console.log" in (plugin.pvc_vm_definition(context, vm, SERIAL) or "")


def test_files_are_kept_only_where_a_directory_is_named(tmp_path: Path) -> None:
    assert ConsoleLogPlugin().pvc_console_sinks(_context(str(tmp_path))) == []
    context = _context(str(tmp_path), files={"directory": str(tmp_path / "kept"), "size": "1 MiB", "count": 2})
    sinks = context.plugins.console_sinks()
    assert [sink.name for sink in sinks] == ["files"]
    sinks[0].write(ConsoleVm("u", "web1", "hv1"), [ConsoleRecord(0, 1.0, b"hello\n")])
    assert (tmp_path / "kept" / "web1.log").read_bytes() == b"hello\n"


def _context(directory: str, **section: object) -> Context:
    """The surroundings of a daemon that has not been started: files are touched by the hooks under test only."""
    with SimCluster({"hv1": {"consolelog": {"directory": directory, **section}}}, plugins=("consolelog",)) as cluster:
        node, log = cluster.nodes["hv1"], logging.getLogger("pvc.test")
        plugins = Plugins(log)
        plugins.load(["hypervisor", "consolelog"], {"hypervisor": HypervisorPlugin(lambda _context: node.host)})
        connect = cluster.ensemble.connect
        process = cluster.world.process("hv1")
        return Daemon(node.config, plugins, connect("hv1"), connect, process, node.machine, log).context
