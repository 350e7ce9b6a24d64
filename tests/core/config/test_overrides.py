"""Settings of one VM's own: what is accepted, what is refused and in which words, and how they are laid over."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.config.overrides import LONGEST, BadOption, checked, overlaid, per_vm_keys, sound
from pvc.core.records import decode, encode
from pvc.plugins.hypervisor.schema import SCHEMA

PER_VM = {"per_vm": True}
GOLD: dict[str, Any] = {
    "level": {"type": "integer", "min": 1, "max": 9, "default": 3, "meta": PER_VM},
    "label": {"type": "string", "allowed": ["fine", "coarse"], "default": "fine", "meta": PER_VM},
    "note": {"type": "string", "nullable": True, "meta": PER_VM},
    "places": {"type": "list", "schema": {"type": "string", "check_with": "name"}, "default": [], "meta": PER_VM},
    "steps": {"type": "list", "schema": {"type": "float", "min": 0.1}, "minlength": 1, "default": [1], "meta": PER_VM},
    "size": {"type": "integer", "coerce": "mebibytes", "default": 1, "meta": PER_VM},
    "path": {"type": "string", "default": "/x"},
    "deep": {
        "type": "dict",
        "schema": {"on": {"type": "boolean", "default": False, "meta": PER_VM}, "all": {"type": "integer"}},
    },
    "needy": {"type": "boolean", "dependencies": ["path"], "required": True, "meta": PER_VM},
}
SCHEMAS = {"gold": GOLD, "hypervisor": SCHEMA}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("gold.level", "4", 4),
        ("gold.label", "coarse", "coarse"),
        ("gold.note", "null", None),
        ("gold.note", "~", None),
        ("gold.note", "#5, the second", "#5, the second"),
        ("gold.note", "12", "12"),
        ("gold.note", "yes", "yes"),
        ("gold.note", "a: b", "a: b"),
        ("gold.places", "a,b", ["a", "b"]),
        ("gold.places", "1", ["1"]),
        ("gold.places", "[a, b]", ["a", "b"]),
        ("gold.places", "[]", []),
        ("gold.steps", "0.5,1,2", [0.5, 1, 2]),
        ("gold.steps", " 0.5, 1 ", [0.5, 1]),
        ("gold.steps", "0.5", [0.5]),
        ("gold.steps", "[0.5, 1]", [0.5, 1]),
        ("gold.size", "2G", 2048),
        ("gold.deep.on", "true", True),
        ("gold.needy", "true", True),
        ("hypervisor.migration.bandwidth", "null", None),
        ("hypervisor.migration.bandwidth", "50", 50),
        ("hypervisor.migration.post_copy", "true", True),
    ],
)
def test_a_value_is_read_as_its_key_wants_it(key: str, text: str, value: object) -> None:
    found = checked(SCHEMAS, key, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("gold.level", "12", "gold.level: found 12 (number); allowed: a whole number from 1 to 9"),
        ("gold.level", "four", 'found "four" (text); allowed: a whole number from 1 to 9'),
        ("gold.level", "true", "found true (boolean)"),
        ("gold.level", "null", "found nothing (null)"),
        ("gold.level", "~", "found nothing (null)"),
        ("gold.level", "", "one line of 1 to"),
        ("gold.level", "4\nother: 5", "one line of 1 to"),
        ("gold.level", "4 " * LONGEST, "one line of 1 to"),
        ("gold.label", "fien", "one of fine, coarse; did you mean 'fine'?"),
        ("gold.places", "a,B", 'gold.places[1]: found "B" (text); use lower-case letters'),
        ("gold.places", "{a: 1}", "only a plain value or a list of plain values"),
        ("gold.places", "[[a]]", "only a plain value or a list of plain values"),
        ("gold.steps", "0.5,x,0", 'gold.steps[1]: found "x" (text); allowed: a number of at least 0.1; gold.steps[2]'),
        ("gold.steps", "[]", "gold.steps: found an empty list; allowed: a list of"),
        ("gold.size", "1K", "whole number of MiB"),
        ("gold.levle", "4", "gold.levle: there is no such key; did you mean 'gold.level'?"),
        ("silver", "4", "there is no such key; for one VM can be set: gold.level, gold.label"),
        ("gold.level.more", "4", "there is no such key"),
        ("gold.path", "/y", "gold.path: is set in pvc.yaml for a whole node and cannot be set for one VM; for one VM"),
        ("gold.deep", "{on: true}", "stands for several keys; for one VM can be set: gold.deep.on"),
        ("zookeeper.root", "/y", "cannot be set for one VM"),
        ("node", "hv9", "cannot be set for one VM"),
        ("hypervisor.migration.parallel", "2", "cannot be set for one VM"),
        ("", "1", "there is no such key"),
        ("..", "1", "there is no such key"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_is_allowed(key: str, text: str, why: str) -> None:
    with pytest.raises(BadOption) as refused:
        checked(SCHEMAS, key, text)
    assert why in str(refused.value)


@given(st.sampled_from(per_vm_keys(SCHEMAS)), st.text(max_size=30))
def test_whatever_is_typed_is_refused_or_survives_the_record_and_is_sound_afterwards(key: str, text: str) -> None:
    try:
        value = checked(SCHEMAS, key, text)
    except BadOption:
        return
    stored = decode(dict[str, Any], encode({key: value}), "x")
    section = key.partition(".")[0]
    found = sound(section, SCHEMAS[section], stored)
    assert (dict(found.options), found.problems) == (stored, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from([*per_vm_keys(SCHEMAS), "gold.path", "gold.deep", "gold.level.x", "gold", "", "gold..", "x.y"])


@given(st.dictionaries(KEYS | st.text(max_size=12), JSON, max_size=5))
def test_stored_garbage_never_fails_and_what_is_not_sound_is_told(options: dict[str, Any]) -> None:
    found = sound("gold", GOLD, options)
    own = {key for key in options if key.partition(".")[0] == "gold"}
    assert len(found.options) + len(found.problems) == len(own)
    assert set(found.options) <= set(per_vm_keys({"gold": GOLD}))
    overlaid("gold", {"level": 3, "deep": {"on": False}}, options)


def test_options_of_a_newer_version_and_of_the_wrong_type_are_left_out_and_told() -> None:
    stored = {"gold.level": 4, "gold.depth": 4, "gold.label": 7, "gold.steps": {"a": 1}, "silver.level": "anything"}
    found = sound("gold", GOLD, stored)
    assert found.options == {"gold.level": 4}
    assert [problem.partition(":")[0] for problem in found.problems] == ["gold.depth", "gold.label", "gold.steps"]


def test_options_are_laid_over_the_section_and_change_neither() -> None:
    section = {"level": 3, "steps": [1], "deep": {"on": False, "all": 7}}
    options = {"gold.deep.on": True, "gold.steps": [2, 3], "silver.level": 9, "gold": 1, "gold.level.x": 1}
    assert overlaid("gold", section, options) == {"level": 3, "steps": [2, 3], "deep": {"on": True, "all": 7}}
    assert section == {"level": 3, "steps": [1], "deep": {"on": False, "all": 7}}


def test_the_keys_of_the_ladder_can_be_set_for_one_vm() -> None:
    names = ("bandwidth", "downtime", "auto_converge", "post_copy", "connections", "deadline_per_gib")
    assert set(per_vm_keys({"hypervisor": SCHEMA})) >= {f"hypervisor.migration.{name}" for name in names}


def test_a_secret_never_gets_into_the_record_of_a_vm() -> None:
    schema = {"token": {"meta": {"secret": True, "per_vm": True, "help": "What opens it."}}}
    assert per_vm_keys({"vault": schema}) == []
    with pytest.raises(BadOption, match=r"vault.token: is set in pvc.yaml for a whole node|vault.token: stands for"):
        checked({"vault": schema}, "vault.token", "hunter2")
    found = sound("vault", schema, {"vault.token": "hunter2"})
    assert found.options == {} and "hunter2" not in str(found.problems)
