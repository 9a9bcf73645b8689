from __future__ import annotations

from datetime import UTC, date
from zoneinfo import ZoneInfo

import pytest

from llamakey_addon.cli import when
from llamakey_addon.cli.when import BadTime, Span

BERLIN = ZoneInfo("Europe/Berlin")
NOW_S = 1_784_000_000.0  # 2026-07-14 03:33:20 UTC
DAY_S = 86400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90s", 90),
        ("30m", 1800),
        ("24h", DAY_S),
        ("1.5h", 5400),
        ("30d", 30 * DAY_S),
        (" 2W ", 14 * DAY_S),
        ("1y", 365 * DAY_S),
        ("1d12h", 1.5 * DAY_S),
        ("1d 12h", 1.5 * DAY_S),
    ],
)
def test_lengths_of_time(text, seconds):
    assert when.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "d", "3x", "-1d", "1d-", "30 days", "2026-12-31", "1mo"]
)
def test_what_is_no_length_says_how_one_is_written(text):
    with pytest.raises(BadTime, match=r"--overlap: .* 90s, 30m, 24h, 30d, 2w or 1y"):
        when.duration(text, "--overlap")


def test_a_length_has_a_bound():
    with pytest.raises(BadTime, match="hundred years"):
        when.duration("1000000d")


@pytest.mark.parametrize(
    ("text", "zone", "shown"),
    [
        ("30d", UTC, "2026-08-13 03:33 UTC"),
        ("2026-12-31", UTC, "2027-01-01 00:00 UTC"),
        ("2026-12-31", BERLIN, "2026-12-31 23:00 UTC"),
        ("2026-12-31T18:00", UTC, "2026-12-31 18:00 UTC"),
        ("2026-12-31T18:00", BERLIN, "2026-12-31 17:00 UTC"),
        ("2026-12-31T18:00+05:00", BERLIN, "2026-12-31 13:00 UTC"),
        ("2026-12-31 18:00Z", BERLIN, "2026-12-31 18:00 UTC"),
        ("9999-12-31", UTC, "9999-12-31 00:00 UTC"),
    ],
)
def test_times_to_come(text, zone, shown):
    assert when.shown(when.coming(text, NOW_S, zone=zone)) == shown


@pytest.mark.parametrize("text", ["0", "2026-07-13", "2026-07-14T03:00"])
def test_what_is_past_does_not_come(text):
    with pytest.raises(BadTime, match=r"--at: .*not in the future"):
        when.coming(text, NOW_S, "--at")
    when.coming("2026-07-14", NOW_S)  # today has not ended


def test_a_look_back():
    assert when.past("7d", NOW_S) == Span(NOW_S - 7 * DAY_S, NOW_S - 7 * DAY_S)
    assert when.past("2026-07-01", NOW_S) == when.days(date(2026, 7, 1), 1, UTC)
    assert when.past("today", NOW_S) == when.days(date(2026, 7, 14), 1, UTC)
    assert when.past("Yesterday", NOW_S) == when.days(date(2026, 7, 13), 1, UTC)
    assert when.past("today", NOW_S, zone=ZoneInfo("America/Los_Angeles")) == when.days(
        date(2026, 7, 13), 1, ZoneInfo("America/Los_Angeles")
    )


def test_days_of_a_calendar_have_23_to_25_hours():
    hours = [
        (span.until_s - span.since_s) / 3600
        for day in (date(2026, 3, 29), date(2026, 7, 1), date(2026, 10, 25))
        for span in [when.days(day, 1, BERLIN)]
    ]
    assert hours == [23, 24, 25]


def test_months():
    assert when.month("2026-02") == when.days(date(2026, 2, 1), 28, UTC)
    assert when.month("2026-12", zone=BERLIN) == when.days(date(2026, 12, 1), 31, BERLIN)
    for text in ("2026", "2026-13", "07", "2026-7-1", "july"):
        with pytest.raises(BadTime, match=r"--month: .*2026-07"):
            when.month(text, "--month")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "now"),
        (59, "now"),
        (60, "1m ago"),
        (7199, "1h ago"),
        (DAY_S, "1d ago"),
        (400 * DAY_S, "400d ago"),
        (800 * DAY_S, "2y ago"),
    ],
)
def test_how_long_ago(seconds, shown):
    assert when.ago(NOW_S - seconds, NOW_S) == shown
