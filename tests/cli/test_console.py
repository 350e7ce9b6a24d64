"""`pvc vm log` and `pvc console` as commands on a simulated cluster, whose VMs' logs are written by hand."""

import json

import pytest

from pvc.core import keys as core_keys
from pvc.core.coordination import Put
from pvc.plugins.consolelog.decide.bounds import Limits
from pvc.plugins.consolelog.ring import Content, Event, Marker, Text
from pvc.plugins.consolelog.writer import Writer
from tests.cli.conftest import Keyboard, Said

QUICK = 15.0
"""Simulated seconds: longer than a session and than a prompt waits, far shorter than the pauses of slow looks."""


class Console:
    """The consoles of the cluster's VMs: vm1 and vm4 are on hv1, vm2 and vm5 on hv2, vm3 and vm6 on hv3."""

    def __init__(self, keyboard: Keyboard) -> None:
        self._keyboard = keyboard
        self._writers: dict[str, Writer] = {}

    def publish(self, name: str, *contents: Content) -> None:
        cluster = self._keyboard.cluster
        vm = cluster.vm(name)
        if name not in self._writers:
            self._writers[name] = Writer(cluster.client, cluster.client_process, vm.uuid, Limits(1000, 1 << 18))
            self._writers[name].load()
        self._writers[name].write(contents, writer=vm.node, closed=False, files={})

    def say(self, name: str, text: str) -> None:
        self.publish(name, Text(text.encode()))

    def expect(self, said: Said, text: str, *, err: bool = False) -> None:
        """Let time pass until a running command has said something."""
        ok = self._keyboard.cluster.run_until(lambda: text in (said.err if err else said.out), QUICK)
        assert ok, f"{text!r} has not been said: {said}"


@pytest.fixture
def console(keyboard: Keyboard) -> Console:
    return Console(keyboard)


def test_several_vms_are_followed_line_by_line_with_their_names(keyboard: Keyboard, console: Console) -> None:
    console.say("vm1", "old\n")
    said = keyboard.begin("vm", "log", "-f", "vm1", "vm2")
    console.expect(said, "vm1 | old\n")
    assert "vm2 has no serial console" in said.err and "waiting for it" in said.err
    console.say("vm1", "a ")
    keyboard.cluster.run(0.5)
    console.say("vm2", "hello\n")
    console.expect(said, "vm2 | hello\n")
    console.say("vm1", "line\n")
    console.expect(said, "vm1 | a line\n")
    keyboard.interrupt(said)
    assert said.code == 130
    assert said.out == "vm1 | old\nvm2 | hello\nvm1 | a line\n"
    assert "Aborted" not in said.err


def test_a_prompt_among_several_vms_appears_although_nothing_else_happens(keyboard: Keyboard, console: Console) -> None:
    said = keyboard.begin("vm", "log", "-f", "vm1", "vm2")
    keyboard.cluster.run(1.0)
    console.say("vm1", "login: ")
    console.expect(said, "vm1 | login: ")
    keyboard.interrupt(said)


def test_a_node_is_followed_as_vms_come_and_go(keyboard: Keyboard, console: Console) -> None:
    console.say("vm1", "one\n")
    said = keyboard.begin("vm", "log", "-f", "--node", "hv1")
    console.expect(said, "vm1 | one\n")
    assert keyboard.type("vm", "move", "vm2", "hv1").code == 0
    console.publish("vm2", Marker(Event.MOVED, "hv2", "hv1"), Text(b"two\n"))
    console.expect(said, "vm2 | two\n")
    assert "vm2: moved from hv2 to hv1" in said.err
    assert keyboard.type("vm", "migrate", "vm1", "hv3").code == 0
    console.publish("vm1", Text(b"last\n"), Marker(Event.MOVED, "hv1", "hv3"), Text(b"elsewhere\n"))
    console.expect(said, "vm1: moved from hv1 to hv3", err=True)
    keyboard.interrupt(said)
    assert said.out == "vm1 | one\nvm2 | two\nvm1 | last\n"
    assert keyboard.type("vm", "log", "--node", "hv1").out == "vm2 | two\n"


def test_a_follower_that_loses_the_cluster_says_so_and_goes_on_where_it_was(
    keyboard: Keyboard, console: Console
) -> None:
    console.say("vm1", "before\n")
    said = keyboard.begin("vm", "log", "-f", "vm1")
    console.expect(said, "before\n")
    ensemble = keyboard.cluster.ensemble
    ensemble.stop()
    console.expect(said, "--- no connection to the cluster; waiting for it ---", err=True)
    keyboard.cluster.run(300.0)
    ensemble.start()
    keyboard.cluster.run(5.0)
    console.say("vm1", "after\n")
    console.expect(said, "after\n")
    keyboard.interrupt(said)
    assert said.out == "before\nafter\n"
    assert said.err.count("no connection") == said.err.count("connected to the cluster again") == 1


def test_a_follower_learns_that_the_node_has_died_and_how_old_the_last_line_is(
    keyboard: Keyboard, console: Console
) -> None:
    console.say("vm1", "last words\n")
    said = keyboard.begin("vm", "log", "-f", "vm1")
    console.expect(said, "last words\n")
    keyboard.cluster.run(200.0)
    keyboard.cluster.power_off("hv1")
    console.expect(said, "node hv1, which writes this log, does not answer; last output 3 min ago", err=True)
    keyboard.interrupt(said)
    said = keyboard.type("vm", "log", "vm1")
    assert said.out == "last words\n" and "does not answer; last output 3 min ago" in said.err


def test_following_with_grep_begins_with_the_last_lines_that_match(keyboard: Keyboard, console: Console) -> None:
    console.say("vm1", "".join(f"{'odd' if n % 2 else 'even'} {n}\n" for n in range(40)))
    said = keyboard.begin("vm", "log", "-f", "-n", "2", "--grep", "odd", "vm1")
    console.expect(said, "odd 39\n")
    console.say("vm1", "even 40\nodd 41\n")
    console.expect(said, "odd 41\n")
    keyboard.interrupt(said)
    assert said.out == "odd 37\nodd 39\nodd 41\n"


def test_following_in_json_lines_shows_a_prompt_at_once(keyboard: Keyboard, console: Console) -> None:
    console.publish("vm1", Marker(Event.STARTED, "hv1"), Text(b"boot\nlogin: "))
    said = keyboard.begin("vm", "log", "-f", "--format", "jsonl", "vm1")
    console.expect(said, "login")
    keyboard.interrupt(said)
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["kind"] for row in rows] == ["marker", "text", "text"]
    assert rows[-1] == {"vm": "vm1", "at": rows[-1]["at"], "offset": 5, "kind": "text", "text": "login: "}


def test_a_page_of_a_node_is_in_the_order_of_publication(keyboard: Keyboard, console: Console) -> None:
    for number in range(3):
        for name in ("vm4", "vm1"):
            console.say(name, f"{number}\n")
            keyboard.cluster.run(1.0)
    said = keyboard.type("vm", "log", "--node", "hv1")
    assert said.out == "".join(f"vm4 | {n}\nvm1 | {n}\n" for n in range(3))


def test_following_ends_when_the_vm_is_undefined(keyboard: Keyboard, console: Console) -> None:
    console.say("vm1", "one\n")
    said = keyboard.begin("vm", "log", "-f", "vm1")
    console.expect(said, "one\n")
    assert keyboard.type("vm", "undefine", "vm1", "--yes").code == 0
    assert keyboard.cluster.run_until(lambda: said.code is not None, 60.0)
    assert said.code == 0 and "no longer defined" in said.err


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("vm", "log", "vm9"), 1, "there is no VM 'vm9'; did you mean vm6 or vm5 or vm4?"),
        (("vm", "log", "--node", "hv9"), 1, "there is no node 'hv9'; did you mean hv3"),
        (("vm", "log", "vm1"), 1, "vm1 has no serial console: add <serial type='pty'/>"),
        (("vm", "log", "vm1", "--since", "soon"), 2, "'soon' is no point in time"),
        (("vm", "log", "vm1", "--grep", "*"), 2, "'*' is no regular expression: nothing to repeat"),
        (("vm", "log"), 2, "say whose log"),
        (("console", "vm9"), 1, "there is no VM 'vm9'"),
        (("console", "vm1"), 1, "vm1 has no serial console"),
    ],
)
def test_bad_input_is_a_clear_error(keyboard: Keyboard, words: tuple[str, ...], code: int, why: str) -> None:
    said = keyboard.type(*words)
    assert (said.code, said.out) == (code, "")
    assert why in said.err


def test_a_console_needs_a_terminal(keyboard: Keyboard) -> None:
    path = core_keys.vm_xml(keyboard.cluster.vm("vm1").uuid)
    keyboard.cluster.client.commit([Put(path, b"<domain><devices><serial type='pty'/></devices></domain>")])
    said = keyboard.type("console", "vm1")
    assert said.code == 1 and "a console needs a terminal; to read only, use `pvc vm log -f vm1`" in said.err


def test_the_console_of_a_stopped_vm_is_refused(keyboard: Keyboard) -> None:
    path = core_keys.vm_xml(keyboard.cluster.vm("vm1").uuid)
    assert keyboard.type("vm", "stop", "vm1", "--yes").code == 0
    keyboard.cluster.client.commit([Put(path, b"<domain><devices><console type='pty'/></devices></domain>")])
    said = keyboard.type("console", "vm1")
    assert said.code == 1 and "vm1 does not run: it is stopped; start it with `pvc vm start vm1`" in said.err
