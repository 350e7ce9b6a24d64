"""The mirror on the fake ensemble: what is asked once, what is dropped when, and that the service is woken."""

from collections.abc import Callable, Sequence

import pytest

from pvc.core.coordination import Conflict, Create, Delete, Disconnected, Op, Put, SessionState, Watch, Znode
from pvc.core.mirror import Mirror
from pvc.core.runtime import Signal
from pvc.core.threads import ThreadRuntime
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble


class Counting:
    """Passes everything on; counts the reads and can let something happen before a read returns."""

    def __init__(self, inner: FakeCoordinator) -> None:
        self.inner = inner
        self.reads: list[str] = []
        self.before_return: Callable[[], object] = lambda: None
        self.watches_get_lost = False

    @property
    def state(self) -> SessionState:
        return self.inner.state

    @property
    def session_id(self) -> int:
        return self.inner.session_id

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        self.inner.listen(listener)

    def get(self, path: str, watch: Watch | None = None) -> Znode | None:
        self.reads.append(path)
        znode = self.inner.get(path, None if self.watches_get_lost else watch)
        self.before_return()
        return znode

    def children(self, path: str, watch: Watch | None = None) -> tuple[str, ...] | None:
        self.reads.append(path)
        names = self.inner.children(path, None if self.watches_get_lost else watch)
        self.before_return()
        return names

    def get_many(self, paths: Sequence[str], watches: Sequence[Watch] = ()) -> list[Znode | None]:
        self.reads.extend(paths)
        znodes = self.inner.get_many(paths, () if self.watches_get_lost else watches)
        self.before_return()
        return znodes

    def look(
        self, nodes: Sequence[str], folders: Sequence[str]
    ) -> tuple[list[Znode | None], list[tuple[str, ...] | None]]:
        self.reads.extend([*nodes, *folders])
        return self.inner.look(nodes, folders)

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        return self.inner.commit(ops)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture
def ensemble() -> FakeEnsemble:
    return FakeEnsemble(ThreadRuntime())


@pytest.fixture
def other(ensemble: FakeEnsemble) -> FakeCoordinator:
    session = ensemble.connect("other")
    session.commit([Create("/vms", b"old"), Create("/vms/a")])
    return session


@pytest.fixture
def counting(ensemble: FakeEnsemble, other: FakeCoordinator) -> Counting:
    return Counting(ensemble.connect("hv1"))


@pytest.fixture
def wake() -> Signal:
    return ThreadRuntime().signal()


@pytest.fixture
def mirror(counting: Counting, wake: Signal) -> Mirror:
    return Mirror(counting, ThreadRuntime(), wake)


def data(znode: Znode | None) -> bytes | None:
    return None if znode is None else znode.data


def test_the_cluster_is_asked_once_for_what_does_not_change(mirror: Mirror, counting: Counting) -> None:
    for _ in range(3):
        assert data(mirror.get("/vms")) == b"old"
        assert mirror.children("/vms") == ("a",)
        assert mirror.get("/none") is None
        assert mirror.children("/none") is None
    assert sorted(counting.reads) == ["/none", "/none", "/vms", "/vms"]


def test_nothing_wakes_the_service_while_nothing_changes(mirror: Mirror, other: FakeCoordinator, wake: Signal) -> None:
    mirror.get("/vms")
    other.commit([Create("/nodes")])
    assert not wake.wait(0)


def test_a_change_is_seen_and_wakes_the_service(mirror: Mirror, other: FakeCoordinator, wake: Signal) -> None:
    mirror.get("/vms")
    other.commit([Put("/vms", b"new")])
    assert wake.wait(0)
    assert data(mirror.get("/vms")) == b"new"


def test_a_second_change_is_seen_like_the_first(mirror: Mirror, other: FakeCoordinator, wake: Signal) -> None:
    for value in (b"1", b"2", b"3"):
        mirror.get("/vms")
        other.commit([Put("/vms", value)])
        assert wake.wait(0)
        assert data(mirror.get("/vms")) == value


def test_a_child_that_comes_or_goes_is_seen(mirror: Mirror, other: FakeCoordinator, wake: Signal) -> None:
    mirror.children("/vms")
    other.commit([Create("/vms/b")])
    assert wake.wait(0)
    assert mirror.children("/vms") == ("a", "b")
    other.commit([Delete("/vms/a")])
    assert wake.wait(0)
    assert mirror.children("/vms") == ("b",)


def test_a_node_that_appears_or_vanishes_is_seen(mirror: Mirror, other: FakeCoordinator, wake: Signal) -> None:
    assert (mirror.get("/new"), mirror.children("/new")) == (None, None)
    other.commit([Create("/new", b"1")])
    assert wake.wait(0)
    assert (data(mirror.get("/new")), mirror.children("/new")) == (b"1", ())
    other.commit([Delete("/new")])
    assert wake.wait(0)
    assert (mirror.get("/new"), mirror.children("/new")) == (None, None)


def test_a_change_of_one_node_leaves_the_others_known(
    mirror: Mirror, counting: Counting, other: FakeCoordinator
) -> None:
    mirror.get("/vms")
    mirror.get("/vms/a")
    mirror.children("/vms")
    other.commit([Put("/vms", b"new")])
    counting.reads.clear()
    for path in ("/vms", "/vms/a"):
        mirror.get(path)
    mirror.children("/vms")
    assert counting.reads == ["/vms"]


@pytest.mark.parametrize("verb", ["get", "children"])
def test_what_changed_before_the_read_returned_is_not_kept(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, verb: str
) -> None:
    counting.before_return = lambda: other.commit([Put("/vms", b"new"), Create("/vms/b")])
    getattr(mirror, verb)("/vms")
    counting.before_return = lambda: None
    assert data(mirror.get("/vms")) == b"new"
    assert mirror.children("/vms") == ("a", "b")


@pytest.mark.parametrize("verb", ["get", "children"])
def test_what_was_forgotten_before_the_read_returned_is_not_kept(mirror: Mirror, counting: Counting, verb: str) -> None:
    counting.before_return = mirror.forget
    getattr(mirror, verb)("/vms")
    counting.before_return = lambda: None
    getattr(mirror, verb)("/vms")
    assert counting.reads == ["/vms", "/vms"]


def test_a_break_wakes_the_service_and_what_was_known_must_be_asked_for_again(
    mirror: Mirror, counting: Counting, wake: Signal
) -> None:
    mirror.get("/vms")
    counting.inner.suspend()
    assert wake.wait(0)
    with pytest.raises(Disconnected):
        mirror.get("/vms")
    counting.inner.resume()
    assert wake.wait(0)
    assert data(mirror.get("/vms")) == b"old"


def test_what_changed_during_a_break_is_seen_after_it(
    mirror: Mirror, counting: Counting, other: FakeCoordinator
) -> None:
    mirror.get("/vms")
    mirror.children("/vms")
    counting.inner.suspend()
    other.commit([Put("/vms", b"new"), Create("/vms/b")])
    counting.inner.resume()
    assert data(mirror.get("/vms")) == b"new"
    assert mirror.children("/vms") == ("a", "b")


@pytest.mark.parametrize("verb", ["get", "children"])
def test_a_read_that_spans_a_break_is_not_kept(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, verb: str
) -> None:
    def break_and_mend() -> None:
        counting.inner.suspend()
        other.commit([Put("/vms", b"new"), Create("/vms/b")])
        counting.inner.resume()

    counting.before_return = break_and_mend
    getattr(mirror, verb)("/vms")
    counting.before_return = lambda: None
    assert data(mirror.get("/vms")) == b"new"
    assert mirror.children("/vms") == ("a", "b")


def test_a_new_session_forgets_what_the_old_one_knew(mirror: Mirror, counting: Counting, wake: Signal) -> None:
    counting.commit([Create("/vms/e", ephemeral=True)])
    assert data(mirror.get("/vms/e")) == b""
    counting.inner.expire()
    counting.inner.resume()
    assert wake.wait(0)
    assert mirror.get("/vms/e") is None


@pytest.mark.parametrize("fault", ["suspend", "expire"])
def test_a_lost_watch_hides_nothing_once_the_session_has_changed(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, fault: str
) -> None:
    counting.watches_get_lost = True
    mirror.get("/vms")
    mirror.children("/vms")
    other.commit([Put("/vms", b"new"), Create("/vms/b")])
    assert data(mirror.get("/vms")) == b"old"
    getattr(counting.inner, fault)()
    counting.inner.resume()
    assert data(mirror.get("/vms")) == b"new"
    assert mirror.children("/vms") == ("a", "b")


def test_a_failed_read_is_not_remembered(mirror: Mirror, counting: Counting) -> None:
    counting.inner.suspend()
    with pytest.raises(Disconnected):
        mirror.children("/vms")
    counting.inner.resume()
    assert mirror.children("/vms") == ("a",)


def test_forget_and_drop_make_the_next_read_ask(mirror: Mirror, counting: Counting) -> None:
    def read_all() -> list[str]:
        counting.reads.clear()
        mirror.get("/vms")
        mirror.children("/vms")
        mirror.get("/vms/a")
        return counting.reads

    assert len(read_all()) == 3
    assert read_all() == []
    mirror.drop("/vms")
    assert read_all() == ["/vms", "/vms"]
    mirror.forget()
    assert len(read_all()) == 3


def version(mirror: Mirror, path: str) -> int:
    znode = mirror.get(path)
    assert znode is not None
    return znode.version


def test_our_own_write_does_not_wake_the_service_and_later_changes_do(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, wake: Signal
) -> None:
    before = version(mirror, "/vms")
    with mirror.own_write({"/vms": before + 1}):
        counting.commit([Put("/vms", b"ours", before)])
    assert not wake.wait(0)
    reads = len(counting.reads)
    assert data(mirror.get("/vms")) == b"ours" and len(counting.reads) == reads
    other.commit([Put("/vms", b"theirs")])
    assert wake.wait(0)
    assert data(mirror.get("/vms")) == b"theirs"


def test_a_change_right_after_our_own_write_wakes_the_service(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, wake: Signal
) -> None:
    before = version(mirror, "/vms")
    with mirror.own_write({"/vms": before + 1}):
        counting.commit([Put("/vms", b"ours", before)])
        other.commit([Put("/vms", b"theirs")])
    assert wake.wait(0)
    assert data(mirror.get("/vms")) == b"theirs"


def test_after_a_write_that_failed_the_node_is_read_again(
    mirror: Mirror, counting: Counting, other: FakeCoordinator, wake: Signal
) -> None:
    before = version(mirror, "/vms")
    with pytest.raises(Conflict), mirror.own_write({"/vms": before + 1}):
        other.commit([Put("/vms", b"theirs")])
        counting.commit([Put("/vms", b"ours", before)])
    assert data(mirror.get("/vms")) == b"theirs"


def test_a_connection_lost_after_our_own_write_wakes_the_service(
    mirror: Mirror, counting: Counting, ensemble: FakeEnsemble, wake: Signal
) -> None:
    before = version(mirror, "/vms")
    with mirror.own_write({"/vms": before + 1}):
        counting.commit([Put("/vms", b"ours", before)])
        counting.inner.suspend()
        assert wake.wait(0)
    assert wake.wait(0)
    counting.inner.resume()


def test_many_are_asked_for_at_once_and_then_known_until_they_change(
    counting: Counting, other: FakeCoordinator, mirror: Mirror, wake: Signal
) -> None:
    mirror.get("/vms")
    counting.reads.clear()
    mirror.prefetch(["/vms", "/vms/a", "/vms/none"])
    assert counting.reads == ["/vms/a", "/vms/none"]
    assert mirror.get("/vms/a") is not None and mirror.get("/vms/none") is None
    assert counting.reads == ["/vms/a", "/vms/none"]
    wake.wait(0)
    other.commit([Put("/vms/a", b"new"), Create("/vms/none")])
    assert wake.wait(1.0)
    znode = mirror.get("/vms/a")
    assert znode is not None and znode.data == b"new" and mirror.get("/vms/none") is not None
    counting.reads.clear()
    mirror.prefetch(["/vms/a"])
    assert counting.reads == []


def test_what_changes_while_many_are_read_is_not_kept(
    counting: Counting, other: FakeCoordinator, mirror: Mirror
) -> None:
    counting.before_return = lambda: other.commit([Put("/vms/a", b"new")])
    mirror.prefetch(["/vms/a"])
    counting.before_return = lambda: None
    znode = mirror.get("/vms/a")
    assert znode is not None and znode.data == b"new"
