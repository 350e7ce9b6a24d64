"""The real routers: each in a network namespace, with a leg to each bridge and a dnsmasq of its own.

A router that is prepared differs from an active one in nothing but the ports of its legs, which are down: then no
frame comes in or goes out. Names no namespace, device, process, table or directory that pvc has not made.
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from ipaddress import ip_interface
from pathlib import Path

from pvc.core import systemd
from pvc.core.process import CommandFailed, Processes
from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.decide.announcement import announcement
from pvc.plugins.networking.gateway.decide.silence import KINDS
from pvc.plugins.networking.gateway.decide.translation import translation
from pvc.plugins.networking.gateway.dnsmasq import Dnsmasq
from pvc.plugins.networking.gateway.legs import Devices, devices, link_local
from pvc.plugins.networking.gateway.namespaces import DIRECTORY, Namespaces, packets, set_kernel
from pvc.plugins.networking.gateway.routers import Leg, Router, RouterError, RouterState
from pvc.plugins.networking.gateway.silence import Switch, nft
from pvc.plugins.networking.netlink import MARK

KEPT = Path("/run/pvc/networking/routers")
"""Below it a directory for each router. It is empty after a boot, as the machine is without routers."""
PATIENCE = 20.0
READY = 1.0
"""Seconds for the kernel to see that a leg is up: it takes a millisecond or two, unless it is busy."""
TICK = 0.0005
INNER = dict(zip(KINDS, ("lan", "transit", "upstream"), strict=True))
"""The name of a leg inside the namespace, by how the name of its port begins."""
KERNEL = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/arp_notify": "1",
    "ipv4/conf/all/arp_ignore": "1",  # only for the address of the device that is asked
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/default/accept_redirects": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/accept_redirects": "0",
    "ipv6/conf/default/accept_redirects": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/addr_gen_mode": "1",  # link-local addresses are set, so that they are there before the leg is up
    "ipv6/conf/all/ndisc_notify": "1",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}
"""Settings of a router's namespace, by path below /proc/sys/net."""


class NamespaceRouters:
    """The real `Routers`, of the network namespace that the calling thread is in."""

    def __init__(
        self,
        processes: Processes,
        runtime: Runtime,
        directory: Path = KEPT,
        log: logging.Logger | None = None,
        *,
        prefix: str = "pvc-",
        outside: tuple[str, ...] | None = None,
    ) -> None:
        """`prefix` before a network's name is its namespace's. `outside` runs `ip netns` where its mounts are seen by
        the whole machine; None: by systemd, if that has started this process."""
        if outside is None:
            outside = (*by_systemd, "--") if (by_systemd := systemd.outside()) else ()
        self._processes = processes
        self._runtime = runtime
        self._directory = directory
        self._log = log or logging.getLogger("pvc")
        self._prefix = prefix
        self._namespaces = Namespaces(processes, outside)
        self._switch = Switch(processes, runtime)
        self._settled: dict[str, Router] = {}
        """What this process has settled, and nobody is known to have changed since."""

    def look(self) -> Mapping[str, RouterState]:
        return self._states(self._guard)

    def glance(self) -> Mapping[str, RouterState]:
        return self._states(lambda _ports: ("", self._switch.held()))

    def _states(self, guard: Callable[[Mapping[str, bool]], tuple[str, frozenset[str]]]) -> Mapping[str, RouterState]:
        """`guard`: what does not work of the dead man's switch, and the networks that are held."""
        ports = self._ports()
        kept = {path.name for path in self._directory.iterdir()} if self._directory.is_dir() else set()
        networks = kept | {name[4:] for name in ports}
        if not networks:
            return {}
        trouble, held = guard(ports)
        there = self._namespaces.names()
        return {
            network: RouterState(
                active=ports.get(f"{KINDS[0]}-{network}", False),
                held=network in held,
                problem=trouble or self._problem(network, ports, there),
            )
            for network in sorted(networks)
        }

    def settle(self, router: Router) -> None:
        network = router.network
        known = self._settled.pop(network, None)
        try:
            turned = known is not None and known != router and replace(known, active=router.active) == router
            if turned or not router.active:
                self._switch_legs(router)  # somebody waits for it: first this, and then a look whether all is as it was
            if router.active or not turned:  # another node waits for one that falls silent: its looks come later
                self._settle(router, remind=known is None)
        except OSError as error:
            raise RouterError(f"the router of {network}: {error}; look at {self._directory}") from error
        self._settled[network] = router

    def remove(self, network: str) -> None:
        self._settled.pop(network, None)
        directory, name = self._directory / network, self._prefix + network
        ours = self._ours(network)
        try:
            with devices(f"the legs of {network} cannot be removed") as here:
                for kind in KINDS:
                    port = here.port(f"{kind}-{network}")
                    if port and port.owned:
                        here.remove(port)
            if ours:
                self._dnsmasq(network).end()
                if name in self._namespaces.names():
                    self._namespaces.remove(name)
            if directory.exists():
                shutil.rmtree(directory)
        except OSError as error:
            raise RouterError(f"the router of {network} cannot be removed: {error}; look at {directory}") from error

    def hold(self, networks: Collection[str], seconds: float) -> None:
        try:
            self._switch.hold(frozenset(networks), seconds)
        except RouterError:
            self._fail_closed()
            raise

    def close(self) -> None:
        """Nothing is held: every connection to the kernel is closed as soon as it has been used."""

    def _settle(self, router: Router, *, remind: bool) -> None:
        name = self._prefix + router.network
        legs = _legs(router)
        with devices(f"the legs of {router.network} cannot be looked at") as here:
            for kind in KINDS:
                here.own(f"{kind}-{router.network}")
        self._found(router.network)
        with devices(f"the legs of {router.network} cannot be made") as here:
            for kind in KINDS:
                self._fit_port(here, kind, router.network, legs.get(INNER[kind]))
        with self._namespaces.inside(name):
            with devices(f"the router of {router.network} cannot be set up") as inner:
                for device, leg in legs.items():
                    inner.fit(device, leg)
                inner.lead(legs)
            self._translate(router)
        self._switch_legs(router)
        self._dnsmasq(router.network).settle(router, self._namespaces.identity(name), remind=remind)

    def _found(self, network: str) -> None:
        """Have its directory and namespace. Raises RouterError if one of this name is somebody else's."""
        name, directory = self._prefix + network, self._directory / network
        if not self._namespaces.sound(name) or not self._ours(network):
            if name in self._namespaces.names() and not self._ours(network):
                raise RouterError(
                    f"there is a network namespace {name} already that pvc has not made;"
                    f" remove it with `ip netns delete {name}`"
                )
            _make(directory)  # first: a namespace beside its directory is known to be ours
            self._namespaces.add(name)
            directory.joinpath("translation").unlink(missing_ok=True)
            self._log.info("router of %s: made", network)
        _make(directory)
        with self._namespaces.inside(name), devices(f"{name} cannot be marked") as inner:
            set_kernel(KERNEL)  # before there are legs, which begin with what is the default then
            lo = inner.port("lo")
            if lo and not (lo.owned and lo.up):
                inner.mark("lo")
                inner.switch(lo, True)

    def _ours(self, network: str) -> bool:
        """Whether its namespace, if there is one, is ours: there is a directory for it, or it bears our mark."""
        name = self._prefix + network
        if self._directory.joinpath(network).is_dir():
            return True
        if not self._namespaces.sound(name):
            return False
        with self._namespaces.inside(name), devices(f"{name} cannot be looked at") as inner:
            lo = inner.port("lo")
            return bool(lo and lo.owned)

    def _fit_port(self, here: Devices, kind: str, network: str, leg: Leg | None) -> None:
        name, namespace = f"{kind}-{network}", self._prefix + network
        port = here.own(name)
        if port and (leg is None or not self._has(namespace, INNER[kind])):
            here.remove(port)
            port = None
        if leg is None:
            return
        if port is None:
            here.add(name, INNER[kind], DIRECTORY / namespace, leg)
            port = here.own(name)
        if port:
            here.plug(port, leg)

    def _has(self, namespace: str, device: str) -> bool:
        with self._namespaces.inside(namespace), devices(f"{namespace} cannot be looked at") as inner:
            return inner.port(device) is not None

    def _translate(self, router: Router) -> None:
        """In the namespace: the rules of nftables. What is in force is kept in a file; nobody else is in there."""
        file, text = self._directory / router.network / "translation", translation(router)
        if not file.exists() or file.read_text() != text:
            nft(self._processes, text)
            file.write_text(text)

    def _switch_legs(self, router: Router) -> None:
        """Have the ports up or down as wanted. Those that go up are announced: to bridges, and to neighbours."""
        if router.active and not self._switch.sure():
            self._switch.define()  # without it nothing would silence the router
        legs, turned = _legs(router), dict[str, Leg]()
        with devices(f"the legs of {router.network} cannot be switched") as here:
            for kind in KINDS:
                leg = legs.get(INNER[kind])
                port = here.own(f"{kind}-{router.network}") if leg else None
                if port and leg and port.up != router.active:
                    here.switch(port, router.active)
                    turned[kind] = leg
            if turned and router.active:
                ports = [f"{kind}-{router.network}" for kind in turned]
                self._await(lambda: all(here.forwarding(port) for port in ports))
        if turned:
            self._log.info("router of %s: legs %s", router.network, "up" if router.active else "down")
        if turned and router.active:
            with self._namespaces.inside(self._prefix + router.network):
                self._announce({INNER[kind]: leg for kind, leg in turned.items()})

    def _announce(self, legs: Mapping[str, Leg]) -> None:
        """In the namespace. What is sent before the kernel has seen that the other end is up is lost, and not told."""
        silent = {name: _announcements(leg) for name, leg in legs.items()}

        def heard() -> bool:
            before = {name: inner.sent(name) for name in silent}
            for name, frames in silent.items():
                for frame in frames:
                    sender.sendto(frame, (name, 0))
            for name in before:
                if inner.sent(name) >= before[name] + len(silent[name]):
                    del silent[name]
            return not silent

        with devices("the legs cannot be announced") as inner, packets() as sender:
            self._await(heard)

    def _await(self, condition: Callable[[], bool]) -> None:
        """Until something is so, or it has taken too long: then a router is found a moment later, but it works."""
        until = self._runtime.monotonic() + READY
        while not condition() and self._runtime.monotonic() < until:
            self._runtime.sleep(TICK)

    def _dnsmasq(self, network: str) -> Dnsmasq:
        inside = partial(self._namespaces.inside, self._prefix + network)
        return Dnsmasq(self._processes, self._runtime, self._directory / network, inside)

    def _problem(self, network: str, ports: Mapping[str, bool], there: frozenset[str]) -> str:
        name = self._prefix + network
        again = "it is made again when pvcd next settles it"
        if name not in there or not self._namespaces.sound(name):
            return f"the network namespace {name} is gone; {again}"
        up = {port: state for port, state in ports.items() if port[4:] == network}
        if f"{KINDS[0]}-{network}" not in up:
            return f"the device {KINDS[0]}-{network} is gone; {again}"
        if len(set(up.values())) > 1:
            return f"some of its legs are down: {', '.join(sorted(port for port in up if not up[port]))}; {again}"
        dnsmasq = self._dnsmasq(network)
        if not dnsmasq.wanted() or not dnsmasq.alive(self._namespaces.identity(name)):
            return "dnsmasq does not run: VMs get no addresses and no names; it is started when pvcd next settles it"
        return ""

    def _guard(self, ports: Mapping[str, bool]) -> tuple[str, frozenset[str]]:
        """Put the dead man's switch right; what does not work of it, and the networks that are held."""
        try:
            self._switch.define()
            return "", self._switch.held()
        except RouterError as error:
            if any(ports.values()):
                self._fail_closed()
            return f"nothing may silence it, and without that its legs are switched off: {error}", frozenset()

    def _ports(self) -> dict[str, bool]:
        """All ports of routers that bear our mark, and whether they are up. By one program, however many there are."""
        command = ["ip", "-json", "link", "show", "group", str(MARK)]
        try:
            listed = json.loads(self._processes.check(command, timeout=PATIENCE, env={"LC_ALL": "C"}) or "[]")
        except CommandFailed as error:
            raise RouterError(f"{error}; it is in the package iproute2") from error
        return {
            link["ifname"]: "UP" in link["flags"]
            for link in listed
            if link.get("ifname", "")[:4] in {f"{kind}-" for kind in KINDS}
        }

    def _fail_closed(self) -> None:
        """Switch all routers off, unless the kernel still counts from a call that went well. Raises RouterError.

        By a program, since this may be any thread."""
        if self._switch.sure():
            return
        if up := self._up():
            text = "".join(f"link set {name} down\n" for name in up)
            trouble = "nothing would silence the routers here, and their legs cannot be switched off"
            try:
                done = self._processes.run(["ip", "-force", "-batch", "-"], timeout=PATIENCE, stdin=text)
            except CommandFailed as error:
                raise RouterError(f"{trouble}: {error}") from error
            if done.code != 0 and (left := self._up()):  # it goes on after an error, as where one has just gone
                raise RouterError(f"{trouble}: {' '.join(left)} stay up: {done.stderr.strip()[:500]}")
            self._log.error("routers: nothing would silence them, so their legs are down: %s", " ".join(up))

    def _up(self) -> list[str]:
        return [name for name, state in self._ports().items() if state]


def _legs(router: Router) -> dict[str, Leg]:
    legs = (router.lan, router.transit, router.upstream)
    return {name: leg for name, leg in zip(INNER.values(), legs, strict=True) if leg}


def _announcements(leg: Leg) -> list[bytes]:
    own = {*map(ip_interface, leg.addresses), link_local(leg.mac)}
    return [announcement(leg.mac, each.ip) for each in sorted(own, key=str)]


def _make(directory: Path) -> None:
    """With a way in for dnsmasq, which reads its files as nobody."""
    for path in (*reversed(directory.parents), directory):
        if not path.exists():
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
