"""Anything at all as a configuration: it is one, or every problem has its place; and one mistake is told alone.

`PVC_FUZZ=20000 pytest tests/core/config/test_config_fuzz.py` tries that many examples of each instead of a few.
"""

import json
import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvc.core.config.document import Document, parse
from pvc.core.config.explain import as_mapping
from pvc.core.config.layers import laid_over
from pvc.core.config.problems import ConfigError, KeyPath, Problem
from pvc.core.config.schema import entry_rules, full_schema, inner_fields, is_secret
from pvc.core.config.settings import Config
from pvc.core.config.validation import validate
from tests.core.config.test_config_corpus import SCHEMAS
from tests.core.config.test_config_example import EXAMPLE, everything_switched_on

KNOWN = list(SCHEMAS)
FIELDS = full_schema(SCHEMAS, KNOWN)
FULL = everything_switched_on() + "\ngold:\n  uri: x\n  token: {file: /etc/token}\n  rooms:\n    - {name: a, size: 3}\n"
FUZZ = settings(
    max_examples=int(os.environ.get("PVC_FUZZ", "40")), deadline=None, suppress_health_check=list(HealthCheck)
)


def answer(*texts: str) -> Config | tuple[Problem, ...]:
    """The configuration, or every problem; nothing else may come of any files."""
    documents: list[Document] = []
    try:
        for number, text in enumerate(texts):
            documents.append(parse(text, f"f{number}.yaml"))
        document = documents[0]
        for above in documents[1:]:
            document = laid_over(document, above)
        return validate(document, SCHEMAS, KNOWN, host_name="hv1")
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert str(problem).isprintable() and len(str(problem)) < 2000
            str(problem).encode()
            if len(documents) == len(texts) and problem.line is None:
                assert document.place(problem.key)[1] is None, f"{problem} has no line though its key has one"
            elif problem.line is None:
                pytest.fail(f"the reader gives no line: {problem}")
        return error.problems


def sound(config: Config | tuple[Problem, ...]) -> None:
    """A configuration can be shown, and what is shown is the same configuration."""
    if isinstance(config, Config):
        shown = answer(yaml.safe_dump(as_mapping(config), sort_keys=False))
        assert isinstance(shown, Config) and as_mapping(shown) == as_mapping(config)


TEXT = EXAMPLE.read_text(encoding="utf-8")
MARKS = "\t\n :-[]{}&*!|>'\"%@`#,?~=<.0\u0085\ufeff\x00é“"
TOKENS = [
    "<<: *a",
    "&a ",
    "*a",
    "!!str ",
    "---\n",
    "...\n",
    "? ",
    ": ",
    "- ",
    "|\n",
    "yes",
    "010",
    ".nan",
    "1e3",
    "null",
]


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """The example with pieces taken out, put in, doubled and exchanged."""
    text = draw(st.sampled_from([TEXT, FULL]))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(["", text[start:end] * 2, *MARKS, *TOKENS]))
        text = text[:start] + piece + text[end:]
    return text


@FUZZ
@given(st.text(max_size=200) | st.text(alphabet=MARKS + "ab12", max_size=60))
def test_any_text(text: str) -> None:
    sound(answer(text))


@FUZZ
@given(mutations())
def test_any_mutation_of_the_example(text: str) -> None:
    sound(answer(text))


SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["hv1", "/a/b", "512M", "qemu:///system", "x://{node}", "on", "10.0.0.1:1", "{", "../x", "live"])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def shaped(rules: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that have the shape the schema wants, in most places."""
    fields, entry = inner_fields(rules), entry_rules(rules)
    if fields is not None:
        known = {name: shaped(inner) for name, inner in fields.items()}
        return st.fixed_dictionaries({}, optional=known) | ANY
    if entry is not None:
        return st.lists(shaped(entry), max_size=3) | SCALARS
    likely = [rules.get("default"), rules.get("min"), rules.get("max"), *rules.get("allowed", ())]
    return st.sampled_from(likely) | SCALARS | ANY


STRUCTURES = st.fixed_dictionaries({}, optional={name: shaped(rules) for name, rules in FIELDS.items()})


@FUZZ
@given(st.lists(STRUCTURES, min_size=1, max_size=3))
def test_any_structures_laid_over_each_other(structures: list[dict[str, Any]]) -> None:
    sound(answer(*(yaml.safe_dump(structure) for structure in structures)))


def leaves(rules: Mapping[str, Any], key: KeyPath, value: Any) -> Iterator[tuple[KeyPath, Mapping[str, Any]]]:
    """Every key of FULL that holds a value, with its rules."""
    fields, entry = inner_fields(rules), entry_rules(rules)
    if fields is not None and not is_secret(rules):
        for name, inner in fields.items():
            if name in value:
                yield from leaves(inner, (*key, name), value[name])
    else:
        yield key, rules
        for index, each in enumerate(value if entry is not None else ()):
            yield from leaves(entry or {}, (*key, index), each)


VALUES = {
    **parse(FULL, "f").values,
    "zookeeper": {**parse(FULL, "f").values["zookeeper"], "password": None},
}
LEAVES = dict(leaves({"type": "dict", "schema": FIELDS}, (), VALUES))
WRONG: Mapping[str, Any] = {
    "boolean": "true",
    "integer": "five",
    "float": [1],
    "number": "soon",
    "string": ["x"],
    "list": {"a": 1},
    "dict": "text",
}


def replaced(values: Any, key: KeyPath, new: Any) -> Any:
    """A copy with another value at one place."""
    if not key:
        return new
    first, rest = key[0], key[1:]
    if isinstance(values, list):
        return [replaced(each, rest, new) if index == first else each for index, each in enumerate(values)]
    return {**values, first: replaced(values.get(first, {}), rest, new)}


@pytest.mark.parametrize("key", LEAVES, ids=lambda key: ".".join(map(str, key)))
def test_one_broken_key_in_a_full_configuration_is_named_and_nothing_else(key: KeyPath) -> None:
    assert isinstance(answer(json.dumps(VALUES)), Config)
    values = replaced(VALUES, key, WRONG[str(LEAVES[key]["type"])])
    if key == ("zookeeper", "password"):  # beside password_file it is one too many whatever it is
        values = replaced(values, ("zookeeper", "password_file"), None)
    (problem,) = broken(key, values)
    assert problem.line is not None


def broken(key: KeyPath, values: Any) -> tuple[Problem, ...]:
    """The problems of values that are wrong at one key, all of which name it, with the line it stands in."""
    text = yaml.safe_dump(values, sort_keys=False)
    problems = answer(text)
    assert isinstance(problems, tuple), f"nothing is wrong with {key}"
    assert {problem.key[: len(key)] for problem in problems} == {key}, problems
    assert {problem.line for problem in problems} == {parse(text, "f").line(problems[0].key)}
    return problems


@FUZZ
@given(st.sampled_from(list(LEAVES)), ANY, st.randoms(use_true_random=False))
def test_any_other_value_of_one_key_is_taken_or_that_key_is_named(
    key: KeyPath, value: Any, shuffle: random.Random
) -> None:
    names = list(VALUES)
    shuffle.shuffle(names)
    values = replaced({name: VALUES[name] for name in names}, key, value)
    answered = answer(yaml.safe_dump(values, sort_keys=False))
    if not isinstance(answered, Config):
        around = {problem.key[: len(key)] for problem in answered}
        # What is wrong between several keys (user and password) is told of the mapping they are in.
        assert around <= {key, key[:-1]}, answered


PARENTS = sorted({key[:-1] for key in LEAVES if key[:-1] != ("plugins",) and not isinstance(key[-1], int)}, key=str)


@pytest.mark.parametrize("parent", PARENTS, ids=lambda key: ".".join(map(str, key)) or "top")
def test_one_unknown_key_anywhere_is_named_and_nothing_else(parent: KeyPath) -> None:
    key = (*parent, "no_such_key")
    (problem,) = broken(key, replaced(VALUES, key, 1))
    assert problem.found == "unknown key"
