"""While rules are replaced, again and again, by the way that the daemon takes: nothing that they block gets through."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvc.core.process import Running
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.firewall.decide.transaction import EMPTY, rebuilding
from pvc.plugins.networking.firewall.enforcement import Firewall
from pvc.plugins.networking.firewall.nftables import NftProgram
from pvc.plugins.networking.firewall.packetfilter import Abilities, Ruleset
from pvc.plugins.networking.firewall.rules import Acl, Action, PortRange, Protocol, Rule, Side
from pvc.plugins.networking.firewall.wanted import MANAGED, FilteredNetwork, Wanted
from tests.contract.guests import RUN, Lan
from tests.contract.nftlibrary import nft_library

pytestmark = pytest.mark.lab

REPLACED = 2000
PINGER = """
import select, signal, socket, struct, sys
target, ended = sys.argv[1], []
signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
pinger.setblocking(False)
sent = came = number = 0
print("ready", flush=True)
while not ended:
    number = (number + 1) % 65536
    head = struct.pack("!BBHHH", 8, 0, 0, 7, number)
    total = 0x800 + 7 + number
    pinger.sendto(head[:2] + struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF) + head[4:], (target, 0))
    sent += 1
    while select.select([pinger], [], [], 0.0002)[0]:
        came += pinger.recv(2048)[20] == 0
print(sent, came)
"""
"""Sends an echo every 0.2 ms and counts what is answered."""


@pytest.fixture
def lan() -> Iterator[Lan]:
    lan = Lan()
    try:
        lan.meet()
        yield lan
    finally:
        lan.close()


class Pinger:
    """Pings `b` from `a` until it is asked what came of it."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self._said = directory / "pinger"
        command = ["ip", "netns", "exec", lan.a.namespace, sys.executable, "-c", PINGER, lan.b.v4]
        self._running: Running = RUN.start(command, output=self._said)
        clock = ThreadRuntime()
        deadline = clock.monotonic() + 30
        while "ready" not in self._said.read_text():
            assert clock.monotonic() < deadline and self._running.poll() is None, self._said.read_text()
            clock.sleep(0.01)

    def counted(self) -> tuple[int, int]:
        """Echoes sent, and answered."""
        self.close()
        sent, came = self._said.read_text().split()[-2:]
        return int(sent), int(came)

    def close(self) -> None:
        self._running.signal(signal.SIGTERM)
        assert self._running.wait(30) == 0


@contextmanager
def pinging(lan: Lan, directory: Path) -> Iterator[Pinger]:
    pinger = Pinger(lan, directory)
    try:
        yield pinger
    finally:
        pinger.close()


class Quick(NftProgram):
    """Is asked for its abilities in vain: that takes far longer than the change, of which it is no part."""

    def abilities(self) -> Abilities:
        return Abilities()


def kinds(lan: Lan) -> list[Wanted]:
    """Rulesets that have in common only that `b` gets no ping of `a`: by address, by protocol, by the default."""
    block = Rule(Action.DROP, source=("10.7.0.0/30", "10.8.0.0/16"))
    web = Rule(Action.ACCEPT, Protocol.TCP, ports=(PortRange(80, 90),))
    sides = [Side(rules=(block, web)), Side(rules=(Rule(Action.DROP, Protocol.ICMP),)), Side(Action.DROP, (web,))]
    ports = [(lan.b.port,), (lan.b.port, lan.c.port)]
    return [
        Wanted((FilteredNetwork("net1", "br1", some, Acl(side), MANAGED, True),), fenced="pvt")
        for some in ports
        for side in sides
    ]


def replace_again_and_again(kernel: NftProgram, wanted: list[Wanted], times: int) -> None:
    firewall = Firewall(kernel)
    for number in range(times):
        firewall.settle(wanted[number % len(wanted)])
        assert firewall.in_force


def test_no_ping_to_a_blocked_address_gets_through_while_rules_are_replaced(lan: Lan, tmp_path: Path) -> None:
    with nft_library(lan.host) as library:
        kernel, wanted = Quick(library), kinds(lan)
        replace_again_and_again(kernel, wanted, 1)
        assert not lan.pings(lan.a, lan.b)
        with pinging(lan, tmp_path) as pinger:
            replace_again_and_again(kernel, wanted, REPLACED)
            sent, came = pinger.counted()
    assert sent > REPLACED, "pings went while rules were replaced"
    assert came == 0


class Careless(Quick):
    """Takes the table away, and then makes it anew: what nobody must do."""

    def apply(self, ruleset: Ruleset) -> None:
        for text in (EMPTY, rebuilding(ruleset)):
            assert self._nft("-f", "-", stdin=text).code == 0


def test_pings_would_tell_if_rules_were_taken_away_before_the_next_come(lan: Lan, tmp_path: Path) -> None:
    with nft_library(lan.host) as library:
        kernel, wanted = Careless(library), kinds(lan)
        replace_again_and_again(kernel, wanted, 1)
        assert not lan.pings(lan.a, lan.b)
        with pinging(lan, tmp_path) as pinger:
            replace_again_and_again(kernel, wanted, 300)
            assert pinger.counted()[1] > 0
