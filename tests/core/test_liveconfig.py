"""What a reload makes of the configuration in force: what changes, what waits, what is told, what never gets out."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from pvc.core.config.document import parse
from pvc.core.config.problems import ConfigError
from pvc.core.config.settings import Config
from pvc.core.config.validation import validate
from pvc.core.liveconfig import LiveConfig

GOLD: Mapping[str, Any] = {
    "rate": {"type": "integer", "default": 1, "meta": {"live": True}},
    "path": {"type": "string", "default": "/x"},
    "deep": {
        "type": "dict",
        "meta": {"live": True},
        "schema": {"size": {"type": "integer", "default": 5}, "names": {"type": "list", "default": ["a"]}},
    },
    "half": {
        "type": "dict",
        "schema": {"on": {"type": "boolean", "default": True, "meta": {"live": True}}, "all": {"type": "integer"}},
    },
    "token": {"meta": {"secret": True}},
    "pin": {"meta": {"secret": True, "live": True}},
}
KNOWN = ("hypervisor", "flushlock", "consolelog", "gold", "silver")


def config(text: str = "") -> Config:
    return validate(parse(text, "pvc.yaml"), {"gold": GOLD}, KNOWN, host_name="hv1")


class Site(logging.Handler):
    """A configuration in force, and what has been logged."""

    def __init__(self, text: str = "") -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        log = logging.Logger("test")
        log.addHandler(self)
        self.live = LiveConfig(config(text), {"gold": GOLD}, log)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().removeprefix("configuration: "))

    def reload(self, text: str) -> list[str]:
        """What is logged."""
        self.lines.clear()
        self.live.reload(lambda: config(text))
        return self.lines

    @property
    def section(self) -> Mapping[str, Any]:
        return self.live.now().section("gold")

    @property
    def findings(self) -> list[str]:
        return [finding.text for finding in self.live.findings()]


def test_a_live_key_changes_at_once_and_any_other_waits() -> None:
    site = Site()
    assert sorted(
        site.reload("gold: {rate: 2, path: /y, deep: {size: 6, names: [a, b]}, half: {on: false, all: 3}}")
    ) == [
        'gold.deep.names: ["a"] -> ["a", "b"], applied',
        "gold.deep.size: 5 -> 6, applied",
        "gold.half.all: null -> 3, needs a restart of pvcd",
        "gold.half.on: true -> false, applied",
        'gold.path: "/x" -> "/y", needs a restart of pvcd',
        "gold.rate: 1 -> 2, applied",
    ]
    assert {name: site.section[name] for name in ("rate", "path", "deep", "half")} == {
        "rate": 2,
        "path": "/x",
        "deep": {"size": 6, "names": ["a", "b"]},
        "half": {"on": False},
    }
    (finding,) = site.findings
    assert finding.startswith("changed, but not in force before a restart of pvcd: gold.")
    assert "gold.path" in finding and "gold.half.all" in finding and "rate" not in finding


def test_what_waits_is_told_again_until_it_is_taken_back() -> None:
    site = Site()
    told = ['gold.path: "/x" -> "/y", needs a restart of pvcd']
    assert site.reload("gold: {path: /y}") == told
    assert site.reload("gold: {path: /y}") == told
    assert site.reload("") == ["read again, nothing has changed"]
    assert site.findings == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node: hv2", 'node: "hv1" -> "hv2"'),
        ("address: 10.0.0.1", 'address: null -> "10.0.0.1"'),
        ("zookeeper: {hosts: [b]}", 'zookeeper.hosts: ["localhost:2181"] -> ["b:2181"]'),
        ("zookeeper: {session_timeout: 20}", "zookeeper.session_timeout: 10.0 -> 20.0"),
        ("roles: {hypervisor: false}", "roles.hypervisor: true -> false"),
        ("plugins: {silver: true}", "plugins.silver: false -> true"),
    ],
)
def test_core_keys_need_a_restart(text: str, told: str) -> None:
    site = Site()
    before = site.live.now()
    lines = site.reload(text)
    assert f"{told}, needs a restart of pvcd" in lines
    assert all(line.endswith(", needs a restart of pvcd") for line in lines)
    assert site.live.now() == before


def test_a_bad_file_changes_nothing_and_says_everything() -> None:
    site = Site()
    assert site.reload("gold: {rate: 2}\nnode: HV1\nroot: /x\n") == [
        'pvc.yaml:2: node: found "HV1" (text); use lower-case letters, digits and inner dashes, 63 characters at most',
        "pvc.yaml:3: root: unknown key; allowed: address, deny_plugins, gold, node, plugins, roles, zookeeper",
        "not reloaded, the one in force stays; correct it and reload pvcd",
    ]
    assert site.section["rate"] == 1
    (finding,) = site.findings
    assert finding.startswith("the last reload failed and changed nothing: pvc.yaml:2: node") and "1 more" in finding
    assert site.reload("gold: {rate: 2}") == ["gold.rate: 1 -> 2, applied"]
    assert site.findings == []


def test_a_failure_that_nobody_thought_of_changes_nothing_either() -> None:
    site = Site()

    def fail() -> Config:
        raise ZeroDivisionError("oops")

    assert site.live.reload(fail).problem == "reading it failed: oops"
    assert site.section["rate"] == 1
    assert "reading it failed: oops" in site.findings[0]


def test_a_plugin_that_is_switched_off_goes_on_as_it_is_until_the_restart() -> None:
    site = Site("gold: {rate: 7}")
    wanted = validate(parse("plugins: {flushlock: false}", "f"), {}, KNOWN, host_name="hv1")
    changes = site.live.reload(lambda: wanted).changes
    assert [str(change) for change in changes] == ["plugins.flushlock: true -> false, needs a restart of pvcd"]
    assert site.section["rate"] == 7


def test_another_place_of_a_secret_is_told_by_its_place() -> None:
    site = Site("gold: {token: {file: /etc/token}, pin: {file: /etc/pin}}")
    assert sorted(site.reload("gold: {token: {environment: TOKEN}, pin: {credential: pin}}")) == [
        'gold.pin: {"file": "/etc/pin"} -> {"credential": "pin"}, applied',
        'gold.token: {"file": "/etc/token"} -> {"environment": "TOKEN"}, needs a restart of pvcd',
    ]
    assert site.section["pin"].credential == "pin"


def test_a_secret_by_mistake_does_not_reach_the_log() -> None:
    site = Site()
    lines = site.reload(
        "zookeeper: {user: 'pvc:hunter2', password_file: hunter2}\ngold: {token: hunter2, pin: [hunter2]}"
    )
    assert len(lines) == 5 and "hunter2" not in "".join(lines) + "".join(site.findings)


def test_reading_does_not_happen_while_the_old_values_are_torn() -> None:
    """Whoever asks gets the sections of one reload, never a mixture."""
    site = Site()
    before = site.live.now()
    site.reload("gold: {rate: 2, deep: {size: 9}}")
    after = site.live.now()
    assert (before.section("gold")["rate"], before.section("gold")["deep"]["size"]) == (1, 5)
    assert (after.section("gold")["rate"], after.section("gold")["deep"]["size"]) == (2, 9)


def test_the_wording_of_a_bad_file_is_that_of_the_check() -> None:
    with pytest.raises(ConfigError) as caught:
        config("gold: {rate: x}")
    site = Site()
    assert site.reload("gold: {rate: x}")[0] == str(caught.value)
