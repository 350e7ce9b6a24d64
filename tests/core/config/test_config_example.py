"""pvc.yaml.example and the reference against the schemas: neither may drift."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pvc.core.config.document import parse
from pvc.core.config.problems import ConfigError
from pvc.core.config.reference import Entry, reference
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.config.validation import validate

EXAMPLE = Path(__file__).parents[3] / "pvc.yaml.example"
BUILT_IN = ("hypervisor", "networking", "storage", "flushlock", "consolelog")
TEXT = EXAMPLE.read_text(encoding="utf-8")


def plugin_schemas() -> dict[str, Mapping[str, Any]]:
    """The section of every built-in plugin that has one."""
    names = [f"pvc.plugins.{name}.schema" for name in BUILT_IN]
    modules = [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]
    return {module.SECTION: module.SCHEMA for module in modules}


def everything_switched_on() -> str:
    """The example with its commented keys made real: those behind a "#" without a space."""
    return re.sub(r"^( *)#(?=[^ #\n])", r"\1", TEXT, flags=re.MULTILINE)


def entries() -> dict[str, Entry]:
    return {entry.path: entry for entry in reference(plugin_schemas())}


def value_at(values: Any, path: str) -> Any:
    for part in path.split("."):
        values = values[part]
    return values


@pytest.mark.parametrize("text", [TEXT, everything_switched_on()], ids=["as it is", "all keys made real"])
def test_the_example_is_valid(text: str) -> None:
    config = validate(parse(text, "pvc.yaml.example"), plugin_schemas(), BUILT_IN, host_name="x")
    assert config.node == "hv1"


def test_the_three_lines_at_the_top_are_a_whole_configuration() -> None:
    lines = re.findall(r"^#     (.*)$", TEXT, flags=re.MULTILINE)[:3]
    config = validate(parse("\n".join(lines), "f"), plugin_schemas(), BUILT_IN, host_name="x")
    assert config.node == "hv1"
    assert len(config.zookeeper.hosts) == 3
    assert config.enabled() == ("hypervisor", "flushlock", "consolelog")


def test_every_key_of_the_schemas_is_in_the_example() -> None:
    lines = parse(everything_switched_on(), "f").lines
    shown = {".".join(str(part) for part in key) for key in lines if not any(isinstance(part, int) for part in key)}
    missing = [path for path in entries() if "[]" not in path and "<name>" not in path and path not in shown]
    assert missing == []


def test_a_commented_key_shows_its_default() -> None:
    stated, all_values = parse(TEXT, "f"), parse(everything_switched_on(), "f")
    commented = {".".join(map(str, key)) for key in all_values.lines.keys() - stated.lines.keys()}
    wrong = [
        (path, value_at(all_values.values, path), entry.default)
        for path, entry in entries().items()
        if path in commented and entry.default is not None and value_at(all_values.values, path) != entry.default
    ]
    assert wrong == []


def test_every_key_has_a_help_text() -> None:
    assert [path for path, entry in entries().items() if not entry.help] == []


def test_the_defaults_of_every_schema_are_valid() -> None:
    try:
        validate(parse("", "f"), plugin_schemas(), BUILT_IN, host_name="x")
    except ConfigError as error:
        pytest.fail(f"a default breaks its own rules: {error}")


def test_the_reference_lists_type_default_unit_and_what_is_allowed() -> None:
    schema = {"rooms": {"type": "list", "schema": {"type": "dict", "schema": {"size": {"type": "integer", "min": 1}}}}}
    listed = {entry.path: entry for entry in reference({"gold": schema}, ("gold",))}
    assert listed["zookeeper.session_timeout"] == Entry(
        path="zookeeper.session_timeout",
        type="number",
        default=ZooKeeperSettings().session_timeout,
        allowed="a number from 1 to 600 s",
        unit="s",
        help="Time after which a silent client counts as dead.",
    )
    assert listed["node"].default == "the short host name"
    assert listed["plugins.gold"].default is False
    assert listed["gold.rooms[].size"].allowed == "a whole number of at least 1"


def test_the_page_on_configuration_lists_the_live_keys() -> None:
    page = (EXAMPLE.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_.]+)` \|", page, flags=re.MULTILINE)
    assert listed == [entry.path for entry in entries().values() if entry.live]
