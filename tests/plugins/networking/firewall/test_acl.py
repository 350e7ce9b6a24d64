"""The record of a network's rules, and `pvc network acl` on it."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from typer.testing import CliRunner

from pvc.cli.application import Application
from pvc.core.config.document import Document
from pvc.core.coordination import Create, Put
from pvc.core.errors import PvcError
from pvc.core.plugins import Plugins
from pvc.core.records import Garbage, decode, encode
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.firewall import keys
from pvc.plugins.networking.firewall.acl import Contended, NoSuchNetwork, change_acl, read_acl
from pvc.plugins.networking.firewall.cli import COMMANDS, GROUP, add_commands
from pvc.plugins.networking.firewall.decide.order import with_default, with_set
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, PortRange, Protocol, Rule, Side
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble

FULL = Acl(
    Side(Action.DROP, (Rule(Action.ACCEPT, Protocol.TCP, ("10.0.0.0/8", "@web"), ports=(PortRange(22, 22),)),)),
    Side(rules=(Rule(Action.REJECT, Protocol.ICMPV6, comment="no"),)),
    {"web": ("10.0.0.1",)},
)


@pytest.fixture
def coordinator() -> Iterator[FakeCoordinator]:
    ensemble = FakeEnsemble(ThreadRuntime())
    made = ensemble.connect("test")
    made.commit([Create("/networks"), Create("/networks/net1")])
    yield made
    ensemble.close()


def test_a_record_is_read_as_it_was_written() -> None:
    assert decode(Acl, encode(FULL), "x") == FULL
    assert decode(Acl, b"{}", "x") == Acl()


def test_rules_are_made_at_the_first_change_and_changed_after(coordinator: FakeCoordinator) -> None:
    assert read_acl(coordinator, "net1") == Acl()
    answer = change_acl(coordinator, "net1", lambda acl: (with_set(acl, "web", ("10.0.0.1",)), "done"))
    change_acl(coordinator, "net1", lambda acl: (with_default(acl, Direction.IN, Action.DROP), None))
    assert answer == "done"
    assert read_acl(coordinator, "net1") == Acl(Side(Action.DROP), sets={"web": ("10.0.0.1",)})


@pytest.mark.parametrize("name", ["net2", "", "..", "net1/acl", "a/../net1"])
def test_a_network_that_there_is_not_has_no_rules_to_change(coordinator: FakeCoordinator, name: str) -> None:
    with pytest.raises(NoSuchNetwork, match="create it first"):
        change_acl(coordinator, name, lambda acl: (acl, None))


def test_a_change_that_others_have_overtaken_is_made_of_what_they_wrote(coordinator: FakeCoordinator) -> None:
    seen: list[Acl] = []

    def change(acl: Acl) -> tuple[Acl, None]:
        seen.append(acl)
        if len(seen) < 3:  # the first attempt creates the record, the second replaces it
            other = encode(with_set(acl, f"other{len(seen)}", ()))
            path = keys.acl("net1")
            coordinator.commit([Create(path, other) if len(seen) == 1 else Put(path, other)])
        return with_default(acl, Direction.OUT, Action.DROP), None

    change_acl(coordinator, "net1", change)
    assert read_acl(coordinator, "net1") == Acl(outgoing=Side(Action.DROP), sets={"other1": (), "other2": ()})


def test_a_change_that_is_always_overtaken_gives_up(coordinator: FakeCoordinator) -> None:
    def change(acl: Acl) -> tuple[Acl, None]:
        znode = coordinator.get(keys.acl("net1"))
        data = encode(acl)
        coordinator.commit([Put(keys.acl("net1"), data) if znode else Create(keys.acl("net1"), data)])
        return acl, None

    with pytest.raises(Contended, match="try again"):
        change_acl(coordinator, "net1", change)


def test_a_record_that_is_none_is_left_alone(coordinator: FakeCoordinator) -> None:
    coordinator.commit([Create(keys.acl("net1"), b'{"incoming": {"default": "maybe"}}')])
    with pytest.raises(Garbage, match="maybe"):
        change_acl(coordinator, "net1", lambda acl: (acl, None))


@dataclass
class Keyboard:
    """Types `pvc network acl ...`."""

    application: Application

    def type(self, *words: str) -> str:
        done = CliRunner().invoke(self.application.app, ["network", "acl", *words])
        if isinstance(done.exception, PvcError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture
def keyboard(coordinator: FakeCoordinator) -> Keyboard:
    application = Application(
        ThreadRuntime(), Document(), Plugins(logging.getLogger()), connect=lambda config: coordinator
    )
    application.group("network", help="Networks.")
    application.group(GROUP, help="Rules.").later(COMMANDS, partial(add_commands, application))
    return Keyboard(application)


def rows(keyboard: Keyboard, *words: str) -> list[tuple[object, ...]]:
    found = json.loads(keyboard.type("list", "net1", *words, "--format", "json"))
    return [(row["direction"], row["number"], row["action"], row.get("comment")) for row in found]


def test_rules_are_added_moved_removed_and_listed(keyboard: Keyboard, coordinator: FakeCoordinator) -> None:
    said = keyboard.type(
        *("add", "net1", "in", "--action", "accept", "--protocol", "tcp", "--ports", "22,80-90"),
        *("--from", "10.0.0.0/8", "--comment", "first"),
    )
    assert said == "rule 1 of in of net1 is added\n"
    keyboard.type("add", "net1", "in", "--action", "drop", "--comment", "second")
    assert "rule 1" in keyboard.type("add", "net1", "in", "--action", "drop", "--at", "1", "--comment", "head")
    keyboard.type("default", "net1", "out", "drop")
    head, first, second = (
        ("in", 1, "drop", "head"),
        ("in", 2, "accept", "first"),
        ("in", 3, "drop", "second"),
    )
    defaults = [("in", None, "accept", "default"), ("out", None, "drop", "default")]
    assert rows(keyboard) == [head, first, second, *defaults]
    assert rows(keyboard, "out") == defaults[1:]
    keyboard.type("move", "net1", "in", "1", "3")
    assert [row[3] for row in rows(keyboard, "in")] == ["first", "second", "head", "default"]
    said = keyboard.type("remove", "net1", "in", "1")
    assert said == "removed from in of net1: accept tcp from 10.0.0.0/8 ports 22,80-90 (first)\n"
    assert [row[3] for row in rows(keyboard, "in")] == ["second", "head", "default"]
    assert "second" in keyboard.type("list", "net1")


def test_sets_are_made_used_and_removed(keyboard: Keyboard, coordinator: FakeCoordinator) -> None:
    assert keyboard.type("set", "net1", "web", "10.0.0.1", "fd00::/8") == "set @web of net1: 10.0.0.1, fd00::/8\n"
    keyboard.type("add", "net1", "out", "--action", "drop", "--to", "@web")
    with pytest.raises(PvcError, match="used by out 1"):
        keyboard.type("set", "net1", "web", "--delete")
    keyboard.type("remove", "net1", "out", "1")
    assert keyboard.type("set", "net1", "web", "--delete") == "set @web of net1: removed\n"
    assert read_acl(coordinator, "net1") == Acl()


def test_what_is_refused_is_not_stored(keyboard: Keyboard, coordinator: FakeCoordinator) -> None:
    for words in (
        ["add", "net1", "in", "--action", "accept", "--from", "10.0.0.1/8"],
        ["add", "net1", "in", "--action", "accept", "--at", "2"],
        ["add", "net1", "in", "--action", "accept", "--from", "@web"],
        ["remove", "net1", "in", "1"],
        ["default", "net1", "in", "reject"],
        ["list", "net2"],
    ):
        with pytest.raises(PvcError):
            keyboard.type(*words)
    assert coordinator.get(keys.acl("net1")) is None


def test_every_command_that_is_announced_is_added(keyboard: Keyboard) -> None:
    keyboard.application.whole()
    shown = CliRunner().invoke(keyboard.application.app, ["network", "acl", "--help"]).output
    assert all(command in shown for command in COMMANDS)
    assert "acl" in CliRunner().invoke(keyboard.application.app, ["network", "--help"]).output
