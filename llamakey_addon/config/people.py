"""Teams, users and the scopes of keys: who may do what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from llamakey_addon.config.words import folded
from llamakey_addon.journey import Cap, Policy

_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Team:
    name: str
    policy: Policy
    """What every member may do, before what the member's own part adds."""
    members: tuple[str, ...]
    """Names of users, as written; `*` for each user who is not named."""


@dataclass(frozen=True, slots=True)
class People:
    """Everybody that config.yaml knows."""

    users: Mapping[str, Policy] = MappingProxyType({})
    """By name as written, each with what the team has; `*` for those who are not named."""
    teams: Mapping[str, Team] = MappingProxyType({})
    everybody: tuple[Cap, ...] = ()
    _by_name: Mapping[str, Policy] = field(default=MappingProxyType({}), repr=False, compare=False)
    """By name as it is compared."""
    _others: dict[str, Policy] = field(default_factory=dict, repr=False, compare=False)
    """Of users who are not named, as they were met."""

    def caps(self) -> Iterator[Cap]:
        """Every one that config.yaml names, of whomever."""
        yield from self.everybody
        for policy in (*self.users.values(), *(team.policy for team in self.teams.values())):
            yield from policy.caps

    def policy(self, user: str) -> Policy:
        """What a user may do, their team's part included.

        Names are compared without case, so that a whitelist for `alice` holds for `Alice` too.
        """
        name = folded(user)
        policy = self._by_name.get(name) or self._others.get(name)
        if policy is None:
            policy = _of_one(self.users.get("*", Policy(allow_setting='users."*".allow')), name)
            if len(self._others) >= _KEPT:
                self._others.clear()
            self._others[name] = policy
        return policy


def _of_one(everybody_else: Policy, name: str) -> Policy:
    """What stands for each user who is not named, counted for one of them."""
    return replace(
        everybody_else,
        caps=tuple(
            replace(cap, subject=("user", name)) if cap.subject == ("user", "*") else cap
            for cap in everybody_else.caps
        ),
    )
