"""Asking a node's daemon what an operation would do: who gets which answer, and that asking changes nothing."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from pvc.core import keys
from pvc.core.coordination import Create, Delete, Disconnected, Put
from pvc.core.errors import PvcError
from pvc.core.forecast import Forecast, Objection, Prospect, joined
from pvc.core.forecasting import PATIENCE, ForecastDesk, NoForecast, Question, ask_forecast
from pvc.core.mirror import Mirror
from pvc.core.model import Node, Operation, OperationKind
from pvc.core.records import decode, encode
from pvc.core.tree import tree_ops
from pvc.testing.cluster import SimCluster
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import SimProcess, World

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0)


def forecast_of(operation: Operation) -> Forecast:
    """An answer that tells which question it answers."""
    moves = Prospect("u1", "vm1", "live", "hv1", "hv2", 128, 900, objections={"hv3": Objection("is flushed", "wait")})
    return Forecast(prospects=(moves,), warnings=(operation.id,), waits=("hv2 is first",))


class Site:
    """One node whose daemon only answers questions, and those who ask."""

    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"))
        self.client = self.ensemble.connect("client")
        self.client.commit([*tree_ops(), Create(keys.node("hv1"), encode(Node("hv1")))])
        self.asked: list[Operation] = []
        self.answers: dict[str, Forecast | PvcError] = {}
        self.daemon: SimProcess | None = None

    def start(self, foresee: Callable[[Operation], Forecast] = forecast_of, pause: float = 0.0) -> None:
        """Start the daemon; each answer takes it `pause` seconds."""
        session, process = self.ensemble.connect("hv1"), self.world.process("hv1")
        session.commit([Create(keys.node_session("hv1"), b"", ephemeral=True)])
        wake = process.signal()
        desk = ForecastDesk("hv1", session, Mirror(session, process, wake), logging.getLogger("test.forecasting"))

        def slowly(operation: Operation) -> Forecast:
            self.asked.append(operation)
            if pause:
                process.signal().wait(pause)
            return foresee(operation)

        def serve() -> None:
            while True:
                try:
                    desk.answer(slowly)
                except Disconnected:
                    process.sleep(1.0)
                    continue
                wake.wait(30.0)

        process.spawn("desk", serve)
        self.daemon = process

    def ask(self, name: str) -> None:
        """Have somebody ask in a process of their own; the answer comes to be in `answers`."""
        process, session = self.world.process(name), self.ensemble.connect(name)

        def work() -> None:
            try:
                self.answers[name] = ask_forecast(session, process, replace(FLUSH, id=name))
            except PvcError as error:
                self.answers[name] = error

        process.spawn("ask", work)

    def answer_to(self, name: str) -> Forecast | PvcError:
        """What somebody was told, as soon as they were."""
        assert self.world.run_until(lambda: name in self.answers, 120.0), f"{name} waits in vain"
        return self.answers[name]


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_question_is_answered_by_the_daemon(site: Site) -> None:
    site.start()
    site.ask("ann")
    assert site.answer_to("ann") == forecast_of(replace(FLUSH, id="ann"))
    assert [operation.id for operation in site.asked] == ["ann"]


def test_a_question_is_answered_once_and_the_next_one_anew(site: Site) -> None:
    site.start()
    for name in ("ann", "bob", "ann"):
        site.answers.clear()
        site.ask(name)
        assert site.answer_to(name) == forecast_of(replace(FLUSH, id=name))
        site.world.run_for(100.0)
    assert [operation.id for operation in site.asked] == ["ann", "bob", "ann"]


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_all_who_ask_at_once_get_their_own_answer(site: Site, pause: float) -> None:
    site.start(pause=pause)
    names = [f"asker{number}" for number in range(8)]
    for name in names:
        site.ask(name)
    for name in names:
        assert site.answer_to(name) == forecast_of(replace(FLUSH, id=name))
    assert len(site.asked) < 3 * len(names), "they take the question out of each other's hands"


def test_an_answer_that_is_there_already_is_nobody_elses(site: Site) -> None:
    site.start()
    site.ask("ann")
    site.answer_to("ann")
    assert site.daemon is not None
    site.daemon.kill()
    site.ask("bob")
    told = site.answer_to("bob")
    assert isinstance(told, NoForecast) and "has not answered within 15 s" in str(told)


def test_an_answer_is_not_written_over_a_question_that_came_meanwhile(site: Site) -> None:
    path = keys.node_forecast("hv1")
    site.client.commit([Create(path, encode(Question("ann", replace(FLUSH, id="ann"))))])
    site.start(pause=1.0)
    site.world.run_for(0.5)
    site.client.commit([Put(path, encode(Question("bob", replace(FLUSH, id="bob"))))])
    site.world.run_for(1.1)
    znode = site.client.get(path)
    assert znode is not None and decode(Question, znode.data, path).open
    site.world.run_for(1.0)
    znode = site.client.get(path)
    assert znode is not None
    assert decode(Question, znode.data, path).answer == forecast_of(replace(FLUSH, id="bob"))


def test_a_connection_that_is_lost_over_a_question_leaves_it_open(site: Site) -> None:
    tries = iter([True, False])

    def foresee(operation: Operation) -> Forecast:
        if next(tries):
            raise Disconnected("no server")
        return forecast_of(operation)

    site.start(foresee)
    site.ask("ann")
    assert site.answer_to("ann") == forecast_of(replace(FLUSH, id="ann"))


def test_without_a_daemon_it_is_said_at_once_and_nothing_is_written(site: Site) -> None:
    site.ask("ann")
    site.world.run_for(0.1)
    told = site.answer_to("ann")
    assert isinstance(told, NoForecast) and "start pvcd on hv1" in str(told)
    assert site.client.get(keys.node_forecast("hv1")) is None


def test_a_daemon_that_does_not_answer_is_waited_for_so_long_and_no_longer(site: Site) -> None:
    site.client.commit([Create(keys.node_session("hv1"))])
    site.ask("ann")
    site.world.run_for(PATIENCE - 0.1)
    assert "ann" not in site.answers
    told = site.answer_to("ann")
    assert isinstance(told, NoForecast) and "look at its log" in str(told)
    assert site.world.time < PATIENCE + 1


def test_a_failure_of_a_plugin_is_an_answer_too(site: Site) -> None:
    def fail(_operation: Operation) -> Forecast:
        raise ZeroDivisionError("oops")

    site.start(fail)
    site.ask("ann")
    told = site.answer_to("ann")
    assert isinstance(told, NoForecast) and "ZeroDivisionError" in str(told) and "see its log" in str(told)
    assert site.world.time < PATIENCE


def test_what_the_daemon_cannot_tell_it_says_in_words(site: Site) -> None:
    def fail(_operation: Operation) -> Forecast:
        raise PvcError("libvirtd does not answer; start it")

    site.start(fail)
    site.ask("ann")
    assert str(site.answer_to("ann")) == "the daemon of hv1 cannot tell: libvirtd does not answer; start it"


@pytest.mark.parametrize("there", [b"{", b'{"id": 3, "colour": "green"}', b""])
def test_what_another_version_wrote_is_replaced(site: Site, there: bytes) -> None:
    site.client.commit([Create(keys.node_forecast("hv1"), there)])
    site.start()
    site.ask("ann")
    assert site.answer_to("ann") == forecast_of(replace(FLUSH, id="ann"))


def test_a_question_of_somebody_who_has_gone_does_not_keep_others_waiting(site: Site) -> None:
    site.client.commit([Create(keys.node_session("hv1"))])
    site.ask("ann")
    site.world.run_for(60.0)
    site.client.commit([Delete(keys.node_session("hv1"))])
    site.start()
    site.ask("bob")
    assert site.answer_to("bob") == forecast_of(replace(FLUSH, id="bob"))


def test_joined_forecasts_keep_their_order_and_are_clear_only_together() -> None:
    one = Forecast(obstacles=(Objection("a"),), warnings=("w",))
    two = forecast_of(FLUSH)
    both = joined([one, two])
    assert both == Forecast(two.prospects, one.obstacles, two.waits, ("w", "op1"))
    assert two.clear and not both.clear
    assert not replace(two, prospects=(replace(two.prospects[0], stays=True),)).clear


# In a whole cluster.


def tree(cluster: SimCluster) -> dict[str, tuple[bytes, int]]:
    """Every node of the tree with its data and version."""
    found: dict[str, tuple[bytes, int]] = {}
    paths = [""]
    while paths:
        path = paths.pop()
        for name in cluster.client.children(path or "/") or ():
            znode = cluster.client.get(f"{path}/{name}")
            assert znode is not None
            found[f"{path}/{name}"] = (znode.data, znode.version)
            paths.append(f"{path}/{name}")
    return found


@pytest.mark.parametrize("kind", ["flush", "unflush"])
def test_a_forecast_touches_nothing_but_the_question(kind: str) -> None:
    with SimCluster(3) as cluster:
        cluster.start()
        for name in ("vm1", "vm2"):
            cluster.define(name, "hv1")
        cluster.settle()
        if kind == "unflush":
            cluster.ask("flush", "hv1")
            cluster.finish("hv1")
        cluster.run(30.0)  # until every daemon has told of its plugins
        before, where = tree(cluster), cluster.where()
        assert len(cluster.forecast(kind, "hv1", make_room=True).prospects) == 2
        cluster.run(30.0)
        after = tree(cluster)
        assert set(after) - set(before) == {keys.node_forecast("hv1")}
        changed = {path for path in before if before[path] != after[path]}
        assert all(path.endswith(("/facts", "/plugins")) for path in changed), changed
        assert cluster.where() == where


def test_a_forecast_during_an_operation_neither_stops_nor_speeds_it() -> None:
    with SimCluster(3) as cluster:
        cluster.start()
        for name in ("vm1", "vm2", "vm3"):
            cluster.define(name, "hv1")
        cluster.settle()
        cluster.ask("flush", "hv1")
        assert cluster.run_until(lambda: cluster.actual("vm1").state.value == "migrating")
        said = cluster.forecast("flush", "hv1")
        assert {prospect.name for prospect in said.prospects} >= {"vm2", "vm3"}
        assert cluster.finish("hv1").message == "hv1 is flushed: 3 VMs moved, none left"


def test_a_daemon_without_servers_answers_when_they_are_back() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        cluster.define("vm1", "hv1")
        cluster.settle()
        answers: list[object] = []
        cluster.nodes["hv1"].sessions[0].suspend()
        cluster.begin_forecast("flush", "hv1", answers.append)
        cluster.run(3.0)
        assert answers == []
        cluster.nodes["hv1"].sessions[0].resume()
        assert cluster.run_until(lambda: bool(answers), 10.0)
        assert isinstance(answers[0], Forecast) and answers[0].clear


def test_a_node_whose_hypervisor_does_not_answer_says_so() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        cluster.nodes["hv1"].host.down()
        with pytest.raises(NoForecast, match="cannot tell"):
            cluster.forecast("flush", "hv1")


def test_what_is_no_question_is_not_answered() -> None:
    with SimCluster(2) as cluster:
        cluster.start()
        cluster.run(60.0)
        assert cluster.client.get(keys.node_forecast("hv1")) is None
        cluster.client.commit([Create(keys.node_forecast("hv1"), b"?")])
        cluster.run(60.0)
        znode = cluster.client.get(keys.node_forecast("hv1"))
        assert znode is not None and znode.data == b"?"
