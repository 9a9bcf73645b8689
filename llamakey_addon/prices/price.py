"""The price of a model, compiled to integers: what counts cost, exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from llamakey_addon.journey import Counts, PriceRule

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
RULE_KINDS: Final[Mapping[str, Kind]] = {
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
    "video_second": _kind("video_ms", 1000, "family=videos"),
    "page": _kind("input_document_pages", 1, "family=document_pages"),
    "search": _kind("rerank_searches", 1, "family=rerank"),
    "classification": _kind("classifications", 1, "family=classifications"),
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
    "classifications": "classifications",
    "input_text_messages": "messages",
    "requests": "requests",
}
"""The counts by which an answer may be priced."""

_KEPT: Final = 64
"""Combinations of counts; a provider's answers have a few."""
_CHARACTERS_PER_TOKEN: Final = 4
_SPOKEN_TOKENS: Final = Fraction(7, 5)
"""Tokens of speech for a character: 15 characters and 1250/60 tokens a second."""
_HEARD_TOKENS: Final = Fraction(17, 1000)
"""Tokens of sound that is heard, for a millisecond: 0.6 cents a minute at $6 a million."""


class _Unit(NamedTuple):
    what: str
    family: str
    rate: int
    """Over the price's denominator, for one."""
    tiers: tuple[tuple[int, int], ...]
    """Input tokens above which another rate holds for all, highest first, and that rate."""
    parts: tuple[int, ...]
    """Units that this one holds: what they count is not counted here."""


class _Sum(NamedTuple):
    """How counts of certain kinds are added up."""

    covering: tuple[str, ...]
    """Those by which the answer may be priced, and which have a price here."""
    others: tuple[str, ...]
    """Those by which it may be priced, and which have none."""
    units: tuple[_Unit, ...]
    """Of the price's, those that are counted; `parts` are places among these."""
    by_request: bool
    """Requests have a price too, and are not among the counts: it is one."""


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
    ruled: bool = False
    """It is the owner's: what it leaves out costs nothing."""
    _units: tuple[_Unit, ...] = ()
    _families: frozenset[str] = frozenset()
    _denominator: int = 1
    _least_audio_ms: int = 0
    _sums: dict[tuple[str, ...], _Sum] = field(
        init=False, default_factory=dict, repr=False, compare=False
    )
    """By the kinds of counts, as they come."""

    def cost_nusd(self, counts: Counts) -> int | None:
        """What these counts cost, rounded up to a nano-dollar. None where nothing of them has a
        price here, so that they cost who knows what."""
        if self.free or not counts:
            return 0
        found = self._sums.get(tuple(counts)) or self._sum(counts)
        if found.others and not _covers(found, counts):
            counts = self._in_tokens(counts)
            found = self._sum(counts)
            if not self.ruled and not _covers(found, counts):
                return None
        if self._least_audio_ms and 0 < counts.get("audio_ms", 0) < self._least_audio_ms:
            counts = {**counts, "audio_ms": self._least_audio_ms}
            if counts.get("input_audio_ms"):
                counts["input_audio_ms"] = self._least_audio_ms
        if found.by_request:
            counts = {**counts, "requests": 1}
            found = self._sum(counts)
        total = 0
        alone: list[int] = []
        for what, _, rate, tiers, parts in found.units:
            number = counts[what]
            for part in parts:
                number -= alone[part]
            if number < 0:
                number = 0
            alone += (number,)
            if tiers:
                context = counts.get("input_tokens", 0)
                for start, other in tiers:
                    if context > start:
                        rate = other
                        break
            total += number * rate
        return -(-total // self._denominator)

    def covers(self, counts: Counts) -> bool:
        """Whether anything by which such an answer is priced has a price here."""
        found = self._sums.get(tuple(counts)) or self._sum(counts)
        return not found.others or _covers(found, counts)

    def _sum(self, counts: Counts) -> _Sum:
        """How these counts are added up; it follows from what they are of."""
        kinds = tuple(counts)
        found = self._sums.get(kinds)
        if found is None:
            if len(self._sums) >= _KEPT:
                self._sums.clear()
            found = self._sums[kinds] = self._made(kinds)
        return found

    def _made(self, kinds: tuple[str, ...]) -> _Sum:
        priced = {what: _FAMILY_OF.get(what) for what in kinds}
        counted = [at for at, unit in enumerate(self._units) if unit.what in priced]
        places = {at: place for place, at in enumerate(counted)}
        return _Sum(
            tuple(what for what, family in priced.items() if family in self._families),
            tuple(what for what, family in priced.items() if family not in {None, *self._families}),
            tuple(
                unit._replace(parts=tuple(places[part] for part in unit.parts if part in places))
                for unit in (self._units[at] for at in counted)
            ),
            "requests" not in priced and any(unit.what == "requests" for unit in self._units),
        )

    def _in_tokens(self, counts: Counts) -> Counts:
        """Guessed for a model that is priced in tokens, where only the text that was spoken is
        known, or the length of what was heard."""
        if characters := counts.get("input_characters"):
            spoken = math.ceil(characters * _SPOKEN_TOKENS)
            return {
                **counts,
                "input_tokens": -(-characters // _CHARACTERS_PER_TOKEN),
                "output_tokens": spoken,
                "output_audio_tokens": spoken,
            }
        if heard_ms := counts.get("audio_ms"):
            heard = math.ceil(heard_ms * _HEARD_TOKENS)
            return {**counts, "input_tokens": heard, "input_audio_tokens": heard}
        return counts


def _covers(found: _Sum, counts: Counts) -> bool:
    if any(counts[what] for what in found.covering):
        return True
    return not any(counts[what] for what in found.others)


def compiled(
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
    return Price(
        source,
        date,
        model,
        _units=tuple(units),
        _families=frozenset(unit.family for unit in units),
        _denominator=denominator,
        _least_audio_ms=least_audio_ms,
    )


def of_rule(rule: PriceRule) -> Price:
    if rule.free:
        return Price(rule.setting, "", rule.model, free=True)
    rates = [(RULE_KINDS[name], usd, list[tuple[int, Decimal]]()) for name, usd in rule.usd]
    return replace(compiled(rates, rule.setting, "", rule.model, 0), ruled=True)


FREE: Final = Price("catalogue", "", "*", free=True)
