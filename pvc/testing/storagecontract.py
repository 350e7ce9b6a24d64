"""The tests that every backend of volumes has to pass: each promise of `pvc.core.storage.Backend`.

Import all of it into a module of tests that has a fixture `storage`, which makes a `Storage` of yours for each test.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import pytest

from pvc.core.storage import (
    Backend,
    Feature,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    StorageError,
    Unsupported,
)

MEBIBYTE = 1 << 20
SIZE = 4 * MEBIBYTE


class Storage(Protocol):
    """One empty pool, its backend on this machine, and what a test needs beside."""

    backend: Backend
    format: str
    """Of images that the backend makes."""

    def write(self, image: str, letter: str) -> None:
        """Fill the first 64 KiB of an image with an ASCII letter, as a VM would."""

    def read(self, image: str) -> str:
        """The letter that is there; empty: zeros."""

    def file(self, letter: str, size: int) -> str:
        """A new raw file on this machine that begins so; its path."""

    def read_file(self, path: str) -> str:
        """The letter at the beginning of a file that was saved as raw."""

    def no_image(self) -> str:
        """A path at which no image is."""

    def new_path(self) -> str:
        """A path at which a file can be made."""

    def held(self, image: str) -> AbstractContextManager[None]:
        """Have a program open an image in order to write, as long as the block lasts."""


class Stopped(Exception):
    """What a report raises in order to have the work stopped."""


class Progress:
    """A report that notes what it is told, and can stop the work: at its begin, or when all but the end is done."""

    def __init__(self, stop_at: str = "") -> None:
        self.told: list[tuple[int, int]] = []
        self._stop_at = stop_at

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if self._stop_at == "begin" or (self._stop_at == "end" and done == total):
            raise Stopped


def ignore(done: int, total: int) -> None:
    """A report that nobody reads."""


def needs(storage: Storage, feature: Feature) -> Backend:
    if feature not in storage.backend.features:
        pytest.skip(f"this backend has no {feature.value}")
    return storage.backend


def lacks(storage: Storage, feature: Feature) -> Backend:
    if feature in storage.backend.features:
        pytest.skip(f"this backend has {feature.value}")
    return storage.backend


def all_raise(kind: type[StorageError], match: str, *attempts: Callable[[], object]) -> None:
    for attempt in attempts:
        with pytest.raises(kind, match=match):
            attempt()


def test_a_pool_has_room_and_no_images(storage: Storage) -> None:
    room = storage.backend.look()
    assert 0 < room.free <= room.total
    assert list(storage.backend.images()) == []


def test_a_created_image_is_there_and_empty(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    image = storage.backend.inspect("disk")
    assert (image.size, image.format, image.snapshots, image.parent) == (SIZE, storage.format, (), "")
    assert list(storage.backend.images()) == ["disk"]
    assert storage.read("disk") == ""


@pytest.mark.parametrize("size", [512, SIZE + 512, 1 << 41])
def test_an_image_has_exactly_the_size_it_was_asked_for(storage: Storage, size: int) -> None:
    if size > storage.backend.look().total:
        pytest.skip("the pool has not room enough in all")
    storage.backend.create("disk", size)
    assert storage.backend.inspect("disk").size == size


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "x.qcow2", "x.raw", "9" * 63])
def test_every_name_that_a_volume_may_have_is_the_name_of_an_image(storage: Storage, name: str) -> None:
    storage.backend.create(name, SIZE)
    assert list(storage.backend.images()) == [name]
    assert storage.backend.inspect(name).size == SIZE
    storage.backend.remove(name)
    assert list(storage.backend.images()) == []


def test_nothing_is_made_over_an_image_that_is_there(storage: Storage) -> None:
    for name in ("disk", "other"):
        storage.backend.create(name, SIZE)
    storage.write("disk", "a")
    path = storage.file("b", SIZE)
    all_raise(
        ImageExists,
        "disk",
        lambda: storage.backend.create("disk", 2 * SIZE),
        lambda: storage.backend.rename("other", "disk"),
        lambda: storage.backend.rename("disk", "disk"),
        lambda: storage.backend.clone("disk", None, "disk", ignore),
        lambda: storage.backend.clone("other", None, "disk", ignore),
        lambda: storage.backend.load(path, "disk", ignore),
    )
    assert storage.read("disk") == "a"
    assert storage.backend.inspect("disk").size == SIZE
    assert sorted(storage.backend.images()) == ["disk", "other"]


def test_an_image_that_is_not_there_is_named(storage: Storage) -> None:
    backend = storage.backend
    all_raise(
        NoSuchImage,
        "gone",
        lambda: backend.inspect("gone"),
        lambda: backend.remove("gone"),
        lambda: backend.resize("gone", SIZE),
        lambda: backend.rename("gone", "new"),
        lambda: backend.clone("gone", None, "new", ignore),
        lambda: backend.save("gone", None, storage.new_path(), "raw", ignore),
    )
    assert list(backend.images()) == []


def test_a_removed_image_is_gone_and_its_name_free(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    storage.backend.remove("disk")
    assert list(storage.backend.images()) == []
    storage.backend.create("disk", SIZE)
    assert storage.read("disk") == ""


@pytest.mark.parametrize("size", [SIZE // 2, SIZE, 3 * SIZE])
def test_an_image_is_given_another_size_and_keeps_what_fits(storage: Storage, size: int) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    storage.backend.resize("disk", size)
    assert storage.backend.inspect("disk").size == size
    assert storage.read("disk") == "a"


def test_an_image_keeps_its_contents_under_a_new_name(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    storage.backend.rename("disk", "new")
    assert list(storage.backend.images()) == ["new"]
    assert storage.read("new") == "a"


def test_a_clone_has_the_same_contents_and_is_another_image(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    storage.backend.clone("disk", None, "copy", ignore)
    storage.write("disk", "b")
    assert storage.read("copy") == "a"
    assert storage.backend.inspect("copy").size == SIZE
    assert storage.backend.inspect("copy").parent == ""
    storage.backend.remove("disk")
    assert storage.read("copy") == "a"


def test_a_file_is_loaded(storage: Storage) -> None:
    storage.backend.load(storage.file("a", SIZE + 512), "disk", ignore)
    assert storage.read("disk") == "a"
    image = storage.backend.inspect("disk")
    assert (image.size, image.format) == (SIZE + 512, storage.format)


def test_what_is_no_image_is_not_loaded(storage: Storage) -> None:
    path = storage.no_image()
    with pytest.raises(StorageError, match=path):
        storage.backend.load(path, "disk", ignore)
    assert list(storage.backend.images()) == []


def test_an_image_is_saved_to_a_file(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    path = storage.new_path()
    storage.backend.save("disk", None, path, "raw", ignore)
    assert storage.read_file(path) == "a"


def test_an_image_saved_as_qcow2_can_be_loaded_again(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    path = storage.new_path()
    storage.backend.save("disk", None, path, "qcow2", ignore)
    storage.backend.load(path, "again", ignore)
    assert storage.read("again") == "a"
    assert storage.backend.inspect("again").size == SIZE


def test_no_file_is_saved_over_another(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    path = storage.file("x", SIZE)
    progress = Progress()
    with pytest.raises(ImageExists, match=path):
        storage.backend.save("disk", None, path, "raw", progress)
    assert storage.read_file(path) == "x"
    assert progress.told == [], "who is told something knows that there was no such file"


def works_with_progress(storage: Storage) -> dict[str, Callable[[Progress], None]]:
    """Every kind of long work on the image `disk` and a file."""
    path = storage.file("a", SIZE)
    return {
        "clone": lambda report: storage.backend.clone("disk", None, "new", report),
        "load": lambda report: storage.backend.load(path, "new", report),
        "save": lambda report: storage.backend.save("disk", None, storage.new_path(), "raw", report),
    }


@pytest.mark.parametrize("work", ["clone", "load", "save"])
def test_progress_grows_to_all_there_is_to_do(storage: Storage, work: str) -> None:
    storage.backend.create("disk", SIZE)
    storage.write("disk", "a")
    progress = Progress()
    works_with_progress(storage)[work](progress)
    done = [done for done, _ in progress.told]
    assert done == sorted(done)
    assert {total for _, total in progress.told} == {done[-1]}
    assert done[-1] > 0


@pytest.mark.parametrize("stop_at", ["begin", "end"])
@pytest.mark.parametrize("work", ["clone", "load", "save"])
def test_work_that_is_stopped_leaves_nothing_and_can_be_done_again(storage: Storage, work: str, stop_at: str) -> None:
    storage.backend.create("disk", SIZE)
    works = works_with_progress(storage)
    with pytest.raises(Stopped):
        works[work](Progress(stop_at))
    assert list(storage.backend.images()) == ["disk"]
    works[work](Progress())


def test_a_save_that_is_stopped_leaves_no_file(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    path = storage.new_path()
    with pytest.raises(Stopped):
        storage.backend.save("disk", None, path, "raw", Progress("end"))
    storage.backend.save("disk", None, path, "raw", ignore)


def test_what_a_program_has_open_is_left_alone(storage: Storage) -> None:
    backend = storage.backend
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    with storage.held("disk"):
        all_raise(ImageInUse, "disk", lambda: backend.remove("disk"), lambda: backend.rename("disk", "new"))
        if Feature.LIVE_RESIZE not in backend.features:
            all_raise(ImageInUse, "disk", lambda: backend.resize("disk", 2 * SIZE))
        assert backend.inspect("disk").size == SIZE
    assert list(backend.images()) == ["disk"]
    assert storage.read("disk") == "a"
    backend.remove("disk")


def test_an_image_that_is_open_grows_where_the_storage_can(storage: Storage) -> None:
    backend = needs(storage, Feature.LIVE_RESIZE)
    backend.create("disk", SIZE)
    with storage.held("disk"):
        backend.resize("disk", 2 * SIZE)
    assert backend.inspect("disk").size == 2 * SIZE


def test_a_snapshot_keeps_what_the_image_was(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "before")
    storage.write("disk", "b")
    assert backend.inspect("disk").snapshots == ("before",)
    assert storage.read("disk") == "b"
    backend.roll_back("disk", "before", ignore)
    assert storage.read("disk") == "a"
    assert backend.inspect("disk").snapshots == ("before",)
    backend.remove_snapshot("disk", "before")
    assert backend.inspect("disk").snapshots == ()
    assert storage.read("disk") == "a"


@pytest.mark.parametrize("name", ["1", "2.2", "a-b_c"])
def test_a_snapshot_is_known_by_its_name_and_nothing_else(storage: Storage, name: str) -> None:
    """A storage may number snapshots; the number is no name."""
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "first")
    with pytest.raises(NoSuchImage, match=name):
        backend.remove_snapshot("disk", name)
    with pytest.raises(NoSuchImage, match=name):
        backend.roll_back("disk", name, ignore)
    with pytest.raises(NoSuchImage, match=name):
        backend.clone("disk", name, "new", ignore)
    storage.write("disk", "b")
    backend.add_snapshot("disk", name)
    assert sorted(backend.inspect("disk").snapshots) == sorted(("first", name))
    backend.clone("disk", "first", "old", ignore)
    backend.clone("disk", name, "new", ignore)
    assert (storage.read("old"), storage.read("new")) == ("a", "b")
    backend.roll_back("disk", "first", ignore)
    backend.roll_back("disk", name, ignore)
    assert storage.read("disk") == "b"
    for linked in ("old", "new"):
        backend.remove(linked)
    backend.remove_snapshot("disk", name)
    assert backend.inspect("disk").snapshots == ("first",)


@pytest.mark.parametrize("size", [SIZE // 2, 2 * SIZE])
def test_rolling_back_brings_back_the_size(storage: Storage, size: int) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "before")
    backend.resize("disk", size)
    storage.write("disk", "b")
    backend.roll_back("disk", "before", ignore)
    assert backend.inspect("disk").size == SIZE
    assert storage.read("disk") == "a"


@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("size", [SIZE // 2, SIZE + 512, 3 * SIZE])
def test_a_copy_of_a_snapshot_is_as_large_as_the_image_was_then(storage: Storage, size: int, format: str) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "before")
    backend.resize("disk", size)
    storage.write("disk", "b")
    path = storage.new_path()
    try:
        backend.clone("disk", "before", "copy", ignore)
    except Unsupported as why:  # whoever cannot copy more than the image has now says so, and what does help
        assert "disk" in str(why) and size < SIZE
        with pytest.raises(Unsupported, match="disk"):
            backend.save("disk", "before", path, format, ignore)
        assert list(backend.images()) == ["disk"]
        backend.resize("disk", SIZE)
        backend.clone("disk", "before", "copy", ignore)
    backend.save("disk", "before", path, format, ignore)
    backend.load(path, "loaded", ignore)
    assert (storage.read("copy"), storage.read("loaded"), storage.read("disk")) == ("a", "a", "b")
    assert (backend.inspect("copy").size, backend.inspect("loaded").size) == (SIZE, SIZE)


def test_snapshots_go_with_an_image_that_is_renamed_or_removed(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    backend.add_snapshot("disk", "one")
    backend.rename("disk", "new")
    assert backend.inspect("new").snapshots == ("one",)
    backend.remove("new")
    backend.create("new", SIZE)
    assert backend.inspect("new").snapshots == ()


def test_a_second_snapshot_of_one_name_is_refused(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "one")
    storage.write("disk", "b")
    with pytest.raises(ImageExists, match="one"):
        backend.add_snapshot("disk", "one")
    backend.roll_back("disk", "one", ignore)
    assert storage.read("disk") == "a"


def test_a_snapshot_that_is_not_there_is_named(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    all_raise(
        NoSuchImage,
        "gone",
        lambda: backend.add_snapshot("gone", "one"),
        lambda: backend.remove_snapshot("gone", "one"),
        lambda: backend.remove_snapshot("disk", "gone"),
        lambda: backend.protect_snapshot("disk", "gone", True),
        lambda: backend.roll_back("disk", "gone", ignore),
        lambda: backend.clone("disk", "gone", "new", ignore),
        lambda: backend.save("disk", "gone", storage.new_path(), "raw", ignore),
    )
    assert list(backend.images()) == ["disk"]


def test_a_snapshot_is_cloned_and_saved_as_it_was(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    storage.write("disk", "a")
    backend.add_snapshot("disk", "before")
    storage.write("disk", "b")
    path = storage.new_path()
    backend.clone("disk", "before", "old", ignore)
    backend.save("disk", "before", path, "raw", ignore)
    assert (storage.read("old"), storage.read_file(path), storage.read("disk")) == ("a", "a", "b")
    linked = Feature.LINKED_CLONES in backend.features
    assert backend.inspect("old").parent == ("disk@before" if linked else "")
    assert backend.inspect("old").snapshots == ()


def test_what_a_linked_clone_needs_is_not_removed(storage: Storage) -> None:
    backend = needs(storage, Feature.LINKED_CLONES)
    backend.create("disk", SIZE)
    backend.add_snapshot("disk", "before")
    backend.clone("disk", "before", "linked", ignore)
    all_raise(ImageInUse, "disk", lambda: backend.remove("disk"), lambda: backend.remove_snapshot("disk", "before"))
    assert backend.inspect("disk").snapshots == ("before",)
    backend.remove("linked")
    backend.remove("disk")


def test_a_snapshot_whose_protection_was_taken_back_can_be_removed(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    backend.add_snapshot("disk", "kept")
    for on in (True, True, False, False):
        backend.protect_snapshot("disk", "kept", on)
    backend.remove_snapshot("disk", "kept")


def test_a_snapshot_of_an_open_image_is_taken_only_where_the_storage_can(storage: Storage) -> None:
    backend = needs(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    backend.add_snapshot("disk", "one")
    with storage.held("disk"):
        with pytest.raises(ImageInUse, match="disk"):
            backend.roll_back("disk", "one", ignore)
        if Feature.LIVE_SNAPSHOTS in backend.features:
            backend.add_snapshot("disk", "two")
        else:
            with pytest.raises(ImageInUse, match="disk"):
                backend.add_snapshot("disk", "two")
            with pytest.raises(ImageInUse, match="disk"):
                backend.remove_snapshot("disk", "one")
    assert "one" in backend.inspect("disk").snapshots


def test_a_storage_without_snapshots_says_so(storage: Storage) -> None:
    backend = lacks(storage, Feature.SNAPSHOTS)
    backend.create("disk", SIZE)
    with pytest.raises(Unsupported):
        backend.add_snapshot("disk", "one")
    assert backend.inspect("disk").snapshots == ()


def test_a_hypervisor_is_told_where_an_image_is(storage: Storage) -> None:
    storage.backend.create("disk", SIZE)
    disk = storage.backend.disk("disk", storage.format)
    assert disk.type in ("file", "block", "network")
    assert disk.format == storage.format
    assert disk.source.startswith("<source ")
    assert "disk" in disk.source


def test_writers_are_told_only_by_a_storage_that_knows_them(storage: Storage) -> None:
    backend = storage.backend
    backend.create("disk", SIZE)
    if backend.writers("disk") is None:
        assert Feature.CUTS_OFF not in backend.features
        return
    assert backend.writers("disk") == ()
    with storage.held("disk"):
        assert len(backend.writers("disk") or ()) == 1


def test_a_storage_that_cuts_nobody_off_says_so(storage: Storage) -> None:
    backend = lacks(storage, Feature.CUTS_OFF)
    with pytest.raises(Unsupported):
        backend.cut_off(["192.0.2.7"])
    backend.readmit(["192.0.2.7"])


def test_a_machine_that_was_never_cut_off_is_readmitted_all_the_same(storage: Storage) -> None:
    backend = needs(storage, Feature.CUTS_OFF)
    backend.readmit(["192.0.2.7"])
    backend.cut_off(["192.0.2.7"])
    backend.cut_off(["192.0.2.7"])
    backend.readmit(["192.0.2.7"])
