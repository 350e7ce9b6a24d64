"""How listings look."""

import io
import json
from enum import Enum

import pytest

from pvc.cli.output import Format, fields_of, table, text_of, write
from pvc.core.commands import Moment


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (Colour.RED, "red"),
        (1.25, "1.2"),
        ([], "-"),
        (["a", "b"], "a,b"),
        ("two\nlines", "two lines"),
        ("", "-"),
    ],
)
def test_values_are_one_word_or_line(value: object, text: str) -> None:
    assert text_of(value) == text


def test_a_table_is_aligned_and_has_no_trailing_blanks() -> None:
    lines = table([{"name": "a", "state": "ready"}, {"name": "long", "state": "x"}], ("name", "state"), colour=False)
    assert lines == ["NAME  STATE", "a     ready", "long  x"]


def test_colours_are_for_terminals_only() -> None:
    row = [{"state": "failed"}]
    assert "\x1b" in table(row, ("state",), colour=True)[1]
    assert "\x1b" not in table(row, ("state",), colour=False)[1]


def test_json_keeps_numbers_and_all_fields() -> None:
    out = io.StringIO()
    write([{"a": Moment(12.5), "b": Colour.RED, "c": (1, 2)}], ("a",), Format.JSON, one=False, to=out)
    assert json.loads(out.getvalue()) == [{"a": 12.5, "b": "red", "c": [1, 2]}]


def test_one_record_is_an_object_in_json_and_a_field_a_line_in_a_table() -> None:
    out = io.StringIO()
    write([{"a": 1}], ("a",), Format.JSON, one=True, to=out)
    assert json.loads(out.getvalue()) == {"a": 1}
    assert fields_of({"name": "x", "why_not": None}) == ["name:    x", "why not: -"]


def test_nothing_is_an_empty_list() -> None:
    out = io.StringIO()
    write([], ("a",), Format.JSON, one=False, to=out)
    assert json.loads(out.getvalue()) == []
