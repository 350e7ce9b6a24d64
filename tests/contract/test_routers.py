"""The same tests on the routers in memory and on the real ones, in network namespaces of the test's own."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pvc.lab import pidfile
from pvc.plugins.networking.gateway.routers import Host, Leg, Route, Router, RouterError, Routers, RouterState, Services
from pvc.testing.routers import FakeRouters
from tests.contract.namespaces import RUN
from tests.contract.routing import MTU, RUNTIME, Lacking, Site, process_of, until

LAN = Leg("lan-a", "02:00:00:00:01:01", MTU, ("10.1.0.1/24", "fd00:1::1/64"))
TRANSIT = Leg("transit", "02:00:00:00:01:02", MTU, ("fe80::1/64",), (Route("10.2.0.0/24", "fe80::2"),))
VM = Host("52:54:00:00:00:0a", "vm1", "10.1.0.7", "fd00:1::7")
A = Router("a", LAN, Services("a.internal", dhcp4=True, dhcp6=True, hosts=(VM,)), active=True, transit=TRANSIT)
B = Router("b", replace(LAN, bridge="lan-b", mac="02:00:00:00:02:01"), Services("b.internal"), active=True)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.lab)])
def routers(request: pytest.FixtureRequest) -> Routers:
    if request.param == "fake":
        return FakeRouters(RUNTIME)
    site: Site = request.getfixturevalue("site")
    return site.routers["m1"]


def test_a_machine_without_routers_has_none_to_show(routers: Routers) -> None:
    assert routers.look() == {}
    routers.remove("a")
    routers.hold([], 1.0)
    assert routers.look() == {}


def test_a_router_is_prepared_and_then_active_and_then_gone(routers: Routers) -> None:
    routers.settle(replace(A, active=False))
    assert routers.look() == {"a": RouterState()}
    routers.settle(A)
    assert routers.look() == {"a": RouterState(active=True)}
    routers.settle(replace(A, active=False))
    assert routers.look() == {"a": RouterState()}
    routers.remove("a")
    assert routers.look() == {}


def test_those_are_held_that_were_named_last_and_only_for_their_time(routers: Routers) -> None:
    for router in (A, B):
        routers.settle(router)
    routers.hold(["a", "b"], 60.0)
    assert {name for name, state in routers.look().items() if state.held} == {"a", "b"}
    routers.hold(["b"], 60.0)
    assert {name for name, state in routers.look().items() if state.held} == {"b"}
    assert routers.glance() == routers.look()
    routers.hold(["b"], 0.05)
    until(lambda: not routers.look()["b"].held, "it is held for ever")
    assert routers.look()["b"].active


def test_a_refresh_counts_from_now(routers: Routers) -> None:
    routers.settle(A)
    routers.hold(["a"], 0.3)
    routers.hold(["a"], 60.0)
    begin = RUNTIME.monotonic()
    until(lambda: RUNTIME.monotonic() > begin + 0.4, "time stands still")
    assert routers.look()["a"].held


def namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").iterdir()}


def devices(site: Site) -> str:
    """All that a router is made of, but counters."""
    inside = [site.inside_router("m1", "a", "ip", *words.split()) for words in ("addr", "route", "-6 route")]
    links = re.findall(r"^\d+: \S+|mtu \d+|master \S+|link/ether \S+", site.spaces.ip("m1", "link"), re.MULTILINE)
    inside = [re.sub(r" state \w+", "", each) for each in inside]  # the kernel tells it a moment later
    return "\n".join((*links, *inside, str(site.dnsmasq("m1", "a"))))


def names(lines: str) -> list[str]:
    """The first word of each line."""
    return [line.split()[0] for line in lines.splitlines()]


@pytest.mark.lab
def test_settling_again_changes_nothing_also_for_a_new_daemon(site: Site) -> None:
    routers = site.routers["m1"]
    routers.settle(A)
    before = devices(site)
    routers.settle(A)
    assert devices(site) == before
    routers.restart()
    assert routers.look() == {"a": RouterState(active=True)}
    routers.settle(A)
    assert devices(site) == before


@pytest.mark.lab
def test_what_is_wanted_otherwise_is_changed_in_place(site: Site) -> None:
    routers = site.routers["m1"]
    routers.settle(A)
    indices = site.spaces.ip("m1", "-brief link show master lan-a").split()[0]
    routes = (Route("10.2.0.0/24", "fe80::9"), Route("fd00:3::/64", "fe80::9"))
    other = replace(LAN, mac="02:00:00:00:01:99", mtu=1400, addresses=("10.1.0.254/24",), bridge="lan-b")
    routers.settle(replace(A, lan=other, transit=replace(TRANSIT, routes=routes)))
    assert site.spaces.ip("m1", "-brief link show master lan-b").split()[0] == indices
    lan = site.inside_router("m1", "a", "ip", "addr", "show", "lan")
    assert "10.1.0.254/24" in lan and "10.1.0.1/24" not in lan and "fd00:1" not in lan
    assert "02:00:00:00:01:99" in lan and "mtu 1400" in lan
    led = site.inside_router("m1", "a", "ip", "route")
    assert "10.2.0.0/24 via inet6 fe80::9 dev transit" in led and "fe80::2" not in led
    assert "fd00:3::/64 via fe80::9" in site.inside_router("m1", "a", "ip", "-6", "route")
    routers.settle(replace(A, transit=None))
    assert "pvr-a" not in site.spaces.ip("m1", "link")


@pytest.mark.lab
def test_what_breaks_is_seen_and_mended(site: Site) -> None:
    routers = site.routers["m1"]
    routers.settle(A)
    site.kill(site.dnsmasq("m1", "a"))
    assert "dnsmasq does not run" in routers.look()["a"].problem
    routers.settle(A)
    assert routers.look()["a"].problem == ""
    site.inside_router("m1", "a", "ip", "addr", "del", "10.1.0.1/24", "dev", "lan")
    site.spaces.ip("m1", "link set pvr-a down")
    assert "pvr-a" in routers.look()["a"].problem
    site.spaces.ip("m1", "link del pvg-a")
    assert "pvg-a is gone" in routers.look()["a"].problem
    routers.settle(A)
    assert routers.look()["a"] == RouterState(active=True)
    assert "10.1.0.1/24" in site.inside_router("m1", "a", "ip", "addr")
    old = site.dnsmasq("m1", "a")
    RUN.check(["ip", "netns", "del", routers.prefix + "a"], timeout=30)
    until(lambda: "is gone" in routers.look()["a"].problem, "nobody misses it")
    routers.settle(A)
    assert routers.look()["a"] == RouterState(active=True)
    assert site.dnsmasq("m1", "a") != old, "dnsmasq is in a namespace that nobody can reach any more"


@pytest.mark.lab
def test_nothing_is_left_of_a_router_that_is_removed(site: Site) -> None:
    routers = site.routers["m1"]
    before = names(site.spaces.ip("m1", "-brief link"))
    routers.settle(A)
    dnsmasq = process_of(site.dnsmasq("m1", "a"))
    routers.remove("a")
    assert names(site.spaces.ip("m1", "-brief link")) == before
    assert routers.prefix + "a" not in namespaces()
    assert not (site.directory / "m1" / "a").exists()
    until(lambda: pidfile.state(dnsmasq) is None, "it lives on")


@pytest.mark.lab
def test_a_device_or_namespace_of_somebody_else_is_refused_and_left_alone(site: Site) -> None:
    routers = site.routers["m1"]
    site.spaces.ip("m1", "link add pvg-a type veth peer name theirs")
    with pytest.raises(RouterError, match="device pvg-a already that pvc has not made; remove or rename it"):
        routers.settle(A)
    routers.remove("a")
    assert "pvg-a" in site.spaces.ip("m1", "link") and routers.look() == {}
    site.spaces.ip("m1", "link del pvg-a")
    name = routers.prefix + "a"
    RUN.check(["ip", "netns", "add", name], timeout=30)
    with pytest.raises(RouterError, match=f"namespace {name} already that pvc has not made; remove it with"):
        routers.settle(A)
    routers.remove("a")
    assert name in namespaces() and routers.look() == {}
    RUN.check(["ip", "netns", "del", name], timeout=30)


@pytest.mark.lab
def test_a_router_whose_directory_is_lost_is_known_by_its_mark(site: Site) -> None:
    routers = site.routers["m1"]
    routers.settle(A)
    kept = site.directory / "m1" / "a"
    kept.rename(site.directory / "elsewhere")
    assert "dnsmasq does not run" in routers.look()["a"].problem
    site.kill(int((site.directory / "elsewhere" / "dnsmasq.pid").read_text()))
    routers.settle(A)
    assert routers.look()["a"] == RouterState(active=True)


@pytest.mark.lab
def test_a_namespace_that_was_left_half_made_is_made_anew(site: Site) -> None:
    routers = site.routers["m1"]
    (site.directory / "m1" / "a").mkdir(parents=True)
    Path("/run/netns", routers.prefix + "a").touch()
    routers.settle(A)
    assert routers.look() == {"a": RouterState(active=True)}


@pytest.mark.lab
def test_a_bridge_that_is_missing_is_named(site: Site) -> None:
    with pytest.raises(RouterError, match="no bridge nowhere for pvg-a yet"):
        site.routers["m1"].settle(replace(A, lan=replace(LAN, bridge="nowhere")))


@pytest.mark.lab
@pytest.mark.parametrize(
    "meddling",
    [
        "delete table bridge pvc_gateways",
        "add table bridge pvc_gateways { flags dormant; }",
        "flush table bridge pvc_gateways",
        "insert rule bridge pvc_gateways incoming accept",
        "delete table bridge pvc_gateways; add table bridge pvc_gateways;"
        "add set bridge pvc_gateways held { type ipv4_addr; }",
        "flush chain bridge pvc_gateways incoming; delete chain bridge pvc_gateways incoming;"
        "add chain bridge pvc_gateways incoming { type filter hook input priority 7; }",
    ],
)
def test_whatever_others_have_made_of_the_dead_mans_switch_it_is_put_right(site: Site, meddling: str) -> None:
    routers = site.routers["m1"]
    routers.settle(A)
    routers.hold([], 1.0)

    def listed() -> str:
        return site.spaces.run("m1", "nft", "list", "ruleset")

    def goes_up() -> None:
        site.spaces.ip("m1", "link set pvg-a down")
        routers.restart()
        routers.settle(A)

    before = listed()
    mending: list[Callable[[], object]] = [routers.look, lambda: routers.hold([], 1.0), goes_up]
    for mend in mending:
        site.spaces.run("m1", "nft", meddling)
        assert listed() != before
        mend()
        assert listed() == before


@pytest.mark.lab
def test_routers_that_nothing_would_silence_are_switched_off(site: Site) -> None:
    routers = site.routers["m1"]
    for meet in (lambda: routers.hold(["a"], 60.0), routers.look):
        routers.restart()
        routers.settle(A)
        routers.hold(["a"], 60.0)
        assert routers.look()["a"] == RouterState(active=True, held=True)
        routers.restart(Lacking("nft"))
        with suppress(RouterError):
            meet()
        ports = site.spaces.ip("m1", "-brief link show up")
        assert "pvg-a" not in ports and "pvr-a" not in ports
    assert "package nftables" in routers.look()["a"].problem
    with pytest.raises(RouterError, match="package nftables"):
        routers.hold(["a"], 60.0)
    with pytest.raises(RouterError, match="package nftables"):
        routers.settle(A)
    assert "pvg-a" not in site.spaces.ip("m1", "-brief link show up")
    routers.restart()


@pytest.mark.lab
def test_one_call_of_nft_that_fails_does_not_switch_off_what_the_kernel_still_counts_for(site: Site) -> None:
    routers, programs = site.routers["m1"], Lacking()
    routers.restart(programs)
    routers.hold(["a"], 60.0)
    routers.settle(A)
    programs.names = ("nft",)
    with pytest.raises(RouterError, match="package nftables"):
        routers.hold(["a"], 60.0)
    assert "package nftables" in routers.look()["a"].problem
    assert routers.look()["a"].active
    routers.restart()


@pytest.mark.lab
@pytest.mark.parametrize("program, package", [("dnsmasq", "dnsmasq-base"), ("ip", "iproute2")])
def test_a_program_that_is_missing_is_named_with_its_package(site: Site, program: str, package: str) -> None:
    routers = site.routers["m1"]
    routers.restart(Lacking(program))
    with pytest.raises(RouterError, match=f"package {package}"):
        routers.settle(A)
    routers.restart()


@pytest.mark.lab
def test_namespaces_are_made_outside_of_the_daemons_own_mounts(site: Site) -> None:
    routers, programs = site.routers["m1"], Lacking()
    routers.restart(programs, ("env", "--"))
    routers.settle(A)
    routers.remove("a")
    name = routers.prefix + "a"
    assert [words for words in programs.ran if "netns" in words] == [
        ["env", "--", "ip", "netns", "add", name],
        ["env", "--", "ip", "netns", "delete", name],
    ]


def test_faults_of_the_fake_are_errors_and_problems() -> None:
    fake = FakeRouters(RUNTIME)
    fake.settle(A)
    fake.hold(["a"], 60.0)
    fake.failing["b"] = "no bridge; make one"
    with pytest.raises(RouterError, match="no bridge"):
        fake.settle(B)
    fake.spoil("a", "dnsmasq does not run")
    assert fake.look() == {"a": RouterState(active=True, held=True, problem="dnsmasq does not run")}
    assert fake.passes("a") and not fake.passes("b")
    fake.mute = "nft is gone"
    with pytest.raises(RouterError, match="nft is gone"):
        fake.hold(["a"], 1.0)
    assert not fake.passes("a")
    fake.boot()
    assert fake.look() == {}
    fake.unavailable = "no root"
    with pytest.raises(RouterError, match="no root"):
        fake.look()
