"""The public table: genai-prices, loaded when it is needed, and models found in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from llamakey_addon.journey import Terms
from llamakey_addon.prices.price import Kind, Price, compiled

if TYPE_CHECKING:
    from genai_prices.types import (
        ModelInfo,
        ModelPrice,
        Provider,
        StartDateConstraint,
        TimeOfDateConstraint,
    )

# genai-prices' own rule: Groq bills at least ten seconds of audio a request.
_LEAST_AUDIO_MS: Final = {
    ("groq", "whisper-large-v3"): 10_000,
    ("groq", "whisper-large-v3-turbo"): 10_000,
}


class Table:
    """genai-prices' table, loaded when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._providers: Mapping[str, Provider] | None = None
        self._kinds: Mapping[str, Kind] = {}
        self.source = self.date = ""

    def warm(self) -> None:
        if self._providers is None and self._thread is None:
            self._thread = threading.Thread(target=self.load, name="prices", daemon=True)
            self._thread.start()

    def find(self, named: str, model: str, terms: Terms) -> Model | None:
        """The first of the model's spellings that the provider's table knows."""
        providers = self.load()
        everyone = list(providers.values())
        for provider_id, name in _spellings(named, model.strip().lower(), dict(terms)):
            provider = providers.get(provider_id)
            found = provider and provider.find_model(name, all_providers=everyone)
            if provider is not None and found:
                return Model(self, provider, found, self._kinds, terms)
        return None

    def load(self) -> Mapping[str, Provider]:
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


TABLE: Final = Table()


class Model:
    """A model of the table: its prices by what of their conditions holds."""

    def __init__(
        self,
        table: Table,
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
        self._last: tuple[float, Price] | None = None

    def at(self, at_s: float) -> Price:
        """The price at a time; constraints know whole seconds."""
        second = int(at_s)
        if self._last is not None and self._last[0] == second:
            return self._last[1]
        price = self._found(second)
        self._last = (second, price)
        return price

    def _found(self, at_s: float) -> Price:
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
        return compiled(
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
    `models/`, at Vertex AI's OpenAI form with `google/`.
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
    for prefix in ("models/", "google/"):
        if model.startswith(prefix):
            yield named, model.removeprefix(prefix)
