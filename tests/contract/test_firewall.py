"""The firewall between real guests: what it keeps out, what it lets through, and what it leaves alone."""

import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.model import Severity
from pvc.plugins.networking.firewall.decide.order import with_default, with_moved, with_rule, with_set
from pvc.plugins.networking.firewall.decide.ruleset import ruleset
from pvc.plugins.networking.firewall.decide.transaction import preparation, switch
from pvc.plugins.networking.firewall.decide.typed import Typed, rule_of, set_of
from pvc.plugins.networking.firewall.enforcement import Firewall
from pvc.plugins.networking.firewall.packetfilter import Abilities
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction
from pvc.plugins.networking.firewall.wanted import MANAGED, FilteredNetwork, Protection, Wanted
from tests.contract.guests import PATIENCE, RUN, Guest, Lan, checksum, ip

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def machine() -> Iterator[Lan]:
    lan = Lan()
    try:
        lan.meet()
        yield lan
    finally:
        lan.close()


@pytest.fixture
def lan(machine: Lan) -> Iterator[Lan]:
    yield machine
    RUN.check([*machine.nft, "flush", "ruleset"], timeout=30)


def put(lan: Lan, acl: Acl, *guests: Guest, protection: Protection | None = None, dhcp: bool = False) -> None:
    """The rules hold for these guests, `b` if none is named."""
    ports = tuple(guest.port for guest in guests or (lan.b,))
    network = FilteredNetwork("net1", "br1", ports, acl, protection or Protection(), dhcp)
    found = Firewall(lan.kernel).settle(Wanted((network,)))
    assert [each.text for each in found if each.severity is Severity.CRITICAL] == []


def acl(*rules: Typed, into: str = "accept", out: str = "accept", **sets: str) -> Acl:
    made = Acl()
    for name, entries in sets.items():
        made = with_set(made, name, set_of(name, [entries]))
    made = with_default(made, Direction.IN, Action(into))
    made = with_default(made, Direction.OUT, Action(out))
    for typed in rules:
        made, _ = with_rule(made, Direction(typed.direction), rule_of(typed, made.sets), None)
    return made


def test_what_no_rule_keeps_out_passes(lan: Lan) -> None:
    for family in (4, 6):
        assert lan.udp_passes(lan.a, lan.b, 5000, family=family)
        assert lan.tcp_opens(lan.a, lan.b, 5000, family=family)
        assert lan.pings(lan.a, lan.b, family=family)


@pytest.mark.parametrize("family", [4, 6])
def test_ports_and_ranges_are_kept_out_and_nothing_beside_them(lan: Lan, family: int) -> None:
    put(lan, acl(Typed("in", "drop", "tcp", ports="22,80-90"), Typed("in", "drop", "udp", ports="53")))
    opened = {port: lan.tcp_opens(lan.a, lan.b, port, family=family) for port in (21, 22, 23, 79, 80, 85, 90, 91, 53)}
    assert opened == {21: True, 22: False, 23: True, 79: True, 80: False, 85: False, 90: False, 91: True, 53: True}
    passed = {port: lan.udp_passes(lan.a, lan.b, port, family=family) for port in (22, 52, 53, 54)}
    assert passed == {22: True, 52: True, 53: False, 54: True}
    assert lan.tcp_opens(lan.b, lan.a, 22, family=family), "what the VM itself begins is another direction"
    assert lan.tcp_opens(lan.a, lan.c, 22, family=family), "the port of another VM is not in this network"


@pytest.mark.parametrize("family", [4, 6])
def test_a_default_of_drop_lets_in_what_rules_accept_and_answers_of_tcp(lan: Lan, family: int) -> None:
    put(
        lan, acl(Typed("in", "accept", "tcp", ports="80"), Typed("in", "accept", "udp", source_ports="53"), into="drop")
    )
    assert lan.tcp_opens(lan.a, lan.b, 80, family=family)
    assert not lan.tcp_opens(lan.a, lan.b, 81, family=family)
    assert not lan.udp_passes(lan.a, lan.b, 80, family=family)
    assert not lan.pings(lan.a, lan.b, family=family)
    assert lan.tcp_opens(lan.b, lan.a, 81, family=family), "answers of TCP belong to what the VM began"


@pytest.mark.parametrize("family", [4, 6])
def test_what_a_vm_sends_is_filtered_by_itself(lan: Lan, family: int) -> None:
    put(lan, acl(Typed("out", "accept", "udp", ports="53"), out="drop"))
    assert lan.udp_passes(lan.b, lan.a, 53, family=family)
    assert not lan.udp_passes(lan.b, lan.a, 54, family=family)
    assert lan.udp_passes(lan.a, lan.b, 54, family=family)
    assert lan.tcp_opens(lan.a, lan.b, 80, family=family), "its answers belong to what was let in"
    assert not lan.tcp_opens(lan.b, lan.a, 80, family=family)


def test_icmp_of_both_families_is_told_apart(lan: Lan) -> None:
    put(lan, acl(Typed("in", "drop", "icmp")))
    assert (lan.pings(lan.a, lan.b, family=4), lan.pings(lan.a, lan.b, family=6)) == (False, True)
    put(lan, acl(Typed("in", "drop", "icmpv6")))
    assert (lan.pings(lan.a, lan.b, family=4), lan.pings(lan.a, lan.b, family=6)) == (True, False)
    put(lan, acl(into="drop"))
    assert (lan.pings(lan.a, lan.b, family=4), lan.pings(lan.a, lan.b, family=6)) == (False, False)


def test_addresses_networks_and_sets_say_who(lan: Lan) -> None:
    friends = acl(Typed("in", "accept", "udp", source="@friends"), into="drop", friends="10.7.0.1,fd07::/127")
    put(lan, friends)
    for family in (4, 6):
        assert lan.udp_passes(lan.a, lan.b, 9, family=family)
        assert not lan.udp_passes(lan.c, lan.b, 9, family=family)
    put(lan, with_set(friends, "friends", ("10.7.0.3",)))
    assert not lan.udp_passes(lan.a, lan.b, 9), "who has left a set is kept out"
    assert lan.udp_passes(lan.c, lan.b, 9)
    put(lan, with_set(friends, "friends", ()))
    assert not lan.udp_passes(lan.c, lan.b, 9), "an empty set fits nobody"
    put(lan, acl(Typed("in", "drop", source="10.7.0.0/31", destination="10.7.0.2")))
    assert not lan.udp_passes(lan.a, lan.b, 9)
    assert lan.udp_passes(lan.c, lan.b, 9)
    assert lan.udp_passes(lan.a, lan.b, 9, family=6)


def test_the_first_rule_that_fits_decides(lan: Lan) -> None:
    rules = acl(Typed("in", "accept", "udp", source="10.7.0.1"), Typed("in", "drop", "udp"))
    put(lan, rules)
    assert (lan.udp_passes(lan.a, lan.b, 9), lan.udp_passes(lan.c, lan.b, 9)) == (True, False)
    put(lan, with_moved(rules, Direction.IN, 2, 1))
    assert (lan.udp_passes(lan.a, lan.b, 9), lan.udp_passes(lan.c, lan.b, 9)) == (False, False)


def test_a_large_datagram_that_is_let_through_arrives_whole(lan: Lan) -> None:
    put(lan, acl(Typed("in", "accept", "udp", ports="9"), into="drop"))
    for family in (4, 6):
        assert lan.udp_passes(lan.a, lan.b, 9, family=family, size=4000)
        assert not lan.udp_passes(lan.a, lan.b, 10, family=family, size=4000)


def test_a_rule_that_comes_first_ends_a_connection_that_is_open(lan: Lan) -> None:
    listener = lan.kept(lan.b.open(socket.SOCK_STREAM))
    listener.bind((lan.b.v4, 81))
    listener.listen()
    caller = lan.kept(lan.a.open(socket.SOCK_STREAM))
    caller.connect_ex((lan.b.v4, 81))
    lan.beat(lan.a, lan.b)
    lan.beat(lan.b, lan.a)
    lan.beat(lan.a, lan.b)
    answerer = lan.kept(listener.accept()[0])
    answerer.setblocking(False)
    put(lan, acl(Typed("in", "accept", "icmp"), Typed("in", "drop", "tcp", ports="81")))
    caller.send(b"one")
    lan.beat(lan.a, lan.b)
    assert answerer.recv(10) == b"one", "after an accept, denials leave open connections alone"
    put(lan, acl(Typed("in", "drop", "tcp", ports="81")))
    caller.send(b"two")
    lan.beat(lan.a, lan.b)
    with pytest.raises(BlockingIOError):
        answerer.recv(10)


def test_neighbours_are_found_whatever_the_rules_say(lan: Lan) -> None:
    put(lan, acl(into="drop", out="drop"), lan.a, lan.b)
    for family, address in ((4, lan.b.v4), (6, lan.b.v6)):
        ip("-n", lan.a.namespace, "neigh", "del", address, "dev", "eth0")
        with lan.a.open(socket.SOCK_DGRAM, family) as sender:
            sender.sendto(b"x", (address, 9))
            lan.beat(lan.a, lan.b)
            lan.beat(lan.b, lan.a)
        known = RUN.check(["ip", "-n", lan.a.namespace, "neigh", "show", address], timeout=30)
        assert lan.b.port.mac in known
    lan.meet()


def frame_from(guest: Guest, target: Guest, sport: int, dport: int, *, mac: bytes | None = None) -> bytes:
    """A UDP datagram over IPv4 in a frame, from any MAC address and port."""
    udp = struct.pack("!HHHH", sport, dport, 9, 0) + b"x"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    head += socket.inet_aton(guest.v4) + socket.inet_aton(target.v4)
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return target.mac() + (mac or guest.mac()) + b"\x08\x00" + head + udp


def advertisement(guest: Guest, target: Guest, kind: int) -> bytes:
    """A router advertisement (134) or redirect (137), as far as a filter reads it."""
    body = struct.pack("!BBH", kind, 0, 0) + bytes(12)
    addresses = socket.inet_pton(socket.AF_INET6, guest.v6) + socket.inet_pton(socket.AF_INET6, target.v6)
    return (
        target.mac() + guest.mac() + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + addresses + body
    )


def frame_passes(lan: Lan, source: Guest, target: Guest, frame: bytes) -> bool:
    with target.frames() as receiver, source.frames() as sender:
        sender.send(frame)
        lan.beat(source, target)
        seen = []
        while True:
            try:
                seen.append(receiver.recv(2048))
            except BlockingIOError:
                return frame in seen


STRANGER = bytes.fromhex("525400000099")


def test_a_vm_of_a_managed_network_cannot_pass_for_another_for_a_dhcp_server_or_for_a_router(lan: Lan) -> None:
    lies = {
        "mac": frame_from(lan.b, lan.a, 9, 9, mac=STRANGER),
        "dhcp": frame_from(lan.b, lan.a, 67, 68),
        "ra": advertisement(lan.b, lan.a, 134),
        "redirect": advertisement(lan.b, lan.a, 137),
    }
    arp = lan.a.mac() + lan.b.mac() + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2)
    lies["arp"] = arp + STRANGER + socket.inet_aton(lan.a.v4) + lan.a.mac() + socket.inet_aton(lan.a.v4)
    assert all(frame_passes(lan, lan.b, lan.a, frame) for frame in lies.values())
    put(lan, acl(), lan.b, protection=MANAGED)
    assert {name: frame_passes(lan, lan.b, lan.a, frame) for name, frame in lies.items()} == dict.fromkeys(lies, False)
    assert frame_passes(lan, lan.b, lan.a, frame_from(lan.b, lan.a, 68, 67))
    assert frame_passes(lan, lan.b, lan.a, frame_from(lan.b, lan.a, 9, 9))
    assert frame_passes(lan, lan.c, lan.b, advertisement(lan.c, lan.b, 134)), "from a port that is no VM's"
    put(lan, acl(), lan.b, protection=Protection(dhcp_answers=True))
    assert {name for name, frame in lies.items() if not frame_passes(lan, lan.b, lan.a, frame)} == {"dhcp"}


def test_a_lease_can_be_asked_for_whatever_the_rules_say(lan: Lan) -> None:
    ask, answer = frame_from(lan.b, lan.a, 68, 67), frame_from(lan.a, lan.b, 67, 68)
    put(lan, acl(into="drop", out="drop"), dhcp=True)
    assert frame_passes(lan, lan.b, lan.a, ask) and frame_passes(lan, lan.a, lan.b, answer)
    put(lan, acl(into="drop", out="drop"))
    assert not frame_passes(lan, lan.b, lan.a, ask) and not frame_passes(lan, lan.a, lan.b, answer)


def test_a_port_that_no_network_names_gets_nothing_through_where_names_are_fenced(lan: Lan) -> None:
    known = FilteredNetwork("net1", "br1", (lan.a.port, lan.c.port))
    Firewall(lan.kernel).settle(Wanted((known,), fenced="tap"))
    assert lan.udp_passes(lan.a, lan.c, 9)
    assert not frame_passes_unheard(lan, lan.b, lan.a)
    Firewall(lan.kernel).settle(Wanted((known,)))
    assert lan.udp_passes(lan.b, lan.a, 9)


def frame_passes_unheard(lan: Lan, source: Guest, target: Guest) -> bool:
    """As `frame_passes`, of a guest that cannot even send the sign that follows: `c` sends it."""
    frame = frame_from(source, target, 9, 9)
    with target.frames() as receiver, source.frames() as sender:
        sender.send(frame)
        lan.beat(lan.c, target)
        seen = []
        while True:
            try:
                seen.append(receiver.recv(2048))
            except BlockingIOError:
                return frame in seen


def test_the_tables_of_others_stay_as_they_are(lan: Lan) -> None:
    theirs = ["inet theirs", "bridge theirs", "ip pvc"]
    body = "{ set s { type ipv4_addr; elements = { 1.2.3.4 }; }; chain c { ip saddr @s counter; }; }"
    text = "".join(f"table {each} {body}\n" for each in theirs)
    RUN.run([*lan.nft, "-f", "-"], timeout=30, stdin=text)

    def listed() -> list[str]:
        return [RUN.check([*lan.nft, "-a", "list", "table", *each.split()], timeout=30) for each in theirs]

    before = listed()
    put(lan, acl(into="drop"), protection=MANAGED)
    put(lan, acl(Typed("in", "drop", "tcp", ports="1")))
    assert listed() == before
    Firewall(lan.kernel).settle(Wanted())
    assert listed() == before
    assert lan.kernel.read() == ""


def test_counters_tell_what_each_rule_was_used_for(lan: Lan) -> None:
    put(lan, acl(Typed("in", "drop", "udp", ports="9"), Typed("in", "accept", "udp", ports="10")))
    lan.udp_passes(lan.a, lan.b, 9)
    for family in (4, 6):
        lan.udp_passes(lan.a, lan.b, 10, family=family)
    counts = lan.kernel.counts()
    assert (counts["net1 in 1"].packets, counts["net1 in 2"].packets) == (1, 2)
    assert counts["net1 in 1"].bytes > 0


def test_no_packet_slips_through_and_none_is_lost_while_rules_are_replaced(lan: Lan, tmp_path: Path) -> None:
    """Two rulesets that agree on the port that is open and on the one that is not, one after the other."""
    kinds = [
        acl(
            Typed("in", "drop", "udp", source="10.7.0.0/30,10.8.0.0/16", ports="9,20-30"),
            Typed("in", "accept", "udp", ports="10"),
            into=into,
        )
        for into in ("accept", "drop")
    ]
    files: list[Path] = []
    for number, rules in enumerate(kinds):
        wanted = ruleset(Wanted((FilteredNetwork(f"net{number}", "br1", (lan.b.port,), rules),)), Abilities())
        there = [("chain", name) for name in (f"always.{2 - number}", f"in-net{1 - number}.{2 - number}")]
        for text in (preparation(wanted, number + 1), switch(wanted, number + 1, there)):
            files.append(tmp_path / f"{len(files)}.nft")
            files[-1].write_text(text)
    before = "add table bridge pvc; add chain bridge pvc always.2; add chain bridge pvc in-net1.2\n"
    for text in (before, files[0].read_text(), files[1].read_text()):
        assert RUN.run([*lan.nft, "-f", "-"], timeout=30, stdin=text).code == 0
    files = [*files[2:], *files[:2]]
    script = tmp_path / "script"
    script.write_text("".join(f'include "{file}"\n' for _ in range(1000) for file in files))
    replacing = RUN.start(["sh", "-c", f"exec {' '.join(lan.nft)} -i < {script}"], output=tmp_path / "said")
    sent = arrived = 0
    with (
        lan.a.open(socket.SOCK_DGRAM) as sender,
        lan.b.open(socket.SOCK_DGRAM) as closed,
        lan.b.open(socket.SOCK_DGRAM) as opened,
    ):
        closed.bind((lan.b.v4, 9))
        opened.bind((lan.b.v4, 10))
        while replacing.poll() is None and arrived == sent:
            for port in (9, 10):
                sender.sendto(b"x", (lan.b.v4, port))
            sent += 1
            select.select([opened], [], [], PATIENCE)
            arrived += _drained(opened)
        lan.beat(lan.a, lan.b)
        leaked = _drained(closed)
    assert replacing.wait(PATIENCE) == 0 and "rror" not in (tmp_path / "said").read_text()
    assert sent > 1000, "the packets went while rules were replaced"
    assert (leaked, arrived) == (0, sent)


def _drained(receiver: socket.socket) -> int:
    count = 0
    while True:
        try:
            receiver.recv(100)
        except BlockingIOError:
            return count
        count += 1
