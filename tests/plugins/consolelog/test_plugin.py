"""The hooks, and what importing them costs."""

import sys

from pvc.core.config.schema import check_schema
from pvc.core.process import SystemProcesses
from pvc.plugins.consolelog.plugin import ConsoleLogPlugin
from pvc.plugins.consolelog.schema import SCHEMA, SECTION, Settings, settings


def test_the_schema_is_one_that_core_accepts() -> None:
    check_schema(SECTION, ConsoleLogPlugin().pvc_config_schema())


def test_every_default_of_the_schema_is_that_of_the_settings() -> None:
    assert settings({key: rules["default"] for key, rules in SCHEMA.items()}) == Settings()
    assert settings({}) == Settings()


def test_the_command_line_needs_no_door_of_the_daemon() -> None:
    code = (
        "import sys, pvc.plugins.consolelog.plugin, pvc.plugins.consolelog.cli\n"
        "found = {'inotify_simple', 'libvirt', 'pvc.plugins.consolelog.service'} & set(sys.modules)\n"
        "sys.exit(', '.join(found) or 0)"
    )
    SystemProcesses().check([sys.executable, "-c", code], timeout=60)
