"""The program as a whole: options, configuration problems, plugins' commands, import cost."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from pvc import __version__
from pvc.cli.application import Application
from pvc.cli.main import build, main
from pvc.core.commands import DuplicateCommand
from pvc.core.config.document import Document
from pvc.core.plugins import Plugins
from pvc.core.process import Finished, SystemProcesses
from pvc.core.threads import ThreadRuntime

PVC = [sys.executable, "-c", "from pvc.cli.main import main; main()"]


def pvc(*words: str, **environment: str) -> Finished:
    """Run the program as a user does, in a process of its own."""
    return SystemProcesses().run([*PVC, *words], timeout=60, env={"PVC_CONFIG": "", **environment})


def test_a_second_command_of_one_name_is_refused() -> None:
    application = Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))
    group = application.group("vm")
    group.command("fly")(lambda: None)
    with pytest.raises(DuplicateCommand, match="pvc vm fly"):
        group.command("fly")(lambda: None)
    with pytest.raises(DuplicateCommand):
        application.group("").command("vm")(lambda: None)


def test_a_name_that_is_not_utf_8_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def application(_path: str | None) -> Application:
        made = Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))
        made.group("vm").command("start")(start)
        return made

    def start() -> None:
        "/pvc/vms/\udcff".encode()

    monkeypatch.setattr("pvc.cli.main.build", application)
    monkeypatch.setattr("sys.argv", ["pvc", "vm", "start"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "pvc: '/pvc/vms/\\udcff' is not UTF-8; write it in that\n"


def test_output_that_the_terminal_cannot_show_is_not_blamed_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def application(_path: str | None) -> Application:
        made = Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))
        made.group("vm").command("start")(lambda: print("für dich"))
        return made

    monkeypatch.setattr("pvc.cli.main.build", application)
    monkeypatch.setattr("sys.argv", ["pvc", "vm", "start"])
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    said = "pvc: cannot write '\\xfc' in ascii; set LC_ALL to a UTF-8 locale, such as C.UTF-8\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--version",), ("plugin", "list"), ("config", "show")])
def test_output_that_cannot_be_written_is_told_in_words(words: tuple[str, ...], unbuffered: str) -> None:
    command = ["sh", "-c", 'exec "$@" >/dev/full', "sh", *PVC, *words]
    done = SystemProcesses().run(command, timeout=60, env={"PVC_CONFIG": "", "PYTHONUNBUFFERED": unbuffered})
    assert done.code == 1
    assert done.stderr.endswith("pvc: cannot write: No space left on device\n") and "Traceback" not in done.stderr


def test_trouble_that_is_not_about_writing_is_not_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def application(_path: str | None) -> Application:
        made = Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))
        made.group("vm").command("start")(start)
        return made

    def start() -> None:
        Path("/proc/self/mem").read_bytes()

    monkeypatch.setattr("pvc.cli.main.build", application)
    monkeypatch.setattr("sys.argv", ["pvc", "vm", "start"])
    with pytest.raises(OSError, match="Input/output error"):
        main()


def test_the_version_needs_no_command() -> None:
    assert pvc("--version").stdout == f"pvc {__version__}\n"


def test_every_command_explains_itself() -> None:
    for words in ((), ("node",), ("vm",), ("config",), ("plugin",), ("lab",), ("cluster", "roll"), ("vm", "log")):
        done = pvc(*words, "-h")
        assert done.code == 0 and "Usage:" in done.stdout, (words, done)


def test_an_unreachable_zookeeper_is_named_with_the_seconds_that_were_tried(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("zookeeper: {hosts: ['127.0.0.1:1'], connect_timeout: 1}\n")
    done = pvc("--config", str(path), "node", "list")
    assert done.code == 1
    assert "127.0.0.1:1" in done.stderr and "within 1 s" in done.stderr and "Traceback" not in done.stderr


def test_config_check_shows_every_problem_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("node: hv1\nroles: {hypervisor: false}\nzookeper: 1\nplugins:\n  consolelog: true\n")
    done = pvc("config", "check", str(path))
    assert done.code == 1
    assert f"{path}:5: plugins.consolelog: needs roles.hypervisor, which is off" in done.stderr
    assert "did you mean 'zookeeper'?" in done.stderr


def test_config_show_is_complete_with_defaults(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("node: hv1\n")
    done = pvc("config", "show", str(path))
    assert done.code == 0
    assert "node: hv1" in done.stdout and "concurrent: 1" in done.stdout and "session_timeout" in done.stdout


def test_a_broken_file_does_not_take_the_commands_away_that_need_none(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("node: [\n")
    assert pvc("--config", str(path), "vm", "-h").code == 0
    done = pvc("--config", str(path), "vm", "list")
    assert done.code == 1 and "pvc.yaml:" in done.stderr


def test_a_feature_that_is_switched_off_has_no_commands(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("plugins: {consolelog: false, flushlock: false}\n")
    commands = [line.split()[:1] for line in pvc("--config", str(path), "vm", "-h").stdout.splitlines()]
    assert ["start"] in commands and ["log"] not in commands
    assert "queue" not in pvc("--config", str(path), "node", "-h").stdout


def test_the_client_needs_neither_libvirt_nor_inotify() -> None:
    code = (
        "import sys; from pvc.cli.main import build; build(None); "
        "print(sorted({'libvirt', 'inotify_simple', 'kazoo'} & set(sys.modules)))"
    )
    done = SystemProcesses().run([sys.executable, "-c", code], timeout=60)
    assert done.stdout.strip() == "[]", done


def test_plugin_list_shows_roles_that_are_off(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("roles: {storage: true}\n")
    done = pvc("--config", str(path), "plugin", "list", "--format", "json")
    roles = {row["name"]: row["enabled"] for row in json.loads(done.stdout) if row["kind"] == "role"}
    assert roles == {"hypervisor": True, "networking": False, "storage": True}


def test_building_the_application_names_all_commands_once() -> None:
    application = build(None)
    assert application.group("vm") is application.group("vm")
