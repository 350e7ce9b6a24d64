"""When flushes may begin: weekly windows, as text and as an answer. Pure: no clock, no door."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pvc.core.errors import PvcError

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(r"(?P<days>[A-Z][a-z]{2}(?:[-,][A-Z][a-z]{2})*) (\d\d):(\d\d)-(\d\d):(\d\d)")
_A_DAY = 24 * 60


class BadWindow(PvcError):
    """A text is not a window, or not a time zone."""


@dataclass(frozen=True, slots=True)
class _Window:
    """Minutes of certain days; one that ends before it begins ends on the next day."""

    days: frozenset[int]
    begin: int
    end: int


class Windows:
    """The windows of one node; without any, flushes may begin at all times."""

    def __init__(self, texts: tuple[str, ...], timezone: str = "UTC") -> None:
        """Raises BadWindow."""
        self.texts = texts
        self.timezone = timezone
        self._zone = zone(timezone)
        self._windows = [_parsed(text) for text in texts]

    def are_open(self, now: float) -> bool:
        """Whether a flush may begin now, in seconds since the epoch."""
        return not self._windows or any(self._is_open(window, self._local(now)) for window in self._windows)

    def opens(self, now: float) -> float | None:
        """When the next window opens, to the minute; None: one is open, or none ever will be within a week."""
        if self.are_open(now):
            return None
        minute = now - now % 60
        ahead = (minute + 60 * step for step in range(1, 8 * _A_DAY))
        return next((moment for moment in ahead if self.are_open(moment)), None)

    def in_words(self, now: float) -> str:
        """Why a flush may not begin now."""
        opens = self.opens(now)
        later = f"; the next one opens {self._local(opens):%a %Y-%m-%d %H:%M}" if opens is not None else ""
        return f"outside of the maintenance windows ({', '.join(self.texts)}, {self.timezone}){later}"

    def as_fact(self) -> str:
        """One line from which `of_fact` makes the same windows."""
        return "; ".join((self.timezone, *self.texts))

    @classmethod
    def of_fact(cls, fact: str) -> "Windows":
        """Raises BadWindow."""
        timezone, *texts = fact.split("; ")
        return cls(tuple(texts), timezone)

    def _local(self, moment: float) -> datetime:
        return datetime.fromtimestamp(moment, self._zone)

    @staticmethod
    def _is_open(window: _Window, at: datetime) -> bool:
        minute = at.hour * 60 + at.minute
        today, yesterday = at.weekday(), (at - timedelta(days=1)).weekday()
        if window.begin < window.end:
            return today in window.days and window.begin <= minute < window.end
        return (today in window.days and minute >= window.begin) or (yesterday in window.days and minute < window.end)


def zone(name: str) -> tzinfo:
    """The time zone of that name. Raises BadWindow."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadWindow(
            f"{name!r} is not a time zone that this machine knows; use a name like Europe/Zurich"
        ) from error


def _parsed(text: str) -> _Window:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise BadWindow(f"{text!r} is not a window; write it like 'Mon-Fri 22:00-04:00' or 'Sat,Sun 00:00-24:00'")
    begin, end = _minutes(text, found[2], found[3]), _minutes(text, found[4], found[5])
    if begin == end:
        raise BadWindow(f"{text!r} is empty; write 00:00-24:00 for a whole day")
    return _Window(frozenset(_days(text, found["days"])), begin, end)


def _minutes(text: str, hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > _A_DAY:
        raise BadWindow(f"{text!r} has a time that does not exist; hours go from 00 to 24, minutes from 00 to 59")
    return total


def _days(text: str, days: str) -> set[int]:
    named: set[int] = set()
    for part in days.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise BadWindow(f"{text!r} has a day that does not exist; days are {', '.join(DAYS)}")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % 7
        named |= {(begin + step) % 7 for step in range(length + 1)}
    return named
