"""Commands that are made only when they are asked for."""

import logging
import sys

import pytest
from typer.testing import CliRunner

from pvc.cli.application import Application
from pvc.cli.groups import Group
from pvc.cli.main import build
from pvc.core.commands import DuplicateCommand
from pvc.core.config.document import Document
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins
from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime


@pytest.fixture
def application() -> Application:
    return Application(ThreadRuntime(), Document(), Plugins(logging.getLogger()))


def test_a_command_is_made_when_it_is_asked_for_and_not_before(application: Application) -> None:
    made = []
    group = application.group("door", help="Doors.")

    def add() -> None:
        made.append("open")

        @group.command("open")
        def open_it() -> None:
            """Open a door."""
            application.say("it is open")

    group.later(("open",), add)
    group.command("shut")(lambda: application.say("it is shut"))
    assert "Doors." in CliRunner().invoke(application.app, ["--help"]).output
    assert "it is shut" in CliRunner().invoke(application.app, ["door", "shut"]).output
    assert made == []
    assert "it is open" in CliRunner().invoke(application.app, ["door", "open"]).output
    assert "Open a door." in CliRunner().invoke(application.app, ["door", "--help"]).output
    assert made == ["open"]


def test_a_name_that_was_announced_is_taken(application: Application) -> None:
    application.group("door").later(("open",), lambda: None)
    with pytest.raises(DuplicateCommand, match="pvc door open"):
        application.group("door").later(("open",), lambda: None)
    with pytest.raises(DuplicateCommand, match="pvc door open"):
        application.group("door").command("open")


def test_a_command_that_cannot_be_made_says_so_and_hides_no_other(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ImportError("no module named hinge")

    group = application.group("door")
    group.later(("open",), fails)
    group.later(("slam",), lambda: None)
    group.command("shut")(lambda: None)
    asked = CliRunner().invoke(application.app, ["door", "open"])
    assert isinstance(asked.exception, PvcError) and "`pvc door open` cannot be made" in str(asked.exception)
    forgotten = CliRunner().invoke(application.app, ["door", "slam"])
    assert "was announced but not added" in str(forgotten.exception)
    listed = CliRunner().invoke(application.app, ["door", "--help"])
    assert listed.exit_code == 0 and "shut" in listed.output
    assert "no module named hinge" in caplog.text


def test_a_plugin_that_exits_while_its_command_is_made_takes_no_other_command_away(application: Application) -> None:
    def exits() -> None:
        print("leaving")
        raise SystemExit(4)

    application.group("").later(("open",), exits)
    application.group("door").command("shut")(lambda: None)
    listed = CliRunner()
    done = listed.invoke(application.app, ["--help"])
    assert done.exit_code == 0 and "door" in done.stdout and "leaving" not in done.stdout
    asked = listed.invoke(application.app, ["open"])
    assert isinstance(asked.exception, PvcError) and "cannot be made: SystemExit(4)" in str(asked.exception)


def test_who_is_late_with_a_name_that_is_taken_is_named() -> None:
    claimants = iter(["plugin oak", "plugin elm", "plugin ash"])
    group = Group("door", lambda _format: None, lambda: next(claimants))

    def add() -> None:
        group.command("open")(lambda: None)
        group.command("shut")(lambda: None)

    group.command("shut")(lambda: None)
    group.later(("open",), add)
    with pytest.raises(PvcError, match="plugin oak and plugin elm want the command `pvc door shut`"):
        group.make("open")


def test_every_command_that_is_announced_is_added_and_its_short_help_is_its_own() -> None:
    application = build("/dev/null")
    announced = CliRunner().invoke(application.app, ["--help"]).output
    application.whole()
    assert CliRunner().invoke(application.app, ["--help"]).output == announced


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], {"kazoo", "rich", "cerberus", "pvc.cli.operation", "pvc.plugins.hypervisor.cli", "pvc.lab.cli"}),
        (["node", "list", "--help"], {"rich", "pvc.cli.operation", "pvc.plugins.consolelog.cli", "pvc.lab.cli"}),
        (["vm", "list", "--help"], {"rich", "pvc.plugins.consolelog.cli", "pvc.plugins.hypervisor.libvirt"}),
    ],
)
def test_a_command_imports_what_it_needs_and_not_what_others_need(words: list[str], unwanted: set[str]) -> None:
    program = (
        "import sys\nfrom pvc.cli.main import main\ntry:\n    main()\n"
        f"finally:\n    print(sorted({unwanted!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = SystemProcesses().run([sys.executable, "-c", program, *words], timeout=60, env={"PVC_CONFIG": ""})
    assert done.stderr.strip() == "[]", done
