"""Over which time a cap counts: buckets that slide, and days, weeks and months of a calendar."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from llamakey_addon.journey import Unit, Window

FOREVER_S: Final = 2**53
"""Later than any time."""

_LENGTH_S: Final[dict[Window, int]] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86400,
    "week": 7 * 86400,
    "month": 30 * 86400,
}


@dataclass(frozen=True, slots=True)
class Span:
    """A window, or one of the two buckets that a sliding one is made of. UTC seconds since 1970."""

    start_s: int
    end_s: int
    slides: bool
    """What the bucket before this one has counts too, in proportion to how much of it is still
    within a window's length of now."""
    length_s: int = field(init=False)
    before_s: int = field(init=False)
    """Where the bucket before this one starts."""

    def __post_init__(self) -> None:
        # asked for with each request, and made once a window
        object.__setattr__(self, "length_s", self.end_s - self.start_s)
        object.__setattr__(self, "before_s", self.start_s - self.length_s)


_ALWAYS: Final = Span(0, FOREVER_S, slides=False)


class Windows:
    """Which window it is, for each kind of cap.

    What slides is cut into buckets of its length (a month is 30 days), money goes by the calendar
    of a time zone: days from midnight to midnight, also where that is 23 or 25 hours, weeks from
    Monday.
    """

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone
        self._known: dict[tuple[bool, Window], Span] = {}

    def span(self, unit: Unit, window: Window, now_s: float) -> Span:
        """The window, or the bucket of one, that `now_s` is in."""
        money = unit == "nusd"
        span = self._known.get((money, window))
        if span is None or not span.start_s <= now_s < span.end_s:
            span = self._calendar(window, now_s) if money else _bucket(window, now_s)
            self._known[money, window] = span
        return span

    def _calendar(self, window: Window, now_s: float) -> Span:
        day = datetime.fromtimestamp(now_s, self._zone).date()
        match window:
            case "day":
                first, last = day, day + timedelta(days=1)
            case "week":
                first = day - timedelta(days=day.weekday())
                last = first + timedelta(days=7)
            case "month":
                first = day.replace(day=1)
                last = (first + timedelta(days=31)).replace(day=1)
            case _:
                return _ALWAYS
        start, end = (
            int(datetime(d.year, d.month, d.day, tzinfo=self._zone).timestamp())
            for d in (first, last)
        )
        return Span(start, end, slides=False)


def _bucket(window: Window, now_s: float) -> Span:
    length_s = _LENGTH_S.get(window)
    if length_s is None:
        return _ALWAYS
    start_s = int(now_s) // length_s * length_s
    return Span(start_s, start_s + length_s, slides=True)
