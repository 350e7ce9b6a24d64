"""Directories as pools, with the real qemu-img and real files: what the contract of all backends does not say."""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.storage import (
    BadPool,
    DamagedImage,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    Pool,
    Report,
    StorageError,
    StorageUnusable,
    Unsupported,
)
from pvc.core.threads import ThreadRuntime
from pvc.plugins.storage.directory import imagefiles
from pvc.plugins.storage.directory.backend import STALE, opener
from pvc.plugins.storage.directory.foreign import look_at
from pvc.plugins.storage.directory.qemuimg import QemuImg
from pvc.plugins.storage.filesystem import SystemDirectories
from tests.contract.storages import MEBIBYTE, Directory, await_lock, held_by_qemu_io

SIZE = 4 * MEBIBYTE
DAY_OLD = 1_000_000_000


class Stopped(Exception):
    """What a report raises in order to have the work stopped."""


def ignore(done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture(params=["qcow2", "raw"])
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Directory:
    return Directory(tmp_path, request.param)


@pytest.fixture
def qcow2(tmp_path: Path) -> Directory:
    return Directory(tmp_path, "qcow2")


def qemu_img(pool: Directory, *words: str) -> None:
    pool.processes.check(["qemu-img", *words], timeout=60)


def overwrite(path: str, offset: int, data: bytes) -> None:
    with Path(path).open("r+b") as file:
        file.seek(offset)
        file.write(data)


def foreign(pool: Directory, kind: str) -> str:
    """A file that cannot be loaded."""
    path = pool.new_path()
    base = pool.file("x", SIZE)
    match kind:
        case kind if kind in OTHER_FORMATS:
            qemu_img(pool, "create", "-q", "-f", *OTHER_FORMATS[kind], path, str(SIZE))
        case "luks":
            path = base
            overwrite(path, 0, b"LUKS\xba\xbe\0\1")
        case "backing":
            qemu_img(pool, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, path)
        case "data":
            option = f"data_file={path}.data,data_file_raw=on"
            qemu_img(pool, "create", "-q", "-f", "qcow2", "-o", option, path, str(SIZE))
        case "encrypted":
            qemu_img(pool, "create", "-q", "-f", "qcow2", path, str(SIZE))
            overwrite(path, 32, (1).to_bytes(4, "big"))
        case "cut off":
            Path(path).write_bytes(b"QFI\xfb\0\0\0\3")
        case "broken":
            Path(path).write_bytes(b"QFI\xfb\0\0\0\3".ljust(1024, b"\0"))
        case "pipe":
            os.mkfifo(path)
        case "directory":
            Path(path).mkdir()
        case "empty":
            Path(path).touch()
        case "relative":
            return os.path.relpath(base)
    return path


OTHER_FORMATS: Mapping[str, Sequence[str]] = {
    "vmdk": ("vmdk",),
    "vmdk of parts": ("vmdk", "-o", "subformat=twoGbMaxExtentFlat"),
    "vdi": ("vdi",),
    "vhd": ("vpc",),
    "fixed vhd": ("vpc", "-o", "subformat=fixed"),
    "vhdx": ("vhdx",),
    "qed": ("qed",),
    "qcow": ("qcow",),
    "parallels": ("parallels",),
}
"""As qemu-img makes them."""
KINDS = [
    "luks",
    "backing",
    "data",
    "encrypted",
    "cut off",
    "broken",
    "pipe",
    "directory",
    "empty",
    "relative",
    "missing",
]


@pytest.mark.parametrize("kind", [*OTHER_FORMATS, *KINDS])
def test_what_is_no_plain_image_is_refused_and_leaves_nothing(qcow2: Directory, kind: str) -> None:
    path = foreign(qcow2, kind)
    with pytest.raises(StorageError) as refused:
        qcow2.backend.load(path, "disk", ignore)
    assert path in str(refused.value)
    assert not isinstance(refused.value, NoSuchImage | ImageExists)
    assert list(qcow2.path.iterdir()) == []


class Told(SystemProcesses):
    """Notes each program with its words."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        self.commands.append(command)
        return super().run(command, timeout=timeout, env=env, stdin=stdin)

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        self.commands.append(command)
        return super().start(command, output=output, env=env, new_session=new_session)


@pytest.mark.parametrize("kind", [*OTHER_FORMATS, "luks", "backing", "data", "encrypted"])
def test_no_program_opens_a_file_that_could_lead_to_others(qcow2: Directory, kind: str) -> None:
    path = foreign(qcow2, kind)
    told = Told()
    with pytest.raises(StorageError, match="qemu-img convert"):
        look_at(path, QemuImg(told))
    assert told.commands == []


def test_a_raw_disk_with_the_bytes_of_another_format_is_loaded_once_it_is_qcow2(qcow2: Directory) -> None:
    path, other = foreign(qcow2, "luks"), qcow2.new_path()
    qemu_img(qcow2, "convert", "-f", "raw", "-O", "qcow2", path, other)
    qcow2.backend.load(other, "disk", ignore)
    qcow2.backend.save("disk", None, f"{other}.raw", "raw", ignore)
    assert Path(f"{other}.raw").read_bytes() == Path(path).read_bytes()


def test_a_file_that_qemu_would_take_for_a_descriptor_of_others_is_loaded_as_it_is(tmp_path: Path) -> None:
    told, pool = Told(), Directory(tmp_path, "raw")
    path = pool.new_path()
    secret = pool.file("s", SIZE)
    text = f'version=1\nCID=1\nparentCID=ffffffff\ncreateType="monolithicFlat"\nRW 8192 FLAT "{secret}" 0\n'
    Path(path).write_bytes(text.encode().ljust(SIZE // 2, b"\n"))
    options = {"path": str(pool.path), "format": "raw", "mount": "false"}
    opener(told, ThreadRuntime(), SystemDirectories())(Pool("slow", "directory", options)).load(path, "disk", ignore)
    assert Path(pool.file_of("disk")).read_bytes() == Path(path).read_bytes()
    assert [command[command.index("-f") + 1] for command in told.commands] == ["raw", "raw"]


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_images_of_both_formats_are_loaded_and_their_holes_stay_holes(pool: Directory, format: str) -> None:
    source = pool.file("a", 64 * MEBIBYTE)
    if format == "qcow2":
        raw, source = source, pool.new_path()
        qemu_img(pool, "convert", "-f", "raw", "-O", "qcow2", raw, source)
    pool.backend.load(source, "disk", ignore)
    image = pool.backend.inspect("disk")
    assert image.size == 64 * MEBIBYTE
    assert image.used is not None
    assert image.used <= MEBIBYTE
    assert pool.read("disk") == "a"


def test_what_a_vm_writes_into_a_raw_image_is_never_taken_for_a_header(tmp_path: Path) -> None:
    pool = Directory(tmp_path, "raw")
    pool.backend.create("disk", SIZE)
    other = pool.new_path()
    qemu_img(pool, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", other)
    with Path(pool.file_of("disk")).open("r+b") as disk:
        disk.write(Path(other).read_bytes()[:65536])
    pool.backend.clone("disk", None, "copy", ignore)
    pool.backend.resize("disk", 2 * SIZE)
    path = pool.new_path()
    pool.backend.save("copy", None, path, "raw", ignore)
    assert pool.backend.inspect("disk").size == 2 * SIZE
    assert Path(path).read_bytes()[:65536] == Path(other).read_bytes()[:65536]


def test_images_are_not_for_everybody_to_read(pool: Directory) -> None:
    pool.backend.create("disk", SIZE)
    pool.backend.clone("disk", None, "copy", ignore)
    path = pool.new_path()
    pool.backend.save("disk", None, path, "qcow2", ignore)
    for file in (pool.file_of("disk"), pool.file_of("copy"), path):
        assert Path(file).stat().st_mode & 0o777 == 0o600


def test_a_snapshot_that_was_made_by_hand_is_told_with_the_others(qcow2: Directory) -> None:
    qcow2.backend.create("disk", SIZE)
    qemu_img(qcow2, "snapshot", "-c", "mine", qcow2.file_of("disk"))
    qcow2.backend.add_snapshot("disk", "ours")
    assert qcow2.backend.inspect("disk").snapshots == ("mine", "ours")


def test_files_of_others_are_seen_as_no_images(pool: Directory) -> None:
    for name in ("notes.txt", f".hidden.{pool.format}", "disk.iso"):
        (pool.path / name).touch()
    (pool.path / f"sub.{pool.format}").mkdir()
    (pool.path / f"link.{pool.format}").symlink_to("/etc/passwd")
    assert list(pool.backend.images()) == []


def test_no_link_is_followed_out_of_the_pool(pool: Directory) -> None:
    outside = pool.file("x", SIZE)
    if pool.format == "qcow2":
        qemu_img(pool, "create", "-q", "-f", "qcow2", outside, str(SIZE))
    before = Path(outside).read_bytes()
    (pool.path / f"link.{pool.format}").symlink_to(outside)
    backend = pool.backend
    for attempt in (
        lambda: backend.remove("link"),
        lambda: backend.resize("link", 2 * SIZE),
        lambda: backend.rename("link", "new"),
        lambda: backend.clone("link", None, "new", ignore),
        lambda: backend.inspect("link"),
    ):
        with pytest.raises(StorageError, match="link"):
            attempt()
    with pytest.raises(ImageExists):
        backend.create("link", SIZE)
    with pytest.raises(StorageError, match="symbolic"):
        imagefiles.remove(str(pool.path / f"link.{pool.format}"))
    assert Path(outside).read_bytes() == before
    assert [path.name for path in pool.path.iterdir()] == [f"link.{pool.format}"]


@pytest.mark.parametrize("name", ["../files/x", "a/b", "..", ""])
def test_no_name_leads_out_of_the_pool(pool: Directory, name: str) -> None:
    pool.backend.create("disk", SIZE)
    for attempt in (
        lambda: pool.backend.create(name, SIZE),
        lambda: pool.backend.rename("disk", name),
        lambda: pool.backend.remove(name),
        lambda: pool.backend.disk(name, pool.format),
    ):
        with pytest.raises(StorageError, match="cannot be the name"):
            attempt()
    assert list(pool.backend.images()) == ["disk"]


@pytest.mark.parametrize("size", [0, -512, 1, 1000])
def test_impossible_sizes_are_refused(pool: Directory, size: int) -> None:
    with pytest.raises(StorageError, match="multiple of 512"):
        pool.backend.create("disk", size)
    pool.backend.create("disk", SIZE)
    with pytest.raises(StorageError, match="multiple of 512"):
        pool.backend.resize("disk", size)
    assert pool.backend.inspect("disk").size == SIZE


def test_without_its_mount_a_pool_is_not_touched(tmp_path: Path) -> None:
    here = Directory(tmp_path, "raw")
    here.backend.create("disk", SIZE)
    options = {"path": str(here.path), "format": "raw"}
    backend = opener(here.processes, ThreadRuntime(), SystemDirectories())(Pool("slow", "directory", options))
    for attempt in (
        backend.look,
        backend.images,
        lambda: backend.inspect("disk"),
        lambda: backend.create("new", SIZE),
        lambda: backend.remove("disk"),
        lambda: backend.rename("disk", "new"),
        lambda: backend.resize("disk", 2 * SIZE),
        lambda: backend.clone("disk", None, "new", ignore),
        lambda: backend.load(here.file("a", SIZE), "new", ignore),
    ):
        with pytest.raises(StorageUnusable, match="nothing is mounted"):
            attempt()
    assert [path.name for path in here.path.iterdir()] == ["disk.raw"]


def test_a_directory_that_is_gone_is_unusable(pool: Directory) -> None:
    pool.path.rmdir()
    with pytest.raises(StorageUnusable, match="does not exist"):
        pool.backend.look()
    with pytest.raises(StorageUnusable):
        pool.backend.create("disk", SIZE)


def test_bad_options_are_refused_before_anything_is_touched(pool: Directory) -> None:
    with pytest.raises(BadPool):
        opener(pool.processes, ThreadRuntime(), SystemDirectories())(Pool("slow", "directory", {"path": "x"}))


def test_what_a_crash_left_is_removed_after_a_day_unless_something_writes_to_it(pool: Directory) -> None:
    old, young, held = (pool.path / f".{name}.{pool.format}.0123456789abcdef.part" for name in ("old", "young", "held"))
    mine = pool.path / ".mine.part"
    for path in (old, young, held, mine):
        path.write_bytes(bytes(SIZE))
    pool.backend.create("disk", SIZE)
    with held_by_qemu_io(pool.processes, str(held), "raw", pool.files / "output"):
        for path in (old, held, mine):
            os.utime(path, (DAY_OLD, DAY_OLD))
        pool.backend.clone("disk", None, "copy", ignore)
    left = {path.name for path in pool.path.iterdir()} - {f"disk.{pool.format}", f"copy.{pool.format}"}
    assert left == {young.name, held.name, mine.name}
    assert STALE >= 3600


@pytest.mark.parametrize("work", ["clone", "load"])
def test_who_comes_second_with_a_name_replaces_nothing(pool: Directory, work: str) -> None:
    pool.backend.create("disk", SIZE)
    source = pool.file("b", SIZE)

    def lose_the_race(done: int, total: int) -> None:
        if done == total:
            pool.backend.create("new", SIZE)
            pool.write("new", "a")

    with pytest.raises(ImageExists, match="new"):
        if work == "clone":
            pool.backend.clone("disk", None, "new", lose_the_race)
        else:
            pool.backend.load(source, "new", lose_the_race)
    assert pool.read("new") == "a"
    assert {path.name for path in pool.path.iterdir()} == {f"disk.{pool.format}", f"new.{pool.format}"}


def test_a_renaming_that_a_crash_broke_off_is_brought_to_its_end(pool: Directory) -> None:
    pool.backend.create("disk", SIZE)
    pool.write("disk", "a")
    os.link(pool.file_of("disk"), pool.file_of("new"))
    pool.backend.rename("disk", "new")
    assert list(pool.backend.images()) == ["new"]
    assert pool.read("new") == "a"


def test_an_image_that_a_crash_left_with_two_names_is_not_lost_by_renaming_it_to_its_own(pool: Directory) -> None:
    pool.backend.create("disk", SIZE)
    os.link(pool.file_of("disk"), pool.file_of("new"))
    with pytest.raises(ImageExists):
        pool.backend.rename("disk", "disk")
    assert list(pool.backend.images()) == ["disk", "new"]


@pytest.mark.parametrize("left", [b"", b"QFI\xfb\0\0\0\3", bytes(SIZE)])
def test_an_image_that_cannot_be_read_is_neither_used_nor_replaced_but_removed(pool: Directory, left: bytes) -> None:
    if pool.format == "raw" and left:
        pytest.skip("whatever is in a raw image can be read")
    Path(pool.file_of("disk")).write_bytes(left)
    source = pool.file("a", SIZE)
    assert list(pool.backend.images()) == ["disk"]
    with pytest.raises(DamagedImage, match="remove the volume"):
        pool.backend.inspect("disk")
    with pytest.raises(DamagedImage):
        pool.backend.clone("disk", None, "copy", ignore)
    with pytest.raises(ImageExists):
        pool.backend.load(source, "disk", ignore)
    assert Path(pool.file_of("disk")).read_bytes() == left
    pool.backend.remove("disk")
    pool.backend.load(source, "disk", ignore)
    assert (list(pool.backend.images()), pool.read("disk")) == (["disk"], "a")


def test_an_image_whose_table_of_snapshots_is_cut_off_is_removed(qcow2: Directory) -> None:
    qcow2.backend.create("disk", SIZE)
    qcow2.backend.add_snapshot("disk", "one")
    overwrite(qcow2.file_of("disk"), 64, (1 << 40).to_bytes(8, "big"))
    with pytest.raises(DamagedImage, match="cut off"):
        qcow2.backend.inspect("disk")
    qcow2.backend.remove("disk")
    assert list(qcow2.backend.images()) == []


def test_without_hard_links_a_file_gets_its_name_all_the_same_and_replaces_nothing(tmp_path: Path) -> None:
    path, new = tmp_path / "path", tmp_path / "new"
    path.write_text("image")
    imagefiles._replace_placeholder(str(path), str(new))
    assert new.read_text() == "image"
    path.write_text("other")
    with pytest.raises(FileExistsError):
        imagefiles._replace_placeholder(str(path), str(new))
    assert (path.read_text(), new.read_text()) == ("other", "image")


def io(path: str, format: str, *commands: str) -> None:
    """Have QEMU write, or read and compare."""
    words = [word for command in commands for word in ("-c", command)]
    done = SystemProcesses().run(["qemu-io", "-f", format, *words, path], timeout=60)
    assert done.code == 0 and "failed" not in done.stdout, done.stdout + done.stderr


def test_a_snapshot_is_copied_to_its_last_byte_once_its_volume_is_as_large_again(qcow2: Directory) -> None:
    size, everything = 20 * MEBIBYTE, ("read -P 66 0 1M", "read -P 0 1M 14M", "read -P 65 15M 5M")
    qcow2.backend.create("disk", size)
    io(qcow2.file_of("disk"), "qcow2", "write -P 66 0 1M", "write -P 65 15M 5M")
    qcow2.backend.add_snapshot("disk", "whole")
    qcow2.backend.resize("disk", size // 2)
    io(qcow2.file_of("disk"), "qcow2", "write -P 67 0 10M")
    path = qcow2.new_path()
    with pytest.raises(Unsupported, match="resize the volume to 20 MiB"):
        qcow2.backend.clone("disk", "whole", "copy", ignore)
    with pytest.raises(Unsupported, match="resize the volume to 20 MiB"):
        qcow2.backend.save("disk", "whole", path, "raw", ignore)
    assert [path.name for path in qcow2.path.iterdir()] == ["disk.qcow2"]
    assert not Path(path).exists()
    for now in (size, 2 * size):
        qcow2.backend.resize("disk", now)
        io(qcow2.file_of("disk"), "qcow2", f"write -P 68 {now - 512} 512")
        qcow2.backend.clone("disk", "whole", "copy", ignore)
        qcow2.backend.save("disk", "whole", path, "raw", ignore)
        assert (qcow2.backend.inspect("copy").size, Path(path).stat().st_size) == (size, size)
        io(qcow2.file_of("copy"), "qcow2", *everything)
        io(path, "raw", *everything)
        Path(path).unlink()
        qcow2.backend.remove("copy")
    qcow2.backend.resize("disk", size // 2)
    qcow2.backend.roll_back("disk", "whole", ignore)
    assert qcow2.backend.inspect("disk").size == size
    io(qcow2.file_of("disk"), "qcow2", *everything)
    qemu_img(qcow2, "check", "-q", "-f", "qcow2", qcow2.file_of("disk"))


def test_a_copy_that_fails_leaves_nothing(qcow2: Directory) -> None:
    qcow2.backend.create("disk", 64 * MEBIBYTE)
    qcow2.write("disk", "a")
    tables = int.from_bytes(Path(qcow2.file_of("disk")).read_bytes()[40:48], "big")
    overwrite(qcow2.file_of("disk"), tables, (1 << 63 | 512).to_bytes(8, "big"))  # leads to where no table can be
    with pytest.raises(StorageError, match="qemu-img"):
        qcow2.backend.clone("disk", None, "copy", ignore)
    assert [path.name for path in qcow2.path.iterdir()] == ["disk.qcow2"]


class Stuck(SystemProcesses):
    """Its copies never get anywhere."""

    def __init__(self) -> None:
        self.started: list[Running] = []

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        running = super().start(["sleep", "3600"], output=output, env=env, new_session=new_session)
        self.started.append(running)
        return running


def test_a_copy_that_is_stopped_is_no_longer_running(qcow2: Directory) -> None:
    processes = Stuck()
    options = {"path": str(qcow2.path), "mount": "false"}
    backend = opener(processes, ThreadRuntime(), SystemDirectories())(Pool("slow", "directory", options))
    told: list[int] = []

    def stop_at_second(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 2:
            raise Stopped

    source = qcow2.file("a", SIZE)
    with pytest.raises(Stopped):
        backend.load(source, "disk", stop_at_second)
    assert [running.poll() for running in processes.started] == [-signal.SIGTERM]
    assert list(qcow2.path.iterdir()) == []


class Missing(SystemProcesses):
    """A machine without the program."""

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        return super().run(["/nonexistent/qemu-img", *command[1:]], timeout=timeout, env=env, stdin=stdin)


def test_a_machine_without_qemu_img_says_so_and_makes_nothing(qcow2: Directory) -> None:
    options = {"path": str(qcow2.path), "mount": "false"}
    backend = opener(Missing(), ThreadRuntime(), SystemDirectories())(Pool("slow", "directory", options))
    with pytest.raises(StorageUnusable, match="installed"):
        backend.create("disk", SIZE)
    assert list(qcow2.path.iterdir()) == []


def everything_that_changes(pool: Directory, report: Report) -> dict[str, Any]:
    attempts: dict[str, Any] = {
        "remove": lambda: pool.backend.remove("disk"),
        "rename": lambda: pool.backend.rename("disk", "new"),
        "grow": lambda: pool.backend.resize("disk", 2 * SIZE),
        "shrink": lambda: pool.backend.resize("disk", SIZE // 2),
        "clone": lambda: pool.backend.clone("disk", None, "new", report),
        "save": lambda: pool.backend.save("disk", None, pool.new_path(), "raw", report),
    }
    if pool.format == "qcow2":
        attempts["add snapshot"] = lambda: pool.backend.add_snapshot("disk", "two")
        attempts["remove snapshot"] = lambda: pool.backend.remove_snapshot("disk", "one")
        attempts["roll back"] = lambda: pool.backend.roll_back("disk", "one", report)
    return attempts


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="qemu-system-x86_64 cannot be found")
def test_the_disk_of_a_running_qemu_is_refused_and_free_once_that_is_killed(pool: Directory) -> None:
    pool.backend.create("disk", SIZE)
    if pool.format == "qcow2":
        pool.backend.add_snapshot("disk", "one")
    machine = ["qemu-system-x86_64", "-S", "-nodefaults", "-display", "none", "-machine", "accel=tcg", "-m", "16"]
    nodes = (
        f'{{"driver":"{pool.format}","node-name":"d","file":{{"driver":"file","filename":"{pool.file_of("disk")}"}}}}'
    )
    command = [*machine, "-blockdev", nodes, "-device", "virtio-blk-pci,drive=d"]
    running = pool.processes.start(command, output=pool.files / "qemu")
    try:
        await_lock(running, pool.file_of("disk"))
        before = Path(pool.file_of("disk")).stat().st_size
        for name, attempt in everything_that_changes(pool, ignore).items():
            with pytest.raises(ImageInUse, match="stop the VM"):
                attempt()
                pytest.fail(f"{name} was not refused")
        assert pool.backend.inspect("disk").size == SIZE
        assert Path(pool.file_of("disk")).stat().st_size == before
        assert list(pool.backend.images()) == ["disk"]
    finally:
        running.signal(9)
        assert running.wait(30) is not None
    for name in ("grow", "rename"):
        everything_that_changes(pool, ignore)[name]()
    pool.backend.remove("new")


def test_no_qemu_opens_an_image_that_is_being_changed(pool: Directory) -> None:
    pool.backend.create("disk", SIZE)
    command = ["qemu-io", "-f", pool.format, "-c", "read 0 1", pool.file_of("disk")]
    with imagefiles.locked(pool.file_of("disk")):
        assert "Failed to lock" in pool.processes.run(command, timeout=30).stderr
    with held_by_qemu_io(pool.processes, pool.file_of("disk"), pool.format, pool.files / "output"):
        pass
