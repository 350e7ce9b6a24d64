"""What the packages say against what the code and the documents say; nothing is built here."""

import re
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path

import pvc
from pvc.core.daemon import PATIENCE
from pvc.core.lifecycle import STOP_WITHIN
from pvc.core.process import SystemProcesses
from pvc.core.pvcd import BAD_CONFIGURATION, LOOK_EVERY
from pvc.core.systemd import PATIENCE as NOTIFY_PATIENCE

ROOT = Path(__file__).parents[1]
SCHEMA = "usr/share/pvc/pvc.schema.json"
SERVICES = 10
"""More services than a daemon has."""


def unit() -> Mapping[str, str]:
    """The settings of the section [Service] and [Unit], each by its name; the last of several."""
    text = (ROOT / "packaging" / "pvcd.service").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def newest_heading() -> str:
    found = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def debian_changelog(text: str) -> str:
    script = ["sh", str(ROOT / "packaging" / "debian-changelog")]
    done = SystemProcesses().run(script, timeout=30, env={"SOURCE_DATE_EPOCH": "1700000000"}, stdin=text)
    assert done.code == 0, done
    return done.stdout


def test_the_version_is_that_of_the_newest_changes() -> None:
    assert newest_heading() in (f"[Unreleased] - {pvc.__version__}",) or newest_heading().startswith(
        f"[{pvc.__version__}] - "
    )


def test_a_version_that_is_not_released_is_older_than_its_release_for_debian() -> None:
    assert debian_changelog("## [Unreleased] - 0.2.0\n").startswith("pvc (0.2.0~20231114221320) UNRELEASED;")
    released = debian_changelog("## [0.2.0] - 2026-12-01\n\n### Added\n\n- A thing.\n\n## [0.1.0] - 2026-11-01\n")
    assert re.findall(r"^pvc .*$|^ -- .*>  (.*)$", released, re.MULTILINE) == [
        "",
        "Tue, 01 Dec 2026 00:00:00 +0000",
        "",
        "Sun, 01 Nov 2026 00:00:00 +0000",
    ]
    assert released.startswith("pvc (0.2.0) bookworm; urgency=medium\n")


def test_every_library_of_the_client_and_the_node_is_pinned_with_its_hashes() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    wanted = settings["options"]["install_requires"] + settings["options.extras_require"]["consolelog"]
    pinned = dict(
        re.findall(
            r"^([a-z0-9-]+)==\S+((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$",
            (ROOT / "packaging" / "wheels.txt").read_text(),
            re.MULTILINE,
        )
    )
    names = {re.split("[><=]", line)[0].lower().replace("_", "-") for line in wanted.split()}
    assert names - pinned.keys() == set()


def test_systemd_waits_longer_than_a_sound_daemon_is_ever_silent() -> None:
    silent = LOOK_EVERY + NOTIFY_PATIENCE
    assert int(unit()["WatchdogSec"]) > 10 * silent
    assert int(unit()["TimeoutStopSec"]) > SERVICES * STOP_WITHIN
    default_session_timeout, connect_timeout = 10.0, 15.0
    assert int(unit()["TimeoutStartSec"]) > PATIENCE * default_session_timeout + connect_timeout


def test_a_daemon_that_cannot_reach_zookeeper_is_never_given_up_but_one_that_dies_at_once_is() -> None:
    within, tries, pause = (int(unit()[key]) for key in ("StartLimitIntervalSec", "StartLimitBurst", "RestartSec"))
    connect_timeout, dies_within = 15, 1
    assert tries * (pause + connect_timeout) > within
    assert tries * (pause + dies_within) < within


def test_a_bad_configuration_is_not_tried_again() -> None:
    assert unit()["RestartPreventExitStatus"] == str(BAD_CONFIGURATION)


def test_the_roles_get_the_devices_links_and_rights_that_they_need() -> None:
    text = (ROOT / "packaging" / "pvcd.service").read_text()
    settings = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    withheld = {name for key, value in settings if key == "CapabilityBoundingSet" for name in value[1:].split()}
    assert {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SYS_RESOURCE"} & withheld == set()
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET"} <= set(
        unit()["RestrictAddressFamilies"].split()
    )
    closing = {
        "PrivateNetwork",
        "PrivateDevices",
        "DevicePolicy",
        "DeviceAllow",
        "ProtectClock",
        "ProtectKernelTunables",
    }
    assert closing & {key for key, _ in settings} == set()


def test_images_are_read_from_and_written_to_the_directories_that_administrators_see() -> None:
    assert {"PrivateTmp", "ProtectHome", "TemporaryFileSystem", "InaccessiblePaths"} & set(unit()) == set()
    assert unit()["ProtectSystem"] == "full"


def test_the_example_names_the_schema_where_it_lies_and_where_the_package_puts_it() -> None:
    first = (ROOT / "pvc.yaml.example").read_text().partition("\n")[0]
    beside = first.removeprefix("# yaml-language-server: $schema=")
    assert (ROOT / beside).is_file()
    rules = (ROOT / "packaging" / "debian" / "rules").read_text()
    assert f"s|={beside}$$|=/{SCHEMA}|" in rules and f"$(CLIENT)/{SCHEMA}" in rules


def test_stopping_the_daemon_kills_nothing_but_the_daemon() -> None:
    assert unit()["KillMode"] == "process"
