"""What comes out of `pvc vm log`."""

import io
from datetime import datetime

from pvc.plugins.consolelog.printer import Printer, Style, words
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Gap, Loss, Marker, Text

AT = datetime(2024, 3, 1, 12, 0, 3).timestamp()
MOVED = Marker(Event.MOVED, "hv1", "hv2")
WORDS = "--- moved from hv1 to hv2 at 2024-03-01 12:00:03 ---"


def printed(style: Style, *contents: Content | Notice) -> tuple[bytes, list[str]]:
    out, notes = io.BytesIO(), list[str]()
    printer = Printer(out, notes.append, style)
    for number, content in enumerate(contents):
        printer.print(content if isinstance(content, Notice) else Chunk(number, 0, AT, content))
    printer.end()
    return out.getvalue(), notes


def test_a_pipe_gets_the_output_alone_and_markers_go_to_standard_error() -> None:
    out, notes = printed(Style(terminal=False), Text(b"\x1b[31mone\r\ntwo"), MOVED, Text(b" three\n"))
    assert out == b"one\ntwo three\n"
    assert notes == [WORDS]


def test_a_terminal_shows_markers_on_lines_of_their_own() -> None:
    out, notes = printed(Style(terminal=True), Text(b"one\ntwo"), MOVED, Text(b"three\n"))
    assert out.decode() == f"one\ntwo\n\x1b[7m{WORDS}\x1b[0m\nthree\n"
    assert notes == []


def test_a_colour_does_not_run_over_into_what_follows() -> None:
    out, _ = printed(Style(terminal=True), Text(b"\x1b[31mred"), MOVED, Text(b"\x1b[31mred"))
    assert out.decode() == f"\x1b[31mred\x1b[0m\n\x1b[7m{WORDS}\x1b[0m\n\x1b[31mred\x1b[0m\n"


def test_raw_output_is_the_very_bytes() -> None:
    data = b"\x1b[2J\x00\xff\r"
    assert printed(Style(terminal=True, raw=True), Text(data), MOVED) == (data, [WORDS])


def test_timestamps_begin_lines_but_not_pieces_of_lines() -> None:
    out, _ = printed(Style(terminal=False, timestamps=True), Text(b"one\nt"), Text(b"wo\n\nthree"))
    stamp = "2024-03-01 12:00:03 "
    assert out.decode() == f"{stamp}one\n{stamp}two\n{stamp}\n{stamp}three"


def test_a_character_cut_in_two_is_put_together() -> None:
    assert printed(Style(terminal=False), Text(b"caf\xc3"), Text(b"\xa9\n"))[0].decode() == "café\n"


def test_notices_never_mix_with_piped_output() -> None:
    assert printed(Style(terminal=False), Notice("waiting")) == (b"", ["--- waiting ---"])


def test_a_gap_says_how_much_is_missing_and_why() -> None:
    known = words(Chunk(0, 0, AT, Gap(12, Loss.RING)))
    assert known == "12 bytes of output are missing here: the log dropped it before it was read"
    assert words(Chunk(0, 0, AT, Gap(None, Loss.FILE))).startswith("some output may be missing here: the log file was")
