"""A provider's own usage export, read as sums by UTC day and model.

Columns are known by their names, whatever their order and however many others there are:

    day       usage_date_utc, date, day, start_time_iso, start_time, timestamp, …
    model     model_version, model, snapshot_id, line_item (`gpt-5-mini, input`), …
    tokens    input_tokens, prompt_tokens, n_context_tokens_total; for Anthropic the sum of
              usage_input_tokens_no_cache, …_cache_write_5m, …_cache_write_1h and …_cache_read;
              output_tokens, completion_tokens, usage_output_tokens, n_generated_tokens_total;
              or total_tokens alone
    cost      cost_usd, amount_value, cost, amount, in US dollars

So are the exports of OpenAI's usage and cost pages, and of the Claude Console's.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, TextIO

from llamakey_addon.cli.errors import Miswritten

_DAY: Final = (
    "usage_date_utc",
    "date",
    "day",
    "usage_date",
    "start_time_iso",
    "bucket_start_time",
    "start_time",
    "aggregation_timestamp",
    "timestamp",
)
_MODEL: Final = ("model_version", "model", "snapshot_id", "model_id", "model_name", "line_item")
_INPUT: Final = (
    ("usage_input_tokens_no_cache", "uncached_input_tokens"),
    ("input_tokens", "prompt_tokens", "n_context_tokens_total"),
)
#: Beside the first of `_INPUT`, which counts what was not cached alone.
_CACHED: Final = (
    "usage_input_tokens_cache_write",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)
_OUTPUT: Final = (
    "usage_output_tokens",
    "output_tokens",
    "completion_tokens",
    "n_generated_tokens_total",
)
_TOTAL: Final = ("total_tokens", "tokens")
_COST: Final = ("cost_usd", "amount_value", "cost", "amount", "cost_in_usd", "total_cost")
_CURRENCY: Final = ("amount_currency", "currency")
_THOUSANDS: Final = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NUSD: Final = 10**9


class BadExport(Miswritten):
    """The file can't be taken for a usage export; the message says where and why."""


@dataclass(slots=True)
class Booked:
    """What a provider booked."""

    tokens: int = 0
    usd: Decimal = Decimal(0)

    @property
    def nusd(self) -> int:
        return round(self.usd * _NUSD)


@dataclass(slots=True)
class Export:
    """The whole file."""

    name: str
    provider: str
    """Id of the provider that writes such columns; "" where several do."""
    has_tokens: bool
    has_cost: bool
    has_models: bool
    """Whether any row names a model."""
    first: date
    last: date
    """Days of the first and the last row, those with nothing in them included."""
    booked: dict[tuple[str, str], Booked] = field(default_factory=dict)
    """By day, as 2026-07-01, and model."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where things stand; -1 is nowhere."""

    day: int
    model: int
    tokens: tuple[int, ...]
    """Of which the sum counts."""
    cost: int
    currency: int


def read(path: Path) -> Export:
    """Raises BadExport."""
    try:
        with path.open(encoding=_coding(path), errors="strict", newline="") as file:
            return _read(str(path), file)
    except OSError as error:
        raise BadExport(f"{path}: {error.strerror}. Name the provider's usage export.") from None
    except UnicodeDecodeError:
        raise BadExport(f"{path}: this is no text in UTF-8. Export it as CSV.") from None


def _coding(path: Path) -> str:
    with path.open("rb") as file:
        mark = file.read(2)
    return "utf-16" if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _read(name: str, file: TextIO) -> Export:
    lines = _rows(name, file)
    try:
        _, header = next(lines)
    except StopIteration:
        raise BadExport(f"{name}: nothing stands there. Name the provider's export.") from None
    names = [re.sub(r"[^a-z0-9]+", "_", text.strip().lower()).strip("_") for text in header]
    columns = _columns(name, header, names)
    export = Export(
        name=name,
        provider=_provider(names),
        has_tokens=bool(columns.tokens),
        has_cost=columns.cost >= 0,
        has_models=False,
        first=date.max,
        last=date.min,
    )
    for line, row in lines:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(header):
            raise BadExport(
                f"{name}:{line}: {len(row)} values under {len(header)} columns. Export it anew, or "
                "put quotes around a value with a comma in it."
            )
        _take(export, columns, header, f"{name}:{line}", [*row, *[""] * (len(header) - len(row))])
    if export.first > export.last:
        raise BadExport(f"{name}: there is a header and no row. Choose a time with usage in it.")
    return export


def _rows(name: str, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Rows with the numbers of their lines; fields are parted by what parts most of the header."""
    head = file.readline()
    file.seek(0)
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise BadExport(f"{name}:{reader.line_num}: {error}. Export it as CSV.") from None


def _columns(name: str, header: Sequence[str], names: Sequence[str]) -> _Columns:
    def find(wanted: Sequence[str]) -> int:
        return next((names.index(each) for each in wanted if each in names), -1)

    inputs = [find(wanted) for wanted in _INPUT]
    if inputs[0] >= 0:
        cached = [names.index(each) for each in _CACHED if each in names]
        tokens = [inputs[0], *cached, find(_OUTPUT)]
    else:
        tokens = [inputs[1], find(_OUTPUT)]
    found = tuple(index for index in tokens if index >= 0) or tuple(
        index for index in (find(_TOTAL),) if index >= 0
    )
    columns = _Columns(find(_DAY), find(_MODEL), found, find(_COST), find(_CURRENCY))
    lacks = [
        *(["a day (date, usage_date_utc, start_time, …)"] if columns.day < 0 else []),
        *(
            ["tokens (input_tokens, output_tokens, …) or a cost (cost_usd, amount_value, …)"]
            if not found and columns.cost < 0
            else []
        ),
    ]
    if lacks:
        shown = ", ".join(text.strip()[:40] for text in header[:20])
        raise BadExport(
            f"{name}:1: no column holds {' and none '.join(lacks)}. It has: {shown}. Name a "
            "provider's usage or cost export, or rename the columns."
        )
    return columns


def _provider(names: Sequence[str]) -> str:
    known = set(names)
    if {"usage_date_utc"} <= known and known & {"model_version", "token_type", "list_price_usd"}:
        return "anthropic"
    if (
        known & {"num_model_requests", "n_context_tokens_total"}
        or {
            "amount_value",
            "line_item",
        }
        <= known
    ):
        return "openai"
    return ""


def _take(
    export: Export, columns: _Columns, header: Sequence[str], where: str, row: Sequence[str]
) -> None:
    """Add a row to the sums."""

    def number(index: int) -> Decimal:
        return _number(row[index], f"{where}: {header[index].strip()}")

    day = _day(row[columns.day], f"{where}: {header[columns.day].strip()}")
    export.first, export.last = min(export.first, day), max(export.last, day)
    tokens = sum(number(index) for index in columns.tokens)
    usd = number(columns.cost) if columns.cost >= 0 else Decimal(0)
    if not tokens and not usd:
        return
    currency = row[columns.currency].strip().upper() if columns.currency >= 0 else ""
    if usd and currency not in ("", "USD"):
        raise BadExport(
            f"{where}: the cost is in {currency[:10]}. Export it in US dollars: prices are in them."
        )
    model = row[columns.model].partition(",")[0].strip() if columns.model >= 0 else ""
    export.has_models = export.has_models or bool(model)
    booked = export.booked.setdefault((day.isoformat(), model), Booked())
    booked.tokens += int(tokens)
    booked.usd += usd


def _number(text: str, where: str) -> Decimal:
    plain = text.strip()
    if not plain:
        return Decimal(0)
    if _THOUSANDS.fullmatch(plain):
        plain = plain.replace(",", "")
    try:
        found = Decimal(plain.removeprefix("$"))
    except InvalidOperation:
        found = Decimal("NaN")
    if not found.is_finite() or abs(found) > 10**15:
        raise BadExport(f"{where}: {text.strip()[:40]!r} is no number. Correct it.")
    return found


def _day(text: str, where: str) -> date:
    """The UTC day of a date, a time, or seconds since 1970."""
    plain = text.strip()
    try:
        if plain.isdigit() and len(plain) > 8:
            return datetime.fromtimestamp(int(plain) / (1000 if len(plain) > 11 else 1), UTC).date()
        at = datetime.fromisoformat(plain.removesuffix(" UTC"))
    except (ValueError, OverflowError, OSError):
        raise BadExport(
            f"{where}: {plain[:40]!r} is no day. Write it as 2026-07-01, a time as "
            "2026-07-01T15:00:00Z."
        ) from None
    return at.date() if at.tzinfo is None else at.astimezone(UTC).date()
