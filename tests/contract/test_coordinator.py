"""What every `Coordinator` does, on the fake and on a real ZooKeeper server."""

from functools import partial

import pytest

from pvc.core.coordination import (
    LARGEST_WRITE,
    Check,
    Clash,
    Conflict,
    CoordinationError,
    Coordinator,
    Create,
    Delete,
    Disconnected,
    Op,
    Put,
    SessionState,
    TooLarge,
    Znode,
)
from pvc.core.threads import ThreadRuntime
from tests.contract.clusters import PATIENCE, TIMEOUT, Cluster, Session, Told

RUNTIME = ThreadRuntime()
CONNECTED, SUSPENDED, LOST = SessionState.CONNECTED, SessionState.SUSPENDED, SessionState.LOST


@pytest.fixture
def session(cluster: Cluster) -> Session:
    return cluster.connect("hv1")


@pytest.fixture
def brief(cluster: Cluster) -> Session:
    """A session that soon ends when it is cut."""
    return cluster.connect("hv1", brief=True)


@pytest.fixture
def coordinator(session: Session) -> Coordinator:
    return session.coordinator


@pytest.fixture
def other(cluster: Cluster) -> Coordinator:
    return cluster.connect("hv2").coordinator


def read(coordinator: Coordinator, path: str) -> Znode:
    znode = coordinator.get(path)
    assert znode is not None
    return znode


def clash(coordinator: Coordinator, ops: list[Op]) -> tuple[Op, Clash]:
    with pytest.raises(Conflict) as caught:
        coordinator.commit(ops)
    return caught.value.op, caught.value.clash


def wait_until_gone(coordinator: Coordinator, path: str) -> None:
    told: Told[str] = Told()
    while coordinator.get(path, told.watch("changed")) is not None:
        told.wait_for("changed")
        told.events.clear()


def states_of(coordinator: Coordinator) -> Told[SessionState]:
    told: Told[SessionState] = Told()
    coordinator.listen(told)
    return told


class TestTransactions:
    def test_a_created_node_is_read_as_it_was_written(self, coordinator: Coordinator) -> None:
        assert coordinator.commit([Create("/vms", b"data")]) == ("/vms",)
        znode = read(coordinator, "/vms")
        assert (znode.data, znode.version, znode.owner) == (b"data", 0, 0)
        assert abs(znode.created - RUNTIME.now()) < 60
        assert znode.modified == znode.created

    def test_a_missing_node_reads_as_none(self, coordinator: Coordinator) -> None:
        assert coordinator.get("/nothing") is None
        assert coordinator.children("/nothing") is None

    def test_children_come_sorted(self, coordinator: Coordinator) -> None:
        names = [f"{number * 7919 % 1000}" for number in range(40)]
        coordinator.commit([Create("/vms"), *(Create(f"/vms/{name}") for name in names), Create("/vms/0/deeper")])
        assert coordinator.children("/vms") == tuple(sorted(names))
        assert coordinator.children("/vms/919") == ()

    def test_the_root_can_be_read(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/vms"), Create("/nodes")])
        assert coordinator.children("/") == ("nodes", "vms")

    def test_many_reads_come_in_the_order_asked_for(self, coordinator: Coordinator) -> None:
        names = [f"/n{number}" for number in range(450)]
        for start in range(0, 450, 50):
            coordinator.commit([Create(name, name.encode()) for name in names[start : start + 50]])
        asked = [*reversed(names), "/nothing", "/n7"]
        znodes = coordinator.get_many(asked)
        found = [None if znode is None else znode.data.decode() for znode in znodes]
        assert found == [*reversed(names), None, "/n7"]
        assert coordinator.get_many([]) == []

    def test_nodes_and_folders_are_read_in_one_look(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/vms", b"all"), Create("/vms/b"), Create("/vms/a"), Create("/nodes")])
        znodes, folders = coordinator.look(["/nothing", "/vms"], ["/vms", "/nothing", "/nodes"])
        assert znodes == coordinator.get_many(["/nothing", "/vms"])
        assert folders == [("a", "b"), None, ()]
        assert coordinator.look([], []) == ([], [])

    def test_each_write_raises_the_version(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/a")])
        coordinator.commit([Put("/a", b"1", 0)])
        coordinator.commit([Put("/a", b"2")])
        znode = read(coordinator, "/a")
        assert (znode.data, znode.version) == (b"2", 2)

    def test_operations_of_one_transaction_see_each_other(self, coordinator: Coordinator) -> None:
        created = coordinator.commit(
            [
                Create("/a", b"0"),
                Create("/a/b"),
                Put("/a", b"1", 0),
                Put("/a", b"2", 1),
                Check("/a", 2),
                Create("/a/c"),
                Delete("/a/b"),
                Create("/a/b", b"again"),
            ]
        )
        assert created == ("/a", "/a/b", "/a/c", "/a/b")
        assert read(coordinator, "/a").data == b"2"
        assert coordinator.children("/a") == ("b", "c")
        assert read(coordinator, "/a/b").data == b"again"

    def test_a_node_can_be_created_and_deleted_in_one_transaction(self, coordinator: Coordinator) -> None:
        assert coordinator.commit([Create("/a"), Delete("/a")]) == ("/a",)
        assert coordinator.get("/a") is None
        assert coordinator.children("/") == ()

    def test_a_transaction_of_nothing_does_nothing(self, coordinator: Coordinator) -> None:
        assert coordinator.commit([]) == ()

    def test_nodes_of_one_transaction_share_its_number_and_a_later_one_differs(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/a"), Create("/b")])
        first = read(coordinator, "/a").created_zxid
        assert read(coordinator, "/b").created_zxid == first
        coordinator.commit([Put("/a", b"1")])
        assert read(coordinator, "/a").created_zxid == first
        coordinator.commit([Delete("/a"), Create("/a")])
        assert read(coordinator, "/a").created_zxid > first

    def test_a_transaction_is_seen_by_other_sessions(self, coordinator: Coordinator, other: Coordinator) -> None:
        coordinator.commit([Create("/a", b"1")])
        # The server had answered the writer, and there is only one server.
        assert read(other, "/a").data == b"1"


class TestConflicts:
    @pytest.mark.parametrize(
        ("op", "expected"),
        [
            (Create("/a"), Clash.EXISTS),
            (Create("/none/b"), Clash.MISSING),
            (Put("/none", b""), Clash.MISSING),
            (Put("/a", b"", 5), Clash.CHANGED),
            (Delete("/none"), Clash.MISSING),
            (Delete("/a"), Clash.NOT_EMPTY),
            (Delete("/a/b", 5), Clash.CHANGED),
            (Check("/none"), Clash.MISSING),
            (Check("/a", 5), Clash.CHANGED),
        ],
        ids=str,
    )
    def test_a_refused_operation_undoes_the_whole_transaction(
        self, coordinator: Coordinator, op: Op, expected: Clash
    ) -> None:
        coordinator.commit([Create("/a", b"old"), Create("/a/b"), Create("/gone")])
        before = read(coordinator, "/a")
        ops: list[Op] = [Put("/a", b"new"), Create("/c"), Create("/c/d"), Delete("/gone"), op, Create("/e")]
        refused, why = clash(coordinator, ops)
        assert refused is op
        assert why is expected
        assert read(coordinator, "/a") == before
        assert coordinator.children("/") == ("a", "gone")

    def test_a_single_operation_can_be_refused(self, coordinator: Coordinator) -> None:
        assert clash(coordinator, [Check("/none")]) == (Check("/none"), Clash.MISSING)

    def test_the_conflict_names_operation_and_path(self, coordinator: Coordinator) -> None:
        with pytest.raises(Conflict, match="put /none: missing"):
            coordinator.commit([Put("/none", b"")])

    def test_two_writers_with_one_version_cannot_both_win(self, coordinator: Coordinator, other: Coordinator) -> None:
        coordinator.commit([Create("/a")])
        seen = read(other, "/a").version
        coordinator.commit([Put("/a", b"mine", seen)])
        assert clash(other, [Put("/a", b"yours", seen)])[1] is Clash.CHANGED
        assert read(other, "/a").data == b"mine"

    def test_writers_at_the_same_time_lose_no_update(self, coordinator: Coordinator, other: Coordinator) -> None:
        coordinator.commit([Create("/count", b"0")])

        def count(writer: Coordinator) -> None:
            done = 0
            while done < 50:
                seen = read(writer, "/count")
                try:
                    writer.commit([Put("/count", b"%d" % (int(seen.data) + 1), seen.version)])
                    done += 1
                except Conflict as conflict:
                    assert conflict.clash is Clash.CHANGED

        tasks = [RUNTIME.spawn("count", partial(count, writer)) for writer in (coordinator, coordinator, other, other)]
        assert all(task.join(4 * PATIENCE) for task in tasks)
        assert (read(coordinator, "/count").data, read(coordinator, "/count").version) == (b"200", 200)

    def test_an_ephemeral_node_cannot_have_children(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/e", ephemeral=True)])
        with pytest.raises(CoordinationError) as caught:
            coordinator.commit([Create("/e/x")])
        assert not isinstance(caught.value, Conflict | Disconnected)


class TestSequence:
    def test_tickets_count_on_whatever_was_deleted(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/queue")])
        assert coordinator.commit([Create("/queue/t-", sequence=True)]) == ("/queue/t-0000000000",)
        coordinator.commit([Delete("/queue/t-0000000000")])
        assert coordinator.commit([Create("/queue/t-", sequence=True)]) == ("/queue/t-0000000001",)

    def test_every_child_ever_created_counts(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/queue"), Create("/queue/plain"), Delete("/queue/plain"), Create("/queue/other")])
        assert coordinator.commit([Create("/queue/t-", sequence=True)]) == ("/queue/t-0000000002",)

    def test_a_refused_transaction_does_not_count(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/queue")])
        clash(coordinator, [Create("/queue/t-", sequence=True), Check("/none")])
        assert coordinator.commit([Create("/queue/t-", sequence=True)]) == ("/queue/t-0000000000",)

    def test_tickets_of_several_sessions_are_in_the_order_they_were_drawn(
        self, coordinator: Coordinator, other: Coordinator
    ) -> None:
        coordinator.commit([Create("/queue")])
        ticket = Create("/queue/t-", sequence=True, ephemeral=True)
        drawn = [each.commit([ticket])[0] for each in (coordinator, other, coordinator)]
        assert sorted(drawn) == drawn
        assert len(set(drawn)) == 3


class TestSize:
    def test_too_much_is_refused_before_sending_and_the_session_lives_on(self, coordinator: Coordinator) -> None:
        coordinator.commit([Create("/a")])
        identity, states = coordinator.session_id, states_of(coordinator)
        half = b"x" * (LARGEST_WRITE // 2)
        with pytest.raises(TooLarge, match="/a"):
            coordinator.commit([Put("/a", half), Put("/a", half)])
        assert read(coordinator, "/a").version == 0
        assert (coordinator.session_id, states.events) == (identity, [])

    def test_the_largest_allowed_write_is_taken(self, coordinator: Coordinator) -> None:
        identity = coordinator.session_id
        data = b"x" * (LARGEST_WRITE - 200)
        coordinator.commit([Create("/a", data)])
        assert read(coordinator, "/a").data == data
        assert coordinator.session_id == identity

    def test_the_largest_number_of_operations_is_taken(self, coordinator: Coordinator) -> None:
        identity = coordinator.session_id
        each = 100 + len("/a")
        coordinator.commit([Create("/a"), *[Put("/a", b"")] * (LARGEST_WRITE // each - 1)])
        assert coordinator.session_id == identity


class TestWatches:
    @pytest.fixture
    def told(self) -> Told[str]:
        return Told()

    def test_a_write_fires_the_data_watch_once(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        other.commit([Create("/a")])
        coordinator.get("/a", told.watch("a"))
        other.commit([Put("/a", b"1")])
        told.wait_for("a")
        coordinator.get("/a")
        other.commit([Put("/a", b"2")])
        coordinator.get("/a", told.watch("a again"))
        other.commit([Put("/a", b"3")])
        told.wait_until(lambda events: "a again" in events)
        assert told.events == ["a", "a again"]

    def test_reading_many_leaves_the_watches_that_are_given(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        coordinator.commit([Create("/a"), Create("/b")])
        names = ["/a", "/b", "/none"]
        assert [znode is None for znode in coordinator.get_many(names, [told.watch(name) for name in names])] == [
            False,
            False,
            True,
        ]
        other.commit([Create("/none")])
        told.wait_for("/none")
        other.commit([Put("/a", b"1")])
        told.wait_for("/none", "/a")
        other.commit([Put("/b", b"1")])
        told.wait_for("/none", "/a", "/b")

    def test_a_write_of_our_own_fires_our_watch(self, coordinator: Coordinator, told: Told[str]) -> None:
        coordinator.commit([Create("/a")])
        coordinator.get("/a", told.watch("a"))
        coordinator.commit([Put("/a", b"1")])
        told.wait_for("a")

    @pytest.mark.parametrize("verb", ["get", "children"])
    def test_creation_fires_the_watch_on_a_missing_node(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str], verb: str
    ) -> None:
        assert getattr(coordinator, verb)("/a", told.watch("a")) is None
        other.commit([Create("/b")])
        other.commit([Create("/a"), Create("/a/child")])
        told.wait_for("a")
        other.commit([Put("/a", b"1"), Create("/a/more")])
        coordinator.get("/a", told.watch("later"))
        other.commit([Put("/a", b"2")])
        told.wait_until(lambda events: "later" in events)
        assert told.events == ["a", "later"]

    def test_a_node_that_comes_and_goes_in_one_transaction_fires_the_watch(
        self, coordinator: Coordinator, told: Told[str]
    ) -> None:
        coordinator.get("/a", told.watch("a"))
        coordinator.commit([Create("/a"), Delete("/a")])
        told.wait_for("a")

    def test_deletion_fires_data_and_children_watches(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        other.commit([Create("/a"), Create("/a/b")])
        coordinator.get("/a/b", told.watch("data of b"))
        coordinator.children("/a/b", told.watch("children of b"))
        coordinator.children("/a", told.watch("children of a"))
        other.commit([Delete("/a/b")])
        told.wait_until(lambda events: len(events) == 3)
        assert sorted(told.events) == ["children of a", "children of b", "data of b"]
        assert told.events[-1] == "children of a"

    def test_the_children_watch_fires_when_a_child_comes(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        other.commit([Create("/a"), Create("/a/b")])
        coordinator.children("/a", told.watch("children of a"))
        other.commit([Put("/a", b"1"), Put("/a/b", b"1"), Create("/a/b/deeper")])
        coordinator.get("/a", told.watch("data of a"))
        other.commit([Put("/a", b"2")])
        told.wait_for("data of a")
        other.commit([Create("/a/c")])
        told.wait_for("data of a", "children of a")

    def test_a_new_child_does_not_fire_the_data_watch(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        other.commit([Create("/a")])
        coordinator.get("/a", told.watch("data"))
        coordinator.children("/a", told.watch("children"))
        other.commit([Create("/a/b")])
        told.wait_for("children")
        other.commit([Put("/a", b"1")])
        told.wait_for("children", "data")

    def test_watches_fire_in_the_order_of_the_changes(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        names = [f"/n{number}" for number in range(10)]
        other.commit([Create(name) for name in names])
        for name in names:
            coordinator.get(name, told.watch(name))
        order = [names[index] for index in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
        other.commit([Put(name, b"1") for name in order[:5]])
        for name in order[5:]:
            other.commit([Put(name, b"1")])
        told.wait_until(lambda events: len(events) == 10)
        assert told.events == order

    def test_a_refused_transaction_fires_nothing(
        self, coordinator: Coordinator, other: Coordinator, told: Told[str]
    ) -> None:
        other.commit([Create("/a")])
        coordinator.get("/a", told.watch("refused"))
        clash(other, [Put("/a", b"1"), Check("/none")])
        coordinator.get("/b", told.watch("b"))
        other.commit([Create("/b")])
        told.wait_until(lambda events: "b" in events)
        assert told.events == ["b"]

    def test_watches_fire_when_the_connection_breaks(self, session: Session, told: Told[str]) -> None:
        coordinator = session.coordinator
        coordinator.commit([Create("/a")])
        coordinator.get("/a", told.watch("data"))
        coordinator.children("/a", told.watch("children"))
        coordinator.get("/none", told.watch("none"))
        session.cut()
        told.wait_until(lambda events: sorted(events) == ["children", "data", "none"])


class TestSessions:
    def test_an_ephemeral_node_belongs_to_its_session(self, coordinator: Coordinator, other: Coordinator) -> None:
        coordinator.commit([Create("/e", ephemeral=True)])
        assert coordinator.state is CONNECTED
        assert read(other, "/e").owner == coordinator.session_id != 0
        assert coordinator.session_id != other.session_id

    def test_ephemeral_nodes_go_when_the_session_is_closed(self, coordinator: Coordinator, other: Coordinator) -> None:
        coordinator.commit([Create("/a"), Create("/a/e", ephemeral=True)])
        told: Told[str] = Told()
        other.get("/a/e", told.watch("e"))
        other.children("/a", told.watch("a"))
        coordinator.close()
        told.wait_until(lambda events: sorted(events) == ["a", "e"])
        assert other.children("/a") == ()

    def test_a_closed_session_says_so_and_refuses_calls(self, coordinator: Coordinator) -> None:
        states = states_of(coordinator)
        coordinator.close()
        coordinator.close()
        assert coordinator.state is SessionState.CLOSED
        assert states.events == [SessionState.CLOSED]
        assert coordinator.session_id == 0
        with pytest.raises(Disconnected):
            coordinator.get("/")

    def test_calls_fail_while_no_server_is_reached(self, session: Session) -> None:
        coordinator = session.coordinator
        states = states_of(coordinator)
        session.cut()
        states.wait_for(SUSPENDED)
        assert coordinator.state is SUSPENDED
        for call in (
            lambda: coordinator.get("/"),
            lambda: coordinator.children("/"),
            lambda: coordinator.get_many(["/"]),
            lambda: coordinator.look([], ["/"]),
            lambda: coordinator.commit([Create("/a")]),
        ):
            asked = RUNTIME.monotonic()
            with pytest.raises(Disconnected, match="hv1"):
                call()
            assert RUNTIME.monotonic() - asked < TIMEOUT / 3, "it waited for a connection, for as long as a session"

    def test_what_was_refused_during_a_break_is_not_done_after_it(self, session: Session) -> None:
        coordinator = session.coordinator
        states = states_of(coordinator)
        session.cut()
        states.wait_for(SUSPENDED)
        with pytest.raises(Disconnected):
            coordinator.commit([Create("/late")])
        session.mend()
        states.wait_for(SUSPENDED, CONNECTED)
        assert coordinator.get("/late") is None

    def test_a_short_break_keeps_the_session(self, session: Session, other: Coordinator) -> None:
        coordinator = session.coordinator
        coordinator.commit([Create("/e", ephemeral=True)])
        identity, states = coordinator.session_id, states_of(coordinator)
        session.cut()
        states.wait_for(SUSPENDED)
        assert coordinator.session_id == identity
        session.mend()
        states.wait_for(SUSPENDED, CONNECTED)
        assert coordinator.session_id == identity
        assert read(other, "/e").owner == identity

    def test_a_long_break_ends_the_session(self, brief: Session, other: Coordinator) -> None:
        coordinator = brief.coordinator
        coordinator.commit([Create("/e", ephemeral=True), Create("/p")])
        identity, states = coordinator.session_id, states_of(coordinator)
        brief.cut()
        wait_until_gone(other, "/e")
        assert coordinator.state is SUSPENDED
        brief.mend()
        states.wait_for(SUSPENDED, LOST, CONNECTED)
        assert coordinator.session_id not in (0, identity)
        assert coordinator.get("/e") is None
        coordinator.commit([Create("/e", ephemeral=True)])
        assert read(other, "/e").owner == coordinator.session_id

    def test_who_lost_its_ticket_can_commit_nothing_that_is_guarded_by_it(
        self, brief: Session, other: Coordinator
    ) -> None:
        coordinator = brief.coordinator
        coordinator.commit([Create("/queue"), Create("/vm", b"here")])
        (ticket,) = coordinator.commit([Create("/queue/t-", ephemeral=True, sequence=True)])
        coordinator.commit([Check(ticket), Put("/vm", b"moved once")])
        states = states_of(coordinator)
        brief.cut()
        wait_until_gone(other, ticket)
        brief.mend()
        states.wait_for(LOST, CONNECTED)
        assert clash(coordinator, [Put("/vm", b"moved twice"), Check(ticket)]) == (Check(ticket), Clash.MISSING)
        assert read(coordinator, "/vm").data == b"moved once"

    def test_watches_can_be_left_again_after_a_break(self, session: Session, other: Coordinator) -> None:
        coordinator = session.coordinator
        coordinator.commit([Create("/a")])
        states, told = states_of(coordinator), Told[str]()
        session.cut()
        states.wait_for(SUSPENDED)
        session.mend()
        states.wait_for(SUSPENDED, CONNECTED)
        coordinator.get("/a", told.watch("a"))
        other.commit([Put("/a", b"1")])
        told.wait_for("a")

    @pytest.mark.parametrize("applied", [True, False])
    def test_the_outcome_of_a_commit_can_be_lost(self, session: Session, other: Coordinator, applied: bool) -> None:
        coordinator = session.coordinator
        coordinator.commit([Create("/a")])
        session.lose_next_commit(applied)
        with pytest.raises(Disconnected):
            coordinator.commit([Put("/a", b"1", 0)])
        assert read(other, "/a").data == (b"1" if applied else b"")

    def test_servers_that_come_back_find_the_session_alive(self, cluster: Cluster, session: Session) -> None:
        coordinator = session.coordinator
        coordinator.commit([Create("/e", b"1", ephemeral=True)])
        identity, states = coordinator.session_id, states_of(coordinator)
        cluster.stop()
        try:
            states.wait_for(SUSPENDED)
            with pytest.raises(Disconnected):
                coordinator.commit([Put("/e", b"2")])
        finally:
            cluster.start()
        states.wait_for(SUSPENDED, CONNECTED)
        assert coordinator.session_id == identity
        znode = read(coordinator, "/e")
        assert (znode.data, znode.owner) == (b"1", identity)
        coordinator.commit([Put("/e", b"3")])

    def test_a_session_can_be_closed_while_no_server_is_reached(self, brief: Session, other: Coordinator) -> None:
        brief.coordinator.commit([Create("/e", ephemeral=True)])
        states = states_of(brief.coordinator)
        brief.cut()
        states.wait_for(SUSPENDED)
        brief.coordinator.close()
        assert brief.coordinator.state is SessionState.CLOSED
        wait_until_gone(other, "/e")


def test_what_is_made_and_taken_away_in_one_transaction_shows_that_it_was_not_there(
    coordinator: Coordinator, other: Coordinator
) -> None:
    probe: list[Op] = [Create("/session"), Delete("/session")]
    coordinator.commit([*probe, Create("/free")])
    assert coordinator.get("/session") is None and coordinator.get("/free") is not None
    other.commit([Create("/session", ephemeral=True)])
    assert clash(coordinator, [*probe, Create("/taken")]) == (probe[0], Clash.EXISTS)
    assert coordinator.get("/session") is not None and coordinator.get("/taken") is None
