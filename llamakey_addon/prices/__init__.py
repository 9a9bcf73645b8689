"""What things cost, in whole nano-dollars: genai-prices behind one small door.

    prices = Prices(settings.prices)
    prices.warm()                                   # loads the table beside other work
    price = prices.of(entry, "gpt-4o", time.time()) # None: unpriced
    price.cost_nusd(counts)                         # None: nothing of these counts has a price
    prices.bill(entry, "gpt-4o", metered, time.time())

In this order: a rule of the owner's (`prices` in config.yaml, first match); what the answer says
that it cost, for providers whose catalogue entry has `states_cost`; the public table.

A price is compiled once for a provider, model and terms: each unit is an integer over one common
denominator, so that a cost is exact and only its last nano-dollar is rounded, up. Parts (cached
tokens, audio) are taken off the wholes that hold them, as genai-prices does; figures that
contradict each other never make a cost negative.

The table takes 0.4 s and 25 MB to load, so nothing is loaded before it is needed: `warm` does it in
a thread, `of` when it comes first. Rules and free models need no table.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llamakey_addon.globs import glob
from llamakey_addon.journey import Metered, PriceRule, Quality, Terms
from llamakey_addon.prices.price import FREE, Price, of_rule
from llamakey_addon.prices.table import TABLE, Model
from llamakey_addon.quick import quick

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Entry

__all__ = ["Bill", "Price", "Prices"]

_IN_BATCH: Final = ("processing", "batch")
_CACHED: Final = 4096
"""Models whose prices are kept; their names are the clients' choice."""

type _Sources = tuple[Price | None, tuple[tuple[str, Model], ...]]
"""Where the price of an answer may be from: a rule of the owner's, else these of the table, by the
first that has one."""


@quick
@dataclass(frozen=True, slots=True)
class Bill:
    """What an answer cost."""

    cost_nusd: int
    quality: Quality
    source: str = ""
    """Where the price is from; "" where there is none."""
    table_date: str = ""


class Prices:
    """The owner's rules and the public table."""

    def __init__(self, rules: Sequence[PriceRule] = ()) -> None:
        self._rules = [(rule, _glob(rule.model), of_rule(rule)) for rule in rules]
        self._models: OrderedDict[tuple[str, str, Terms], Model | None] = OrderedDict()
        self._sources: dict[tuple[str, str, str, str, Terms], _Sources] = {}

    def warm(self) -> None:
        """Load the table in a thread, once a process. Returns at once."""
        TABLE.warm()

    def load(self) -> None:
        """The same at once, without a thread: before a process forks."""
        TABLE.load()

    def of(self, entry: Entry, model: str, at_s: float, terms: Terms = ()) -> Price | None:
        """The price of a model at a provider; None where nobody has one.

        Arguments:
            model: as the request or the answer names it; "" where there is none.
            at_s: when the request came, UTC seconds since 1970.
        """
        return self._ruled(entry, model) or self._listed(entry, model, at_s, terms)

    def bill(self, entry: Entry, asked: str, metered: Metered, at_s: float) -> Bill:
        """What an answer cost: by the owner's rule for the model asked for, or for the one that
        answered; else as the answer says; else by the table, for the model that answered or, where
        that has no price, the one asked for."""
        counts, answered = metered.counts, metered.model
        if not counts:
            return Bill(0, "none")
        sources = (entry.id, entry.prices, asked, answered, metered.terms)
        price, listed = self._sources.get(sources) or self._find(entry, *sources)
        if price is None and entry.states_cost and "billed_nusd" in counts:
            quality: Quality = "exact" if metered.exact else "estimated"
            return Bill(counts["billed_nusd"], quality, entry.name)
        cost = None if price is None else price.cost_nusd(counts)
        name = ""
        for each, model in listed:
            found = model.at(at_s)
            if (cost := found.cost_nusd(counts)) is not None:
                name, price = each, found
                break
        if price is None or cost is None:
            return Bill(0, "unpriced")
        if price.free:
            return Bill(0, "free", price.source, price.table_date)
        exact = metered.exact and (price.ruled or price.covers(counts))
        if exact and _IN_BATCH in metered.terms and not price.ruled:
            # everybody takes less for a batch; where the table says nothing of it, it is a guess
            usual = self._listed(entry, name, at_s, ())
            exact = usual is None or usual.cost_nusd(counts) != cost
        return Bill(cost, "exact" if exact else "estimated", price.source, price.table_date)

    # --- inner ------------------------------------------------------------------------------------

    def _ruled(self, entry: Entry, model: str) -> Price | None:
        for rule, pattern, price in self._rules:
            if rule.provider in ("", entry.id) and pattern.fullmatch(model.lower()):
                return price
        return FREE if entry.prices == "free" else None

    def _find(
        self, entry: Entry, provider: str, listed: str, asked: str, answered: str, terms: Terms
    ) -> _Sources:
        """Where the price of an answer may be from; it is kept for the next of its kind."""
        price = self._ruled(entry, asked) or (self._ruled(entry, answered) if answered else None)
        models = []
        for name in () if price is not None else (answered, asked):
            model = self._model(entry, name, terms) if name or not asked else None
            if model is not None:
                models.append((name, model))
        if len(self._sources) >= _CACHED:
            self._sources.clear()
        found = self._sources[provider, listed, asked, answered, terms] = (price, tuple(models))
        return found

    def _listed(self, entry: Entry, model: str, at_s: float, terms: Terms) -> Price | None:
        found = self._model(entry, model, terms)
        return None if found is None else found.at(at_s)

    def _model(self, entry: Entry, model: str, terms: Terms) -> Model | None:
        if not entry.prices or not model:
            return None
        key = (entry.prices, model, terms)
        if key in self._models:
            self._models.move_to_end(key)
            found = self._models[key]
        else:
            found = self._models[key] = TABLE.find(entry.prices, model, terms)
            if len(self._models) > _CACHED:
                self._models.popitem(last=False)
        return found


def _glob(pattern: str) -> re.Pattern[str]:
    return glob(pattern.lower(), "names")
