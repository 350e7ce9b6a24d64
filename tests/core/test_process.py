"""The door to other processes, with real ones."""

import signal
import sys
from pathlib import Path

import pytest

from pvc.core.process import CommandFailed, SystemProcesses

PYTHON = sys.executable
processes = SystemProcesses()


def test_a_program_that_ends_tells_its_code_and_both_outputs() -> None:
    done = processes.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=10)
    assert (done.code, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_output_that_is_no_text_is_readable_all_the_same() -> None:
    assert processes.run(["printf", r"a\377b"], timeout=10).stdout == "a\ufffdb"


def test_standard_input_is_what_was_given_or_nothing() -> None:
    assert processes.run(["cat"], timeout=10, stdin="hällo").stdout == "hällo"
    assert processes.run(["cat"], timeout=10).stdout == ""


def test_the_environment_is_added_to() -> None:
    out = processes.run(["sh", "-c", "echo $PVC_TEST:${PATH:+path}"], timeout=10, env={"PVC_TEST": "x"}).stdout
    assert out == "x:path\n"


def test_check_returns_the_output_and_fails_with_what_the_program_said() -> None:
    assert processes.check(["echo", "fine"], timeout=10) == "fine\n"
    with pytest.raises(CommandFailed, match=r"ended with code 2: went wrong"):
        processes.check(["sh", "-c", "echo went wrong >&2; exit 2"], timeout=10)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandFailed, match=r"cannot run no-such-program: .*is it installed"):
        processes.run(["no-such-program"], timeout=10)
    with pytest.raises(CommandFailed, match="cannot start no-such-program"):
        processes.start(["no-such-program"], output=Path("/dev/null"))


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(CommandFailed, match=r"sleep 60 did not end within 0.05 s"):
        processes.run(["sleep", "60"], timeout=0.05)


def test_a_started_program_writes_to_its_file_and_can_be_signalled(tmp_path: Path) -> None:
    output = tmp_path / "log"
    output.write_text("before\n")
    running = processes.start(["sh", "-c", "echo out; echo err >&2; exec sleep 60"], output=output)
    assert running.poll() is None
    assert running.wait(0.05) is None
    running.signal(signal.SIGKILL)
    assert running.wait(10) == -signal.SIGKILL
    assert running.poll() == -signal.SIGKILL
    running.signal(signal.SIGKILL)
    assert output.read_text().startswith("before\n")


def test_a_program_that_is_attended_shares_the_terminal_and_tells_its_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert processes.attend(["sh", "-c", "echo $PVC_TEST; exit 3"], env={"PVC_TEST": "here"}) == 3
    assert capfd.readouterr().out == "here\n"
    assert processes.attend(["sh", "-c", "kill -TERM $$"]) == -signal.SIGTERM
    with pytest.raises(CommandFailed, match="cannot start no-such-program"):
        processes.attend(["no-such-program"])


def test_ctrl_c_goes_to_the_program_that_is_given_something_to_read_and_that_gets_all_of_it(tmp_path: Path) -> None:
    handler, counted = signal.getsignal(signal.SIGINT), tmp_path / "counted"
    # It reads one byte of far more than a pipe holds, and only then, with the pipe full, has Ctrl-C pressed here.
    script = f"dd bs=1 count=1 status=none >/dev/null; kill -INT $PPID; wc -c >{counted}; exit 3"
    try:
        code = processes.pipe_to(["sh", "-c", script], [bytes(1 << 21), bytes(1 << 21)])
    except KeyboardInterrupt:
        pytest.fail("Ctrl-C has ended the writing")
    assert (code, int(counted.read_text())) == (3, (1 << 22) - 1)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_program_that_is_left_before_it_has_read_everything_tells_its_code() -> None:
    assert processes.pipe_to(["sh", "-c", "exit 3"], [bytes(1 << 21), bytes(1 << 21)]) == 3
    with pytest.raises(CommandFailed, match="cannot start no-such-program"):
        processes.pipe_to(["no-such-program"], [])
