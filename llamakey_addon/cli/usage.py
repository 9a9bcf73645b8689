"""`lmk usage`: who spent what, from the ledger; as a table, as CSV, as JSON."""

from __future__ import annotations

import csv
import json
import os
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

from llamakey_addon.cli import report, when
from llamakey_addon.cli.report import FIGURES, Report
from llamakey_addon.cli.table import Cell, Column, print_table
from llamakey_addon.config import Money, Settings
from llamakey_addon.serve import show as showing
from llamakey_addon.store import open_store
from llamakey_addon.store.ledger import By, Total

type Form = Literal["table", "csv", "json"]

_NOBODY: Final[dict[By, str]] = {
    "team": "(no team)",
    "tag": "(no tag)",
    "model": "(no model)",
    "endpoint": "(other)",
}
"""What an empty value is called."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def usage(wishes: report.Wishes, form: Form, *, config: Path | None) -> None:
    """Print the report."""
    settings = Settings.load(config, os.environ)
    money = settings.money
    with open_store(settings.data_folder) as store:
        found = report.make(wishes, store, money.time_zone)
    match form:
        case "json":
            showing.say(json.dumps(_record(found, money), indent=2, ensure_ascii=False))
        case "csv":
            _csv(found, money)
        case "table":
            _table(found, money)


# --- for people -----------------------------------------------------------------------------------


def _table(found: Report, money: Money) -> None:
    out = sys.stdout
    showing.heading(_title(found, money), out)
    if not found.rows:
        showing.prose("Nothing was asked in this time.", out)
        return
    terminal = showing.is_terminal(out)
    labels = [_shown_labels(found, row, terminal) for row in found.rows]
    if terminal:
        showing.say()
        _blank_repeated(labels)
    columns = [Column(group.capitalize(), whole=True) for group in found.by]
    columns += [
        Column("Requests", right=True, whole=True),
        Column("Failed", drop=5, right=True, whole=True),
        Column("Input", drop=4, right=True, whole=True),
        Column("Cached", drop=6, right=True, whole=True),
        Column("Output", drop=3, right=True, whole=True),
        Column(f"Cost {money.currency}", right=True, whole=True),
        Column("", whole=True),
        Column("Share", drop=2, right=True, whole=True),
        Column("", drop=1, whole=True, picture=True),
    ]
    price = amounts(money, found.total.cost_nusd)
    bar = 20 if showing.width() >= 100 else 10
    most = max(map(_weight(found), found.rows))
    rows = [
        [*label, *_figures(row, found, price, terminal), _bar(_weight(found)(row), most, bar)]
        for label, row in zip(labels, found.rows, strict=True)
    ]
    total = [
        *("total" if index == 0 else "" for index in range(len(found.by))),
        *_figures(found.total, found, price, terminal),
        "",
    ]
    print_table(columns, rows, out, total=total if len(rows) > 1 else None)
    _legend(found.total)


def _title(found: Report, money: Money) -> str:
    first, last = (
        datetime.fromtimestamp(time_s, money.time_zone).strftime("%Y-%m-%d")
        for time_s in (found.span.since_s, found.span.until_s - 1)
    )
    days = first if first == last else f"{first} to {last}"
    return f"{days} ({money.zone}), by {' and '.join(found.by)}"


def _shown_labels(found: Report, row: Total, terminal: bool) -> list[str]:
    labels = [value or _NOBODY.get(by, "-") for by, value in zip(found.by, row.of, strict=True)]
    if terminal:  # names are the clients' choice, of any length
        most = 36 if showing.width() >= 100 else 24
        labels = [showing.short(text, most) for text in labels]
    return labels


def _blank_repeated(labels: list[list[str]]) -> None:
    """Of several groups the first is named where it begins."""
    if len(labels[0]) > 1:
        last = ""
        for label in labels:
            last, label[0] = label[0], "" if label[0] == last else label[0]


def _weight(found: Report) -> Any:
    """By what rows are compared: money, or requests where nothing cost any."""
    if found.total.cost_nusd:
        return lambda row: row.cost_nusd
    return lambda row: row.requests


def _figures(row: Total, found: Report, price: Any, terminal: bool) -> list[Cell | str]:
    tokens = compact if terminal else str
    whole = _weight(found)(found.total)
    share = f"{100 * _weight(found)(row) / whole:.0f}%" if whole else "-"
    return [
        f"{row.requests:,}" if terminal else str(row.requests),
        Cell(str(row.failed), "red" if row.failed else ""),
        tokens(row.input_tokens),
        tokens(row.cache_read_tokens),
        tokens(row.output_tokens),
        price(row.cost_nusd),
        Cell(_marks(row) or ("" if terminal else "-"), "yellow"),
        share,
    ]


def _marks(row: Total) -> str:
    """`~` some is estimated, `?` some has no price, `…` some has not ended."""
    return "~" * bool(row.estimated) + "?" * bool(row.unpriced) + "…" * bool(row.open)


def _legend(total: Total) -> None:
    for mark, count, words in (
        ("~", total.estimated, "estimated: the answer did not end, or says nothing of its usage"),
        ("?", total.unpriced, "of models without a price: they cost something that is not counted"),
        ("…", total.open, "not ended yet, counted at what is reserved for them"),
    ):
        if count:
            what = "1 request is" if count == 1 else f"{count:,} requests are"
            showing.prose(f"{mark} {what} {words}.", sys.stdout, "dim")


def amounts(money: Money, most_nusd: int) -> Any:
    """How amounts are written that stand below each other: with the digits that the sum needs."""
    most = money.amount(most_nusd)
    digits = 2 if most >= 10 else 4 if most >= Decimal("0.1") else 6

    def shown(nusd: int) -> str:
        text = f"{money.amount(nusd):,.{digits}f}"
        return (
            f"<{Decimal(1).scaleb(-digits)}"
            if nusd and not Decimal(text.replace(",", ""))
            else text
        )

    return shown


def compact(count: int) -> str:
    """`950`, `12.4k`, `3.20M`."""
    for factor, letter in ((10**9, "G"), (10**6, "M"), (1000, "k")):
        if count >= factor:
            number = count / factor
            return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}{letter}"
    return str(count)


def _bar(value: int, most: int, width: int) -> Cell:
    eighths = round(8 * width * value / most) if most else 0
    whole, part = divmod(max(eighths, bool(value)), 8)
    return Cell("█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else ""), "cyan")


# --- for programs ---------------------------------------------------------------------------------


def _record(found: Report, money: Money) -> dict[str, Any]:
    def record(row: Total) -> dict[str, Any]:
        return {
            **dict(zip(found.by, row.of, strict=False)),
            **{name: getattr(row, name) for name in FIGURES},
            "cost": float(money.amount(row.cost_nusd)),
        }

    return {
        "since": when.iso(found.span.since_s),
        "until": when.iso(found.span.until_s),
        "time_zone": money.zone,
        "currency": money.currency,
        "by": list(found.by),
        "rows": [record(row) for row in found.rows],
        "total": record(found.total),
    }


def _csv(found: Report, money: Money) -> None:
    figures = [name for name in FIGURES if name != "cost_nusd"]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*found.by, *figures, "cost", "currency"])
    for row in found.rows:
        writer.writerow(
            [
                *map(harmless, row.of),
                *(getattr(row, name) for name in figures),
                exact(money.amount(row.cost_nusd)),
                money.currency,
            ]
        )


def exact(amount: Decimal) -> str:
    """All of an amount, without zeros behind it."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def harmless(text: str) -> str:
    """A text of a client's choice for a spreadsheet, which takes some for formulas."""
    return f"'{text}" if text.startswith(_FORMULA) else text
