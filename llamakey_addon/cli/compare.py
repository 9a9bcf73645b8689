"""A provider's usage export beside the ledger: by day and model, and where they part."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import Final

from llamakey_addon.cli import when
from llamakey_addon.cli.exports import Booked, Export
from llamakey_addon.cli.report import summed, totals
from llamakey_addon.store import Store
from llamakey_addon.store.ledger import Total

_ALL: Final = "(all models)"
_VERSION: Final = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
#: Less is no difference, whatever it is in per cent: a request at midnight, a rounding.
_LEAST_TOKENS: Final = 1000
_LEAST_NUSD: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """One model on one day, or in all."""

    day: str
    model: str
    tokens: tuple[int, int]
    """Theirs, ours."""
    nusd: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    export: Export
    provider: str
    tolerance: Decimal
    """In per cent."""
    lines: tuple[Line, ...]
    models: tuple[Line, ...]
    """The same, each model over all days."""
    total: Line
    ours: Total

    def beyond(self, line: Line) -> bool:
        """Whether theirs and ours are too far apart."""
        return (self.export.has_tokens and self.far(line.tokens, _LEAST_TOKENS)) or (
            self.export.has_cost and self.far(line.nusd, _LEAST_NUSD)
        )

    def far(self, pair: tuple[int, int], least: int) -> bool:
        difference = abs(pair[1] - pair[0])
        if difference < least and self.tolerance:
            return False
        return difference * 100 > self.tolerance * max(map(abs, pair))

    @property
    def beyond_models(self) -> list[Line]:
        return [line for line in self.models if self.beyond(line)]


def compare(export: Export, provider: str, tolerance: Decimal, store: Store) -> Comparison:
    span = when.days(export.first, (export.last - export.first).days + 1, UTC)
    found = totals(store, span, ("day", "served", "model"), {"provider": provider}, UTC)
    ours: dict[tuple[str, str], list[Total]] = {}
    for total in found:
        day, served, model = total.of
        ours.setdefault((day, (served or model) if export.has_models else ""), []).append(total)
    name = _names({model for _, model in export.booked}, {model for _, model in ours})
    theirs_of: dict[tuple[str, str], list[Booked]] = {}
    ours_of: dict[tuple[str, str], list[Total]] = {}
    for (day, model), booked in export.booked.items():
        theirs_of.setdefault((day, name(model)), []).append(booked)
    for (day, model), sums in ours.items():
        ours_of.setdefault((day, name(model)), []).extend(sums)
    lines = tuple(
        _line(day, model, theirs_of.get((day, model), ()), ours_of.get((day, model), ()))
        for day, model in sorted({*theirs_of, *ours_of})
    )
    lines = tuple(line for line in lines if any((*line.tokens, *line.nusd)))
    models = {line.model: [each for each in lines if each.model == line.model] for line in lines}
    return Comparison(
        export=export,
        provider=provider,
        tolerance=tolerance,
        lines=lines,
        models=tuple(_sum(model, each) for model, each in sorted(models.items())),
        total=_sum("", lines),
        ours=summed((), found),
    )


def _line(day: str, model: str, theirs: Sequence[Booked], ours: Sequence[Total]) -> Line:
    return Line(
        day=day,
        model=model,
        tokens=(
            sum(each.tokens for each in theirs),
            sum(each.input_tokens + each.output_tokens for each in ours),
        ),
        nusd=(sum(each.nusd for each in theirs), sum(each.cost_nusd for each in ours)),
    )


def _sum(model: str, lines: Sequence[Line]) -> Line:
    tokens, nusd = (
        (sum(theirs for theirs, _ in pairs), sum(ours for _, ours in pairs))
        for pairs in ([line.tokens for line in lines], [line.nusd for line in lines])
    )
    return Line("", model, tokens, nusd)


def _names(theirs: Collection[str], ours: Collection[str]) -> Callable[[str], str]:
    """One name for what both mean.

    A name that both use is itself. What is left is brought together by its family: an export may
    say `Claude Haiku 4.5` where the answers say `claude-haiku-4-5-20251001`.
    """
    mine = {name.lower() for name in ours}
    exact = {name.lower(): name for name in theirs if name.lower() in mine}
    families: dict[tuple[str, ...], str] = {}
    for name in sorted(exact.values()):
        families.setdefault(_family(name), name)
    for name in (*sorted(theirs), *sorted(ours)):
        families.setdefault(_family(name), name)

    def known(name: str) -> str:
        return (exact.get(name.lower()) or families[_family(name)]) or _ALL

    return known


def _family(name: str) -> tuple[str, ...]:
    """The words of a model's name, less its version's date, in no order: Anthropic has used both
    `claude-3-5-sonnet` and `Claude Sonnet 3.5`."""
    plain = re.sub(r"[\s._]+", "-", name.strip().lower())
    return tuple(sorted(_VERSION.sub("", plain).split("-")))
