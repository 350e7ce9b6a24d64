"""Windows as pure values."""

from datetime import UTC, datetime

import pytest

from pvc_webhook.windows import BadWindow, Windows


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


TUESDAY = "2023-11-14"


@pytest.mark.parametrize(
    ("text", "moment", "is_open"),
    [
        ("Tue 22:00-23:00", f"{TUESDAY}T22:00", True),
        ("Tue 22:00-23:00", f"{TUESDAY}T22:59", True),
        ("Tue 22:00-23:00", f"{TUESDAY}T23:00", False),
        ("Mon-Fri 22:00-04:00", "2023-11-18T03:59", True),  # Saturday: what began on Friday
        ("Mon-Fri 22:00-04:00", "2023-11-18T22:30", False),
        ("Sat,Sun 00:00-24:00", "2023-11-18T00:00", True),
        ("Sat,Sun 00:00-24:00", "2023-11-20T00:00", False),
        ("Fri-Mon 08:00-09:00", "2023-11-20T08:30", True),  # over the end of the week
        ("Fri-Mon 08:00-09:00", f"{TUESDAY}T08:30", False),
    ],
)
def test_a_window_is_open_when_it_says(text: str, moment: str, is_open: bool) -> None:
    assert Windows((text,)).are_open(at(moment)) is is_open


def test_without_any_window_flushes_may_begin_at_all_times() -> None:
    assert Windows(()).are_open(at(f"{TUESDAY}T12:00"))


def test_the_zone_is_that_of_the_windows() -> None:
    assert Windows(("Tue 22:00-23:00",), "Europe/Zurich").are_open(at(f"{TUESDAY}T21:30"))


def test_the_next_opening_is_found_and_said() -> None:
    windows = Windows(("Wed 01:00-02:00", "Tue 23:00-23:30"))
    now = at(f"{TUESDAY}T22:13:20")
    assert windows.opens(now) == at(f"{TUESDAY}T23:00")
    assert windows.in_words(now) == (
        "outside of the maintenance windows (Wed 01:00-02:00, Tue 23:00-23:30, UTC);"
        " the next one opens Tue 2023-11-14 23:00"
    )


def test_windows_survive_the_way_through_a_fact() -> None:
    windows = Windows.of_fact(Windows(("Mon 01:00-02:00", "Tue 22:00-23:00"), "Europe/Zurich").as_fact())
    assert (windows.texts, windows.timezone) == (("Mon 01:00-02:00", "Tue 22:00-23:00"), "Europe/Zurich")


@pytest.mark.parametrize("text", ["", "nights", "Mon 22-23", "Moo 22:00-23:00", "Mon 25:00-26:00", "Mon 10:00-10:00"])
def test_a_text_that_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(BadWindow):
        Windows((text,))


def test_a_zone_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadWindow, match="not a time zone"):
        Windows((), "Europe/Atlantis")
