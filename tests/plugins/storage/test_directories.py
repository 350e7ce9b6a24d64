"""The storage role: which files a VM uses, what is published and found wrong, and where it says no."""

import pytest

from pvc.core.lookup import read_facts
from pvc.plugins.storage.decide.directories import Published, Room, files_of, findings, kept_in, room_of, why_not
from pvc.plugins.storage.directories import Look
from pvc.plugins.storage.neighbours import published_in
from pvc.plugins.storage.schema import Directory
from pvc.testing.cluster import SimCluster

VMS = Room("/mnt/vms", 1000, 500)
FILE = "/mnt/vms/a/web.img"


@pytest.mark.parametrize(
    ("devices", "files"),
    [
        ("", ()),
        (
            "<disk type='file'><source file='/b'/></disk><disk type='file' device='cdrom'><source file='/a'/></disk>",
            ("/a", "/b"),
        ),
        ("<disk type='file' device='cdrom'/>", ()),
        ("<disk type='block'><source dev='/dev/sda'/></disk><disk type='network'><source name='x'/></disk>", ()),
        ("<disk type='file'><source file='/b'/><backingStore><source file='/base'/></backingStore></disk>", ("/b",)),
    ],
)
def test_files_of_a_definition(devices: str, files: tuple[str, ...]) -> None:
    assert files_of(f"<domain><devices>{devices}</devices></domain>") == files


def test_files_of_something_else() -> None:
    assert files_of("not xml") == ()


def test_a_file_belongs_to_a_directory_that_some_node_publishes() -> None:
    published = [Published(), Published({"vms": Room("/mnt/vms", problem="is not mounted")})]
    assert kept_in(["/mnt/vms/a", "/mnt/vmsx/a", "/mnt/vms", "/var/b"], published) == ("/mnt/vms/a",)


@pytest.mark.parametrize(
    ("why", "published", "said"),
    [
        ("it has published nothing", None, "has not published its directories"),
        ("it has none", Published(), f"has no directory for {FILE}"),
        ("it has another", Published({"vms": Room("/mnt/v")}), f"has no directory for {FILE}"),
        ("it has the directory", Published({"vms": VMS}), ""),
        (
            "it is not mounted",
            Published({"vms": Room("/mnt/vms", problem="is not mounted")}),
            "cannot use its directory vms, which is not mounted",
        ),
        (
            "the innermost counts",
            Published({"vms": VMS, "a": Room("/mnt/vms/a", problem="does not exist")}),
            "cannot use its directory a, which does not exist",
        ),
        (
            "the innermost counts, also if it can be used",
            Published({"all": Room("/mnt", problem="does not exist"), "vms": VMS}),
            "",
        ),
    ],
)
def test_a_node_will_do_if_it_has_the_directory_of_every_file(why: str, published: Published | None, said: str) -> None:
    assert why_not([FILE], published) == said


def test_the_same_reason_is_given_once_for_several_files() -> None:
    unmounted = Published({"vms": Room("/mnt/vms", problem="is not mounted")})
    assert why_not([FILE, FILE + "2"], unmounted) == "cannot use its directory vms, which is not mounted"
    assert why_not([], None) == ""


@pytest.mark.parametrize(
    ("mount", "look", "room"),
    [
        (True, Look(1000, 500, True), Room("/x", 1000, 500)),
        (True, Look(1000, 500, False), Room("/x", problem="is not mounted")),
        (False, Look(1000, 500, False), Room("/x", 1000, 500)),
        (True, "does not exist", Room("/x", problem="does not exist")),
        (False, Look(9_999_999, 1_239_999, False), Room("/x", 9_999_999, 1_230_000)),
    ],
)
def test_what_is_published_of_a_directory(mount: bool, look: Look | str, room: Room) -> None:
    assert room_of(Directory("/x", mount), look) == room


@pytest.mark.parametrize(("free", "told"), [(101, False), (100, True), (0, True)])
def test_a_directory_is_nearly_full_from_the_threshold_on(free: int, told: bool) -> None:
    assert bool(findings({"vms": Room("/x", 1000, free)}, 90)) == told


def test_a_file_system_without_size_is_not_full() -> None:
    assert findings({"vms": Room("/proc/x")}, 90) == []


def storage(*paths: str, **more: object) -> dict[str, object]:
    directories = {f"d{number}": {"path": path} for number, path in enumerate(paths)}
    return {"roles": {"storage": True}, "storage": {"directories": directories, **more}}


def rooms(cluster: SimCluster, node: str) -> dict[str, str]:
    published = published_in(read_facts(cluster.client, node))
    return {} if published is None else {name: room.problem for name, room in published.directories.items()}


def test_a_directory_that_hangs_delays_nothing_and_is_told_after_the_deadline() -> None:
    with SimCluster({"hv1": storage("/a", "/b", deadline=5, interval=10)}) as cluster:
        directories = cluster.nodes["hv1"].directories
        directories.hang("/a")
        cluster.start()
        assert rooms(cluster, "hv1") == {"d1": ""}  # the other one is known at once
        cluster.run(5)
        assert rooms(cluster, "hv1") == {"d0": "does not answer within 5 s", "d1": ""}
        looks = directories.looks
        directories.spoil("/b", "cannot be read by pvcd")
        cluster.run(30)
        assert rooms(cluster, "hv1") == {"d0": "does not answer within 5 s", "d1": "cannot be read by pvcd"}
        assert directories.looks - looks <= 4  # and nobody looks at the first one once more
        cluster.define("vm1", "hv1")
        cluster.settle()
        directories.hang("/a", hangs=False)
        cluster.run(2)
        assert rooms(cluster, "hv1")["d0"] == ""


def test_the_room_of_a_directory_is_published_and_a_full_one_is_a_finding() -> None:
    with SimCluster({"hv1": storage("/a", nearly_full=80)}) as cluster:
        cluster.start()
        cluster.nodes["hv1"].directories.add("/a", total=1000, free=190)
        cluster.run(25)
        published = published_in(read_facts(cluster.client, "hv1"))
        assert published == Published({"d0": Room("/a", 1000, 190)})
        (finding,) = read_facts(cluster.client, "hv1").findings
        assert finding.severity.value == "warning" and "d0 (/a) is full to 81 %" in finding.text


def test_a_vm_needs_the_files_that_lie_in_a_directory_of_the_cluster() -> None:
    with SimCluster({"hv1": storage("/mnt/vms"), "hv2": {}}) as cluster:
        cluster.start()
        vm = cluster.define("vm1", "hv1", disks=["/mnt/vms/vm1.img", "/var/lib/vm1.img"])
        assert vm.needs == {"storage": ("/mnt/vms/vm1.img",)}
        assert cluster.define("vm2", "hv2", disks=["/var/lib/vm2.img"]).needs == {}
