"""`pvc vm log`, run like any command but on a fake cluster."""

from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import typer
from typer.testing import CliRunner

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Create, Put
from pvc.core.errors import PvcError
from pvc.core.model import Vm, VmState
from pvc.core.records import encode
from pvc.plugins.consolelog.cli import add_commands, pager
from tests.plugins.consolelog.world import NAME, UUID, Cluster


class Line:
    """As much of a CommandLine as the command needs."""

    def __init__(self, cluster: Cluster) -> None:
        self.app = typer.Typer()
        self.app.callback()(lambda: None)
        self.runtime = cluster.runtime
        self._coordinator = cluster.ensemble.connect("cli")

    def group(self, name: str, help: str = "") -> "Line":
        assert name == "vm"
        return self

    def command(self, name: str, **options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
        return self.app.command(name, **options)

    def connect(self) -> Coordinator:
        return self._coordinator

    def note(self, text: str) -> None:
        typer.echo(text, err=True)

    def fail(self, message: str, code: int = 1) -> NoReturn:
        typer.echo(message, err=True)
        raise typer.Exit(code)

    def complete_vms(self, incomplete: str) -> list[str]:
        return []


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    vm = Vm(UUID, NAME, VmState.RUNNING, "hv1", 64, 1)
    made.admin.commit([Put(core_keys.vm(UUID), encode(vm)), Create("/names"), Create("/names/web", UUID.encode())])
    return made


def run(cluster: Cluster, *arguments: str) -> Any:
    line: Any = Line(cluster)
    add_commands(line)
    return CliRunner().invoke(line.app, ["log", *arguments])


def say(cluster: Cluster, data: bytes) -> None:
    cluster.nodes["hv1"].disk.write("/logs/web-console.log", data)
    cluster.steps(0.2)


def test_the_log_is_printed_by_name_and_by_uuid_without_its_markers(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"\x1b[1mone\x1b[0m\r\ntwo\r\n")
    for name in (NAME, UUID):
        result = run(cluster, name)
        assert result.exit_code == 0
        assert result.stdout == "one\ntwo\n"
        assert "started on hv1" in result.stderr


def test_lines_can_be_counted(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"one\ntwo\nthree\n")
    assert run(cluster, NAME, "-n", "2").stdout == "two\nthree\n"
    assert run(cluster, NAME, "--lines", "0").stdout == ""


def test_raw_passes_every_byte(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"\x1b[2J\r\n\xff")
    assert run(cluster, NAME, "--raw").stdout_bytes == b"\x1b[2J\r\n\xff"
    assert run(cluster, NAME, "--raw", "--timestamps").exit_code == 2


def test_an_unknown_vm_is_met_with_names_like_it(cluster: Cluster) -> None:
    result = run(cluster, "wep")
    assert isinstance(result.exception, PvcError)
    assert "web" in str(result.exception)


def test_a_vm_that_published_nothing_is_said_to_have_not(cluster: Cluster) -> None:
    result = run(cluster, NAME)
    assert result.exit_code == 1
    assert "serial console" in result.stderr


def test_the_log_of_a_dead_node_is_readable_and_says_so(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"last words\n")
    cluster.nodes["hv1"].die()
    result = run(cluster, NAME)
    assert result.stdout == "last words\n"
    assert "node hv1, which wrote this log, is down; last entry 20" in result.stderr


@pytest.mark.parametrize(("value", "command"), [("", ["less", "-R"]), ("more -d", ["more", "-d"])])
def test_the_pager_is_the_one_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str, command: list[str]
) -> None:
    monkeypatch.setenv("PAGER", value)
    assert pager() == command


def test_a_pager_that_is_no_command_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "less 'open")
    with pytest.raises(PvcError, match="PAGER"):
        pager()
