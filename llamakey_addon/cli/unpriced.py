"""Providers that a budget refuses, since nobody knows what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Set

from llamakey_addon.config import Settings
from llamakey_addon.journey import Policy, Provider


def told(settings: Settings, scopes: Iterable[Policy]) -> str:
    """What to say of them, with the remedy; "" where there are none.

    Arguments:
        scopes: of the keys that are valid.
    """
    refused = _refused(settings, scopes)
    if not refused:
        return ""
    first = min(refused)
    return (
        f"{', '.join(sorted(refused))}: no table has prices of these, so that a hard budget "
        f"({refused[first]}) refuses what they bill for. Say under `prices` what they cost, or "
        f'that they are free: {{provider: {first}, model: "*", request: 0.05}}'
    )


def _refused(settings: Settings, scopes: Iterable[Policy]) -> dict[str, str]:
    """Ids of providers, each with the setting of a budget that holds for somebody who may use
    it."""
    if any(rule.provider == "" and rule.model == "*" for rule in settings.prices):
        return {}
    unknown = {provider.id for provider in settings.providers.values() if _unknown(provider)}
    unknown -= {rule.provider for rule in settings.prices}
    people = settings.people
    users = list(people.users.values())
    policies = [*users, *(team.policy for team in people.teams.values()), *scopes]
    found: dict[str, str] = {}

    def look(policy: Policy, may: Set[str]) -> None:
        for cap in policy.caps:
            if cap.unit == "nusd" and cap.hard:
                of = cap.of.providers
                for id in may:
                    if not of or id in of:
                        found.setdefault(id, cap.setting)

    for policy in policies:
        look(policy, _allowed(policy, unknown))
    anybody = unknown
    if "*" in people.users:
        anybody = set().union(*(_allowed(policy, unknown) for policy in users))
    look(Policy(caps=people.everybody), anybody)
    return found


def _unknown(provider: Provider) -> bool:
    """Whether it is used and bills for something, and neither a table nor an answer says what."""
    entry = provider.entry
    said = bool(entry.prices) or entry.states_cost
    return provider.ready and not said and any(e.usage != "none" for e in entry.endpoints)


def _allowed(policy: Policy, ids: Set[str]) -> set[str]:
    if policy.allow is None:
        return set(ids)
    return {id for id in ids if any(not r.providers or id in r.providers for r in policy.allow)}
