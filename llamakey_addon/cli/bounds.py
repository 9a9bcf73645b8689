"""Policies, limits and budgets in few words, and how much of them is used up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llamakey_addon.caps import Bound, Facts
from llamakey_addon.cli import when
from llamakey_addon.cli.scope import amount_words, rule_words
from llamakey_addon.config import Money
from llamakey_addon.journey import Cap, Policy, Rule
from llamakey_addon.store import Store
from llamakey_addon.store.ledger import Claim, Standing
from llamakey_addon.store.windows import FOREVER_S, Windows


@dataclass(frozen=True, slots=True)
class Held:
    """A cap, and where it stands for somebody."""

    cap: Cap
    standing: Standing | None
    """None for one that is counted apart, for each model, say: there are many."""


def held(
    store: Store, caps: Sequence[Cap], facts: Facts, money: Money, now_s: float
) -> tuple[Held, ...]:
    """Where caps stand for those that `facts` name: a user, or a team as a whole."""
    windows = Windows(money.time_zone)

    def standing(cap: Cap) -> Standing | None:
        named = all(Bound.value(group, facts) for group in cap.each)
        if not named or (cap.subject[0] == "user" and not facts.user):
            return None
        bound = Bound(cap)
        span = windows.span(cap.unit, cap.window, now_s)
        claim = Claim(bound, bound.scope(facts), span, 1)
        return store.ledger.standing(facts, [claim], now_s)[0]

    return tuple(Held(cap, standing(cap)) for cap in caps)


def may(policy: Policy) -> str:
    """A whitelist and what goes before it, e.g. `openai; not openai/files`."""
    allowed = ["everything"] if policy.allow is None else list(map(_rule, policy.allow))
    return "; ".join([*(allowed or ["nothing"]), *(f"not {_rule(each)}" for each in policy.deny)])


def words(cap: Cap, money: Money) -> str:
    """A limit or a budget, e.g. `60/minute`, `20/month soft`, `9k tokens/day per user (openai)`."""
    if cap.unit == "nusd":
        text = plain(cap.most, money)
    else:
        text = amount_words(cap.most)
        text += {"tokens": " tokens", "concurrent": " at once"}.get(cap.unit, "")
    if cap.window and cap.window != "total":
        text += f"/{cap.window}"
    elif cap.window == "total":
        text += " in all"
    if not cap.hard:
        text += " soft"
    if cap.each:
        text += f" per {' and '.join(cap.each)}"
    of = [] if cap.of == Rule() else [_rule(cap.of)]
    of += [f"tag {','.join(cap.tags)}"] if cap.tags else []
    return f"{text} ({'; '.join(of)})" if of else text


def spent(it: Held, money: Money) -> str:
    """A budget with what is spent of it, e.g. `3.20 of 20.00/month`."""
    text = words(it.cap, money)
    return text if it.standing is None else f"{plain(it.standing.used, money)} of {text}"


def plain(nusd: int, money: Money) -> str:
    """An amount of money without its currency, with more than cents only where it is small."""
    amount = money.amount(nusd)
    if amount == 0 or amount >= Decimal("0.1"):
        return f"{amount:,.2f}"
    return money.shown(nusd).partition(" ")[2]


def used_up(it: Held) -> bool:
    return it.standing is not None and it.cap.hard and it.standing.left == 0


def record(it: Held, money: Money) -> dict[str, Any]:
    """As JSON has it."""
    cap, standing = it.cap, it.standing
    is_money = cap.unit == "nusd"

    def amount(count: int) -> float | int:
        return float(money.amount(count)) if is_money else count

    found: dict[str, Any] = {
        "setting": cap.setting,
        "spend" if is_money else cap.unit: amount(cap.most),
        "per": cap.window or None,
        "each": list(cap.each),
        "of": {
            name: list(values)
            for name in ("providers", "methods", "paths", "models")
            if (values := getattr(cap.of, name))
        },
        "tags": list(cap.tags),
    }
    if is_money:
        found["hard"] = cap.hard
    if standing is not None:
        found |= {"used": amount(standing.used), "left": amount(standing.left)}
        end_s = standing.claim.span.end_s
        if is_money:
            found["renews"] = None if end_s >= FOREVER_S else when.shown(end_s, money.time_zone)
    return found


def rules_record(rules: Sequence[Rule] | None) -> list[dict[str, list[str]]] | None:
    if rules is None:
        return None
    return [
        {
            name: list(values)
            for name in ("providers", "methods", "paths", "models")
            if (values := getattr(rule, name))
        }
        for rule in rules
    ]


def _rule(rule: Rule) -> str:
    return rule_words(rule.providers, rule.methods, rule.paths, rule.models)
