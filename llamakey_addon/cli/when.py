"""Times as people write them: `30d`, `24h`, `2026-12-31`, `2026-12-31T18:00`.

The one place that reads them, for all commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Final

from llamakey_addon.cli.errors import Miswritten

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdwy])")
_LONGEST_S: Final = 100 * _UNITS_S["y"]
_ELSEWHERE: Final = timezone(timedelta(hours=1))
_MONTH: Final = re.compile(r"(\d{4})-(\d{1,2})")


class BadTime(Miswritten):
    """A word for a time that can't be read; the message says how one is written."""


@dataclass(frozen=True, slots=True)
class Span:
    """From one time until before another, seconds since 1970."""

    since_s: float
    until_s: float


def duration(text: str, what: str = "") -> float:
    """Seconds of `90s`, `30m`, `24h`, `30d`, `2w`, `1y` or `1d12h`; of a bare 0 none.

    Arguments:
        what: the option that it came by, for the message.

    Raises BadTime.
    """
    plain = text.strip().lower()
    if plain == "0":
        return 0.0
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(plain))
    if _PART.sub("", plain).strip() or not plain:
        raise BadTime(
            f"{_of(what)}{text!r} is no length of time. Write a number and its unit: "
            "90s, 30m, 24h, 30d, 2w or 1y."
        )
    if seconds > _LONGEST_S:
        raise BadTime(f"{_of(what)}{text!r} is more than a hundred years. Write less.")
    return seconds


def says_all(text: str) -> bool:
    """Whether a time is the same in every time zone: a length, or one with its offset."""
    return _day_or_time(text, UTC) == _day_or_time(text, _ELSEWHERE)


def coming(text: str, now_s: float, what: str = "", zone: tzinfo = UTC) -> float:
    """A time to come: a length of time from now, the end of a day, or a time of a day.

    Raises BadTime, also for what is past.
    """
    found = _day_or_time(text, zone)
    at_s = now_s + duration(text, what) if found is None else found.until_s
    if at_s <= now_s:
        raise BadTime(f"{_of(what)}{text!r} is not in the future. Write a later one.")
    return at_s


def past(text: str, now_s: float, what: str = "", zone: tzinfo = UTC) -> Span:
    """A time that is named for a look back: a length of time until now, a day, or a time of a day.

    Raises BadTime.
    """
    plain = text.strip().lower()
    if plain in ("today", "yesterday"):
        day = datetime.fromtimestamp(now_s, zone).date()
        return days(day - timedelta(days=plain == "yesterday"), 1, zone)
    found = _day_or_time(text, zone)
    if found is not None:
        return found
    at_s = now_s - duration(text, what)
    return Span(at_s, at_s)


def month(text: str, what: str = "", zone: tzinfo = UTC) -> Span:
    """A month, as 2026-07. Raises BadTime."""
    found = _MONTH.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        first = date(int(found[1]), int(found[2]), 1)
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    except ValueError:
        raise BadTime(f"{_of(what)}{text!r} is no month. Write one as 2026-07.") from None
    return days(first, (after - first).days, zone)


def days(first: date, count: int, zone: tzinfo) -> Span:
    """So many days of a calendar; not each has 24 hours."""
    return Span(
        *(
            datetime.combine(day, time(), zone).timestamp()
            for day in (first, first + timedelta(days=count))
        )
    )


def shown(time_s: float, zone: tzinfo = UTC) -> str:
    """A time for people, to the minute."""
    return datetime.fromtimestamp(time_s, zone).strftime("%Y-%m-%d %H:%M %Z")


def iso(time_s: float) -> str:
    """A time for programs, to the second, in UTC."""
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(time_s: float, now_s: float) -> str:
    """How long ago: `now`, `5m ago`, `3h ago`, `12d ago`, `2y ago`."""
    seconds = max(0, int(now_s - time_s))
    if seconds < 60:
        return "now"
    for unit in ("y", "d", "h", "m"):
        if seconds >= _UNITS_S[unit] * (2 if unit == "y" else 1):
            return f"{seconds // _UNITS_S[unit]}{unit} ago"
    raise AssertionError(seconds)


def _day_or_time(text: str, zone: tzinfo) -> Span | None:
    """A day, or a time of a day (in `zone` unless it says otherwise); None for other words."""
    plain = text.strip()
    try:
        return days(date.fromisoformat(plain), 1, zone)
    except (ValueError, OverflowError):
        pass
    try:
        at = datetime.fromisoformat(plain)
        at_s = (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        return None
    return Span(at_s, at_s)


def _of(what: str) -> str:
    return f"{what}: " if what else ""
