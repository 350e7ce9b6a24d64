"""EVPN by real FRR between hosts in network namespaces: VMs that talk and move, peers that come and go, daemons that
die, and routes of the host that are left alone."""

import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pvc.core.process import CommandFailed, Finished, Processes, Running, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.dataplane import FLOOD, Withdraw
from pvc.plugins.networking.decide.dataplane import View, plan
from pvc.plugins.networking.evpn.daemons import Daemons, FrrError, Program, Seen, Speaker
from pvc.plugins.networking.evpn.decide.bgp import End, Start, Tell, commands, next_steps, texts
from pvc.plugins.networking.evpn.frr import PROGRAMS, FrrDaemons
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add
from pvc.testing.frr import FakeDaemons
from tests.contract import test_networks_between_hosts as networks
from tests.contract.namespaces import RUN, DataplaneInside, Hosts

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not (PROGRAMS / "bgpd").exists(), reason="FRR is not installed (Debian's package frr)"),
]

MACS = {"ga": "52:54:00:00:00:0a", "gb": "52:54:00:00:00:0b"}
LAN = Network("lan", NetworkKind.MANAGED, vni=100)
PATIENCE = 60.0
ECHO = bytes.fromhex("0800f7ff00000000")
"""An ICMP echo request without content, and with the checksum of that (RFC 792)."""
ECHO_REPLY = 0
RUNTIME = ThreadRuntime()


class ProcessesInside:
    """Programs that are run in a network namespace."""

    def __init__(self, namespace: str) -> None:
        self._prefix = ["ip", "netns", "exec", namespace]

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        return RUN.run([*self._prefix, *command], timeout=timeout, env=env, stdin=stdin)

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        return RUN.check([*self._prefix, *command], timeout=timeout, env=env)

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        return RUN.start([*self._prefix, *command], output=output, env=env, new_session=new_session)


class Host:
    """One host: what the services `networks` and `evpn` do there, without tree and threads."""

    def __init__(self, lan: Hosts, directory: Path, name: str, *, bfd: bool) -> None:
        self.processes: Processes = ProcessesInside(lan.spaces.full(name))
        self.directory = directory / name / "frr"
        self.devices = DataplaneInside(lan.spaces, name)
        self.speaker = Speaker(f"10.99.0.{name[1:]}", bfd=bfd)
        self.frr = self.door()

    def door(self) -> FrrDaemons:
        """A new door, as that of a pvcd that has restarted."""
        return FrrDaemons(self.processes, RUNTIME, self.directory)

    def settle(self, *peers: int) -> Seen:
        """Have everything as it should be, with these hosts as peers."""
        self.plug()
        for step in next_steps(self.frr.look(), self.speaker, [f"10.99.0.{peer}" for peer in peers]):
            match step:
                case Start(program, text):
                    self.frr.start(program, text, self.speaker)
                case End(program):
                    self.frr.end(program)
                case Tell(commands):
                    self.frr.tell(commands)
                case _:
                    for tunnel, entries in self.devices.look().forwarding.items():
                        self.devices.apply_all([Withdraw(tunnel, entry) for entry in entries])
        return self.frr.look()

    def plug(self) -> None:
        view = View({"lan": LAN}, self.devices.look(), address=self.speaker.address, told=False)
        for changes in plan(view).changes.values():
            self.devices.apply_all(changes)

    def settled(self) -> bool:
        """Whether the data plane wants nothing changed."""
        view = View({"lan": LAN}, self.devices.look(), address=self.speaker.address, told=False)
        return not plan(view).changes

    def entries(self) -> set[tuple[str, str]]:
        return {(entry.mac, entry.address) for entry in self.devices.look().forwarding["pvx-lan"]}

    def floods_to(self, *numbers: int) -> bool:
        """Whether frames to everybody go to exactly these hosts."""
        return {address for mac, address in self.entries() if mac == FLOOD} == {f"10.99.0.{n}" for n in numbers}

    def sends_to(self, number: int, mac: str) -> bool:
        """Whether frames to one address go to this host."""
        return (mac, f"10.99.0.{number}") in self.entries()

    def ask(self, command: str, program: str) -> str:
        """What a daemon answers."""
        where = ["--vty_socket", str(self.directory), "--config_dir", str(self.directory), "-d", program]
        return RUN.check(["vtysh", *where, "-c", command], timeout=10)

    def sessions_begun(self, number: int) -> int:
        """How often the session with another host has come up."""
        peers = json.loads(self.ask("show bgp l2vpn evpn summary json", "bgpd"))["peers"]
        return int(peers[f"10.99.0.{number}"]["connectionsEstablished"])

    def pids(self) -> dict[Program, str]:
        return {program: (self.directory / f"{program.value}.pid").read_text() for program in self.frr.look().running}

    def is_bare(self) -> bool:
        """Whether no daemon is left; one that is about to end does not answer."""
        try:
            return self.frr.look() == Seen()
        except FrrError:
            return False

    def close(self) -> None:
        for program in (Program.BGPD, Program.BFDD, Program.ZEBRA):
            self.frr.end(program)
        self.devices.close()


def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> float:
    """Wait until something is so; the milliseconds that took. If that is too long, `what` is shown."""
    begun = RUNTIME.monotonic()
    while not condition():
        assert RUNTIME.monotonic() < begun + PATIENCE, what()
        RUNTIME.sleep(0.005)
    return (RUNTIME.monotonic() - begun) * 1000


class Site:
    """Hosts on one LAN."""

    def __init__(self, count: int) -> None:
        self.lan = Hosts(count)
        self.directory = Path(tempfile.mkdtemp(prefix="pvc-evpn-", dir="/run"))  # FRR's user must be let through
        self.directory.chmod(0o755)
        self.hosts: dict[str, Host] = {}

    def host(self, name: str, *, bfd: bool = False, among: Hosts | None = None) -> Host:
        """A host on our LAN, or on another."""
        self.hosts[name] = Host(among or self.lan, self.directory, name, bfd=bfd)
        return self.hosts[name]

    def until_reached(self, guest: str, address: str) -> float:
        """Wait until a guest has an answer; the milliseconds that took, in steps of ten."""
        with self.lan.spaces.inside(guest):
            pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with pinger:
            pinger.settimeout(0.01)
            return until(lambda: _answered(pinger, address))

    def announce(self, guest: str, mac: str) -> None:
        """Have a guest say once that it is there, as QEMU does for one that has arrived (RARP)."""
        with self.lan.spaces.inside(guest):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        own = bytes.fromhex(mac.replace(":", ""))
        body = bytes.fromhex("0001080006040003") + own + bytes(4) + own + bytes(4)
        with sender:
            sender.bind(("eth0", 0))
            sender.send((bytes([255] * 6) + own + bytes.fromhex("8035") + body).ljust(60, b"\0"))

    def close(self) -> None:
        """Remove everything."""
        for host in self.hosts.values():
            host.close()
        self.lan.close()
        shutil.rmtree(self.directory)


def _answered(pinger: socket.socket, address: str) -> bool:
    pinger.sendto(ECHO, (address, 0))
    try:
        while pinger.recv(200)[20] != ECHO_REPLY:
            pass
    except TimeoutError:
        return False
    return True


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(3)
    try:
        yield site
    finally:
        site.close()


def mesh(site: Site, *numbers: int, bfd: bool = False) -> list[Host]:
    """Hosts of which each has all others as peers, and sends to them what is for everybody."""
    hosts = [site.host(f"h{number}", bfd=bfd) for number in numbers]
    for host, number in zip(hosts, numbers, strict=True):
        host.settle(*{*numbers} - {number})
    for host, number in zip(hosts, numbers, strict=True):
        until(partial(host.floods_to, *{*numbers} - {number}), host.entries)
    return hosts


def test_guests_reach_each_other_and_a_silent_one_that_moves_is_reached_again(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = mesh(site, 1, 2, 3)
    site.lan.guest("ga", "h1", "pvb-lan", MACS["ga"], "172.16.9.1/24")
    site.lan.guest("gb", "h2", "pvb-lan", MACS["gb"], "172.16.9.2/24")
    site.until_reached("ga", "172.16.9.2")
    learned = until(partial(hosts[0].sends_to, 2, MACS["gb"]), hosts[0].entries)
    assert all(host.settled() for host in hosts)

    site.lan.migrate("gb", "h2", "h3", "pvb-lan")
    reached = site.until_reached("ga", "172.16.9.2")
    until(partial(hosts[0].sends_to, 3, MACS["gb"]), hosts[0].entries)
    assert all(host.settled() for host in hosts)
    with capsys.disabled():
        print(f"\nknown {learned:.0f} ms after the first answer; silent, reached {reached:.0f} ms after its move")


def test_a_guest_that_announces_itself_is_reached_though_its_old_port_is_still_there(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = mesh(site, 1, 2, 3)
    site.lan.guest("ga", "h1", "pvb-lan", MACS["ga"], "172.16.9.1/24")
    site.lan.guest("gb", "h2", "pvb-lan", MACS["gb"], "172.16.9.2/24")
    site.until_reached("ga", "172.16.9.2")
    until(partial(hosts[0].sends_to, 2, MACS["gb"]), hosts[0].entries)
    site.lan.guest("gc", "h3", "pvb-lan", MACS["gb"], "172.16.9.2/24")
    site.lan.spaces.ip("gb", "link set eth0 down")
    site.announce("gc", MACS["gb"])
    moved = until(partial(hosts[0].sends_to, 3, MACS["gb"]), hosts[0].entries)
    assert site.lan.spaces.answers("ga", "172.16.9.2")
    with capsys.disabled():
        print(f"\nannounced, known to another host after {moved:.0f} ms")


def test_a_peer_that_comes_and_one_that_goes_cost_no_other_its_session(site: Site) -> None:
    one, two = mesh(site, 1, 2)
    three = site.host("h3")
    three.settle(1)
    assert not one.floods_to(2, 3)
    seen = one.settle(2, 3)
    assert set(seen.peers) == {"10.99.0.2", "10.99.0.3"}
    until(partial(one.floods_to, 2, 3), one.entries)
    pids = one.pids()
    assert set(one.settle(2).peers) == {"10.99.0.2"}
    until(partial(one.floods_to, 2), one.entries)
    assert (one.sessions_begun(2), two.sessions_begun(1)) == (1, 1)
    assert one.pids() == pids


def test_hosts_that_talk_to_a_reflector_alone_know_of_each_other(site: Site) -> None:
    one, two, three = (site.host(name) for name in ("h1", "h2", "h3"))
    one.speaker = replace(one.speaker, reflects=True)
    one.settle(2, 3)
    two.settle(1)
    three.settle(1)
    until(partial(two.floods_to, 1, 3), two.entries)
    until(partial(three.floods_to, 1, 2), three.entries)


def test_a_new_door_finds_the_daemons_and_wants_nothing_changed(site: Site) -> None:
    one, _ = mesh(site, 1, 2)
    until(lambda: all(one.frr.look().peers.values()))
    before = one.frr.look()
    one.frr = one.door()
    assert one.frr.look() == before and set(before.running) == {Program.ZEBRA, Program.BGPD}
    assert next_steps(one.frr.look(), one.speaker, ["10.99.0.2"]) == ()


def test_a_bgpd_that_was_killed_is_missed_and_comes_back_and_zebra_stays(site: Site) -> None:
    one, two = mesh(site, 1, 2)
    before = one.pids()
    os.kill(int(before[Program.BGPD]), signal.SIGKILL)
    until(lambda: set(one.frr.look().running) == {Program.ZEBRA})
    until(lambda: not two.entries(), two.entries)
    one.settle(2)
    until(partial(one.floods_to, 2), one.entries)
    until(partial(two.floods_to, 1), two.entries)
    after = one.pids()
    assert after[Program.ZEBRA] == before[Program.ZEBRA] and after[Program.BGPD] != before[Program.BGPD]


def test_a_host_that_is_cut_off_is_noticed_by_bfd(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = mesh(site, 1, 2, bfd=True)
    until(lambda: '"status":"up"' in one.ask("show bfd peers json", "bfdd").replace(" ", ""))
    site.lan.spaces.ip("lan", "link set p2 down")
    noticed = until(lambda: not one.entries(), one.entries)
    told = json.loads(one.ask("show bgp neighbors 10.99.0.2 json", "bgpd"))["10.99.0.2"]
    assert told["lastNotificationReason"] == "Cease/BFD Down", "BGP by itself would have noticed, too, in time"
    with capsys.disabled():
        print(f"\ncut off, noticed after {noticed:.0f} ms")


def test_a_pid_file_of_somebody_elses_process_is_no_daemon_of_ours(site: Site) -> None:
    host = site.host("h1")
    host.directory.mkdir(parents=True)
    somebody = RUN.start(["sleep", "600"], output=site.directory / "output")
    (host.directory / "zebra.pid").write_text(f"{somebody.pid}\n")
    try:
        assert host.frr.look() == Seen()
        host.frr.end(Program.ZEBRA)
        assert somebody.poll() is None
    finally:
        somebody.signal(signal.SIGKILL)
        somebody.wait()


class LastWords(SystemProcesses):
    """Programs of which none can be run, and somebody dies of the try."""

    def __init__(self) -> None:
        super().__init__()
        self.victim: Running | None = None

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        if self.victim is not None:
            self.victim.signal(signal.SIGKILL)
            self.victim.wait()
        raise CommandFailed("vtysh: failed to connect to any daemons")


def test_a_bgpd_that_dies_while_it_is_asked_does_not_run_and_one_that_is_mute_is_an_error(tmp_path: Path) -> None:
    pid_file, processes = tmp_path / "bgpd.pid", LastWords()
    pid_file.touch()
    daemon = RUN.start(["tail", "-f", str(pid_file)], output=tmp_path / "output")
    pid_file.write_text(f"{daemon.pid}\n")
    door = FrrDaemons(processes, RUNTIME, tmp_path)
    until(lambda: Path(f"/proc/{daemon.pid}/cmdline").read_bytes() != b"")  # it is there only a moment after exec
    try:
        with pytest.raises(FrrError, match="bgpd does not do as it is told"):
            door.look()
        processes.victim = daemon
        assert door.look() == Seen()
    finally:
        daemon.signal(signal.SIGKILL)
        daemon.wait()


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_daemons_run_as_they_were_started_with_the_peers_they_were_told_until_they_are_ended(
    kind: str, site: Site
) -> None:
    speaker = Speaker("10.99.0.1", port=1790)
    daemons: Daemons = FakeDaemons() if kind == "fake" else site.host("h1").frr
    with pytest.raises(FrrError, match=";"):
        daemons.tell(commands(speaker, (), ["10.99.0.2"]))
    for program, text in texts(speaker).items():
        daemons.start(program, text, speaker)
    assert daemons.look() == Seen(texts(speaker), {})
    daemons.tell(commands(speaker, (), ["10.99.0.2", "10.99.0.3"]))
    seen = daemons.look()
    assert (seen.running, set(seen.peers)) == (texts(speaker), {"10.99.0.2", "10.99.0.3"})
    daemons.tell(commands(speaker, seen.peers, ["10.99.0.3"]))
    assert set(daemons.look().peers) == {"10.99.0.3"}
    daemons.end(Program.BGPD)
    assert daemons.look() == Seen({Program.ZEBRA: texts(speaker)[Program.ZEBRA]}, {})
    daemons.end(Program.BGPD)
    daemons.end(Program.ZEBRA)
    assert daemons.look() == Seen()


def test_the_hosts_own_routes_survive_the_start_the_run_and_the_end(site: Site) -> None:
    """As those of an FRR of the host's own: zebra takes routes and nexthop objects of these protocols for its own."""
    spaces = site.lan.spaces
    spaces.ip("h1", "nexthop add id 77 via 10.99.0.9 dev eth0 proto zebra")
    spaces.ip("h1", "route add 10.77.0.0/16 nhid 77 proto bgp metric 20")
    spaces.ip("h1", "-6 route add 2001:db8:77::/48 dev eth0 proto bgp metric 20")
    spaces.ip("h1", "route add 10.79.0.0/16 nhid 77 proto bgp metric 20 table 77")
    for protocol in ("static", "ospf", "bgp", "kernel", "zebra"):
        spaces.ip(
            "h1", f"route add 10.{len(protocol)}{protocol.count('s')}.0.0/16 via 10.99.0.9 proto {protocol} metric 20"
        )
    spaces.ip("h1", "rule add from 10.5.0.0/16 table 77 priority 300")
    spaces.run("h1", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def routes() -> tuple[str, ...]:
        own = [spaces.ip("h1", what) for what in ("route", "route show table 77", "-6 route", "nexthop", "rule")]
        return (*own, spaces.run("h1", "sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"))

    before = routes()
    one, _ = mesh(site, 1, 2)
    assert routes() == before
    spaces.ip("h1", "route del 10.77.0.0/16")
    spaces.ip("h1", "route add 10.78.0.0/16 nhid 77 proto ospf metric 20")
    changed = routes()
    assert set(one.settle(2).running) == {Program.ZEBRA, Program.BGPD}
    one.frr.end(Program.BGPD)
    one.frr.end(Program.ZEBRA)
    assert routes() == changed != before
    assert one.frr.look() == Seen() and one.entries() == set()


def test_pvcd_restarts_without_a_trace_and_ends_its_daemons_where_the_fabric_is_static_again(site: Site) -> None:
    cluster = networks.Site()
    try:
        hosts = {name: site.host(name, among=cluster.lan) for name in ("h1", "h2")}
        for name, host in hosts.items():
            cluster.start(name, "{fabric: evpn}", host.frr)
        add(cluster.admin, Network("lan", NetworkKind.MANAGED))
        cluster.until_up("h1", "lan")
        cluster.until_forwarding("h1", *networks.flood(2))
        cluster.until_forwarding("h2", *networks.flood(1))
        pids, links = hosts["h1"].pids(), cluster.lan.spaces.ip("h1", "link")
        cluster.hosts.pop("h1").close()
        assert hosts["h1"].pids() == pids
        cluster.start("h1", "{fabric: evpn}", hosts["h1"].door())
        cluster.until_up("h1", "lan")
        cluster.until_forwarding("h1", *networks.flood(2))
        assert (hosts["h1"].pids(), hosts["h2"].sessions_begun(1)) == (pids, 1)
        assert cluster.lan.spaces.ip("h1", "link") == links

        cluster.hosts.pop("h1").close()
        cluster.start("h1", "{}", hosts["h1"].door())
        cluster.until(hosts["h1"].is_bare)
        cluster.until_forwarding("h1", *networks.flood(2))
    finally:
        cluster.close()  # the daemons of pvc first: they would start FRR again
