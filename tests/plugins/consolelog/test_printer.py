"""What comes out of `pvc vm log`."""

import io
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pvc.plugins.consolelog.decide.terminal import Colours
from pvc.plugins.consolelog.pens import JsonPen, Look, RawPrinter, TextPen
from pvc.plugins.consolelog.printer import PATIENCE, Choice, Printer, words
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Content, Event, Gap, Loss, Marker, Text, span

AT = datetime(2024, 3, 1, 12, 0, 3).timestamp()
STAMP = "2024-03-01 12:00:03"
MOVED = Marker(Event.MOVED, "hv1", "hv2")
WORDS = f"--- moved from hv1 to hv2 at {STAMP} ---"
TERMINAL = Look(terminal=True)
PIPE = Look(terminal=False)
SEVERAL = Look(terminal=False, prefix=True, apart=True)


class Desk:
    """A printer, its clock, and what came out of it."""

    def __init__(
        self,
        look: Look = PIPE,
        *,
        names: Sequence[str] = (),
        grep: str | None = None,
        jsonl: bool = False,
        raw: bool = False,
    ) -> None:
        self.out = io.BytesIO()
        self.notes: list[str] = []
        self.now = 0.0
        self._offsets: dict[str, int] = {}
        wanted = re.compile(grep) if grep else None
        kept = Colours.KEPT if look.terminal else Colours.UNTOUCHED if raw else Colours.REMOVED
        pen = JsonPen(self.out, self.notes.append) if jsonl else TextPen(self.out, self.notes.append, look, names)
        self.printer: Printer | RawPrinter = (
            RawPrinter(self.out, self.notes.append)
            if raw and not jsonl
            else Printer(pen, Choice(kept, whole=look.apart, wanted=wanted), lambda: self.now)
        )

    def print(self, *contents: bytes | Content | Notice, vm: str = "web") -> "Desk":
        """Print some contents of a VM, one after the other."""
        for each in contents:
            content = Text(each) if isinstance(each, bytes) else each
            if isinstance(content, Notice):
                self.printer.print(vm, content)
                continue
            offset = self._offsets.get(vm, 0)
            self._offsets[vm] = offset + span(content)
            self.printer.print(vm, Chunk(0, offset, AT, content))
        return self

    def wait(self, seconds: float) -> "Desk":
        self.now += seconds
        self.printer.print_due()
        return self

    def waits(self) -> bool:
        """Whether something is held back."""
        return self.printer.pause is not None

    def end(self) -> str:
        self.printer.end()
        return self.text

    @property
    def text(self) -> str:
        return self.out.getvalue().decode()

    @property
    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.text.splitlines()]


def test_a_pipe_gets_the_output_alone_and_markers_go_to_standard_error() -> None:
    desk = Desk().print(b"\x1b[31mone\r\ntwo", MOVED, b" three\n")
    assert desk.end() == "one\ntwo three\n"
    assert desk.notes == [WORDS]


class Slow(io.BytesIO):
    """Keeps what it is given until it is flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = b""

    def flush(self) -> None:
        self.arrived = self.getvalue()


def test_output_has_arrived_before_what_is_told_of_the_time_after_it() -> None:
    out, seen = Slow(), list[bytes]()
    pen = TextPen(out, lambda note: seen.append(out.arrived), SEVERAL)
    printer = Printer(pen, Choice(Colours.REMOVED, whole=True), lambda: 0.0)
    printer.print("web", Chunk(0, 0, AT, Text(b"half a line")))
    printer.print("web", Chunk(1, 11, AT, MOVED))
    assert seen == [b"web | half a line"]


def test_a_terminal_shows_markers_on_lines_of_their_own() -> None:
    desk = Desk(TERMINAL).print(b"one\ntwo", MOVED, b"three\n")
    assert desk.end() == f"one\ntwo\n\x1b[7m{WORDS}\x1b[0m\nthree\n"
    assert desk.notes == []


def test_a_colour_does_not_run_over_into_what_follows() -> None:
    shown = Desk(TERMINAL).print(b"\x1b[31mred", MOVED, b"\x1b[31mred").end()
    assert shown == f"\x1b[31mred\x1b[0m\n\x1b[7m{WORDS}\x1b[0m\n\x1b[31mred\x1b[0m\n"


def test_raw_output_is_the_very_bytes() -> None:
    data = b"\x1b[2J\x00\xff\r"
    desk = Desk(TERMINAL, raw=True).print(data, MOVED)
    assert (desk.out.getvalue(), desk.notes) == (data, [WORDS])


def test_timestamps_begin_lines_but_not_pieces_of_lines() -> None:
    shown = Desk(Look(terminal=False, timestamps=True)).print(b"one\nt", b"wo\n\nthree").end()
    assert shown == f"{STAMP} one\n{STAMP} two\n{STAMP} \n{STAMP} three"


def test_a_character_cut_in_two_is_put_together_even_by_a_move() -> None:
    assert Desk().print(b"caf\xc3", b"\xa9\n").end() == "café\n"
    assert Desk().print(b"caf\xc3", MOVED, b"\xa9\n").end() == "café\n"


def test_what_a_new_run_prints_begins_a_line() -> None:
    assert Desk().print(b"login: ", Marker(Event.STARTED, "hv1"), b"Booting\n").end() == "login: \nBooting\n"


def test_notices_never_mix_with_piped_output() -> None:
    desk = Desk().print(Notice("waiting"))
    assert (desk.end(), desk.notes) == ("", ["--- waiting ---"])


def test_a_gap_says_how_much_is_missing_and_why() -> None:
    known = words(Chunk(0, 0, AT, Gap(12, Loss.RING)))
    assert known == "12 bytes of output are missing here: the log dropped it before it was read"
    assert words(Chunk(0, 0, AT, Gap(None, Loss.FILE))).startswith("some output may be missing here: the log file was")


def test_one_vm_shows_a_prompt_at_once() -> None:
    assert Desk(TERMINAL).print(b"login: ").text == "login: "


def test_lines_of_several_vms_have_their_names_before_them_one_below_the_other() -> None:
    desk = Desk(SEVERAL, names=["web", "db10"]).print(b"one\n").print(b"two\n", vm="db10").print(b"three\n")
    assert desk.end() == "web  | one\ndb10 | two\nweb  | three\n"


def test_the_name_stands_before_the_time() -> None:
    desk = Desk(Look(terminal=False, timestamps=True, prefix=True, apart=True)).print(b"one\n")
    assert desk.end() == f"web | {STAMP} one\n"


def test_a_name_cannot_harm_the_terminal() -> None:
    assert Desk(SEVERAL).print(b"one\n", vm="a\u009b2Jb").end() == "a<9B>2Jb | one\n"


def test_on_a_terminal_each_name_has_a_colour_that_ends_with_it() -> None:
    look = Look(terminal=True, prefix=True, apart=True)
    shown = Desk(look, names=["a", "b"]).print(b"\x1b[1mone\n", vm="a").print(b"two\n", vm="b").end()
    assert shown == "\x1b[36ma |\x1b[0m \x1b[1mone\x1b[0m\n\x1b[33mb |\x1b[0m two\n"


def test_a_line_that_has_not_ended_waits_among_those_of_other_vms() -> None:
    desk = Desk(SEVERAL).print(b"lo", vm="a").print(b"one\n", vm="b")
    assert desk.text == "b | one\n"
    desk.print(b"gin: root\n", vm="a")
    assert desk.text == "b | one\na | login: root\n"


def test_a_prompt_is_shown_once_it_has_waited_and_goes_on_where_it_stands() -> None:
    desk = Desk(SEVERAL).print(b"login: ", vm="a")
    assert desk.printer.pause == PATIENCE
    assert desk.wait(PATIENCE - 0.1).text == ""
    assert desk.wait(0.1).text == "a | login: "
    assert not desk.waits()
    assert desk.print(b"root\n", vm="a").text == "a | login: root\n"


def test_a_prompt_that_another_vm_broke_off_goes_on_on_a_marked_line() -> None:
    desk = Desk(SEVERAL).print(b"login: ", vm="a").wait(PATIENCE).print(b"one\n", vm="b").print(b"root\n", vm="a")
    assert desk.end() == "a | login: \nb | one\na > root\n"


def test_a_line_that_grows_dot_by_dot_is_shown_on_the_way() -> None:
    desk = Desk(SEVERAL)
    for _ in range(4):
        desk.print(b".", vm="a").wait(PATIENCE / 3)
    assert desk.text == "a | ..."


def test_each_line_of_a_busy_vm_has_the_whole_time_to_end() -> None:
    desk = Desk(SEVERAL)
    for _ in range(9):
        desk.print(b"two parts\nof ", vm="a").wait(PATIENCE / 3)
        desk.print(b"a line in ", vm="a").print(b"one\n", vm="b")
    assert desk.text.splitlines()[::2] == ["a | two parts", *["a | of a line in two parts"] * 8]


def test_two_prompts_never_share_a_line() -> None:
    desk = Desk(SEVERAL).print(b"login: ", vm="a").wait(PATIENCE).print(b"login: ", vm="b").wait(PATIENCE)
    assert desk.print(b"root\n", vm="a").end() == "a | login: \nb | login: \na > root\n"


def test_a_busy_vm_does_not_keep_anothers_prompt_waiting() -> None:
    desk = Desk(SEVERAL).print(b"login: ", vm="a")
    for _ in range(4):
        desk.print(b"busy\n", vm="b").wait(PATIENCE / 4)
    assert "a | login: " in desk.text


def test_a_progress_bar_without_line_ends_is_shown_step_by_step() -> None:
    assert Desk(SEVERAL).print(b"10%\r20%\r30%", vm="a").text == "a | 10%\na | 20%\n"


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y ", "\n", "xy\n", "z\nz", "", "wait"])))


@settings(max_examples=500, deadline=None)
@given(STEPS)
def test_no_line_ever_holds_output_of_two_vms_and_nothing_is_lost(steps: list[tuple[str, str]]) -> None:
    desk = Desk(SEVERAL)
    printed = dict.fromkeys("abc", "")
    for vm, what in steps:
        if what == "wait":
            desk.wait(PATIENCE)
            continue
        said = what.replace("x", vm).replace("y", vm).replace("z", vm)
        printed[vm] += said
        desk.print(said.encode(), vm=vm)
    shown: dict[str, list[str]] = {vm: [] for vm in "abc"}
    for row in desk.end().splitlines():
        vm, sign, text = row[0], row[2], row[4:]
        if sign == ">":
            shown[vm][-1] += text
        else:
            shown[vm].append(text)
    assert shown == {vm: text.splitlines() for vm, text in printed.items()}


def test_grep_shows_the_lines_that_match_whole_and_without_their_colours_counting() -> None:
    desk = Desk(Look(terminal=True, apart=True), grep="red apple$").print(
        b"a \x1b[31mred\x1b[0m ap", b"ple\nnone\nred apples\n"
    )
    assert desk.end() == "a \x1b[31mred\x1b[0m apple\n"


def test_grep_shows_a_prompt_that_matches_and_what_comes_after_it() -> None:
    desk = Desk(Look(terminal=False, apart=True), grep="login").print(b"noise\nlogin: ").wait(PATIENCE)
    assert desk.text == "login: "
    assert desk.print(b"root\n# \n").end() == "login: root\n"


def test_grep_judges_a_line_anew_when_it_has_grown() -> None:
    desk = Desk(Look(terminal=False, apart=True), grep="error").print(b"disk ").wait(PATIENCE)
    assert desk.text == "" and not desk.waits()
    assert desk.print(b"error\n").end() == "disk error\n"


def test_grep_leaves_markers_and_gaps_in() -> None:
    desk = Desk(Look(terminal=False, apart=True), grep="x").print(b"a\n", MOVED, Gap(3, Loss.FILE), b"x\n")
    assert desk.end() == "x\n"
    assert [note[:9] for note in desk.notes] == ["--- moved", "--- 3 byt"]


def test_jsonl_has_an_object_for_each_line_marker_and_gap_with_its_place() -> None:
    desk = Desk(jsonl=True).print(b"\x1b[31mone\ntw", MOVED, b"o\n", Gap(7, Loss.RATE), Notice("waiting"))
    desk.end()
    assert [(o["vm"], o["at"], o["offset"], o["kind"], o["text"]) for o in desk.objects[:2]] == [
        ("web", AT, 0, "text", "one\n"),
        ("web", AT, 9, "text", "tw"),
    ]
    assert [(o["kind"], o["offset"]) for o in desk.objects[2:]] == [("marker", 11), ("text", 11), ("gap", 13)]
    assert (desk.objects[2]["event"], desk.objects[2]["node"], desk.objects[2]["target"]) == ("moved", "hv1", "hv2")
    assert (desk.objects[4]["skipped"], desk.objects[4]["loss"]) == (7, "rate")
    assert desk.notes == ["--- web: waiting ---"]


def test_jsonl_is_harmless_unless_it_is_raw_and_then_only_in_what_it_means() -> None:
    assert Desk(jsonl=True).print(b"\x1b[2Jx\n").objects[0]["text"] == "^[[2Jx\n"
    desk = Desk(jsonl=True, raw=True).print("\x1b[2J\u009bx\r\n".encode())
    assert desk.objects[0]["text"] == "\x1b[2J\u009bx\r\n"
    assert all(0x20 <= ord(letter) < 0x7F or letter == "\n" for letter in desk.text)


@given(st.lists(st.binary(max_size=9).map(lambda data: data.replace(b"a", b"\n").replace(b"b", b"\xc3\xa9"))))
def test_the_texts_of_raw_jsonl_are_together_the_whole_and_each_knows_its_place(parts: list[bytes]) -> None:
    desk = Desk(jsonl=True, raw=True).print(*parts)
    desk.end()
    whole = b"".join(parts)
    texts = [o for o in desk.objects if o["kind"] == "text"]
    assert "".join(o["text"] for o in texts) == whole.decode(errors="replace")
    for o in texts:
        assert whole[o["offset"] :].decode(errors="replace").startswith(o["text"].rstrip("\ufffd"))
