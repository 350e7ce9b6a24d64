"""The program that records on disks, and the judgement of what it left: each loss and each second writer is seen."""

import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.deadline import wait_until
from pvc.lab.images import program
from tests.lab.recordings import (
    HEAD,
    MAGIC,
    SECTOR,
    SUM,
    Recording,
    Said,
    checksum,
    faults,
    last_words,
    read,
    recording_of,
    said_in,
)


def record(number: int, writer: str = "a") -> bytes:
    data = HEAD.pack(MAGIC, number, writer.encode()).ljust(SECTOR - SUM.size, b"\0")
    return data + SUM.pack(checksum(data))


def image(*records: bytes, sectors: int = 8) -> bytes:
    return b"".join(records).ljust(sectors * SECTOR, b"\0")


def said(*numbers: int, writers: Sequence[str] = ("a",)) -> Said:
    return Said(numbers, tuple(writers), ())


def test_a_disk_with_all_that_was_acknowledged_has_no_faults() -> None:
    whole = recording_of(image(record(1), record(2), record(3, "b")))
    assert whole == Recording({1: "a", 2: "a", 3: "b"}, 8)
    assert faults(whole, said(1, 2, writers=("a", "b"))) == [], "the third was on the disk before it could be said"


def test_records_that_have_been_written_over_are_not_missed() -> None:
    ring = recording_of(image(record(9), record(10), *(record(number) for number in range(3, 9))))
    assert faults(ring, said(*range(1, 11))) == []


@pytest.mark.parametrize(
    ("contents", "console", "fault"),
    [
        (image(record(1)), said(1, 2), "1 acknowledged, but not on the disk: 2"),
        (image(record(1), b"\1" * SECTOR, record(3)), said(1), "1 missing on the disk among others: 2"),
        (image(bytes(SECTOR), record(2)), said(), "1 missing on the disk among others: 1"),
        (image(record(1), record(1)), said(1, 2), "1 acknowledged, but not on the disk: 2"),
        (image(record(1), record(2)), said(1, 2, 2), "1 acknowledged after a later one: 2"),
        (image(record(1), record(2, "x")), said(1), "1 on the disk, but not from a start that the console tells of: x"),
        (
            image(record(1), record(2, "b"), record(3)),
            said(1, 2, 3, writers=("a", "b")),
            "1 wrote before and after another: a",
        ),
    ],
)
def test_each_loss_and_each_second_writer_is_seen(contents: bytes, console: Said, fault: str) -> None:
    assert fault in faults(recording_of(contents), console)


def test_a_disk_that_is_read_while_it_is_written_to_is_judged_up_to_what_was_acknowledged_before() -> None:
    torn = recording_of(image(record(1), record(2), bytes(SECTOR), record(4)))
    assert faults(torn.up_to(2), said(1, 2)) == []
    assert faults(torn.up_to(3), said(1, 2, 3)) == ["1 acknowledged, but not on the disk: 3"]


def test_a_damaged_record_is_none() -> None:
    damaged = bytearray(record(1))
    damaged[100] ^= 1
    assert recording_of(image(bytes(damaged))).numbers == {}


def test_a_console_is_read_with_all_else_on_it() -> None:
    writer = "c79b7741-b5a6-4039-99f0-d90b2fb96dc7"
    lines = (
        "vm1 starts: acknowledged 9.",
        f"recording from 1 as {writer}",
        "acknowledged 1.",
        "hole at 3",
        "acknowledged 2.",
    )
    text = "\r\n".join(lines)
    assert said_in(text) == Said((1, 2), (writer,), ("hole at 3",))


def test_the_last_words_before_a_start_are_those_since_the_start_before() -> None:
    first, second, third = ("one starts\nrecording from 1 as a\nx\n", "recording from 5 as b\noops\n", "three starts\n")
    console = first + second + third + "recording from 9 as c\n"
    assert last_words(console, "c") == "\nrecording from 5 as b\noops\nthree starts\nrecording from 9"
    assert last_words(console, "b") == "\nrecording from 1 as a\nx\nrecording from 5"


def test_a_line_that_was_cut_says_nothing() -> None:
    assert said_in("acknowledged 21.\nacknowledged 2\n--- ended ---\nrecording from 22 as c79b\n") == Said(
        (21,), (), ()
    )


@pytest.mark.lab
def test_what_the_program_writes_is_what_is_read(tmp_path: Path, labs_directory: Path) -> None:
    disk = labs_directory / "disk.raw"  # on a file system that takes direct writes
    disk.write_bytes(bytes(64 * SECTOR))
    first = run_recorder(labs_directory, disk, tmp_path / "1.txt", until=100)
    second = run_recorder(labs_directory, disk, tmp_path / "2.txt", until=120)
    both = said_in(first + second)
    assert len(both.writers) == 2 and not both.complaints
    recording = read(disk)
    assert recording.highest >= 120 and len(recording.numbers) == 64
    assert faults(recording, both) == []

    disk.write_bytes(disk.read_bytes().replace(MAGIC, b"NOTHING!", 1))
    third = said_in(run_recorder(labs_directory, disk, tmp_path / "3.txt", until=recording.highest + 3))
    assert len(third.complaints) == 1 and third.complaints[0].startswith("hole at ")


@pytest.mark.lab
def test_one_of_two_programs_on_one_disk_sees_the_other(tmp_path: Path, labs_directory: Path) -> None:
    disk = labs_directory / "two.raw"
    disk.write_bytes(bytes(64 * SECTOR))
    other = SystemProcesses().start([str(recorder(labs_directory)), str(disk), "500"], output=tmp_path / "other.txt")
    try:
        wait_for(tmp_path / "other.txt", "acknowledged 1.\n")
        text = run_recorder(labs_directory, disk, tmp_path / "mine.txt", until=300)
        wait_for(
            tmp_path / "other.txt", "acknowledged 300.\n"
        )  # it has been where the first was, or the other way round
    finally:
        other.signal(signal.SIGKILL)
        other.wait(10)
    assert "foreign record" in text + (tmp_path / "other.txt").read_text(), "the one behind finds what the other wrote"


def recorder(labs_directory: Path) -> Path:
    return program("recorder", labs_directory / ".cache", SystemProcesses())


def run_recorder(labs_directory: Path, disk: Path, output: Path, *, until: int) -> str:
    """What it said until it was killed, some time after that number was acknowledged."""
    running = SystemProcesses().start([str(recorder(labs_directory)), str(disk), "500"], output=output)
    try:
        wait_for(output, f"acknowledged {until}.\n")
    finally:
        running.signal(signal.SIGKILL)
        running.wait(10)
    return re.sub(r"[^\n]*\Z", "", output.read_text())


def wait_for(output: Path, line: str) -> None:
    wait_until(ThreadRuntime(), 60, lambda: None if line in output.read_text() else f"no {line!r}")
