"""`pvc vm log` and `pvc console`, run like any command but on a fake cluster."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import typer
from typer.testing import CliRunner

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Create, Put
from pvc.core.errors import PvcError
from pvc.core.model import ActualState, Node, Vm, VmActual, VmState
from pvc.core.records import encode
from pvc.plugins.consolelog.cli import add_console, add_log, pager
from pvc.plugins.consolelog.console import uri_of
from tests.plugins.consolelog.world import NAME, UUID, Cluster

SERIAL = b"<domain><devices><serial type='pty'/></devices></domain>"


class Line:
    """As much of a CommandLine as the commands need."""

    def __init__(self, cluster: Cluster) -> None:
        self.app = typer.Typer()
        self.app.callback()(lambda: None)
        self.runtime = cluster.runtime
        self._coordinator = cluster.ensemble.connect("cli")

    def group(self, name: str, help: str = "") -> "Line":
        assert name in ("vm", "")
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

    def complete_below(self, path: str, incomplete: str) -> list[str]:
        return []

    def complete_vms(self, incomplete: str) -> list[str]:
        return []

    def complete_nodes(self, incomplete: str) -> list[str]:
        return []


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    vm = Vm(UUID, NAME, VmState.RUNNING, "hv1", 64, 1)
    made.admin.commit(
        [
            Put(core_keys.vm(UUID), encode(vm)),
            Create(core_keys.vm_xml(UUID), SERIAL),
            Create("/names"),
            Create("/names/web", UUID.encode()),
            Put("/nodes/hv1", encode(Node("hv1", plugins=("consolelog",)))),
            Put("/nodes/hv2", encode(Node("hv2", roles=("hypervisor",)))),
            Create(core_keys.node_vms("hv1")),
            Create(core_keys.node_vm("hv1", UUID)),
        ]
    )
    return made


def run(cluster: Cluster, *arguments: str, command: str = "log") -> Any:
    line: Any = Line(cluster)
    add_log(line)
    add_console(line)
    return CliRunner().invoke(line.app, [command, *arguments])


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


def test_lines_that_match_can_be_chosen_and_are_what_is_counted(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"".join(b"line %d\n" % number for number in range(30)) + b"end\nline")
    assert run(cluster, NAME, "--grep", "line 1", "-n", "2").stdout == "line 18\nline 19\n"
    assert run(cluster, NAME, "--grep", "(?i)END|e$").stdout == "end\nline"
    assert run(cluster, NAME, "--grep", "nothing").stdout == ""


def test_only_what_came_since_is_shown_with_the_beginning_of_its_line(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"old\nolder prompt: ")
    cluster.steps(120.0, 1.0)
    say(cluster, b"answer\nnew\n")
    assert run(cluster, NAME, "--since", "1m").stdout == "older prompt: answer\nnew\n"
    assert run(cluster, NAME, "--since", "1m", "-n", "1").stdout == "new\n"
    assert run(cluster, NAME, "--since", "1h").stdout == "old\nolder prompt: answer\nnew\n"
    assert run(cluster, NAME, "--since", "0s").stdout == ""


def test_since_is_not_limited_to_the_usual_number_of_lines(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"".join(b"%d\n" % number for number in range(1001)))
    assert len(run(cluster, NAME, "--since", "1h").stdout.splitlines()) == 1001
    assert len(run(cluster, NAME).stdout.splitlines()) == 1000


def test_raw_passes_every_byte(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"\x1b[2J\r\n\xff")
    assert run(cluster, NAME, "--raw").stdout_bytes == b"\x1b[2J\r\n\xff"


def test_json_lines_can_be_read_by_programs(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"\x1b[2Jone\ntwo")
    rows = [json.loads(line) for line in run(cluster, NAME, "--format", "jsonl").stdout.splitlines()]
    assert [(row["kind"], row["vm"], row["offset"]) for row in rows] == [
        ("marker", "web", 0),
        ("text", "web", 0),
        ("text", "web", 8),
    ]
    assert [row["text"] for row in rows[1:]] == ["^[[2Jone\n", "two"]
    assert json.loads(run(cluster, NAME, "--format", "jsonl", "--raw", "-n", "1").stdout)["text"] == "two"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "say whose log"),
        ((NAME, "--raw", "--timestamps"), "choose one"),
        ((NAME, "--raw", "--grep", "x"), "choose one"),
        (("--node", "hv1", "--raw"), "--format jsonl"),
        ((NAME, "db", "--raw"), "--format jsonl"),
        ((NAME, "--timestamps", "--format", "jsonl"), "leave --timestamps out"),
        ((NAME, "--since", "lately"), "'lately' is no point in time; write how long ago, such as 10m"),
        ((NAME, "--since", "3000-01-01"), "lies in the future"),
        ((NAME, "--grep", "(open"), "'(open' is no regular expression: missing )"),
        ((NAME, "--grep", "[[:alpha:]]"), "is no regular expression: Possible nested set"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_is_read(
    cluster: Cluster, arguments: tuple[str, ...], why: str
) -> None:
    result = run(cluster, *arguments)
    assert result.exit_code == 2
    assert why in result.stderr and result.stdout == ""


def test_an_unknown_vm_is_met_with_names_like_it(cluster: Cluster) -> None:
    for command in ("log", "console"):
        result = run(cluster, "wep", command=command)
        assert isinstance(result.exception, PvcError)
        assert "web" in str(result.exception)


def test_an_unknown_node_is_met_with_names_like_it(cluster: Cluster) -> None:
    result = run(cluster, "--node", "hv")
    assert isinstance(result.exception, PvcError)
    assert "hv1" in str(result.exception)


@pytest.mark.parametrize(
    ("xml", "actual", "plugins", "why"),
    [
        (b"<domain/>", None, ("consolelog",), "no serial console: add <serial type='pty'/> to the <devices>"),
        (SERIAL, None, ("consolelog",), "it does not run; start it with `pvc vm start web`"),
        (SERIAL, "hv1", (), "the plugin consolelog is not on on hv1"),
        (SERIAL, "hv1", ("consolelog",), "restarted with `pvc vm restart web`"),
        (b"<domain", "hv1", ("consolelog",), "the VM's XML cannot be read"),
    ],
)
def test_a_vm_that_published_nothing_is_met_with_the_cause(
    cluster: Cluster, xml: bytes, actual: str | None, plugins: tuple[str, ...], why: str
) -> None:
    state = ActualState.RUNNING if actual else ActualState.STOPPED
    cluster.admin.commit(
        [
            Put(core_keys.vm_xml(UUID), xml),
            Put(core_keys.vm_actual(UUID), encode(VmActual(state, actual))),
            Put("/nodes/hv1", encode(Node("hv1", plugins=plugins))),
        ]
    )
    result = run(cluster, NAME)
    assert result.exit_code == 1
    assert why in result.stderr


def test_how_old_the_last_output_is_is_said(cluster: Cluster) -> None:
    cluster.start("hv1")
    cluster.steps(1.0)
    assert "it holds no output" in run(cluster, NAME).stderr
    say(cluster, b"last words\n")
    cluster.steps(190.0, 1.0)
    for arguments in ((), ("-n", "0"), ("--grep", "nothing"), ("--since", "1s")):
        assert "--- last output 3 min ago, at 20" in run(cluster, NAME, *arguments).stderr


def test_the_log_of_a_dead_node_is_readable_and_says_so(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"last words\n")
    cluster.nodes["hv1"].die()
    result = run(cluster, NAME)
    assert result.stdout == "last words\n"
    assert "node hv1, which writes this log, does not answer; last output 0 s ago, at 20" in result.stderr


def test_nothing_is_missing_from_a_vm_that_was_stopped_before_its_node_died(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"last words\n")
    cluster.stop()
    cluster.steps(2.0)
    cluster.nodes["hv1"].die()
    assert "does not answer" not in run(cluster, NAME).stderr


def test_the_log_of_a_node_has_the_names_of_its_vms(cluster: Cluster) -> None:
    cluster.start("hv1")
    say(cluster, b"one\n")
    assert run(cluster, "--node", "hv1").stdout == "web | one\n"
    assert "no VM on hv2 has a log" in run(cluster, "--node", "hv2").stderr


def test_a_vm_without_a_log_does_not_hide_those_of_others(cluster: Cluster) -> None:
    other = "22222222-2222-3333-4444-555555555555"
    vm = Vm(other, "db", VmState.STOPPED, "hv1", 64, 1)
    cluster.admin.commit(
        [
            Create(core_keys.vm(other), encode(vm)),
            Create(core_keys.vm_xml(other), b"<domain/>"),
            Create("/names/db", other.encode()),
        ]
    )
    cluster.start("hv1")
    say(cluster, b"one\n")
    result = run(cluster, NAME, "db")
    assert (result.exit_code, result.stdout) == (0, "web | one\n")
    assert "db has no serial console" in result.stderr


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


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("10.0.0.1", "qemu+ssh://10.0.0.1/system"),
        ("fd00::1", "qemu+ssh://[fd00::1]/system"),
        ("", "qemu+ssh://hv1/system"),
    ],
)
def test_the_console_is_reached_at_the_address_of_the_node(address: str, uri: str) -> None:
    assert uri_of("qemu+ssh://{address}/system", Node("hv1", address=address)) == uri


@pytest.mark.parametrize("state", [ActualState.FAILED, ActualState.DEPARTED, ActualState.ASTRAY])
def test_a_node_that_holds_the_lease_but_not_the_vm_has_no_console(cluster: Cluster, state: ActualState) -> None:
    cluster.admin.commit([Put(core_keys.vm_actual(UUID), encode(VmActual(state, "hv1")))])
    assert f"web does not run: it is {state.value}" in str(run(cluster, NAME, command="console").exception)


def test_the_console_of_a_vm_that_does_not_run_or_has_none_is_refused_with_what_to_do(cluster: Cluster) -> None:
    assert "start it with `pvc vm start web`" in str(run(cluster, NAME, command="console").exception)
    cluster.admin.commit([Put(core_keys.vm_xml(UUID), b"<domain/>")])
    assert "add <serial type='pty'/>" in str(run(cluster, NAME, command="console").exception)
