"""What `lmk usage` reports: sums of the ledger's rows, by what the owner asks for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, timedelta, tzinfo
from itertools import product
from typing import Final

from llamakey_addon.cli import when
from llamakey_addon.cli.errors import Miswritten
from llamakey_addon.cli.when import Span
from llamakey_addon.config.words import folded
from llamakey_addon.store import KeyRow, Store
from llamakey_addon.store.ledger import By, Of, Total

GROUPS: Final[tuple[By, ...]] = (
    "user",
    "team",
    "key",
    "provider",
    "endpoint",
    "model",
    "tag",
    "day",
    "status",
    "quality",
)
FIGURES: Final = tuple(each.name for each in fields(Total) if each.name != "of")
"""Numbers of a `Total`, which add up."""


class BadReport(Miswritten):
    """A report that can't be made as it was asked for."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options, as they were given."""

    by: str = "user"
    since: str = ""
    until: str = ""
    month: str = ""
    where: Mapping[Of, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    by: tuple[By, ...]
    span: Span
    rows: tuple[Total, ...]
    total: Total


def make(wishes: Wishes, store: Store, zone: tzinfo) -> Report:
    """Raises BadReport, BadTime, and StoreError when the ledger can't be read."""
    by = groups(wishes.by)
    span = span_of(wishes, zone, time.time())
    rows = store.keys()
    label = _labels(rows)
    found: list[Total] = []
    for where in _choices(wishes.where, rows, store):
        found += totals(store, span, by, where, zone)
    merged = _merged(found, lambda of: tuple(label(*pair) for pair in zip(by, of, strict=True)))
    if by == ("day",):
        merged = _every_day(merged)
    return Report(by, span, tuple(_sorted(merged, by)), summed((), merged))


def totals(
    store: Store, span: Span, by: Sequence[By], where: Mapping[Of, str], zone: tzinfo
) -> list[Total]:
    """The ledger's sums, in which what still runs is not told as estimated too."""
    found = store.ledger.totals(span.since_s, span.until_s, by, where, zone)
    return [replace(total, estimated=total.estimated - total.open) for total in found]


def groups(text: str) -> tuple[By, ...]:
    """What `--by` names. Raises BadReport."""
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    found = [group for word in words for group in GROUPS if group == word]
    if len(found) != len(words) or not words or len(set(words)) != len(words):
        raise BadReport(
            f"--by: {text!r} is none of {', '.join(GROUPS)}. Write one, or several with commas."
        )
    return tuple(found)


def span_of(wishes: Wishes, zone: tzinfo, now_s: float) -> Span:
    """The time that is asked for; without a word this month. Raises BadReport, BadTime."""
    if wishes.month:
        if wishes.since or wishes.until:
            raise BadReport("--month says from when to when. Leave --since and --until out.")
        return when.month(wishes.month, "--month", zone)
    this_month = when.shown(now_s, zone)[:7]
    since_s = (
        when.past(wishes.since, now_s, "--since", zone).since_s
        if wishes.since
        else when.month(this_month, zone=zone).since_s
    )
    # What began in this very moment is of it.
    until_s = when.past(wishes.until, now_s, "--until", zone).until_s if wishes.until else now_s + 1
    if until_s <= since_s:
        raise BadReport(
            f"From {when.shown(since_s, zone)} until {when.shown(until_s, zone)} is no time. "
            "Write an earlier --since, or a later --until."
        )
    return Span(since_s, until_s)


def summed(of: tuple[str, ...], totals: Iterable[Total]) -> Total:
    """Totals added up."""
    totals = list(totals)
    return Total(of, **{name: sum(getattr(each, name) for each in totals) for name in FIGURES})


def _choices(
    where: Mapping[Of, str], rows: Sequence[KeyRow], store: Store
) -> list[Mapping[Of, str]]:
    """The ledger's filters for the owner's: it takes one exact value each, while a user has
    spellings, and a key those that it was rotated from."""
    values: dict[Of, list[str]] = {of: [value] for of, value in where.items()}
    if user := where.get("user"):
        spellings = {row.user for row in rows if folded(row.user) == folded(user)}
        values["user"] = sorted(spellings) or [user]
    if key := where.get("key"):
        row = store.find(key)
        named = [each.id for each in rows if (each.name, each.user) == (row.name, row.user)]
        values["key"] = named if row.name == key else [row.id]
    return [dict(zip(values, choice, strict=True)) for choice in product(*values.values())]


def _labels(rows: Sequence[KeyRow]) -> Callable[[By, str], str]:
    """What people call a group: users by one spelling, keys by their names."""
    users: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    by_id = {row.id: row for row in rows}
    for row in rows:
        users.setdefault(folded(row.user), row.user)
        owners.setdefault(row.name, set()).add(folded(row.user))

    def label(group: By, value: str) -> str:
        if group == "user":
            return users.setdefault(folded(value), value)
        row = by_id.get(value) if group == "key" else None
        if row is None:
            return value
        return row.name if len(owners[row.name]) == 1 else f"{row.name} ({row.user})"

    return label


def _merged(
    totals: Iterable[Total], label: Callable[[tuple[str, ...]], tuple[str, ...]]
) -> list[Total]:
    """Totals of one label added up."""
    found: dict[tuple[str, ...], list[Total]] = {}
    for total in totals:
        found.setdefault(label(total.of), []).append(total)
    return [summed(of, each) for of, each in found.items()]


def _every_day(totals: Sequence[Total]) -> list[Total]:
    """Totals by day, with those days between on which nothing was asked."""
    known = {total.of[0]: total for total in totals}
    if not known:
        return []
    first, last = (date.fromisoformat(day) for day in (min(known), max(known)))
    days = (str(first + timedelta(days=count)) for count in range((last - first).days + 1))
    return [known.get(day) or summed((day,), ()) for day in days]


def _sorted(totals: Sequence[Total], by: tuple[By, ...]) -> list[Total]:
    """Days in their order, all else dearest first; rows of the first group go together."""

    def rank(totals: Sequence[Total]) -> tuple[int, int]:
        return -sum(t.cost_nusd for t in totals), -sum(t.requests for t in totals)

    first: dict[str, list[Total]] = {}
    for total in totals:
        first.setdefault(total.of[0], []).append(total)
    heads = sorted(first) if by[0] == "day" else sorted(first, key=lambda it: (rank(first[it]), it))
    if "day" in by[1:]:
        place = by.index("day")
        return [t for head in heads for t in sorted(first[head], key=lambda it: it.of[place])]
    return [t for head in heads for t in sorted(first[head], key=lambda it: (rank([it]), it.of))]
