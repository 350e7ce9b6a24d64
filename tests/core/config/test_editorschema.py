"""The JSON Schema for editors: current, itself valid, as lenient as pvc where it must be and strict where it can be."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pvc.core.config.document import parse
from pvc.core.config.editorschema import editor_schema
from tests.core.config.test_config_example import BUILT_IN, TEXT, everything_switched_on, plugin_schemas
from tests.core.config.test_config_validation import GOLD
from tests.core.config.test_secret import VAULT

SHIPPED: dict[str, Any] = json.loads(importlib.resources.files("pvc").joinpath("pvc.schema.json").read_text("utf-8"))


def faults(text: str, schema: dict[str, Any] = SHIPPED) -> list[str]:
    """Where an editor would complain."""
    found = Draft202012Validator(schema).iter_errors(dict(parse(text, "f").values))
    return sorted({".".join(map(str, fault.absolute_path)) for fault in found})


def test_the_shipped_schema_is_what_the_source_says() -> None:
    current = editor_schema(plugin_schemas(), BUILT_IN)
    assert json.loads(json.dumps(current)) == SHIPPED, "run `python docs/generate.py`"


@pytest.mark.parametrize("schema", [SHIPPED, editor_schema({"gold": GOLD, "vault": VAULT}, ("gold", "vault"))])
def test_it_is_a_json_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("text", [TEXT, everything_switched_on(), ""], ids=["as it is", "all keys made real", "empty"])
def test_it_accepts_the_example(text: str) -> None:
    assert faults(text) == []


def test_the_example_tells_editors_where_the_schema_is() -> None:
    first = TEXT.splitlines()[0]
    assert first == "# yaml-language-server: $schema=pvc/pvc.schema.json"
    assert "pvc.schema.json" in (Path(__file__).parents[3] / "setup.cfg").read_text()


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("nodes: hv1", ""),
        ("node: HV1", "node"),
        ("node: 5", "node"),
        ("zookeeper: {hosts: hv1}", "zookeeper.hosts"),
        ("zookeeper: {hosts: []}", "zookeeper.hosts"),
        ("zookeeper: {hosts: [2181]}", "zookeeper.hosts.0"),
        ("zookeeper: {session_timeout: 0}", "zookeeper.session_timeout"),
        ("zookeeper: {password: hunter2}", "zookeeper.password"),
        ("zookeeper: {password: {file: /a, environment: B}}", "zookeeper.password"),
        ('roles: {storage: "yes"}', "roles.storage"),
        ("roles: [hypervisor]", "roles"),
        ("plugins: {flushlok: true}", "plugins"),
        ("hypervisor: {migration: {bandwith: 5}}", "hypervisor.migration"),
        ("hypervisor: {placement: {selector: men}}", "hypervisor.placement.selector"),
        ("consolelog: {append: true}", "consolelog.append"),
        ("consolelog: {bytes: 64X}", "consolelog.bytes"),
        ("consolelog: {directory: var}", "consolelog.directory"),
        ("consolelog: {files: {count: 0}}", "consolelog.files.count"),
    ],
)
def test_it_refuses_what_pvc_refuses(text: str, where: str) -> None:
    assert faults(text) == [where]


GOLDEN = [
    ("memory: 512M", "memory: 512X"),
    ("memory: 4", "memory: true"),
    ("buffer: 64K", "buffer: []"),
    ("policy: keep", "policy: kep"),
    ("tag: ~", "tag: A"),
    ("features: [a]", "features: [c]"),
    ("migration:", "migration: 5"),
    ("migration: {steps: [1, 2]}", "migration: {steps: [x]}"),
    ("disks: [{name: a}]", "disks: [{size: 1}]"),
    ("limits: {a: 1}", "limits: {A: 1}"),
    ("limits: {b: 2}", "limits: {b: x}"),
    ("either: 5", "either: 3"),
    ("either: all", "either: none"),
    ("pair: [a, 1]", "pair: [1, a]"),
    ("never: x", "never: root"),
    ("key: x", "key: ''"),
    ("uri: 'gold://{node}'", "uri: word"),
]


@pytest.mark.parametrize(("right", "wrong"), GOLDEN)
def test_every_kind_of_rule_is_said(right: str, wrong: str) -> None:
    schema = editor_schema({"gold": GOLD}, ("gold",))
    assert faults(f"gold:\n  {right}\n", schema) == []
    assert faults(f"gold:\n  {wrong}\n", schema) != []
