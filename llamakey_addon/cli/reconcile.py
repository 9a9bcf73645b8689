"""`lmk usage --reconcile`: what a provider says that was used, against what the ledger has."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from llamakey_addon.cli import exports
from llamakey_addon.cli.compare import Comparison, Line, compare
from llamakey_addon.cli.exports import BadExport
from llamakey_addon.cli.table import Cell, Column, print_table
from llamakey_addon.cli.usage import Form, amounts, compact, exact, harmless
from llamakey_addon.config import Money, Settings
from llamakey_addon.config.words import nearest
from llamakey_addon.serve import show as showing
from llamakey_addon.store import open_store


def reconcile(path: Path, *, provider: str, tolerance: str, form: Form, config: Path | None) -> int:
    """Print the comparison; 1 when a model differs by more than the tolerance, else 0."""
    per_cent = _per_cent(tolerance)
    export = exports.read(path)
    settings = Settings.load(config, os.environ)
    chosen = _chosen(provider or export.provider, path, settings)
    with open_store(settings.data_folder) as store:
        compared = compare(export, chosen, per_cent, store)
    match form:
        case "json":
            showing.say(json.dumps(_record(compared, settings.money), indent=2, ensure_ascii=False))
        case "csv":
            _csv(compared, settings.money)
        case "table":
            _table(compared, settings.money)
            _verdict(compared)
    return 1 if compared.beyond_models else 0


def _per_cent(text: str) -> Decimal:
    try:
        found = Decimal(text.strip().removesuffix("%"))
    except InvalidOperation:
        found = Decimal(-1)
    if not 0 <= found <= 100:
        raise BadExport(f"--tolerance: {text!r} is no percentage. Write 1%, say.")
    return found


def _chosen(provider: str, path: Path, settings: Settings) -> str:
    ids = {each.id for each in settings.providers.values()}
    if not provider:
        raise BadExport(f"{path}: whose export is it? Name the provider: --provider openai")
    if provider not in ids:
        hint = nearest(provider, ids) or " `lmk providers` shows all."
        raise BadExport(f"--provider: {provider!r} is no provider.{hint}")
    return provider


def _table(compared: Comparison, money: Money) -> None:
    out, export = sys.stdout, compared.export
    terminal = showing.is_terminal(out)
    showing.heading(
        f"{compared.provider}, {export.first} to {export.last} (UTC): {export.name} and the ledger",
        out,
    )
    if not compared.lines:
        return
    if terminal:
        showing.say()
    columns = [Column("Day", whole=True), Column("Model")]
    if export.has_tokens:
        columns += [
            Column("Tokens theirs", right=True, whole=True),
            Column("ours", drop=1, right=True, whole=True),
            Column("diff", right=True, whole=True),
        ]
    if export.has_cost:
        columns += [
            Column(f"{money.currency} theirs", right=True, whole=True),
            Column("ours", drop=1, right=True, whole=True),
            Column("diff", right=True, whole=True),
        ]
    beyond = {line.model for line in compared.beyond_models}
    price = amounts(money, max(map(abs, compared.total.nusd)))
    tokens = compact if terminal else str

    def cells(line: Line) -> list[Cell | str]:
        style = "red" if line.model in beyond else ""
        found: list[Cell | str] = [line.day, Cell(showing.short(line.model, 40), style)]
        pairs = [(line.tokens, tokens)] * export.has_tokens + [(line.nusd, price)] * export.has_cost
        for (theirs, ours), shown in pairs:
            found += [shown(theirs), shown(ours), Cell(_signed(ours - theirs, shown), style)]
        return found

    total = cells(compared.total)
    print_table(
        columns,
        [cells(line) for line in compared.lines],
        out,
        total=["total", "", *total[2:]] if len(compared.lines) > 1 else None,
    )


def _signed(difference: int, shown: Callable[[int], str]) -> str:
    if not difference:
        return "="
    return f"{'+' if difference > 0 else '-'}{shown(abs(difference))}"


def _verdict(compared: Comparison) -> None:
    out, ours = sys.stdout, compared.ours
    beyond = compared.beyond_models
    limit = f"{compared.tolerance.normalize():f}%"
    if not beyond:
        showing.prose(
            f"They agree within {limit}, or a thousand tokens and a cent for each model: "
            f"{_apart(compared, compared.total)}.",
            out,
            "green",
        )
    else:
        names = "; ".join(f"{line.model} ({_apart(compared, line)})" for line in beyond)
        showing.prose(f"They differ by more than {limit}: {names}.", out, "red")
        theirs_more, ours_more = _who_counts_more(compared, beyond)
        if theirs_more:
            showing.prose(
                "The provider counts what the ledger has not: a real key may be used past this "
                "proxy, or in another one.",
                out,
            )
        if ours_more:
            showing.prose(
                "The ledger counts what the export has not: it may not be complete yet (the last "
                "day), or be of one project, workspace or key alone.",
                out,
            )
    for count, words in (
        (ours.estimated, "estimated"),
        (ours.unpriced, "without a price, counted as 0"),
        (ours.open, "not ended yet"),
    ):
        if count:
            showing.prose(f"Of ours, {count:,} of {ours.requests:,} requests are {words}.", out)


def _who_counts_more(compared: Comparison, lines: Sequence[Line]) -> tuple[bool, bool]:
    """Whether the provider does in any of these, and whether the ledger does."""
    export = compared.export
    differences = [
        ours - theirs
        for line in lines
        for (theirs, ours), there in (
            (line.tokens, export.has_tokens),
            (line.nusd, export.has_cost),
        )
        if there and compared.far((theirs, ours), 0)
    ]
    return any(each < 0 for each in differences), any(each > 0 for each in differences)


def _apart(compared: Comparison, line: Line) -> str:
    export = compared.export
    words = []
    for what, (theirs, ours), there in (
        ("tokens", line.tokens, export.has_tokens),
        ("cost", line.nusd, export.has_cost),
    ):
        if not there:
            continue
        if theirs == ours:
            words.append(f"{what} equal")
        elif not theirs:
            words.append(f"{what} in the ledger alone")
        elif not ours:
            words.append(f"{what} in the export alone")
        else:
            words.append(f"{what} {100 * (ours - theirs) / theirs:+.2f}%")
    return ", ".join(words)


def _cells(line: Line, money: Money) -> dict[str, Any]:
    theirs, ours = line.tokens
    nusd = line.nusd
    return {
        "day": line.day,
        "model": line.model,
        "tokens_theirs": theirs,
        "tokens_ours": ours,
        "tokens_difference": ours - theirs,
        "cost_theirs": money.amount(nusd[0]),
        "cost_ours": money.amount(nusd[1]),
        "cost_difference": money.amount(nusd[1] - nusd[0]),
    }


def _plain(compared: Comparison, cells: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the export does not have."""
    has = {"tokens": compared.export.has_tokens, "cost": compared.export.has_cost}
    return {
        name: value
        for name, value in cells.items()
        if has.get(name.partition("_")[0], True) and value != ""
    }


def _record(compared: Comparison, money: Money) -> dict[str, Any]:
    def record(line: Line) -> dict[str, Any]:
        cells = _plain(compared, _cells(line, money))
        return {k: float(v) if isinstance(v, Decimal) else v for k, v in cells.items()}

    ours = compared.ours
    return {
        "file": compared.export.name,
        "provider": compared.provider,
        "first_day": compared.export.first.isoformat(),
        "last_day": compared.export.last.isoformat(),
        "currency": money.currency,
        "tolerance_percent": float(compared.tolerance),
        "agrees": not compared.beyond_models,
        "rows": [record(line) for line in compared.lines],
        "models": [{**record(line), "beyond": compared.beyond(line)} for line in compared.models],
        "total": record(compared.total),
        "ours": {
            "requests": ours.requests,
            "estimated": ours.estimated,
            "unpriced": ours.unpriced,
            "open": ours.open,
        },
    }


def _csv(compared: Comparison, money: Money) -> None:
    rows = [_plain(compared, _cells(line, money)) for line in compared.lines]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for index, row in enumerate(rows):
        if not index:
            writer.writerow([*row, "currency"])
        shown = [exact(v) if isinstance(v, Decimal) else v for v in row.values()]
        shown = [harmless(v) if isinstance(v, str) and n == 1 else v for n, v in enumerate(shown)]
        writer.writerow([*shown, money.currency])
