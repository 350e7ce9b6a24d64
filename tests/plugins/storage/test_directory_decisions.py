"""What options, names, headers and mounts say."""

import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.storage import BadPool, ImageInUse, Pool, StorageError
from pvc.plugins.storage.directory.decide.images import (
    Header,
    ImageSnapshot,
    file_of,
    format_by,
    header_of,
    image_of,
    is_part,
    part_of,
    read_info,
    refusal,
    snapshots_of,
    why_no_copy,
    why_no_image,
)
from pvc.plugins.storage.directory.decide.mounts import mount_of
from pvc.plugins.storage.directory.decide.options import Options, options_of

LETTERS = "aZ09"
NAMES = st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "._-", max_size=62))


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"path": "/srv/vms"}, Options("/srv/vms")),
        ({"path": "/srv/vms/"}, Options("/srv/vms")),
        ({"path": "/srv/v m's", "format": "raw", "mount": "false"}, Options("/srv/v m's", "raw", False)),
    ],
)
def test_options_are_read(options: Mapping[str, str], read: Options) -> None:
    assert options_of(Pool("fast", "directory", options)) == read


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "path is missing"),
        ({"path": ""}, "path cannot be ''"),
        ({"path": "/"}, "path cannot be '/'"),
        ({"path": "srv"}, "path cannot be 'srv'"),
        ({"path": "/srv/../etc"}, "path cannot be"),
        ({"path": "/srv//vms"}, "path cannot be"),
        ({"path": "/srv/./vms"}, "path cannot be"),
        ({"path": "/srv/\x1b[2J"}, "path cannot be"),
        ({"path": "/srv", "format": "vmdk"}, "format cannot be 'vmdk'; it is qcow2 or raw"),
        ({"path": "/srv", "format": "QCOW2"}, "format cannot be"),
        ({"path": "/srv", "mount": "no"}, "mount cannot be 'no'; it is true or false"),
        ({"path": "/srv", "mounted": "true"}, "no option mounted; did you mean 'mount'?"),
        ({"path": "/srv", "quota": "1"}, "no option quota; there are path, format, mount"),
    ],
)
def test_impossible_options_are_refused_with_what_is_possible(options: Mapping[str, str], said: str) -> None:
    with pytest.raises(BadPool) as refused:
        options_of(Pool("fast", "directory", options))
    assert said in str(refused.value)
    assert str(refused.value).startswith("pool fast: ")


@given(NAMES, st.sampled_from(["raw", "qcow2"]))
def test_a_file_is_known_by_its_name_as_the_image_it_was_made_for(name: str, format: str) -> None:
    file = file_of(name, format)
    assert image_of(file, format) == name
    assert not is_part(file)
    part = part_of(file, "0123456789abcdef" * 2)
    assert is_part(part)
    assert image_of(part, format) is None


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "x" * 64, "a\n", "ä", "a\0"])
def test_no_other_name_becomes_a_file(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name of an image"):
        file_of(name, "raw")


@pytest.mark.parametrize("file", ["disk", "disk.iso", ".disk.raw", "disk.raw.bak", "disk.RAW", ".raw", "a b.raw"])
def test_files_of_others_are_no_images(file: str) -> None:
    assert image_of(file, "raw") is None


@pytest.mark.parametrize("file", [".bash_history", ".disk.raw", ".disk.raw.part", ".disk.raw.0123.part", "disk.part"])
def test_files_of_others_are_no_leftovers(file: str) -> None:
    assert not is_part(file)


def header(version: int = 3, backing: int = 0, encrypted: int = 0, features: int = 0) -> bytes:
    words = [(0x514649FB, 4), (version, 4), (backing, 8), (0, 4), (16, 4), (1 << 20, 8), (encrypted, 4)]
    return b"".join(value.to_bytes(size, "big") for value, size in words).ljust(72, b"\0") + features.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("beginning", "size", "why"),
    [
        (b"", 0, "is empty"),
        (b"abc", 3, "not a multiple of 512"),
        (b"\0" * 104, 1024, ""),
        (b"\0" * 104, 1025, "not a multiple of 512"),
        (header(), 196616, ""),
        (header()[:40], 40, "is cut off"),
        (header(backing=4096), 196616, "backing file"),
        (header(encrypted=2), 196616, "encrypted"),
        (header(features=1), 196616, ""),
        (header(features=4), 196616, "in another file"),
        (header(version=2, features=4), 196616, ""),
        (header(version=1), 196616, "of the format qcow 1; convert it to raw or qcow2"),
        (header(version=4), 196616, "of the format qcow 4"),
    ],
)
def test_a_header_says_why_a_file_cannot_be_loaded(beginning: bytes, size: int, why: str) -> None:
    found = why_no_image(beginning, b"", size)
    assert why in found if why else found == ""


@pytest.mark.parametrize(
    ("beginning", "end", "format"),
    [
        (b"KDMV", b"", "VMDK"),
        (b"COWD", b"", "VMDK"),
        (b"# Disk DescriptorFile\nversion=1\n", b"", "VMDK"),
        (b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0") + b"\x7f\x10\xda\xbe", b"", "VDI"),
        (b"conectix", b"", "VHD"),
        (b"", b"conectix", "VHD"),
        (b"vhdxfile", b"", "VHDX"),
        (b"QED\0", b"", "QED"),
        (b"WithoutFreeSpace", b"", "Parallels"),
        (b"WithouFreSpacExt", b"", "Parallels"),
        (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount", b"", "cloop"),
        (b"Bochs Virtual HD Image", b"", "Bochs"),
        (b"LUKS\xba\xbe\0\1", b"", "LUKS"),
        (b"", b"koly\0\0\0\4", "DMG"),
    ],
)
@pytest.mark.parametrize("size", [4096, 4097])
def test_an_image_of_another_format_is_known_by_its_bytes(beginning: bytes, end: bytes, format: str, size: int) -> None:
    why = why_no_image(beginning.ljust(104, b"\0"), end.ljust(512, b"\0"), size)
    assert f"of the format {format}; convert it to raw or qcow2 with qemu-img convert" in why
    shifted = why_no_image((b"x" + beginning).ljust(104, b"\0"), (b"x" + end).ljust(512, b"\0"), 4096)
    assert shifted == ""


def test_a_file_is_opened_as_what_its_first_bytes_say() -> None:
    assert format_by(header()) == "qcow2"
    assert format_by(b"") == format_by(b"\0" * 104) == format_by(b"version=1\n") == "raw"


@given(st.binary(max_size=104), st.integers(0, 1 << 50))
def test_any_header_can_be_judged(beginning: bytes, size: int) -> None:
    why_no_image(b"QFI\xfb" + beginning, beginning, size)
    why_no_image(beginning, beginning, size)


def entry(number: str, name: str, further: int = 16, size: int = 4096) -> bytes:
    """Of a table of snapshots; some of its fields are of no interest here."""
    fixed = struct.pack(">QIHHIIQII", 65536, 16, len(number), len(name), 1, 2, 3, 4, further)
    more = (b"\x7f" * 8 + size.to_bytes(8, "big")).ljust(further, b"\x7f")[:further]
    text = fixed + more + number.encode() + name.encode()
    return text + b"\0" * (-len(text) % 8)


TABLE = entry("1", "2") + entry("2", "1", further=0) + entry("10", "a-longer-name", further=24, size=1 << 40)


def test_snapshots_are_found_by_their_names_alone_and_each_has_its_own_size() -> None:
    assert snapshots_of(TABLE + b"rest", 3) == {
        "2": ImageSnapshot("1", 4096),
        "1": ImageSnapshot("2", None),
        "a-longer-name": ImageSnapshot("10", 1 << 40),
    }
    assert snapshots_of(TABLE, 0) == {}


@pytest.mark.parametrize("further", [0, 8, 15])
def test_a_snapshot_that_is_older_than_sizes_in_the_table_tells_none(further: int) -> None:
    assert snapshots_of(entry("1", "s", further), 1) == {"s": ImageSnapshot("1", None)}


@pytest.mark.parametrize(("size", "copied"), [(4096, True), (8192, True), (8704, False)])
def test_a_snapshot_is_copied_only_whole(size: int, copied: bool) -> None:
    why = why_no_copy("s", size, 8192)
    assert why == "" if copied else "resize the volume to 8.5 KiB" in why


@pytest.mark.parametrize("length", [0, 39, 50, 70, len(TABLE) - 8])
def test_a_table_that_is_cut_off_tells_nothing(length: int) -> None:
    assert snapshots_of(TABLE[:length], 3) is None


def test_the_first_of_two_snapshots_of_one_name_counts() -> None:
    assert snapshots_of(entry("1", "s") + entry("2", "s"), 2) == {"s": ImageSnapshot("1", 4096)}


def test_a_header_tells_of_size_and_snapshots() -> None:
    assert header_of(header()) == Header(1 << 20, 0, 0)
    told = header()[:60] + struct.pack(">IQ", 3, 1 << 18) + header()[72:]
    assert header_of(told) == Header(1 << 20, 3, 1 << 18)


@pytest.mark.parametrize("data", [b"", b"\0" * 104, header()[:71], header(version=4)])
def test_what_is_no_qcow2_image_has_no_header(data: bytes) -> None:
    assert header_of(data) is None


@given(st.binary(max_size=200), st.integers(0, 1 << 32))
def test_any_table_can_be_read(table: bytes, count: int) -> None:
    snapshots_of(table, count)


@pytest.mark.parametrize(
    ("said", "in_use"),
    [
        ("qemu-img: Could not open 'x': Failed to get \"write\" lock\nIs another process using the image [x]?\n", True),
        ("qemu-img: Could not open 'x': Failed to get shared \"write\" lock\n", True),
        ("qemu-img: Could not open 'x': Failed to lock byte 100\n", True),
        ("qemu-img: error while writing at byte 0: No space left on device\n", False),
        ("", False),
    ],
)
def test_what_qemu_img_says_of_locks_means_that_the_image_is_in_use(said: str, in_use: bool) -> None:
    error = refusal("/srv/x", said)
    assert isinstance(error, ImageInUse) == in_use
    assert "/srv/x" in str(error)
    assert ("No space left on device; make room in the pool" in str(error)) == ("No space" in said)


def test_an_answer_that_is_no_json_is_an_error() -> None:
    for text in ("", "oops", "[]"):
        with pytest.raises(StorageError, match="JSON"):
            read_info(text)


MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
40 22 0:35 / /srv/vms rw,relatime shared:2 - nfs nas:/vms rw,vers=3,hard,local_lock=none,addr=192.0.2.9
41 22 0:36 / /srv/bad rw,relatime shared:3 - nfs nas:/bad rw,vers=3,nolock,local_lock=all,addr=192.0.2.9
42 22 0:37 / /srv/a\\040b rw,relatime - cifs //nas/b rw,vers=3.1.1,nobrl
43 41 0:38 / /srv/bad/good rw,relatime - nfs4 nas:/good rw,vers=4.2,local_lock=none
44 22 0:39 / /srv/twice rw - nfs4 nas:/1 rw,local_lock=posix
45 22 0:40 / /srv/twice rw - nfs4 nas:/2 rw,local_lock=none
46 22 0:41 / /srv/broken rw,relatime - ext4 /dev/vdb ro,errors=remount-ro
47 22 0:42 / /srv/bound ro,relatime - ext4 /dev/vdc rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "option"),
    [
        ("/srv/vms", ""),
        ("/srv/vms/deep", ""),
        ("/srv/bad", "nolock"),
        ("/srv/bad/images", "nolock"),
        ("/srv/badly", ""),
        ("/srv/bad/good", ""),
        ("/srv/a b", "nobrl"),
        ("/srv/twice", ""),
        ("/", ""),
    ],
)
def test_a_mount_that_keeps_locks_to_itself_is_reported(path: str, option: str) -> None:
    assert mount_of(MOUNTINFO, path).keeps_locks == option
    assert not mount_of(MOUNTINFO, path).read_only


@pytest.mark.parametrize(("path", "read_only"), [("/srv/broken", True), ("/srv/bound", True), ("/srv", False)])
def test_a_mount_that_nobody_can_write_to_is_known(path: str, read_only: bool) -> None:
    assert mount_of(MOUNTINFO, path).read_only == read_only


def test_nothing_is_known_where_nothing_is_mounted() -> None:
    assert mount_of("", "/srv").options == ()
