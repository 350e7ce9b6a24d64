"""Nodes that were declared dead are kept out of the storage before anything of theirs starts elsewhere."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Create, Put
from pvc.core.decide.fencing import after_return
from pvc.core.lookup import read_facts
from pvc.core.model import Fence, Node
from pvc.core.records import encode
from pvc.core.storage import Feature, Pool, StorageUnusable
from pvc.plugins.storage import keys
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.fencing import Readmission, addresses_of, due, strangers, to_be_cut
from pvc.plugins.storage.decide.pools import PoolState, published_in
from pvc.plugins.storage.fencing import Admission, HasWriter
from pvc.plugins.storage.records import TaskPhase
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import ask_task
from pvc.testing.storage import FakeBackend
from tests.plugins.storage.asked import done, ended, known

FENCE = Fence("f", "root@here", 1.0)
FAST = Pool("fast", "fake")
STORAGE = {"roles": {"storage": True}}


class Site:
    """Three nodes with the role, one pool with one volume; hv1 can be declared dead."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.storage = cluster.storage
        self.backends("hv2").get(FAST).create("disk", 1 << 20)
        self.admission = Admission(self.context("hv2"), self.backends("hv2"))

    def backends(self, node: str) -> Backends:
        """The pool as a node reaches it."""
        address = self.cluster.nodes[node].config.address
        return Backends(self.cluster.world.process(node), lambda: {"fake": self.storage.open_on(node, address)})

    def context(self, node: str) -> Context:
        """Of the node's daemon."""
        daemon = self.cluster.nodes[node].daemon
        assert daemon is not None
        return daemon.context

    def demand(self) -> None:
        """Ask for admission of a VM with the disk, as a job of hv2 does. Raises what that raises."""
        raised: list[Exception | None] = []

        def ask() -> None:
            try:
                self.admission.demand([(FAST, "disk")])
            except (HasWriter, StorageUnusable) as error:
                raised.append(error)
            else:
                raised.append(None)

        self.cluster.world.process("job").spawn("demand", ask)
        assert self.cluster.run_until(lambda: bool(raised))
        if raised[0] is not None:
            raise raised[0]

    def with_a_volume_of_the_dead(self) -> SimCluster:
        """The pool is known to all, with the volume `a` and its snapshot `s`; hv1 is declared dead."""
        done(self.cluster, "add pool", "hv2")
        self.cluster.run(1)
        done(self.cluster, "create", "hv2", volume="a", size=1 << 20)
        done(self.cluster, "snapshot", "hv2", volume="a", snapshot="s")
        self.record(fence=FENCE)
        return self.cluster

    def record(self, **how: object) -> None:
        """Change hv1's record."""
        node = replace(self.cluster.node("hv1"), address="host-of-hv1", **how)  # type: ignore[arg-type]
        self.cluster.client.commit([Put(core.node("hv1"), encode(node))])


@pytest.fixture
def site() -> Iterator[Site]:
    with SimCluster({name: {**STORAGE, "address": f"host-of-{name}"} for name in ("hv1", "hv2", "hv3")}) as cluster:
        cluster.start()
        cluster.settle()
        cluster.power_off("hv1")
        yield Site(cluster)


def test_before_a_vm_starts_who_was_declared_dead_is_kept_out(site: Site) -> None:
    site.storage.opens("fast", "disk", "host-of-hv1")
    site.record(fence=FENCE)
    site.demand()
    with pytest.raises(StorageUnusable):
        site.storage.writes("fast", "disk", "late", "host-of-hv1")
    fence = site.cluster.node("hv1").fence
    assert fence is not None and fence.cut == {"fast": ("host-of-hv1",)}


def test_it_is_written_before_the_storage_is_asked_so_that_it_is_undone_one_day(site: Site) -> None:
    site.record(fence=FENCE)
    site.storage.fail_once("cut_off", StorageUnusable("the monitors do not answer"))
    with pytest.raises(StorageUnusable):
        site.demand()
    fence = site.cluster.node("hv1").fence
    assert fence is not None and "fast" in fence.cut
    site.demand()
    assert site.storage.absent == {"host-of-hv1"}


@pytest.mark.parametrize(
    ("kind", "about", "cut"),
    [
        ("roll back", {"snapshot": "s"}, True),
        ("clone", {"new": "copy"}, True),
        ("clone", {"new": "copy", "snapshot": "s"}, False),
        ("resize", {"size": 1 << 19}, True),
        ("resize", {"size": 1 << 21}, False),
        ("snapshot", {"snapshot": "t"}, False),
        ("remove", {}, True),
    ],
)
def test_what_nobody_may_write_beside_is_done_once_who_was_declared_dead_is_kept_out(
    site: Site, kind: str, about: dict[str, Any], cut: bool
) -> None:
    cluster = site.with_a_volume_of_the_dead()
    site.storage.fail_once("cut_off", StorageUnusable("the monitors do not answer"))
    task = done(cluster, kind, "hv2", volume="a", **about)
    assert (task.phase is TaskPhase.FAILED) is cut
    if cut:
        assert "monitors do not answer" in task.message and known(cluster, "a").size == 1 << 20
        assert done(cluster, kind, "hv2", volume="a", **about).phase is TaskPhase.DONE
        assert site.storage.absent == {"host-of-hv1"}


def test_half_a_roll_back_is_not_over_because_who_was_declared_dead_cannot_be_kept_out_now(site: Site) -> None:
    cluster = site.with_a_volume_of_the_dead()
    site.storage.slow(2)
    task = ask_task(cluster, "roll back", "hv2", pool="fast", volume="a", snapshot="s")
    assert cluster.run_until(lambda: site.storage.count("roll_back") > 0, 20)
    cluster.kill_daemon("hv2")
    site.storage.fail_once("cut_off", StorageUnusable("the monitors do not answer"))
    over = ended(cluster, task)
    assert (over.phase, over.attempts) == (TaskPhase.DONE, 3)


def test_a_node_of_which_another_address_becomes_known_is_kept_out_by_that_as_well(site: Site) -> None:
    site.record(fence=FENCE)
    site.demand()
    moved = replace(site.cluster.node("hv1"), address="new-host-of-hv1")
    site.cluster.client.commit([Put(core.node("hv1"), encode(moved))])
    site.demand()
    assert site.storage.absent == {"host-of-hv1", "new-host-of-hv1"}


@pytest.mark.parametrize("trouble", ["it is off", "it hangs"])
def test_a_node_tells_its_addresses_also_while_it_cannot_use_the_storage(site: Site, trouble: str) -> None:
    site.cluster.client.commit([Create(keys.STORAGE), Create(keys.POOLS), Create(keys.pool("fast"), encode(FAST))])
    assert site.cluster.run_until(lambda: "fast" in told(site))
    known = told(site)["fast"].addresses
    assert known
    if trouble == "it hangs":
        site.storage.hang(node="hv2")
    else:
        site.storage.spoil(trouble, node="hv2")
    assert site.cluster.run_until(lambda: bool(told(site)["fast"].problem), 60)
    assert told(site)["fast"].addresses == known


def test_a_node_that_never_could_use_the_storage_tells_its_addresses_all_the_same(site: Site) -> None:
    site.storage.spoil("it is off", node="hv2")
    site.cluster.client.commit([Create(keys.STORAGE), Create(keys.POOLS), Create(keys.pool("fast"), encode(FAST))])
    assert site.cluster.run_until(lambda: "fast" in told(site))
    assert told(site)["fast"].problem and told(site)["fast"].addresses


def test_while_the_way_to_the_storage_is_another_one_both_addresses_are_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.cluster.client.commit([Create(keys.STORAGE), Create(keys.POOLS), Create(keys.pool("fast"), encode(FAST))])
    assert site.cluster.run_until(lambda: "fast" in told(site))
    known = told(site)["fast"].addresses
    monkeypatch.setattr(FakeBackend, "addresses", lambda _self: ["detour"])
    site.storage.spoil("it is off", node="hv2")
    assert site.cluster.run_until(lambda: bool(told(site)["fast"].problem), 60)
    assert told(site)["fast"].addresses == (*known, "detour")
    site.storage.spoil("", node="hv2")
    assert site.cluster.run_until(lambda: not told(site)["fast"].problem, 60)
    assert told(site)["fast"].addresses == ("detour",)


def told(site: Site) -> dict[str, PoolState]:
    """What hv2 publishes of pools."""
    return published_in(read_facts(site.cluster.client, "hv2"))


def test_a_writer_that_nobody_declared_dead_keeps_its_volume(site: Site) -> None:
    site.storage.opens("fast", "disk", "host-of-hv3")
    site.record(fence=FENCE)
    with pytest.raises(HasWriter, match="is open at host-of-hv3"):
        site.demand()
    assert site.storage.absent == {"host-of-hv1"}


def test_what_is_left_of_a_guest_that_died_here_is_no_obstacle(site: Site) -> None:
    site.storage.opens("fast", "disk", "host-of-hv2")
    site.demand()


def test_a_storage_that_cannot_keep_anybody_out_is_not_asked_to(site: Site) -> None:
    site.storage.features = frozenset(Feature) - {Feature.CUTS_OFF}
    site.record(fence=FENCE)
    site.demand()
    assert site.storage.count("cut_off") == 0


def test_a_node_that_is_back_is_let_in_again_and_is_in_service(site: Site) -> None:
    site.cluster.client.commit([Create(keys.STORAGE), Create(keys.POOLS), Create(keys.pool("fast"), encode(FAST))])
    site.record(fence=FENCE)
    site.demand()
    fence = site.cluster.node("hv1").fence
    assert fence is not None
    site.record(fence=after_return(fence))
    assert site.cluster.run_until(lambda: site.cluster.node("hv1").fence is None)
    assert (site.storage.count("readmit", "hv2"), site.storage.count("readmit", "hv3")) == (1, 0)
    assert site.storage.absent == set()


def test_a_node_is_let_in_again_by_one_that_has_a_way_to_the_storage(site: Site) -> None:
    site.cluster.client.commit([Create(keys.STORAGE), Create(keys.POOLS), Create(keys.pool("fast"), encode(FAST))])
    site.record(fence=FENCE)
    site.demand()
    site.storage.spoil("no Ceph is set up here", node="hv2")
    assert site.cluster.run_until(lambda: "fast" in told(site) and bool(told(site)["fast"].problem), 60)
    fence = site.cluster.node("hv1").fence
    assert fence is not None
    site.record(fence=after_return(fence))
    assert site.cluster.run_until(lambda: site.cluster.node("hv1").fence is None, 60)
    assert site.storage.count("readmit", "hv3") == 1


def test_the_first_node_that_no_storage_keeps_out_lets_others_in() -> None:
    back = Node("hv1", roles=("storage",), fence=replace(FENCE, cut={"fast": ("a",)}, returned=True))
    others = [Node("hv2", roles=("storage",)), Node("hv3", roles=("storage",)), Node("hv4")]
    wanted = [Readmission("hv1", "fast", ("a",))]
    everywhere = {name: {"fast": PoolState(2, 1)} for name in ("hv1", "hv2", "hv3")}
    assert due([back, *others], "hv2", {"hv1", "hv2", "hv3", "hv4"}, everywhere) == wanted
    assert due([back, *others], "hv3", {"hv1", "hv2", "hv3", "hv4"}, everywhere) == []
    assert due([back, *others], "hv3", {"hv1", "hv3"}, everywhere) == wanted
    assert due([back, *others], "hv1", {"hv1"}, everywhere) == wanted
    away = replace(back, fence=FENCE)
    assert due([away, *others], "hv2", {"hv2"}, everywhere) == []
    assert to_be_cut([back, away, *others]) == [away]


@pytest.mark.parametrize("why", ["no Ceph is set up here", None])
def test_who_can_use_the_pool_lets_others_in_before_who_cannot(why: str | None) -> None:
    back = Node("hv1", roles=("storage",), fence=replace(FENCE, cut={"fast": ("a",)}, returned=True))
    nodes = [back, Node("hv2", roles=("storage",)), Node("hv3", roles=("storage",))]
    alive = {"hv1", "hv2", "hv3"}
    wanted = [Readmission("hv1", "fast", ("a",))]
    unable = {} if why is None else {"hv2": {"fast": PoolState(problem=why)}}
    states = {"hv1": {"fast": PoolState(2, 1)}, "hv3": {"fast": PoolState(2, 1)}, **unable}
    assert due(nodes, "hv3", alive, states) == wanted
    assert due(nodes, "hv2", alive, states) == []
    assert due(nodes, "hv2", alive, unable) == wanted  # nobody says that it can


def test_a_node_has_the_addresses_that_the_storage_has_seen_else_its_own() -> None:
    node = Node("hv1", address="10.0.0.1")
    assert addresses_of(node, "fast", {"fast": PoolState(addresses=("10.1.0.1",))}) == ("10.1.0.1",)
    assert addresses_of(node, "fast", {}) == ("10.0.0.1",)
    assert addresses_of(Node("hv1"), "fast", {"fast": PoolState()}) == ()


def test_writers_that_are_known_not_to_write_are_no_strangers() -> None:
    assert strangers(["b", "a", "a"], ["b"]) == ["a"]
    assert strangers(None, []) == []
