"""What the fake storage can be told to do: tests of others rely on it."""

import pytest

from pvc.core.runtime import Task
from pvc.core.storage import Backend, BadPool, HypervisorSecret, ImageInUse, Pool, StorageError, StorageUnusable
from pvc.testing.runtime import SimProcess, World
from pvc.testing.storage import FakeContents, FakeStorage

POOL = Pool("fast", "fake")


def ignore(done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def storage(world: World) -> FakeStorage:
    return FakeStorage(world.process("storage"))


def load(world: World, storage: FakeStorage, told: list[int]) -> tuple[SimProcess, Task]:
    """Begin a load on hv1, in a process that can be killed."""
    storage.files["hv1", "/iso"] = FakeContents(1000, "a")
    daemon = world.process("hv1")
    backend: Backend = storage.open_on("hv1")(POOL)
    return daemon, daemon.spawn("load", lambda: backend.load("/iso", "disk", lambda done, _: told.append(done)))


def test_all_nodes_see_the_same_images_and_pools_have_their_own(storage: FakeStorage) -> None:
    storage.open_on("hv1")(POOL).create("disk", 1000)
    assert storage.open_on("hv2")(POOL).images() == ["disk"]
    assert storage.open_on("hv2")(Pool("slow", "fake")).images() == []


def test_slow_storage_takes_its_time_for_each_part(world: World, storage: FakeStorage) -> None:
    told: list[int] = []
    storage.slow(1.0, node="hv1")
    _, task = load(world, storage, told)
    world.run_for(6.5)
    assert told == [100, 200, 300, 400, 500]
    world.run_for(10)
    assert not task.alive()
    assert storage.image("fast", "disk").contents == FakeContents(1000, "a")


def test_storage_that_hangs_goes_on_when_it_is_well_again(world: World, storage: FakeStorage) -> None:
    told: list[int] = []
    storage.hang(pool="fast")
    _, task = load(world, storage, told)
    world.run_for(1000)
    assert told == []
    storage.hang(False, pool="fast")
    world.run_for(10)
    assert not task.alive()
    assert told[-1] == 1000


@pytest.mark.parametrize("leaves_halves", [True, False])
def test_a_daemon_that_dies_leaves_half_an_image_only_where_that_is_wanted(
    world: World, storage: FakeStorage, leaves_halves: bool
) -> None:
    storage.leaves_halves = leaves_halves
    storage.slow(1.0)
    daemon, _ = load(world, storage, [])
    world.run_for(5)
    daemon.kill()
    world.run_for(100)
    assert [image.contents.text for image in storage.images.values()] == (["half"] if leaves_halves else [])


def test_a_call_fails_once_and_leaves_nothing(storage: FakeStorage) -> None:
    storage.leaves_halves = True
    storage.files["hv1", "/iso"] = FakeContents(1000, "a")
    backend = storage.open_on("hv1")(POOL)
    storage.fail_once("load", StorageError("out of luck"), halfway=True)
    with pytest.raises(StorageError, match="luck"):
        backend.load("/iso", "disk", ignore)
    assert storage.images == {}
    backend.load("/iso", "disk", ignore)


def test_a_pool_that_cannot_be_used_on_one_node_can_on_others(storage: FakeStorage) -> None:
    storage.spoil("nothing is mounted", node="hv1")
    with pytest.raises(StorageUnusable, match="nothing is mounted"):
        storage.open_on("hv1")(POOL).look()
    storage.open_on("hv2")(POOL).look()
    storage.spoil("", node="hv1")
    storage.open_on("hv1")(POOL).look()


def test_nothing_goes_into_a_full_pool(storage: FakeStorage) -> None:
    backend = storage.open_on("hv1")(POOL)
    backend.create("disk", 1000)
    storage.fill("fast")
    with pytest.raises(StorageError, match="full"):
        backend.resize("disk", 2000)
    with pytest.raises(StorageError, match="full"):
        backend.create("other", 1)
    assert backend.look().free == 0
    backend.remove("disk")
    assert storage.images == {}


def test_calls_are_counted_by_node(storage: FakeStorage) -> None:
    for node in ("hv1", "hv1", "hv2"):
        storage.open_on(node)(POOL).look()
    assert (storage.count("look"), storage.count("look", "hv1"), storage.count("images")) == (3, 2, 0)


def test_a_machine_that_is_cut_off_reaches_nothing_and_writes_nothing(storage: FakeStorage) -> None:
    first, second = (storage.open_on(node, f"192.0.2.{number}")(POOL) for number, node in enumerate(("hv1", "hv2"), 1))
    first.create("disk", 1000)
    storage.opens("fast", "disk", "192.0.2.1")
    assert second.writers("disk") == ("192.0.2.1",)
    second.cut_off(["192.0.2.1"])
    with pytest.raises(StorageUnusable, match="cut off"):
        first.look()
    with pytest.raises(StorageUnusable, match="cut off"):
        storage.writes("fast", "disk", "late", "192.0.2.1")
    assert second.writers("disk") == ()
    second.readmit(["192.0.2.1"])
    storage.writes("fast", "disk", "in time", "192.0.2.1")


def test_a_protected_snapshot_and_its_image_stay(storage: FakeStorage) -> None:
    backend = storage.open_on("hv1")(POOL)
    backend.create("disk", 1000)
    backend.add_snapshot("disk", "kept")
    backend.protect_snapshot("disk", "kept", True)
    with pytest.raises(ImageInUse, match="protected"):
        backend.remove_snapshot("disk", "kept")
    with pytest.raises(ImageInUse, match="protected"):
        backend.remove("disk")
    assert backend.inspect("disk").snapshots == ("kept",)


def test_secrets_and_options_are_as_set(storage: FakeStorage) -> None:
    storage.secrets["fast"] = HypervisorSecret("id", "ceph", "client.libvirt", b"key")
    assert storage.open_on("hv1")(POOL).secret() == storage.secrets["fast"]
    storage.open_on("hv1")(Pool("fast", "fake", {"format": "qcow2"})).create("disk", 1000)
    assert storage.image("fast", "disk").format == "qcow2"
    for options in ({"format": "vmdk"}, {"path": "/x"}):
        with pytest.raises(BadPool):
            storage.open_on("hv1")(Pool("fast", "fake", options))
