"""What Ceph's configuration says to clients, in the forms that administrators write it."""

import pytest

from pvc.plugins.storage.ceph.decide.conf import (
    Monitor,
    cluster_of,
    key_in,
    keyrings_of,
    monitors_of,
    option,
    sections_of,
)

CONF = """\
# a comment
[global]
\tfsid = 7c1a6a52
\tmon host = 10.0.0.1,10.0.0.2   ; both
\tlog-file = "/var/log/ceph.log"
[client]
\tkeyring = /etc/ceph/$cluster.$name.keyring
[client.libvirt]
\tmon_host = \\
10.0.0.9
"""

KEYRING = """\
[client.admin]
\tkey = YWRtaW4=
\tcaps mon = "allow *"
[client.libvirt]
\tkey = bGlidmlydA==
"""


@pytest.mark.parametrize(
    ("text", "monitors"),
    [
        ("10.0.0.1", [Monitor("10.0.0.1")]),
        ("10.0.0.1:6789", [Monitor("10.0.0.1", 6789)]),
        ("10.0.0.1,10.0.0.2", [Monitor("10.0.0.1"), Monitor("10.0.0.2")]),
        ("10.0.0.1, 10.0.0.2", [Monitor("10.0.0.1"), Monitor("10.0.0.2")]),
        ("10.0.0.1 10.0.0.2;10.0.0.3", [Monitor("10.0.0.1"), Monitor("10.0.0.2"), Monitor("10.0.0.3")]),
        ("mon1.example.org,mon2", [Monitor("mon1.example.org"), Monitor("mon2")]),
        ("[v2:10.0.0.1:3300,v1:10.0.0.1:6789]", [Monitor("10.0.0.1", 6789)]),
        ("[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]", [Monitor("10.0.0.1", 6789)]),
        (
            "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0] [v2:10.0.0.2:3300/0,v1:10.0.0.2:6789/0]",
            [Monitor("10.0.0.1", 6789), Monitor("10.0.0.2", 6789)],
        ),
        (
            "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6790/0],[v2:10.0.0.2:3300/0,v1:10.0.0.2:6791/0]",
            [Monitor("10.0.0.1", 6790), Monitor("10.0.0.2", 6791)],
        ),
        ("[v2:10.0.0.1:3300/0]", [Monitor("10.0.0.1", 3300)]),
        ("v1:10.0.0.1:6789/0", [Monitor("10.0.0.1", 6789)]),
        ("[v2:[fd00::1]:3300/0,v1:[fd00::1]:6789/0]", [Monitor("fd00::1", 6789)]),
        ("[fd00::1]:6789,[fd00::2]", [Monitor("fd00::1", 6789), Monitor("fd00::2")]),
        ("fd00::1", [Monitor("fd00::1")]),
        ("10.0.0.1,10.0.0.1", [Monitor("10.0.0.1")]),
        ("", []),
        ("10.0.0.1:many", []),
        ("10.0.0.1,10.0.0.2:x", []),
    ],
)
def test_monitors_are_found_in_every_form_of_mon_host(text: str, monitors: list[Monitor]) -> None:
    assert list(monitors_of(text)) == monitors


def test_options_are_the_same_with_spaces_underscores_and_hyphens() -> None:
    sections = sections_of(CONF)
    assert option(sections, "admin", "mon_host") == "10.0.0.1,10.0.0.2"
    assert option(sections, "admin", "log_file") == "/var/log/ceph.log"
    assert option(sections, "admin", "absent") is None


def test_a_client_s_own_section_comes_before_that_of_all() -> None:
    assert option(sections_of(CONF), "libvirt", "mon_host") == "10.0.0.9"


def test_the_cluster_is_called_like_its_configuration() -> None:
    assert [cluster_of(path) for path in ("/etc/ceph/ceph.conf", "/x/backup.conf", "/x/odd")] == [
        "ceph",
        "backup",
        "ceph",
    ]


def test_a_key_is_looked_for_where_the_configuration_says() -> None:
    assert keyrings_of(sections_of(CONF), "libvirt", "backup") == ["/etc/ceph/backup.client.libvirt.keyring"]
    assert keyrings_of({}, "libvirt", "ceph") == [
        "/etc/ceph/ceph.client.libvirt.keyring",
        "/etc/ceph/ceph.keyring",
        "/etc/ceph/keyring",
        "/etc/ceph/keyring.bin",
    ]
    braces = {"global": {"keyring": "/k/${cluster}-${id}"}}
    assert keyrings_of(braces, "libvirt", "ceph") == ["/k/ceph-libvirt"]


def test_a_key_is_that_of_the_client() -> None:
    assert key_in(KEYRING, "libvirt") == b"libvirt"
    assert key_in(KEYRING, "other") is None
    assert key_in("[client.libvirt]\n\tkey = not base64!\n", "libvirt") is None
