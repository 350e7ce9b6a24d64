"""A role or feature that is off costs nothing: none of its modules, and none of its libraries, is imported."""

import sys

import pytest

from pvc.core.process import SystemProcesses

LOAD = """
import logging, sys
from pvc.core.config.document import parse
from pvc.core.config.validation import validate
from pvc.core.config.switches import enabled_plugins
from pvc.core.daemon import Daemon
from pvc.core.plugins import Plugins, installed

document = parse('''{text}''', "pvc.yaml")
plugins = Plugins(logging.getLogger("test"))
known = sorted(installed())
plugins.load(enabled_plugins(document, known))
config = validate(document, plugins.schemas(), known, host_name="hv1")
print("\\n".join(sys.modules))
"""

OUTSIDE = ("typer", "rich", "inotify_simple", "libvirt", "kazoo", "greenlet", "pytest")
"""Libraries that loading the plugins of a daemon never needs."""


def modules_after_loading(text: str) -> set[str]:
    out = SystemProcesses().check([sys.executable, "-c", LOAD.format(text=text)], timeout=60)
    return set(out.split())


def of(modules: set[str], *packages: str) -> list[str]:
    return sorted(m for m in modules if any(m == package or m.startswith(f"{package}.") for package in packages))


def plugin_modules(modules: set[str]) -> set[str]:
    return {module.split(".")[2] for module in of(modules, "pvc.plugins") if module.count(".") >= 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plugins: {flushlock: false, consolelog: false}", {"hypervisor"}),
        ("plugins: {flushlock: true, consolelog: false}", {"hypervisor", "flushlock"}),
        ("roles: {hypervisor: false}\nplugins: {flushlock: false, consolelog: false}", set()),
        ("roles: {hypervisor: false}\nplugins: {flushlock: true, consolelog: false}", {"flushlock"}),
        ("node: hv1", {"hypervisor", "flushlock", "consolelog"}),
    ],
)
def test_only_what_is_switched_on_is_imported(text: str, expected: set[str]) -> None:
    modules = modules_after_loading(text)
    assert plugin_modules(modules) == expected
    assert of(modules, *OUTSIDE) == []
    assert of(modules, "pvc.cli", "pvc.testing", "pvc.lab") == []
