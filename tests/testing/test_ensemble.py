"""The faults that only the fake ensemble has, on simulated time."""

from collections.abc import Callable, Sequence

import pytest

from pvc.core.coordination import Create, Delete, Disconnected, Op, Put, SessionState
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import World

CONNECTED, SUSPENDED, LOST = SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.LOST


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ensemble(world: World) -> FakeEnsemble:
    return FakeEnsemble(world.process("zookeeper"), expire_after=10.0)


def test_a_suspended_session_expires_at_its_timeout_and_not_before(world: World, ensemble: FakeEnsemble) -> None:
    session, other = ensemble.connect("hv1"), ensemble.connect("hv2")
    session.commit([Create("/e", ephemeral=True)])
    session.suspend()
    world.run_for(9.9)
    assert other.get("/e") is not None
    world.run_for(0.2)
    assert other.get("/e") is None
    assert session.state is SUSPENDED


def test_the_timeout_starts_again_with_each_break(world: World, ensemble: FakeEnsemble) -> None:
    session = ensemble.connect("hv1")
    session.commit([Create("/e", ephemeral=True)])
    for _ in range(3):
        session.suspend()
        world.run_for(9.0)
        session.resume()
    assert session.get("/e") is not None


def test_an_expired_session_stays_lost_until_it_is_resumed(world: World, ensemble: FakeEnsemble) -> None:
    session, other = ensemble.connect("hv1"), ensemble.connect("hv2")
    states: list[SessionState] = []
    session.listen(states.append)
    session.commit([Create("/e", ephemeral=True)])
    identity = session.session_id
    session.expire()
    world.run_for(100.0)
    assert (states, session.session_id, other.get("/e")) == ([SUSPENDED, LOST], 0, None)
    with pytest.raises(Disconnected, match="lost"):
        session.get("/")
    session.resume()
    assert states == [SUSPENDED, LOST, CONNECTED]
    assert session.session_id > identity


def test_what_a_crashed_process_held_stays_until_the_timeout(world: World, ensemble: FakeEnsemble) -> None:
    session, other = ensemble.connect("hv1"), ensemble.connect("hv2")
    session.commit([Create("/a"), Create("/a/e", ephemeral=True)])
    heard: list[object] = []
    session.listen(heard.append)
    session.get("/a", lambda: heard.append("watch"))
    session.crash()
    other.commit([Put("/a", b"1")])
    world.run_for(9.9)
    assert other.children("/a") == ("e",)
    world.run_for(0.2)
    assert other.children("/a") == ()
    assert heard == []
    with pytest.raises(Disconnected):
        session.commit([Create("/b")])


def test_no_session_expires_while_all_servers_are_down(world: World, ensemble: FakeEnsemble) -> None:
    alive, cut, dead = (ensemble.connect(name) for name in ("hv1", "hv2", "hv3"))
    for session in (alive, cut, dead):
        session.commit([Create(f"/{session.name}", ephemeral=True)])
    cut.suspend()
    dead.crash()
    ensemble.stop()
    assert alive.state is SUSPENDED
    with pytest.raises(Disconnected):
        ensemble.connect("hv4")
    world.run_for(1000.0)
    ensemble.start()
    assert (alive.state, cut.state) == (CONNECTED, SUSPENDED)
    assert alive.children("/") == ("hv1", "hv2", "hv3")
    world.run_for(10.1)
    assert alive.children("/") == ("hv1",)


def test_a_resumed_session_waits_for_the_servers(ensemble: FakeEnsemble) -> None:
    session = ensemble.connect("hv1")
    session.suspend()
    ensemble.stop()
    session.resume()
    assert session.state is SUSPENDED
    ensemble.start()
    assert session.state is CONNECTED


def test_observers_see_every_transaction_before_any_watch_does(world: World, ensemble: FakeEnsemble) -> None:
    seen: list[object] = []

    def observe(name: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        seen.append((name, tuple(ops), created))

    ensemble.on_commit.append(observe)
    session = ensemble.connect("hv1")
    session.get("/t-0000000000", lambda: seen.append("watch"))
    ticket = Create("/t-", ephemeral=True, sequence=True)
    session.commit([ticket])
    session.close()
    assert seen == [
        ("hv1", (ticket,), ("/t-0000000000",)),
        "watch",
        ("hv1", (Delete("/t-0000000000"),), ()),
    ]


def test_latency_lets_others_in_between_but_never_inside_a_transaction(world: World, ensemble: FakeEnsemble) -> None:
    ensemble.connect("setup").commit([Create("/a"), Create("/b")])
    order: list[str] = []

    def writer(name: str, latency: float) -> Callable[[], None]:
        session = ensemble.connect(name)
        session.latency = lambda: latency

        def write() -> None:
            for _ in range(3):
                session.commit([Put("/a", name.encode()), Put("/b", name.encode())])
                znodes = session.get_many(["/a", "/b"])
                order.append(name)
                assert len({znode.data for znode in znodes if znode is not None}) == 1

        return write

    runtime = world.process("clients")
    runtime.spawn("slow", writer("slow", 0.5))
    runtime.spawn("fast", writer("fast", 0.3))
    world.run_for(10.0)
    assert world.failures == []
    assert order == ["fast", "slow", "fast", "fast", "slow", "slow"]


def test_a_session_that_is_cut_during_its_latency_has_written_nothing(world: World, ensemble: FakeEnsemble) -> None:
    session, other = ensemble.connect("hv1"), ensemble.connect("hv2")
    session.latency = lambda: 1.0
    world.process("hv1").spawn("write", lambda: _expect_disconnected(lambda: session.commit([Create("/a")])))
    world.run_for(0.5)
    session.suspend()
    world.run_for(1.0)
    assert world.failures == []
    assert other.get("/a") is None


def test_a_watch_may_read_and_write(ensemble: FakeEnsemble) -> None:
    session = ensemble.connect("hv1")

    def create_another() -> None:
        assert session.get("/a") is not None
        session.commit([Create("/b")])

    session.get("/a", create_another)
    session.commit([Create("/a")])
    assert session.children("/") == ("a", "b")


def test_the_dump_shows_values_by_path(ensemble: FakeEnsemble) -> None:
    session = ensemble.connect("hv1")
    session.commit([Create("/b", b"text"), Create("/a", b'{"state": "ready"}'), Create("/a/x", b"\xff")])
    assert ensemble.dump() == {"/": "", "/a": {"state": "ready"}, "/a/x": "\ufffd", "/b": "text"}
    assert list(ensemble.dump()) == ["/", "/a", "/a/x", "/b"]


def test_a_path_that_zookeeper_would_read_otherwise_is_refused(ensemble: FakeEnsemble) -> None:
    session = ensemble.connect("hv1")
    for path in ("a", "/a/", "//a", ""):
        with pytest.raises(ValueError, match="no path"):
            session.commit([Create(path)])
        with pytest.raises(ValueError, match="no path"):
            session.get(path)


def _expect_disconnected(call: Callable[[], object]) -> None:
    with pytest.raises(Disconnected):
        call()
