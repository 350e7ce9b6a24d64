"""Needs and conflicts of plugins as problems of a configuration, and what is on by default."""

import logging
from pathlib import Path

import pytest

from pvc.core.config.document import parse
from pvc.core.config.problems import ConfigError
from pvc.core.config.settings import Config
from pvc.core.config.switches import DEFAULT_NEEDS, FEATURES, enabled_plugins
from pvc.core.config.validation import validate
from pvc.core.declaration import Declaration
from pvc.core.plugins import Plugins
from pvc.core.setup import load

KNOWN = ("hypervisor", "networking", "storage", "flushlock", "consolelog", "gold", "silver")
LOG = logging.getLogger("test.relations")


def checked(text: str, **declarations: Declaration) -> Config:
    return validate(parse(text, "pvc.yaml"), {}, KNOWN, host_name="x", declarations=declarations)


def complaints(text: str, **declarations: Declaration) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        checked(text, **declarations)
    return str(refused.value).splitlines()


def test_a_need_that_is_off_is_a_problem_at_the_line_of_the_plugin() -> None:
    text = "roles:\n  hypervisor: false\nplugins:\n  gold: true\n"
    assert complaints(text, gold=Declaration(needs=("hypervisor", "platinum"))) == [
        "pvc.yaml:4: plugins.gold: needs roles.hypervisor, which is off, and needs plugins.platinum, which is not "
        "installed; set roles.hypervisor: true, install platinum, or set plugins.gold: false"
    ]


def test_a_need_of_what_is_on_by_default_is_a_problem_at_the_line_that_switches_the_other_off() -> None:
    text = "node: hv1\nroles:\n  hypervisor: false\n"
    assert complaints(text, flushlock=Declaration(needs=("hypervisor",))) == [
        "pvc.yaml:3: plugins.flushlock: needs roles.hypervisor, which is off; set roles.hypervisor: true, or set "
        "plugins.flushlock: false"
    ]


def test_a_need_that_is_denied_is_said_to_be() -> None:
    text = "plugins:\n  gold: true\ndeny_plugins: [flushlock]\n"
    assert complaints(text, gold=Declaration(needs=("flushlock",))) == [
        "pvc.yaml:2: plugins.gold: needs plugins.flushlock, which deny_plugins denies; take flushlock out of "
        "deny_plugins, or set plugins.gold: false"
    ]


def test_a_role_is_not_denied_but_switched_off() -> None:
    (told,) = complaints("deny_plugins: [hypervisor]\n")
    assert told.endswith("a role is switched off by roles.hypervisor: false")


def test_what_does_not_fit_together_is_told_with_the_file_of_the_switch(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "pvc.yaml").write_text("node: hv1\n\n\nplugins: {consolelog: true}\n")
    (tmp_path / "conf.d" / "10.yaml").write_text("roles: {hypervisor: false}\nplugins: {consolelog: true}\n")
    with pytest.raises(ConfigError, match=r"conf.d/10.yaml:2: plugins.consolelog: needs roles.hypervisor"):
        load(str(tmp_path / "pvc.yaml"), LOG)


def test_a_conflict_is_told_once_and_all_problems_together() -> None:
    text = "zookeper: 1\nplugins:\n  gold: true\n  silver: true\n  flushlock: 'no'\n"
    found = complaints(text, gold=Declaration(conflicts=("silver",)), silver=Declaration(conflicts=("gold",)))
    assert [line.partition(";")[0] for line in found] == [
        "pvc.yaml:1: zookeper: unknown key",
        "pvc.yaml:3: plugins.gold: cannot be on together with plugins.silver",
        'pvc.yaml:5: plugins.flushlock: found "no" (text)',
    ]
    assert "set plugins.silver: false, or set plugins.gold: false" in found[1]


def test_what_is_off_demands_nothing() -> None:
    assert checked("node: hv1\n", gold=Declaration(needs=("storage",), conflicts=("hypervisor",))).node == "hv1"


def test_three_lines_make_a_storage_node_without_a_console_log() -> None:
    text = "node: stor1\nzookeeper: {hosts: [a]}\nroles: {hypervisor: false, storage: true}\n"
    assert enabled_plugins(parse(text, "f"), KNOWN) == ("storage", "flushlock")
    config = checked(text, consolelog=Declaration(needs=("hypervisor",)))
    assert config.enabled() == ("storage", "flushlock")
    assert config.plugins["consolelog"] is False


def test_what_the_file_says_goes_before_the_default() -> None:
    text = "roles: {hypervisor: false}\nplugins: {consolelog: true}\n"
    assert enabled_plugins(parse(text, "f"), KNOWN) == ("consolelog", "flushlock")
    assert checked(text).plugins["consolelog"] is True
    assert enabled_plugins(parse("plugins: {consolelog: false}", "f"), KNOWN) == ("hypervisor", "flushlock")


def test_a_default_that_depends_on_a_role_is_a_need_that_the_plugin_declares() -> None:
    plugins = Plugins(LOG)
    plugins.load(list(FEATURES))
    needs = {name: declaration.needs for name, declaration in plugins.declarations().items() if declaration.needs}
    assert needs == {name: (role,) for name, role in DEFAULT_NEEDS.items()}


def test_the_daemon_and_the_check_load_what_is_on_with_its_needs(tmp_path: Path) -> None:
    path = tmp_path / "pvc.yaml"
    path.write_text("roles: {hypervisor: false}\nplugins: {consolelog: true}\n")
    with pytest.raises(ConfigError, match=r"pvc.yaml:2: plugins.consolelog: needs roles.hypervisor, which is off"):
        load(str(path), LOG)
    path.write_text("roles: {hypervisor: false, networking: true}\n")
    assert [status.name for status in load(str(path), LOG).plugins.status()] == ["networking", "flushlock"]
