"""Money and prices, from what is written to what the proxy runs by."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC
from decimal import Decimal

from llamakey_addon.config.model import ConfigFile
from llamakey_addon.config.money import Money
from llamakey_addon.config.money_model import PricePart
from llamakey_addon.config.words import nearest
from llamakey_addon.config.yamlfile import Document, Place, hide_keys
from llamakey_addon.config.zones import zone_of
from llamakey_addon.errors import Fault
from llamakey_addon.journey import PRICE_UNITS, PriceRule, Provider


def read_money(file: ConfigFile, document: Document) -> tuple[Money, list[Fault]]:
    part = file.money
    faults = []
    rated = "per_usd" in part.model_fields_set
    if part.currency == "USD":
        if part.per_usd != 1:
            faults.append(
                Fault(
                    document.where(("money", "per_usd")),
                    "a dollar is one dollar. Name the currency that this is the rate of.",
                )
            )
    elif not rated:
        faults.append(
            Fault(
                document.where(("money", "currency")),
                f"{part.currency} has no rate. Add `per_usd`: how many {part.currency} a US dollar "
                "is.",
            )
        )
    zone = zone_of(part.time_zone)
    if isinstance(zone, str):
        faults.append(Fault(document.where(("money", "time_zone")), zone))
        zone = UTC
    return Money(part.currency, Decimal(str(part.per_usd)), part.time_zone, zone), faults


def read_prices(
    parts: Collection[PricePart], document: Document, providers: Collection[Provider]
) -> tuple[tuple[PriceRule, ...], list[Fault]]:
    """Price rules in their order, and faults."""
    faults: list[Fault] = []
    rules = []
    ids = {provider.id for provider in providers}
    for index, part in enumerate(parts):
        place: Place = ("prices", index)
        if part.provider != "*" and part.provider not in ids:
            hint = nearest(part.provider, ids) or " `lmk providers` shows all."
            faults.append(
                Fault(
                    document.where((*place, "provider")),
                    f"`{hide_keys(part.provider)}` is no provider.{hint}",
                )
            )
        if problem := model_glob_problem(part.model):
            faults.append(Fault(document.where((*place, "model")), problem))
        usd = tuple(
            (unit, Decimal(str(price)))
            for unit in PRICE_UNITS
            if (price := getattr(part, unit)) is not None
        )
        if part.free and usd:
            faults.append(
                Fault(document.where(place), "it can't be free and have a price. Keep one of them.")
            )
        if not part.free and not usd:
            faults.append(
                Fault(
                    document.where(place),
                    "no price stands here. Write `free: true`, or a price such as `input_mtok: 1`.",
                )
            )
        provider = "" if part.provider == "*" else part.provider
        rules.append(PriceRule(f"prices[{index}]", provider, part.model, part.free, usd))
    return tuple(rules), faults


def model_glob_problem(pattern: str) -> str:
    """What is wrong with a glob of models, or ""."""
    if not pattern or pattern != pattern.strip() or not pattern.isprintable():
        return "a model's name has no spaces around it and no control characters: gpt-5*, say."
    return ""
