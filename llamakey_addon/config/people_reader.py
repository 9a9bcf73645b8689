"""Teams, users and scopes, from what is written to who may do what."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from llamakey_addon.config.caps import CapsReader
from llamakey_addon.config.model import ConfigFile
from llamakey_addon.config.money import Money
from llamakey_addon.config.people import People, Team
from llamakey_addon.config.people_model import (
    BudgetPart,
    LimitPart,
    MemberPart,
    RulePart,
    TeamPart,
    UserPart,
)
from llamakey_addon.config.rules import RuleReader, setting_of
from llamakey_addon.config.shape import shaped
from llamakey_addon.config.words import folded, nearest
from llamakey_addon.config.yamlfile import Document, Place, hide_keys, parse
from llamakey_addon.errors import ConfigError, Fault
from llamakey_addon.journey import Cap, Policy, Provider, Rule


class PeopleReader:
    """Reads teams and users, and keeps what was found wrong."""

    def __init__(self, document: Document, providers: Collection[Provider], money: Money) -> None:
        self._document = document
        self._providers = {provider.id: provider for provider in providers}
        self._money = money
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []

    def read(self, file: ConfigFile) -> People:
        everybody = self._caps(
            ("everybody",), ("everybody", ""), file.everybody.limits, file.everybody.budgets
        )
        teams = {name: self._team(name, part) for name, part in file.teams.items()}
        members: dict[str, list[str]] = {name: [] for name in teams}
        users: dict[str, Policy] = {}
        names: dict[str, str] = {}
        for name, part in file.users.items():
            if name != "*":
                if other := names.get(folded(name)):
                    self._fault(
                        ("users", name),
                        f"`{name}` and `{other}` are one user: names are compared without case. "
                        "Keep one of them.",
                    )
                names[folded(name)] = name
            users[name] = self._user(name, part, teams)
            if part is not None and part.team in members:
                members[part.team].append(name)
        return People(
            users=MappingProxyType(users),
            teams=MappingProxyType(
                {name: Team(name, policy, tuple(members[name])) for name, policy in teams.items()}
            ),
            everybody=everybody,
            _by_name=MappingProxyType({key: users[name] for key, name in names.items()}),
        )

    def scope(self, part: UserPart, key_id: str) -> Policy:
        """What a key may do of what its user may."""
        return self._policy((), ("key", key_id), part, named_where=f"scope of key {key_id}: ")

    # --- one of them ------------------------------------------------------------------------------

    def _team(self, name: str, part: TeamPart | None) -> Policy:
        place = ("teams", name)
        if not name or not name.isprintable() or name != name.strip() or name == "*":
            self._fault(place, "a team's name has visible characters, and is not `*`. Rename it.")
        if part is None or self._is_empty(place, part):
            if part is None:
                self._fault(place, f"nothing stands here. Write `{name}: {{}}`, or remove it.")
            part = TeamPart()
        policy = self._policy(place, ("team", name), part)
        return replace(policy, team=name, shared=part.share)

    def _user(self, name: str, part: MemberPart | None, teams: Mapping[str, Policy]) -> Policy:
        place = ("users", name)
        if part is None:
            # Left empty by commenting out what stood below: that must not allow everything.
            self._fault(
                place,
                f"nothing stands here. Write `{name}: {{}}` to allow everything, or "
                "`allow: []` to allow nothing.",
            )
            part = MemberPart()
        self._is_empty(place, part)
        subject = ("user", name if name == "*" else folded(name))
        for index, other in enumerate(part.share):
            if not other or other != other.strip() or not other.isprintable():
                self._fault((*place, "share", index), "no user has such a name. Check it.")
        own = replace(
            self._policy(place, subject, part), shown_to=frozenset(map(folded, part.share))
        )
        if part.team is None:
            if "team" in part.model_fields_set:
                self._fault((*place, "team"), "nothing stands here. Name a team, or remove `team`.")
            return own
        team = teams.get(part.team)
        if team is None:
            hint = nearest(part.team, teams) or " Teams stand under `teams`."
            self._fault((*place, "team"), f"`{hide_keys(part.team)}` is no team.{hint}")
            return own
        if part.allow == [] and team.allow:
            self._warn(
                (*place, "allow"),
                "an empty list adds nothing to what the team may. Write `deny: [{}]` to allow "
                "nothing.",
            )
        return _joined(team, own)

    def _is_empty(self, place: Place, part: UserPart) -> bool:
        """Whether a whitelist was left empty by commenting out what stood below."""
        empty = part.allow is None and "allow" in part.model_fields_set
        if empty:
            self._fault(
                (*place, "allow"),
                f"nothing stands here. Write `{place[-1]}: {{}}` to allow everything, or "
                "`allow: []` to allow nothing.",
            )
        return empty

    def _policy(
        self, place: Place, subject: tuple[str, str], part: UserPart, *, named_where: str = ""
    ) -> Policy:
        caps = self._caps(place, subject, part.limits, part.budgets, named_where=named_where)
        return Policy(
            allow=None
            if part.allow is None
            else self._rules((*place, "allow"), part.allow, named_where),
            deny=self._rules((*place, "deny"), part.deny, named_where),
            caps=caps,
            body_bytes=part.body_bytes,
            body_setting=named_where + setting_of((*place, "body_bytes")),
            allow_setting=named_where + setting_of((*place, "allow")),
        )

    def _rules(self, place: Place, parts: list[RulePart], named_where: str) -> tuple[Rule, ...]:
        rules = []
        for index, part in enumerate(parts):
            reader = RuleReader(
                (*place, index), part, self._document, self._providers, named_where=named_where
            )
            rules.append(reader.read())
            self.faults += reader.faults
            self.warnings += reader.warnings
        return tuple(rules)

    def _caps(
        self,
        place: Place,
        subject: tuple[str, str],
        limits: list[LimitPart],
        budgets: list[BudgetPart],
        *,
        named_where: str = "",
    ) -> tuple[Cap, ...]:
        reader = CapsReader(
            place, subject, self._document, self._providers, self._money, named_where=named_where
        )
        caps = reader.read(limits, budgets)
        self.faults += reader.faults
        self.warnings += reader.warnings
        return caps

    def _fault(self, place: Place, message: str) -> None:
        self.faults.append(Fault(self._document.where(place), message))

    def _warn(self, place: Place, message: str) -> None:
        self.warnings.append(Fault(self._document.where(place), message))


def _joined(team: Policy, own: Policy) -> Policy:
    """A member's policy: either whitelist makes one, both are asked; so are both lists of denials
    and all bounds, of which the tightest decides."""
    allow = None
    if team.allow is not None or own.allow is not None:
        allow = (*(own.allow or ()), *(team.allow or ()))
    bodies = [(p.body_bytes, p.body_setting) for p in (own, team) if p.body_bytes is not None]
    body_bytes, body_setting = min(bodies, default=(None, own.body_setting))
    return Policy(
        allow=allow,
        deny=(*own.deny, *team.deny),
        caps=(*own.caps, *team.caps),
        body_bytes=body_bytes,
        body_setting=body_setting,
        team=team.team,
        shared=team.shared,
        shown_to=own.shown_to,
        allow_setting=own.allow_setting
        if own.allow is not None or team.allow is None
        else team.allow_setting,
    )


def read_scope(
    text: str, key_id: str, providers: Collection[Provider], money: Money
) -> tuple[Policy, list[Fault]]:
    """What a key's scope says, and which of its names nobody has.

    Raises ConfigError where it has not the shape of a user's part.
    """
    document = parse(text, f"scope of key {key_id}")
    empty = [name for name, value in document.data.items() if value is None]
    if empty:
        # Left empty by commenting out what stood below: that must not allow everything.
        raise ConfigError(
            [
                Fault(
                    document.where((name,)),
                    f"nothing stands at `{name}`. Remove it; `allow: []` allows nothing.",
                )
                for name in empty
            ]
        )
    part = shaped(document, UserPart)
    reader = PeopleReader(document, providers, money)
    return reader.scope(part, key_id), reader.faults
