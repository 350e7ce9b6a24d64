"""The pure parts: bounds, places, hand-over, reading, and what may reach a terminal."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.observers import VmChange
from pvc.core.records import Garbage
from pvc.plugins.consolelog.decide import bounds, tail
from pvc.plugins.consolelog.decide.follow import Cursor, last_lines, next_fetch
from pvc.plugins.consolelog.decide.handover import PATIENCE, Claim, Standing, claim
from pvc.plugins.consolelog.decide.terminal import Colours, Screen, is_coloured
from pvc.plugins.consolelog.ring import (
    Chunk,
    Content,
    Event,
    FileMark,
    Gap,
    Header,
    Loss,
    Marker,
    Text,
    cost,
    decode_block,
    encode_chunk,
    span,
)

MARK = FileMark(7, 100, 5, "3")
contents: st.SearchStrategy[Content] = st.one_of(
    st.builds(Text, st.binary()),
    st.builds(Marker, st.sampled_from(Event), st.text(), st.text()),
    st.builds(Gap, st.none() | st.integers(0, 1 << 40), st.sampled_from(Loss)),
)


@given(st.integers(0), st.lists(st.tuples(st.integers(0, 1 << 40), contents, st.booleans()), min_size=1))
def test_a_block_comes_back_as_it_was_written(number: int, parts: list[tuple[int, Content, bool]]) -> None:
    data = b"".join(encode_chunk(offset, 12.5, content, more=more) for offset, content, more in parts)
    expected = [Chunk(number, offset, 12.5, each, index, more) for index, (offset, each, more) in enumerate(parts)]
    assert list(decode_block(number, data, "/x")) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"{}", b'{"offset":0,"at":1,"size":9}\nshort', b'{"offset":0,"at":1,"size":-9}\nlong enough', b"junk"],
)
def test_a_block_that_is_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(Garbage, match="/x"):
        decode_block(0, data, "/x")


@given(st.lists(st.lists(contents, max_size=5), max_size=12))
def test_blocks_hold_all_chunks_in_order_and_the_books_are_right(writes: list[list[Content]]) -> None:
    header, newest, blocks = Header("hv1"), None, dict[int, bytes]()
    for written in writes:
        header, changed = bounds.grown(header, newest, written, 1.0)
        for block in changed:
            assert block.fresh == (block.number not in blocks)
            blocks[block.number] = block.data
        if changed:
            newest = replace(changed[-1], fresh=False) if changed[-1].more else None
    chunks = [chunk for number, data in blocks.items() for chunk in decode_block(number, data, "/x")]
    assert [chunk.content for chunk in chunks] == [content for written in writes for content in written]
    assert list(blocks) == list(range(header.number))
    assert header.bytes == sum(cost(chunk.content) for chunk in chunks)
    assert header.next == sum(span(chunk.content) for chunk in chunks)
    assert header.newest == sum(chunk.number == header.number - 1 for chunk in chunks)


def test_few_blocks_hold_many_lines_and_what_is_written_once_more_is_bounded() -> None:
    header, newest, rewritten = Header("hv1"), None, []
    for number in range(1000):
        before = len(newest.data) if newest else 0
        header, changed = bounds.grown(header, newest, [Text(b"%d\n" % number)], 1.0)
        rewritten.append(before)
        newest = replace(changed[-1], fresh=False) if changed[-1].more else None
    assert header.number == 250
    assert max(rewritten) < 512 + 16 * 72


@given(st.binary(max_size=500), st.integers(1, 50))
def test_pieces_are_small_and_together_the_whole(data: bytes, largest: int) -> None:
    parts = bounds.pieces(data, largest)
    assert b"".join(parts) == data
    assert all(0 < len(part) <= largest for part in parts)


def test_pieces_end_with_a_line_where_they_can() -> None:
    assert bounds.pieces(b"one\ntwo\nthree", 9) == [b"one\ntwo\n", b"three"]


@pytest.mark.parametrize(
    ("lines", "size", "oldest", "goes"),
    [
        (11, 100, bounds.Kept(10, 74, 1), False),  # then the first of the last ten would be cut
        (12, 100, bounds.Kept(10, 74, 1), True),
        (12, 100, bounds.Kept(10, 74, 2), False),
        (0, 5001, bounds.Kept(10, 74, 0), True),
        (12, 100, None, True),
        (10, 100, None, False),
    ],
)
def test_the_oldest_chunk_goes_only_when_a_bound_is_passed(
    lines: int, size: int, oldest: bounds.Kept | None, goes: bool
) -> None:
    assert bounds.is_over(Header("hv1", lines=lines, bytes=size), bounds.Limits(10, 5000), oldest) is goes


@pytest.mark.parametrize(
    ("change", "append", "mark", "run", "is_open", "expected"),
    [
        (VmChange.STARTED, False, None, "4", False, tail.Begin(lost=False)),
        (VmChange.STARTED, False, MARK, "4", True, tail.Begin(lost=True)),
        (VmChange.STARTED, False, MARK, "", True, tail.Begin(lost=True)),
        (VmChange.STARTED, False, MARK, "3", True, tail.Resume(MARK)),
        (VmChange.STARTED, True, MARK, "4", False, tail.Resume(MARK)),
        (VmChange.ADOPTED, False, MARK, "3", True, tail.Resume(MARK)),
        (VmChange.ADOPTED, False, MARK, "", True, tail.Resume(MARK)),
        (VmChange.ADOPTED, False, MARK, "4", True, tail.Begin(lost=True)),
        (VmChange.ADOPTED, False, None, "3", True, tail.Begin(lost=False)),
        (VmChange.ARRIVED, False, MARK, "4", False, tail.Begin(lost=False)),
        (VmChange.ARRIVED, True, MARK, "4", False, tail.Resume(MARK)),
        (VmChange.ARRIVED, True, None, "4", False, tail.Begin(lost=False)),
    ],
)
def test_where_reading_starts(
    change: VmChange,
    append: bool,
    mark: FileMark | None,
    run: str,
    is_open: bool,
    expected: tail.Begin | tail.Resume,
) -> None:
    assert tail.start(change, append, mark, run, is_open=is_open) == expected


@pytest.mark.parametrize(
    ("position", "size", "expected"),
    [
        (10, 5, tail.Cut()),
        (10, 10, tail.Drained()),
        (10, 60, tail.Read(10, 50, 0)),
        (10, 2000, tail.Read(1000, 500, 990)),  # 1000 bytes are allowed, 500 at once
    ],
)
def test_what_a_look_at_a_file_says(position: int, size: int, expected: object) -> None:
    assert tail.look(position, size, 1000, 500) == expected


def test_a_budget_grows_with_time_up_to_its_bound() -> None:
    assert tail.budget(100.0, 2.0, 50, 1000) == 200.0
    assert tail.budget(100.0, 100.0, 50, 1000) == 1000.0


@pytest.mark.parametrize(
    ("files", "drained", "expected"),
    [
        ([("a", 3), ("a.0", 2), ("a.1", 1)], 3, None),
        ([("a", 3), ("a.0", 2), ("a.1", 1)], 2, tail.Next("a", 3, chained=True, lost=False)),
        ([("a", 3), ("a.0", 2), ("a.1", 1)], 1, tail.Next("a.0", 2, chained=True, lost=False)),
        ([("a", 3), ("a.0", 2)], 9, tail.Next("a", 3, chained=False, lost=True)),
        ([("a", 3)], 9, tail.Next("a", 3, chained=False, lost=False)),
        ([], 9, None),
    ],
)
def test_which_file_follows_a_drained_one(
    files: list[tuple[str, int]], drained: int, expected: tail.Next | None
) -> None:
    assert tail.successor(files, drained) == expected


HERE = Standing("hv2", VmChange.ARRIVED, "hv1")
STARTED = Standing("hv2", VmChange.STARTED)
GONE = Standing("hv2", VmChange.ARRIVED, "hv1", ended=VmChange.STOPPED, waited=PATIENCE)
LEFT = Standing("hv2", VmChange.ARRIVED, "hv1", ended=VmChange.DEPARTED)
OPEN_1 = Header("hv1")
CLOSED_1 = Header("hv1", closed=True)


@pytest.mark.parametrize(
    ("header", "standing", "expected"),
    [
        (Header("hv2"), HERE, Claim.WRITE),
        (OPEN_1, HERE, Claim.WAIT),
        (OPEN_1, replace(HERE, waited=PATIENCE), Claim.SEIZE),
        (OPEN_1, replace(HERE, source_lives=False), Claim.SEIZE),
        (CLOSED_1, HERE, Claim.WAIT),  # hv1 started it, and has yet to write that down
        (CLOSED_1, replace(HERE, source_lives=False), Claim.SEIZE),
        (None, HERE, Claim.WAIT),
        (None, STARTED, Claim.WRITE),
        (CLOSED_1, STARTED, Claim.WRITE),
        (OPEN_1, STARTED, Claim.WAIT),
        (OPEN_1, replace(GONE, lease="hv2"), Claim.SEIZE),
        (OPEN_1, replace(GONE, lease=None), Claim.SEIZE),
        (OPEN_1, replace(GONE, lease="hv1"), Claim.DROP),
        (OPEN_1, LEFT, Claim.WAIT),
        (OPEN_1, replace(LEFT, waited=PATIENCE), Claim.DROP),
        (OPEN_1, replace(LEFT, source_lives=False), Claim.DROP),
        (OPEN_1, replace(LEFT, ousted=True), Claim.DROP),
        (CLOSED_1, replace(STARTED, ended=VmChange.DEPARTED), Claim.WRITE),
        (CLOSED_1, replace(STARTED, ended=VmChange.DEPARTED, ended_for=PATIENCE), Claim.DROP),
        (Header("hv2"), replace(STARTED, ended=VmChange.DEPARTED, ended_for=PATIENCE), Claim.WRITE),
        (OPEN_1, replace(HERE, ousted=True, waited=PATIENCE, lease="hv1"), Claim.WAIT),
        (OPEN_1, replace(HERE, ousted=True, waited=PATIENCE, lease="hv2"), Claim.SEIZE),
    ],
)
def test_who_may_write(header: Header | None, standing: Standing, expected: Claim) -> None:
    assert claim(header, standing) is expected


def test_a_reader_that_was_overtaken_learns_how_much_it_missed() -> None:
    fetch = next_fetch(Cursor(3, 50), Header("hv1", next=500, first=200, number=9, first_number=6))
    assert (fetch.lost, fetch.first, fetch.last, fetch.offset) == (150, 6, 9, 200)


def test_a_reader_that_has_everything_fetches_nothing() -> None:
    fetch = next_fetch(Cursor(9, 500), Header("hv1", next=500, first=200, number=9, first_number=6))
    assert (fetch.lost, fetch.first, fetch.last) == (0, 9, 9)


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"a", b"\n"))), st.integers(0, 8))
def test_the_last_lines_are_those_that_tail_prints(parts: list[bytes], count: int) -> None:
    chunks, offset = [], 0
    for number, part in enumerate(parts):
        chunks.append(Chunk(number, offset, 1.0, Text(part)))
        offset += len(part)
    whole = b"".join(parts)
    found = last_lines(chunks, count)
    shown = b"".join(c.content.data for c in (chunks if found is None else found) if isinstance(c.content, Text))
    lines = [line for line in re.split(rb"(?<=\n)", whole) if line]
    assert shown == b"".join(lines[len(lines) - min(count, len(lines)) :])


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"plain\r\nlines\n", "plain\nlines\n"),
        (b"50%\r60%\r\r\n", "50%\n60%\n"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        (b"\x1b[2J\x1b[H", "^[[2J^[[H"),
        (b"\x1b]0;title\x07", "^[]0;title^G"),
        (b"\x1b[6n\x1b[c", "^[[6n^[[c"),
        (b"\x1bPq#0\x1b\\", "^[Pq#0^[\\"),
        (b"a\x08b\x7f\x00c\td", "a^Hb^?c\td"),
        ("\u009b31m".encode(), "<9B>31m"),
        ("\u202eevil".encode(), "<202E>evil"),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (b"\x1b[" + b"1" * 100 + b"m", "^[[" + "1" * 100 + "m"),
    ],
)
def test_what_a_terminal_gets_to_see(printed: bytes, shown: str) -> None:
    screen = Screen(Colours.KEPT)
    assert screen.show(printed) + screen.end() == shown
    by_byte = Screen(Colours.KEPT)
    assert "".join(by_byte.show(bytes([byte])) for byte in printed) + by_byte.end() == shown


@given(st.lists(st.binary()))
def test_no_control_character_passes_but_line_ends_tabs_and_colours(parts: list[bytes]) -> None:
    screen = Screen(Colours.REMOVED)
    shown = "".join(screen.show(part) for part in parts) + screen.end()
    assert all(c in "\n\t" or (ord(c) >= 0x20 and not 0x7F <= ord(c) <= 0x9F) for c in shown)


def test_colours_can_be_removed() -> None:
    assert Screen(Colours.REMOVED).show(b"\x1b[1;31mred\x1b[0m") == "red"


def test_a_text_tells_whether_a_colour_is_still_on_after_it() -> None:
    assert is_coloured("\x1b[31mred", False)
    assert is_coloured("still red", True)
    assert not is_coloured("\x1b[31mred\x1b[m", True)
    assert not is_coloured("\x1b[31mred\x1b[0m", True)
