"""`pvc plugin`: what is installed here, how nodes' plugins are, and the skeleton of a new one."""

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pvc.cli.application import Application
from pvc.cli.main import furnish
from pvc.cli.skeleton import BadName, WouldOverwrite, skeleton, write_skeleton
from pvc.core import keys
from pvc.core.commands import CommandLine
from pvc.core.config.document import Document
from pvc.core.context import Context
from pvc.core.coordination import Delete, Put
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding
from pvc.core.plugins import Plugins
from pvc.core.threads import ThreadRuntime
from pvc.testing.cluster import SimCluster
from tests.cli.conftest import Keyboard, Terminal
from tests.cli.test_main import pvc
from tests.core.test_plugins import Part, Shop, saying, shop

__all__ = ["shop"]


class Lamp:
    """A plugin with a service; its health fails where it is dark."""

    def __init__(self, dark: bool) -> None:
        self.dark = dark

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="light in the rack", needs=("hypervisor",))

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Any]:
        return [Part("lamp", wake=context.runtime.signal())]

    @hookimpl
    def pvc_health(self) -> Sequence[Finding]:
        if self.dark:
            raise ValueError("no bulb")
        return []


class Newer:
    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(api=99)


@pytest.fixture
def lit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Two nodes with the plugin lamp, which fails on hv2, where one for newer hooks is switched on as well."""

    def ready(node: str) -> Mapping[str, object]:
        return {"lamp": Lamp(dark=node == "hv2"), "newer": Newer() if node == "hv2" else object()}

    with SimCluster(2, plugins=("flushlock", "lamp", "newer"), ready=ready) as cluster:
        cluster.start()
        cluster.run(60)
        terminal = Terminal()
        for stream in ("stdin", "stdout", "stderr"):
            monkeypatch.setattr(sys, stream, getattr(sys, stream))
        yield Keyboard(cluster, terminal)


def test_the_list_tells_where_each_plugin_is_on_and_where_it_is_in_trouble(lit: Keyboard) -> None:
    rows = {row["name"]: row for row in lit.type("plugin", "list", "--format", "json").rows}
    assert (rows["lamp"]["origin"], rows["lamp"]["nodes"], rows["lamp"]["trouble_on"]) == (
        "not installed here",
        ["hv1", "hv2"],
        [],
    )
    assert rows["newer"]["trouble_on"] == ["hv2"]
    assert (rows["flushlock"]["distribution"], rows["flushlock"]["nodes"]) == ("pvc", ["hv1", "hv2"])


def test_the_list_of_a_node_tells_how_its_plugins_are(lit: Keyboard) -> None:
    rows = {row["name"]: row for row in lit.type("plugin", "list", "--node", "hv2", "--format", "json").rows}
    assert (rows["lamp"]["state"], rows["lamp"]["last_error"]) == ("loaded", "pvc_health: no bulb")
    assert rows["newer"]["state"] == "left out"
    assert "needs hooks version 99, this pvc has 1; update pvc" in rows["newer"]["last_error"]
    table = lit.type("plugin", "list", "--node", "hv2").out
    assert "left out" in table


def test_info_of_a_node_tells_origin_hooks_times_services_and_failures(lit: Keyboard) -> None:
    row = lit.type("plugin", "info", "lamp", "--node", "hv2", "--format", "json").rows
    assert (row["origin"], row["summary"], row["api"], row["needs"]) == (
        "given",
        "light in the rack",
        1,
        ["hypervisor"],
    )
    assert row["failures"] > 0 and row["last_error"] == "pvc_health: no bulb" and row["last_error_at"] > 0
    assert row["services"] == [{"service": "lamp", "state": "running", "failures": 0, "last_error": None}]
    (health,) = [hook for hook in row["hooks"] if hook["hook"] == "pvc_health"]
    assert health["calls"] == row["failures"]
    assert set(health) == {"hook", "calls", "total", "longest"}
    assert "light in the rack" in lit.type("plugin", "info", "lamp", "--node", "hv2").out


def test_info_without_a_node_tells_of_every_node(lit: Keyboard) -> None:
    row = lit.type("plugin", "info", "lamp", "--format", "json").rows
    assert [(on["node"], on["failures"] > 0) for on in row["on_nodes"]] == [("hv1", False), ("hv2", True)]


def test_a_plugin_that_nobody_has_is_met_with_the_nearest_names(lit: Keyboard) -> None:
    said = lit.type("plugin", "info", "flushlok")
    assert said.code == 1
    assert "there is no plugin 'flushlok' here or on a node; did you mean flushlock?" in said.err
    said = lit.type("plugin", "info", "consolelog", "--node", "hv1")
    assert said.code == 1
    assert "consolelog is not switched on at hv1" in said.err


def test_a_record_that_cannot_be_read_is_told_of_and_left_out(lit: Keyboard) -> None:
    lit.cluster.client.commit([Put(keys.node_plugins("hv1"), b"\xff{")])
    said = lit.type("plugin", "list", "--format", "json")
    assert "/nodes/hv1/plugins holds no valid record" in said.err
    assert next(row for row in said.rows if row["name"] == "lamp")["nodes"] == ["hv2"]


def test_a_node_is_forgotten_with_what_it_told_of_its_plugins(lit: Keyboard) -> None:
    lit.cluster.kill_daemon("hv2")
    lit.cluster.run(30)
    said = lit.type("node", "forget", "hv2", "--yes")
    assert said.code == 0, said
    assert lit.cluster.client.get(keys.node_plugins("hv2")) is None


def test_the_list_works_without_a_cluster(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("zookeeper: {hosts: ['127.0.0.1:1']}\ndeny_plugins: [flushlock]\n")
    done = pvc("--config", str(path), "plugin", "list", "--format", "json")
    assert done.code == 0
    assert "no cluster is reached" in done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert (rows["hypervisor"]["enabled"], rows["hypervisor"]["state"]) == (True, "loaded")
    assert (rows["flushlock"]["enabled"], rows["flushlock"]["state"]) == (False, "not loaded")
    assert (rows["storage"]["enabled"], rows["storage"]["state"]) == (False, "commands only")


def test_what_is_denied_has_no_commands_here_either(tmp_path: Path) -> None:
    (tmp_path / "pvc.yaml").write_text("deny_plugins: [lab, consolelog]\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10.yaml").write_text("deny_plugins: [flushlock]\n")
    shown = pvc("--config", str(tmp_path / "pvc.yaml"), "--help").stdout
    assert "  vm " in shown and "  lab " not in shown and "  console " not in shown
    assert "  queue " not in pvc("--config", str(tmp_path / "pvc.yaml"), "node", "--help").stdout


# Plugins that disturb the client.

NOISY = """
print("hello from the import")
from pvc.core.hookspecs import hookimpl

@hookimpl
def pvc_declaration():
    print("hello from a hook")
    from pvc.core.declaration import Declaration
    return Declaration()
"""


def with_plugin(tmp_path: Path, name: str) -> dict[str, str]:
    """The environment of a client whose file switches a plugin of the shop on."""
    (tmp_path / "pvc.yaml").write_text(f"zookeeper: {{hosts: ['127.0.0.1:1']}}\nplugins: {{{name}: true}}\n")
    return {"PVC_CONFIG": str(tmp_path / "pvc.yaml"), "PYTHONPATH": str(tmp_path)}


def test_what_a_plugin_prints_does_not_get_into_a_commands_output(shop: Shop, tmp_path: Path) -> None:
    shop.install("noisy", NOISY)
    done = pvc("plugin", "list", "--format", "json", **with_plugin(tmp_path, "noisy"))
    assert next(row for row in json.loads(done.stdout) if row["name"] == "noisy")["state"] == "loaded"
    assert "hello from the import" in done.stderr and "hello from a hook" in done.stderr


@pytest.mark.parametrize("source", ["raise SystemExit(7)", "import does_not_exist", "def broken(:"])
def test_a_plugin_that_cannot_be_loaded_is_told_of_in_one_line_and_all_commands_work(
    shop: Shop, tmp_path: Path, source: str
) -> None:
    shop.install("broken", source)
    done = pvc("plugin", "list", "--format", "json", **with_plugin(tmp_path, "broken"))
    assert done.code == 0
    row = next(row for row in json.loads(done.stdout) if row["name"] == "broken")
    assert row["state"] == "left out"
    assert "plugin broken cannot be loaded" in row["error"]
    assert "set plugins.broken: false" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_plugins_that_want_one_command_are_both_named_and_all_else_works() -> None:
    class Wants:
        def __init__(self, *names: str) -> None:
            self.names = names

        @hookimpl
        def pvc_commands(self, cli: CommandLine) -> None:
            for name in self.names:
                cli.group("lamp").command(name)(lambda: None)

    class Usurps:
        @hookimpl
        def pvc_commands(self, cli: CommandLine) -> None:
            cli.status_part("lamps", lambda _coordinator: 1)
            cli.group("node").command("list")(lambda: None)

    plugins = Plugins(logging.getLogger("test"), attended=True)
    plugins.load(["one", "two", "three"], {"one": Wants("on"), "two": Wants("off", "on"), "three": Usurps()})
    application = furnish(Application(ThreadRuntime(), Document(), plugins))
    told = {status.name: status.last_error for status in plugins.status()}
    assert told["one"] == ""
    assert "plugin one and plugin two want the command `pvc lamp on`; the first one has it" in told["two"]
    assert "pvc itself and plugin three want the command `pvc node list`" in told["three"]
    application.group("lamp").claim("bright")


def test_an_interrupt_while_the_client_loads_its_plugins_is_the_persons() -> None:
    with pytest.raises(KeyboardInterrupt):
        Plugins(logging.getLogger("test"), attended=True).load(
            ["lamp"], {"lamp": saying("pvc_declaration", KeyboardInterrupt())}
        )


# The skeleton.


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Beacon", "lower-case letters"),
        ("9lives", "a letter first"),
        ("my-plugin", "underscores"),
        ("", "lower-case letters"),
        ("x" * 41, "up to 40"),
        ("class", "a word of Python's"),
        ("hypervisor", "a built-in plugin"),
        ("node", "one of pvc's own keys"),
        ("lab", "is installed"),
    ],
)
def test_a_name_that_no_plugin_can_have_is_refused_with_the_reason(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(BadName, match=why):
        write_skeleton(name, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_skeleton_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(WouldOverwrite, match="choose another place with --directory"):
        write_skeleton("beacon", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    with pytest.raises(WouldOverwrite):
        write_skeleton("beacon", tmp_path / "README.md")


def test_a_skeleton_is_made_where_the_command_says(tmp_path: Path) -> None:
    done = pvc("plugin", "new", "beacon", "--directory", str(tmp_path / "here"), PVC_CONFIG="/dev/null")
    assert done.code == 0, done
    assert "plugins.beacon: true" in done.stdout
    made = {str(path.relative_to(tmp_path / "here")) for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert made == set(skeleton("beacon"))
    assert made >= {"pyproject.toml", "README.md", "src/pvc_beacon/plugin.py", "tests/test_beacon.py"}
    taken = pvc("plugin", "new", "bridge", "--directory", str(tmp_path / "there"), PVC_CONFIG="/dev/null")
    assert taken.code == 1 and "there is `pvc bridge` already" in taken.stderr
    again = pvc("plugin", "new", "beacon", "--directory", str(tmp_path / "here"), PVC_CONFIG="/dev/null")
    assert again.code == 1 and "Traceback" not in again.stderr


def test_no_placeholder_is_left_in_a_skeleton() -> None:
    assert [path for path, text in skeleton("beacon").items() if "$" in text] == []


def test_the_report_of_a_node_that_never_told_any_is_empty(lit: Keyboard) -> None:
    lit.cluster.kill_daemon("hv1")
    lit.cluster.client.commit([Delete(keys.node_plugins("hv1"))])
    assert lit.type("plugin", "list", "--node", "hv1", "--format", "json").rows == []


def test_the_times_of_hooks_are_numbers_for_programs_and_legible_for_people(lit: Keyboard) -> None:
    as_yaml = lit.type("plugin", "info", "hypervisor", "--node", "hv1", "--format", "yaml").out
    assert all(hook["total"] >= hook["longest"] for hook in yaml.safe_load(as_yaml)["hooks"])
    table = lit.type("plugin", "info", "hypervisor", "--node", "hv1").out
    assert re.search(r"pvc_node_facts +\d+ +\d\.\d{4} +\d\.\d{4}", table)


def test_hook_calls_are_traced_on_standard_error() -> None:
    done = pvc("config", "show", PVC_TRACE_HOOKS="1")
    assert "pvc: hook pvc_commands" in done.stderr
    assert "hook pvc_" not in done.stdout
    assert "hook pvc_" not in pvc("config", "show").stderr
