"""Sizes and names as people write them."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from pvc.core.commands import in_units
from pvc.core.storage import Pool
from pvc.plugins.storage.decide.names import why_no_name
from pvc.plugins.storage.decide.pooloptions import first_format, same_place, why_no_pool
from pvc.plugins.storage.decide.sizes import BadSize, exactly, size_in, volume_size, why_no_size

GIB = 1024**3


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10G", 10 * GIB),
        ("10g", 10 * GIB),
        ("10GiB", 10 * GIB),
        (" 10 GiB ", 10 * GIB),
        ("10GB", 10**10),
        ("1.5TiB", 1536 * GIB),
        ("512M", 512 * 1024**2),
        ("4K", 4096),
        ("1048576", 1048576),
        ("1048576B", 1048576),
        ("0.5K", 512),
    ],
)
def test_a_size_is_read_as_users_of_qemu_img_expect(text: str, size: int) -> None:
    assert size_in(text) == size


@pytest.mark.parametrize(
    "text", ["", "G", "-1G", "10X", "1e3", "10 G iB", "1,5G", "0x10", "٣G", "1.0001B", "10GG", "inf"]
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadSize, match=r"write it as 10G, 512M or 1\.5TiB"):
        size_in(text)


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 4290 + "P", "0." + "1" * 5000 + "G", "1" + " " * 5000 + "G"])
def test_a_size_of_thousands_of_digits_is_refused_in_few_words(text: str) -> None:
    with pytest.raises(BadSize, match="is no size; write it as 10G") as refused:
        volume_size(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["9" * 64, "9" * 60 + "PiB"])
def test_the_longest_size_that_is_read_is_too_large(text: str) -> None:
    with pytest.raises(BadSize, match="is too large for a volume"):
        volume_size(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0", "0 B is too small for a volume: it has at least 1 MiB"),
        ("1023K", "1023 KiB is too small"),
        ("1025T", "1025 TiB is too large for a volume: it has at most 1 PiB"),
        ("1048577", "1048577 bytes are no whole number of sectors of 512 bytes; 1049088 would be"),
    ],
)
def test_a_size_that_no_volume_can_have_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadSize, match=why):
        volume_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(10 * GIB, "10 GiB"), (1536 * GIB, "1.5 TiB"), (10**10, "9765625 KiB"), (512, "512 B"), (0, "0 B")],
)
def test_a_size_is_told_exactly(size: int, text: str) -> None:
    assert exactly(size) == text


@given(integers(min_value=0, max_value=2**50))
def test_what_is_told_exactly_is_read_as_the_same_size(size: int) -> None:
    assert size_in(exactly(size)) == size


@given(integers(min_value=2**20, max_value=2**50))
def test_a_size_is_refused_or_a_number_of_whole_sectors(size: int) -> None:
    assert bool(why_no_size(size)) == (size % 512 != 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (10 * GIB, "10 GiB"),
        (10**10, "~9.313 GiB"),
        (1000 * GIB, "1000 GiB"),
        (1023 * GIB + 1, "~1023 GiB"),
    ],
)
def test_a_table_tells_a_size_in_four_digits(size: int, text: str) -> None:
    assert in_units(size) == text


@pytest.mark.parametrize("name", ["a", "Disk-1.root_fs", "0", "x" * 63])
def test_a_name_of_letters_digits_dots_and_dashes_will_do(name: str) -> None:
    assert why_no_name("volume", name) == ""


@pytest.mark.parametrize("name", ["", ".", "..", "-a", ".hidden", "a/b", "a b", "a\n", "ä", "x" * 64, "a@b", "a\0"])
def test_a_name_that_could_be_something_else_is_refused(name: str) -> None:
    assert "begin with a letter or digit" in why_no_name("volume", name)


@pytest.mark.parametrize(
    ("backend", "options", "why"),
    [
        ("directory", {}, "needs --path"),
        ("directory", {"path": "vms"}, "say it from the root"),
        ("directory", {"path": "/srv/../etc"}, "without '..'"),
        ("directory", {"path": "/srv/vms/"}, "without '/' at its end"),
        ("directory", {"path": "/"}, "will not do"),
        ("directory", {"path": "//srv"}, "will not do"),
        ("directory", {"path": "/srv", "format": "vmdk"}, "it is qcow2 or raw"),
        ("directory", {"path": "/srv", "mount": "yes"}, "it is true or false"),
        ("directory", {"path": "/srv/\udcff"}, r"'/srv/\udcff' is not UTF-8"),
        ("tape", {"\udcff": "ever"}, "is not UTF-8"),
        ("t\udcff", {}, "is not UTF-8"),
        ("directory", {"path": "/srv", "fromat": "raw"}, "no option 'fromat'; did you mean format?"),
        ("ceph", {"path": "/srv"}, "no option 'path'; there are pool, user"),
        ("ceph", {"user": ""}, "option user of a pool cannot be ''"),
        ("directory", {"path": "/srv"}, ""),
        ("ceph", {}, ""),
        ("tape", {"what": "ever"}, ""),
    ],
)
def test_options_of_a_pool_are_checked_as_far_as_they_are_known(
    backend: str, options: dict[str, str], why: str
) -> None:
    found = why_no_pool(Pool("vms", backend, options))
    assert why in found and bool(why) == bool(found)


def test_two_pools_at_one_place_are_noticed() -> None:
    here = Pool("vms", "directory", {"path": "/srv/vms"})
    assert same_place(Pool("two", "directory", {"path": "/srv/vms", "format": "raw"}), [here]) is here
    assert same_place(Pool("two", "directory", {"path": "/srv/other"}), [here]) is None
    rbd = Pool("rbd", "ceph")
    assert same_place(Pool("two", "ceph", {"pool": "rbd"}), [here, rbd]) is rbd
    assert same_place(Pool("two", "ceph"), [here, rbd]) is None
    assert same_place(Pool("two", "tape"), [Pool("one", "tape")]) is None


def test_the_format_of_a_pools_images_is_known_before_they_are_made() -> None:
    assert first_format(Pool("a", "directory", {})) == "qcow2"
    assert first_format(Pool("a", "directory", {"format": "raw"})) == "raw"
    assert first_format(Pool("a", "ceph", {})) == "raw"
