"""Points in time as people write and read them."""

import re
from datetime import date, datetime, time, timedelta

from pvc.core.errors import PvcError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = {"sec": "s", "second": "s", "min": "m", "minute": "m", "hour": "h", "day": "d", "week": "w"}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)\s*")
_CLOCK = re.compile(r"\d\d:\d\d(:\d\d)?")


class NotAMoment(PvcError):
    """A text that names no point in time."""


def moment_of(text: str, now: float) -> float:
    """The point in time that a text names, in seconds since the epoch: how long ago, a date, or a time of day.

    Dates and times are in this machine's zone unless they name another. Raises NotAMoment, also for the future.
    """
    found = _ago(text.strip().lower().removesuffix("ago").rstrip())
    if found is not None:
        return now - found
    try:
        moment = _clock(text.strip(), now) if _CLOCK.fullmatch(text.strip()) else _date(text.strip())
    except (ValueError, OverflowError, OSError):
        raise NotAMoment(
            f"{text!r} is no point in time; write how long ago, such as 10m, 2h or 1h30m (s, m, h, d, w), a time of "
            "day such as 14:30, or a date such as 2026-11-22 or 2026-11-22T14:30"
        ) from None
    if moment > now:
        raise NotAMoment(f"{text!r} lies in the future; name a moment that is over")
    return moment


def age(seconds: float) -> str:
    """A length of time in one word for people, rounded down; less than none, as clocks that differ give it, is none."""
    for unit, name in (("d", "d"), ("h", "h"), ("m", "min")):
        if seconds >= 2 * _SECONDS[unit] or (unit == "m" and seconds >= 60):
            return f"{int(seconds // _SECONDS[unit])} {name}"
    return f"{max(0, int(seconds))} s"


def stamp(at: float) -> str:
    """A point in time in this machine's zone."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


def _ago(text: str) -> float | None:
    total, place = 0.0, 0
    while place < len(text):
        part = _PART.match(text, place)
        unit = part and _unit(part[2])
        if part is None or unit is None:
            return None
        total += float(part[1]) * _SECONDS[unit]
        place = part.end()
    return total if text else None


def _unit(word: str) -> str | None:
    return word if word in _SECONDS else _WORDS.get(word.removesuffix("s"))


def _date(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _clock(text: str, now: float) -> float:
    """The last time the clock showed that."""
    today: date = datetime.fromtimestamp(now).date()
    moment = datetime.combine(today, time.fromisoformat(text))
    return (moment if moment.timestamp() <= now else moment - timedelta(days=1)).timestamp()
