"""The pure parts of reading: where it begins, points in time in people's words, and why there is nothing to read."""

import re
from contextlib import suppress
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.plugins.consolelog.decide.absence import Facts, why_no_log
from pvc.plugins.consolelog.decide.follow import Start, beginning
from pvc.plugins.consolelog.decide.moments import NotAMoment, age, moment_of, stamp
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Marker, Text, span

NOW = datetime(2026, 11, 22, 14, 30, 15).timestamp()


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> float:
    return datetime(year, month, day, hour, minute, second).timestamp()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 600),
        ("90s", NOW - 90),
        ("1h30m", NOW - 5400),
        ("1h 30m ago", NOW - 5400),
        ("1.5 hours", NOW - 5400),
        ("2 Days", NOW - 2 * 86400),
        ("1w", NOW - 7 * 86400),
        ("14:00", at(2026, 11, 22, 14)),
        ("14:30:15", NOW),
        ("15:00", at(2026, 11, 21, 15)),
        ("2026-11-22", at(2026, 11, 22)),
        ("2026-11-22 13:05", at(2026, 11, 22, 13, 5)),
        ("2026-11-22T13:05:07", at(2026, 11, 22, 13, 5, 7)),
        ("2020-01-01T00:00:00Z", 1577836800.0),
    ],
)
def test_a_point_in_time_can_be_named_in_many_ways(text: str, moment: float) -> None:
    assert moment_of(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", " ", "ago", "10", "m", "lately", "10x", "10m later", "-5m", "25:00", "2026-13-01", "1 2m", "0001-01-01"],
)
def test_words_that_name_no_point_in_time_are_refused_with_examples(text: str) -> None:
    with pytest.raises(NotAMoment, match="is no point in time; write how long ago, such as 10m"):
        moment_of(text, NOW)


@given(st.text())
def test_no_text_at_all_does_worse_than_being_refused(text: str) -> None:
    with suppress(NotAMoment):
        assert moment_of(text, NOW) <= NOW


def test_the_future_is_refused() -> None:
    with pytest.raises(NotAMoment, match="lies in the future"):
        moment_of("2026-11-23", NOW)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "119 min"), (7200, "2 h"), (200_000, "2 d")],
)
def test_an_age_is_one_number_and_a_unit(seconds: float, words: str) -> None:
    assert age(seconds) == words


def test_a_stamp_is_read_back_as_the_same_moment() -> None:
    assert moment_of(stamp(NOW), NOW) == NOW


def chunks_of(*contents: tuple[float, bytes | Content]) -> list[Chunk]:
    made: list[Chunk] = []
    offset = 0
    for number, (when, each) in enumerate(contents):
        content = Text(each) if isinstance(each, bytes) else each
        made.append(Chunk(number, offset, when, content))
        offset += span(content)
    return made


def text(chunks: list[Chunk] | None) -> bytes | None:
    return None if chunks is None else b"".join(c.content.data for c in chunks if isinstance(c.content, Text))


LOG = chunks_of((1.0, b"one\ntw"), (2.0, b"o\nth"), (3.0, Marker(Event.MOVED, "a", "b")), (4.0, b"ree\nfour\n"))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Start(), b"one\ntwo\nthree\nfour\n"),
        (Start(since=0.5), b"one\ntwo\nthree\nfour\n"),
        (Start(since=1.5), b"two\nthree\nfour\n"),
        (Start(since=2.5), b"ree\nfour\n"),  # it came behind a marker: that is where it begins
        (Start(since=9.0), b""),
        (Start(2, since=0.5), b"three\nfour\n"),
        (Start(9, since=1.5), b"two\nthree\nfour\n"),
        (Start(0), b""),
        (Start(1, wanted=re.compile("o")), b"four\n"),
        (Start(2, wanted=re.compile("o")), b"two\nthree\nfour\n"),
        (Start(1, wanted=re.compile("^three$")), b"three\nfour\n"),
        (Start(5, wanted=re.compile("o")), b"one\ntwo\nthree\nfour\n"),
        (Start(wanted=re.compile("x")), b"one\ntwo\nthree\nfour\n"),
        (Start(0, wanted=re.compile("o")), b""),
    ],
)
def test_where_reading_begins(start: Start, expected: bytes) -> None:
    assert text(beginning(LOG, start, complete=True)) == expected


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Start(), None),
        (Start(2), b"three\nfour\n"),
        (Start(9), None),
        (Start(since=0.5), None),
        (Start(since=1.5), b"two\nthree\nfour\n"),
        (Start(1, wanted=re.compile("o")), None),  # the first line held may be the end of one that matches
        (Start(1, since=1.5, wanted=re.compile("o")), b"four\n"),
    ],
)
def test_what_is_before_is_looked_at_only_if_it_may_matter(start: Start, expected: bytes | None) -> None:
    assert text(beginning(LOG, start, complete=False)) == expected


def test_every_cause_of_a_missing_log_comes_with_what_to_do() -> None:
    causes = {
        why_no_log(Facts("web", console, runs, "hv1", publishes))
        for console in (False, True)
        for runs in (False, True)
        for publishes in (False, True)
    }
    assert len(causes) == 4
    assert all("web" in cause and ("`pvc" in cause or "pvc.yaml" in cause) for cause in causes)
