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

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from llamakey_addon.globs import glob
from llamakey_addon.journey import Counts, Metered, PriceRule, Terms

if TYPE_CHECKING:
    from genai_prices.types import (
        ModelInfo,
        ModelPrice,
        Provider,
        StartDateConstraint,
        TimeOfDateConstraint,
    )

    from llamakey_addon.catalogue.models import Entry

_CACHED: Final = 4096
"""Models whose prices are kept; their names are the clients' choice."""
_NUSD: Final = 10**9

type Dimensions = frozenset[tuple[str, str]]


class Kind(NamedTuple):
    """A kind of thing that is counted and can have a price."""

    what: str
    """Its name in `Counts`."""
    per: int
    """How many of it the price is for."""
    dimensions: Dimensions
    """What it is, in genai-prices' words. A kind holds every kind that has its dimensions and
    more."""


def _kind(what: str, per: int, dimensions: str) -> Kind:
    pairs = (pair.partition("=") for pair in dimensions.split())
    return Kind(what, per, frozenset((name, value) for name, _, value in pairs))


_IN: Final = "family=tokens direction=input"
_OUT: Final = "family=tokens direction=output"
_READ: Final = " token_type=cache_read"
_WRITE: Final = " token_type=cache_write"
_HOUR_MS: Final = 3_600_000
_RULE_KINDS: Final[Mapping[str, Kind]] = {
    "input_mtok": _kind("input_tokens", 10**6, _IN),
    "output_mtok": _kind("output_tokens", 10**6, _OUT),
    "cache_read_mtok": _kind("cache_read_tokens", 10**6, _IN + _READ),
    "cache_write_mtok": _kind("cache_write_tokens", 10**6, _IN + _WRITE),
    "cache_write_1h_mtok": _kind("cache_write_1h_tokens", 10**6, _IN + _WRITE + " cache_ttl=1h"),
    "input_audio_mtok": _kind("input_audio_tokens", 10**6, _IN + " modality=audio"),
    "output_audio_mtok": _kind("output_audio_tokens", 10**6, _OUT + " modality=audio"),
    "cache_audio_read_mtok": _kind(
        "cache_audio_read_tokens", 10**6, _IN + _READ + " modality=audio"
    ),
    "input_image_mtok": _kind("input_image_tokens", 10**6, _IN + " modality=image"),
    "output_image_mtok": _kind("output_image_tokens", 10**6, _OUT + " modality=image"),
    "input_video_mtok": _kind("input_video_tokens", 10**6, _IN + " modality=video"),
    "output_reasoning_mtok": _kind(
        "output_reasoning_tokens", 10**6, _OUT + " token_type=reasoning"
    ),
    "character_mtok": _kind("input_characters", 10**6, "family=characters"),
    "audio_hour": _kind("audio_ms", _HOUR_MS, "family=durations"),
    "compute_hour": _kind("compute_ms", _HOUR_MS, "family=compute"),
    "request": _kind("requests", 1, "family=requests"),
    "image": _kind("images", 1, "family=images"),
    "video": _kind("videos", 1, "family=videos"),
    "page": _kind("input_document_pages", 1, "family=document_pages"),
    "search": _kind("rerank_searches", 1, "family=rerank"),
    "web_search": _kind("web_searches", 1, "family=tool_calls"),
}

_FAMILY_OF: Final[Mapping[str, str]] = {
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "input_characters": "characters",
    "audio_ms": "durations",
    "compute_ms": "compute",
    "images": "images",
    "videos": "videos",
    "input_document_pages": "document_pages",
    "rerank_searches": "rerank",
    "input_text_messages": "messages",
}
"""The counts by which an answer may be priced."""

# genai-prices' own rule: Groq bills at least ten seconds of audio a request.
_LEAST_AUDIO_MS: Final = {
    ("groq", "whisper-large-v3"): 10_000,
    ("groq", "whisper-large-v3-turbo"): 10_000,
}

_CHARACTERS_PER_TOKEN: Final = 4
_SPOKEN_TOKENS: Final = Fraction(7, 5)
"""Tokens of speech for a character: 15 characters and 1250/60 tokens a second."""


class _Unit(NamedTuple):
    what: str
    family: str
    rate: int
    """Over the price's denominator, for one."""
    tiers: tuple[tuple[int, int], ...]
    """Input tokens above which another rate holds for all, highest first, and that rate."""
    parts: tuple[int, ...]
    """Units that this one holds: what they count is not counted here."""


@dataclass(frozen=True, slots=True)
class Price:
    """The prices of one model at one time."""

    source: str
    """e.g. `genai-prices 0.2.3`, or the setting of the owner's rule."""
    table_date: str
    """The last date at which the table names a change of prices, `2026-11-01`: it is at least that
    young. "" for the owner's own."""
    model: str
    """As the table names it."""
    free: bool = False
    _units: tuple[_Unit, ...] = ()
    _denominator: int = 1
    _least_audio_ms: int = 0

    def cost_nusd(self, counts: Counts) -> int | None:
        """What these counts cost, rounded up to a nano-dollar. None where nothing of them has a
        price here, so that they cost who knows what."""
        if self.free or not counts:
            return 0
        if not self.covers(counts):
            counts = self._spoken(counts)
            if not self.covers(counts):
                return None
        if self._least_audio_ms and 0 < counts.get("audio_ms", 0) < self._least_audio_ms:
            counts = {**counts, "audio_ms": self._least_audio_ms}
            if counts.get("input_audio_ms"):
                counts["input_audio_ms"] = self._least_audio_ms
        context = counts.get("input_tokens", 0)
        total = 0
        alone: list[int] = []
        for what, _, rate, tiers, parts in self._units:
            number = 1 if what == "requests" else counts.get(what, 0)
            for part in parts:
                number -= alone[part]
            number = max(number, 0)
            alone.append(number)
            for start, other in tiers:
                if context > start:
                    rate = other
                    break
            total += number * rate
        return -(-total // self._denominator)

    def covers(self, counts: Counts) -> bool:
        """Whether anything by which such an answer is priced has a price here."""
        families = {unit.family for unit in self._units}
        asked = {family for count, family in _FAMILY_OF.items() if counts.get(count)}
        return not asked or not asked.isdisjoint(families)

    def _spoken(self, counts: Counts) -> Counts:
        """Speech of which only the text is known, for a model that is priced in tokens."""
        characters = counts.get("input_characters")
        if not characters:
            return counts
        spoken = math.ceil(characters * _SPOKEN_TOKENS)
        return {
            **counts,
            "input_tokens": -(-characters // _CHARACTERS_PER_TOKEN),
            "output_tokens": spoken,
            "output_audio_tokens": spoken,
        }


@dataclass(frozen=True, slots=True)
class Bill:
    """What an answer cost."""

    cost_nusd: int
    quality: str
    """`exact`, `estimated`, `unpriced`, `free` or `none` (nothing was used)."""
    source: str = ""
    """Where the price is from; "" where there is none."""
    table_date: str = ""


class Prices:
    """The owner's rules and the public table."""

    def __init__(self, rules: Sequence[PriceRule] = ()) -> None:
        self._rules = [(rule, _glob(rule.model), _of_rule(rule)) for rule in rules]
        self._models: OrderedDict[tuple[str, str, Terms], _Model | None] = OrderedDict()

    def warm(self) -> None:
        """Load the table in a thread, once a process. Returns at once."""
        _TABLE.warm()

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
        price = self._ruled(entry, asked) or (self._ruled(entry, answered) if answered else None)
        if price is None and entry.states_cost and "billed_nusd" in counts:
            quality = "exact" if metered.exact else "estimated"
            return Bill(counts["billed_nusd"], quality, entry.name)
        for name in () if price is not None else (answered, asked):
            found = self._listed(entry, name, at_s, metered.terms) if name or not asked else None
            if found is not None and found.cost_nusd(counts) is not None:
                price = found
                break
        cost = None if price is None else price.cost_nusd(counts)
        if price is None or cost is None:
            return Bill(0, "unpriced")
        if price.free:
            return Bill(0, "free", price.source, price.table_date)
        exact = metered.exact and price.covers(counts)
        return Bill(cost, "exact" if exact else "estimated", price.source, price.table_date)

    # --- inner ------------------------------------------------------------------------------------

    def _ruled(self, entry: Entry, model: str) -> Price | None:
        for rule, pattern, price in self._rules:
            if rule.provider in ("", entry.id) and pattern.fullmatch(model.lower()):
                return price
        return _FREE if entry.prices == "free" else None

    def _listed(self, entry: Entry, model: str, at_s: float, terms: Terms) -> Price | None:
        if not entry.prices or not model:
            return None
        key = (entry.prices, model, terms)
        if key in self._models:
            self._models.move_to_end(key)
            found = self._models[key]
        else:
            found = self._models[key] = _TABLE.find(entry.prices, model, terms)
            if len(self._models) > _CACHED:
                self._models.popitem(last=False)
        return None if found is None else found.at(at_s)


def _glob(pattern: str) -> re.Pattern[str]:
    return glob(pattern.lower(), "names")


# --- the table ------------------------------------------------------------------------------------


class _Table:
    """genai-prices' table, loaded when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._providers: Mapping[str, Provider] | None = None
        self._kinds: Mapping[str, Kind] = {}
        self.source = self.date = ""

    def warm(self) -> None:
        if self._providers is None and self._thread is None:
            self._thread = threading.Thread(target=self._load, name="prices", daemon=True)
            self._thread.start()

    def find(self, named: str, model: str, terms: Terms) -> _Model | None:
        """The first of the model's spellings that the provider's table knows."""
        providers = self._load()
        everyone = list(providers.values())
        for provider_id, name in _spellings(named, model.strip().lower(), dict(terms)):
            provider = providers.get(provider_id)
            found = provider and provider.find_model(name, all_providers=everyone)
            if provider is not None and found:
                return _Model(self, provider, found, self._kinds, terms)
        return None

    def _load(self) -> Mapping[str, Provider]:
        with self._lock:
            if self._providers is None:
                from genai_prices.data_snapshot import get_snapshot
                from genai_prices.data_units import unit_data

                self._kinds = dict(_kinds(unit_data))
                self.source = f"genai-prices {version('genai-prices')}"
                providers = get_snapshot().providers
                self.date = _youngest(providers)
                self._providers = {provider.id: provider for provider in providers}
            return self._providers


_TABLE: Final = _Table()


class _Model:
    """A model of the table: its prices by what of their conditions holds."""

    def __init__(
        self,
        table: _Table,
        provider: Provider,
        model: ModelInfo,
        kinds: Mapping[str, Kind],
        terms: Terms,
    ) -> None:
        self._table = table
        self._model = model
        self._kinds = kinds
        # as genai-prices has it: a model of another provider's table knows no terms of this one
        own = any(model is other for other in provider.models)
        self._context = dict(terms) if own and model.price_variants else None
        self._constraints = _constraints(model)
        self._least_audio_ms = _LEAST_AUDIO_MS.get((provider.id, model.id), 0)
        self._prices: dict[tuple[bool, ...], Price] = {}

    def at(self, at_s: float) -> Price:
        if not self._constraints:
            key: tuple[bool, ...] = ()
            when = _EPOCH
        else:
            when = datetime.fromtimestamp(at_s, UTC)
            key = tuple(constraint.active(when) for constraint in self._constraints)
        price = self._prices.get(key)
        if price is None:
            price = self._prices[key] = self._compiled(self._model.get_prices(when, self._context))
        return price

    def _compiled(self, prices: ModelPrice) -> Price:
        rates: list[tuple[Kind, Decimal, list[tuple[int, Decimal]]]] = []
        for name, value in prices.__dict__.items():
            kind = self._kinds.get(name)
            if kind is None or value is None:
                continue
            if isinstance(value, Decimal):
                rates.append((kind, value, []))
            else:
                tiers = [(tier.start, tier.price) for tier in reversed(value.tiers)]
                rates.append((kind, value.base, tiers))
        return _compile(
            rates, self._table.source, self._table.date, self._model.id, self._least_audio_ms
        )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _constraints(model: ModelInfo) -> list[StartDateConstraint | TimeOfDateConstraint]:
    """On what of time a model's prices hang."""
    found = [part.constraint for part in model.price_variants or ()]
    if isinstance(model.prices, list):
        found += [part.constraint for part in model.prices]
    return [constraint for constraint in found if constraint is not None]


def _kinds(units: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, Kind]]:
    """genai-prices' units by their price keys; seconds become our milliseconds."""
    for usage_key, unit in units.items():
        what, per = usage_key, int(unit["per"])
        if what.endswith("_seconds"):
            what, per = what.removesuffix("_seconds") + "_ms", per * 1000
        dimensions = frozenset(dict(unit["dimensions"]).items())
        yield str(unit.get("price_key", usage_key)), Kind(what, per, dimensions)


def _youngest(providers: Iterable[Provider]) -> str:
    """The last day, until today, on which the table says that a price changed."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    youngest = ""
    for provider in providers:
        for model in provider.models:
            for constraint in _constraints(model):
                start = getattr(constraint, "start_date", None)
                if start is not None and youngest < start.isoformat() <= today:
                    youngest = start.isoformat()
    return youngest


def _spellings(named: str, model: str, terms: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Under which provider and name the table may know a model.

    A router's models carry who serves them, or how that is chosen, behind a colon
    (`meta-llama/llama-3.3-70b-instruct:together`, `openai/gpt-4o:nitro`); Gemini's may begin with
    `models/`.
    """
    bare, colon, suffix = model.rpartition(":")
    if "{route}" in named:
        route = suffix if colon else terms.get("route", "")
        provider = named.replace("{route}", route)
        yield provider, bare if colon else model
        if colon and terms.get("route"):
            yield named.replace("{route}", terms["route"]), bare
        return
    yield named, model
    if colon and bare:
        yield named, bare
    if model.startswith("models/"):
        yield named, model.removeprefix("models/")


# --- compiling ------------------------------------------------------------------------------------


def _of_rule(rule: PriceRule) -> Price:
    if rule.free:
        return Price(rule.setting, "", rule.model, free=True)
    rates = [(_RULE_KINDS[name], usd, list[tuple[int, Decimal]]()) for name, usd in rule.usd]
    return _compile(rates, rule.setting, "", rule.model, 0)


_FREE: Final = Price("catalogue", "", "*", free=True)


def _compile(
    rates: Iterable[tuple[Kind, Decimal, list[tuple[int, Decimal]]]],
    source: str,
    date: str,
    model: str,
    least_audio_ms: int,
) -> Price:
    """Units with the most particular first, so that each finds its parts before it."""
    ordered = sorted(rates, key=lambda rate: (-len(rate[0].dimensions), rate[0].what))
    exact = [
        (
            Fraction(price) * _NUSD / kind.per,
            [(start, Fraction(other) * _NUSD / kind.per) for start, other in tiers],
        )
        for kind, price, tiers in ordered
    ]
    denominator = math.lcm(
        1, *(rate.denominator for base, tiers in exact for rate in (base, *(r for _, r in tiers)))
    )
    units = []
    for at, (kind, _, _) in enumerate(ordered):
        base, tiers = exact[at]
        units.append(
            _Unit(
                kind.what,
                dict(kind.dimensions)["family"],
                int(base * denominator),
                tuple((start, int(rate * denominator)) for start, rate in tiers),
                tuple(
                    part
                    for part, (other, _, _) in enumerate(ordered[:at])
                    if kind.dimensions < other.dimensions
                ),
            )
        )
    return Price(source, date, model, False, tuple(units), denominator, least_audio_ms)
