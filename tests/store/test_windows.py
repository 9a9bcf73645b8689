from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from llamakey_addon.journey import Window
from llamakey_addon.store.windows import FOREVER_S, Span, Windows

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def shown(span: Span, zone: ZoneInfo = BERLIN) -> tuple[str, str, float]:
    start, end = (
        datetime.fromtimestamp(time_s, zone).isoformat(sep=" ", timespec="minutes")[:16]
        for time_s in (span.start_s, span.end_s)
    )
    return start, end, span.length_s / 3600


@pytest.mark.parametrize(
    ("now", "window", "start", "end", "hours"),
    [
        ("2026-11-28 14:03", "day", "2026-11-28 00:00", "2026-11-29 00:00", 24),
        ("2026-03-29 00:30", "day", "2026-03-29 00:00", "2026-03-30 00:00", 23),  # clocks forward
        ("2026-03-29 23:59", "day", "2026-03-29 00:00", "2026-03-30 00:00", 23),
        ("2026-10-25 02:30", "day", "2026-10-25 00:00", "2026-10-26 00:00", 25),  # clocks back
        ("2026-10-25 00:00", "week", "2026-10-19 00:00", "2026-10-26 00:00", 169),
        ("2026-10-26 00:00", "week", "2026-10-26 00:00", "2026-11-02 00:00", 168),  # a Monday
        ("2026-03-31 23:59", "month", "2026-03-01 00:00", "2026-04-01 00:00", 743),
        ("2026-12-31 23:59", "month", "2026-12-01 00:00", "2027-01-01 00:00", 744),
        ("2028-02-29 12:00", "month", "2028-02-01 00:00", "2028-03-01 00:00", 696),
    ],
)
def test_money_goes_by_the_calendar_of_its_zone(now, window, start, end, hours):
    assert shown(Windows(BERLIN).span("nusd", window, at(now))) == (start, end, hours)


def test_both_two_oclocks_of_a_day_are_of_it():
    windows = Windows(BERLIN)
    first = windows.span("nusd", "day", at("2026-10-25 02:30"))
    assert windows.span("nusd", "day", at("2026-10-25 02:30", fold=1)) == first


def test_a_day_without_a_midnight_begins_when_it_does():
    santiago = ZoneInfo("America/Santiago")  # clocks go from 23:59 to 01:00
    before = Windows(santiago).span("nusd", "day", at("2025-09-06 12:00", santiago))
    after = Windows(santiago).span("nusd", "day", at("2025-09-07 12:00", santiago))
    assert before.end_s == after.start_s
    assert shown(after, santiago) == ("2025-09-07 01:00", "2025-09-08 00:00", 23)


def test_a_window_is_kept_until_it_is_over():
    windows = Windows(BERLIN)
    end_s = windows.span("nusd", "day", at("2026-11-28 14:03")).end_s
    assert windows.span("nusd", "day", end_s - 0.001).end_s == end_s
    assert windows.span("nusd", "day", end_s).start_s == end_s


def test_the_rest_slides_in_buckets_of_its_length():
    windows = Windows(BERLIN)
    lengths_s: dict[Window, int] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
    for window, length_s in lengths_s.items():
        span = windows.span("requests", window, 1_764_000_123.5)
        assert span == Span(span.start_s, span.start_s + length_s, slides=True)
        assert span.start_s % length_s == 0 and span.start_s <= 1_764_000_123 < span.end_s
        assert span.before_s == span.start_s - length_s
    assert windows.span("tokens", "month", 0).length_s == 30 * 86400


def test_what_has_no_window_lasts():
    windows = Windows()
    always = Span(0, FOREVER_S, slides=False)
    assert windows.span("concurrent", "", 1e9) == always
    assert windows.span("nusd", "total", 1e9) == always
