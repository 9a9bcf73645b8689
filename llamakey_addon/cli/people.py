"""`lmk users` and `lmk teams`: who there is, from config.yaml and from keys, and what is left."""

from __future__ import annotations

import difflib
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamakey_addon.caps import Facts
from llamakey_addon.cli import bounds, keys, when
from llamakey_addon.cli.bounds import Held
from llamakey_addon.cli.keys import print_json
from llamakey_addon.cli.table import Cell, Column, print_table
from llamakey_addon.config import Money, Settings
from llamakey_addon.config.words import folded
from llamakey_addon.errors import ConfigError, LlamaKeyError
from llamakey_addon.journal import escape
from llamakey_addon.journey import Policy
from llamakey_addon.serve import show as showing
from llamakey_addon.store import KeyRow, Store, open_store
from llamakey_addon.store.windows import FOREVER_S

_OTHERS: Final = "*"


class Unknown(LlamaKeyError):
    """There is no such user, or team."""


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    """`*` stands for each user who is not named in config.yaml."""
    policy: Policy
    keys: tuple[KeyRow, ...]
    """All of theirs, ended ones too."""
    caps: tuple[Held, ...]

    @property
    def last_used_s(self) -> float | None:
        return max((row.last_used_s for row in self.keys if row.last_used_s), default=None)

    def valid(self, now_s: float) -> list[KeyRow]:
        return [row for row in self.keys if row.ended(now_s) is None]


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    policy: Policy
    members: tuple[str, ...]
    caps: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class _Book:
    """What a listing reads from."""

    settings: Settings
    store: Store
    keys: tuple[KeyRow, ...]
    now_s: float

    @property
    def money(self) -> Money:
        return self.settings.money

    def names(self) -> list[str]:
        """Of every user: as config.yaml writes them, else as the keys do."""
        found = {folded(row.user): row.user for row in reversed(self.keys)}
        found |= {folded(name): name for name in self.settings.people.users}
        return sorted(found.values(), key=lambda name: (name == _OTHERS, folded(name)))

    def key_caps(self, row: KeyRow) -> tuple[Held, ...]:
        """The key's own bounds, beside its user's."""
        if not row.scope or row.ended(self.now_s):
            return ()
        try:
            caps = self.settings.scope(row.scope, row.id).caps
        except ConfigError:
            return ()  # nothing is allowed by it
        facts = _facts(row.user, self.settings.policy(row.user).team, row.id)
        return bounds.held(self.store, caps, facts, self.money, self.now_s)

    def person(self, name: str) -> Person:
        policy = self.settings.policy(name)
        facts = _facts("" if name == _OTHERS else name, policy.team)
        caps = bounds.held(self.store, policy.caps, facts, self.money, self.now_s)
        rows = tuple(row for row in self.keys if folded(row.user) == folded(name))
        return Person(name, policy, rows, caps)

    def group(self, name: str) -> Group:
        policy = self.settings.teams[name].policy
        members = tuple(
            each
            for each in self.names()
            if each != _OTHERS and self.settings.policy(each).team == name
        )
        caps = bounds.held(self.store, policy.caps, _facts("", name), self.money, self.now_s)
        return Group(name, policy, members, caps)


def _facts(user: str, team: str, key_id: str = "") -> Facts:
    return Facts(user, key_id, team, "", "", "", "", "", "")


def _reading(config: Path | None, tell: Callable[[_Book], None]) -> None:
    settings = Settings.load(config, os.environ)
    with open_store(settings.data_folder) as store:
        tell(_Book(settings, store, tuple(store.keys()), time.time()))


# --- users ----------------------------------------------------------------------------------------


def show_users(*, as_json: bool, config: Path | None) -> None:
    """List users."""

    def tell(book: _Book) -> None:
        people = [book.person(name) for name in book.names()]
        if as_json:
            print_json([_person_record(each, book) for each in people])
        elif people:
            columns = _columns(_USER_COLUMNS, book.money)
            print_table(columns, [_person_cells(each, book) for each in people], sys.stdout)
        else:
            showing.prose(
                "There is no user yet: neither in config.yaml nor with a key. Make a key: "
                "lmk keys new NAME",
                sys.stderr,
            )

    _reading(config, tell)


def _columns(first: Sequence[Column], money: Money) -> list[Column]:
    return [
        *first,
        Column("May", drop=2),
        Column("Limits", drop=3),
        Column(f"Budgets {money.currency}"),
    ]


_USER_COLUMNS: Final = (
    Column("User"),
    Column("Team"),
    Column("Keys", right=True, whole=True),
    Column("Used", drop=1, whole=True),
)
_TEAM_COLUMNS: Final = (Column("Team"), Column("Members"))


def _person_cells(person: Person, book: _Book) -> list[Cell | str]:
    if person.name == _OTHERS:
        keys, last = "-", "-"
    else:
        keys = str(len(person.valid(book.now_s)))
        last_s = person.last_used_s
        last = "never" if last_s is None else when.ago(last_s, book.now_s)
    policy = person.policy
    return [
        Cell(person.name, "bold"),
        policy.team or "-",
        keys,
        last,
        bounds.may(policy).replace("; ", "\n"),
        *_cap_cells(_own(person.caps), book.money),
    ]


def _own(caps: Iterable[Held]) -> list[Held]:
    """Those that are of a user alone: their own, and a team's that give each member as much."""
    return [it for it in caps if it.cap.subject[0] == "user" or "user" in it.cap.each]


def _cap_cells(caps: Sequence[Held], money: Money) -> list[Cell]:
    limits = [bounds.words(it.cap, money) for it in caps if it.cap.unit != "nusd"]
    budgets = [it for it in caps if it.cap.unit == "nusd"]
    return [
        Cell("\n".join(limits) or "-"),
        Cell(
            "\n".join(bounds.spent(it, money) for it in budgets) or "-",
            "red" if any(map(bounds.used_up, budgets)) else "",
        ),
    ]


def show_user(name: str, *, as_json: bool, config: Path | None) -> None:
    """Everything of one user. Raises Unknown."""

    def tell(book: _Book) -> None:
        person = book.person(_known(name, book.names(), "user", folded))
        if as_json:
            print_json(_person_record(person, book))
            return
        policy = person.policy
        _print_facts(
            person.name,
            [
                ("team", policy.team),
                ("may", bounds.may(policy)),
                ("bodies", f"up to {policy.body_bytes} bytes" if policy.body_bytes else ""),
                ("shares", _shares(policy)),
            ],
        )
        of_keys = [it for row in person.keys for it in book.key_caps(row)]
        _print_caps([*person.caps, *of_keys], book.money)
        if person.keys:
            showing.say()
            # Without the user, who is the same in all.
            columns = [column for column in keys.COLUMNS if column.title != "User"]
            cells = [keys.cells(row, book.now_s) for row in person.keys]
            print_table(columns, [[*row[:1], *row[2:]] for row in cells], sys.stdout)

    _reading(config, tell)


def _shares(policy: Policy) -> str:
    """Who sees what a user made."""
    if "*" in policy.shown_to:
        return "what they made, with everybody"
    return f"what they made, with {', '.join(sorted(policy.shown_to))}" if policy.shown_to else ""


_CAP_COLUMNS: Final = (
    Column("Bound"),
    Column("Used", right=True, whole=True),
    Column("Left", right=True, whole=True),
    Column("Renews", drop=1, whole=True),
    Column("Setting", drop=2),
)


def _print_caps(caps: Sequence[Held], money: Money) -> None:
    if caps:
        showing.say()
        rows = [_cap_row(it, money) for it in sorted(caps, key=lambda it: it.cap.unit == "nusd")]
        print_table(_CAP_COLUMNS, rows, sys.stdout)


def _cap_row(it: Held, money: Money) -> list[Cell | str]:
    cap, standing = it.cap, it.standing
    what = bounds.words(cap, money)
    if cap.unit == "nusd":
        what = f"{money.currency} {what}"
    if standing is None:
        return [what, "-", "-", "-", cap.setting]

    def shown(count: int) -> str:
        return bounds.plain(count, money) if cap.unit == "nusd" else f"{count:,}"

    end_s = standing.claim.span.end_s
    renews = cap.unit == "nusd" and end_s < FOREVER_S
    return [
        what,
        shown(standing.used),
        Cell(shown(standing.left), "red" if bounds.used_up(it) else ""),
        when.shown(end_s, money.time_zone)[:10] if renews else "-",
        cap.setting,
    ]


def _print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    """Not by a table: a fact stays on its line, to be searched and copied."""
    showing.heading(title, sys.stdout)
    for what, text in facts:
        if text:
            showing.say(f"  {what:<9}{escape(text)}")


def _person_record(person: Person, book: _Book) -> dict[str, Any]:
    last_s = person.last_used_s
    return {
        "name": person.name,
        "team": person.policy.team or None,
        "in_config": folded(person.name) in {folded(each) for each in book.settings.people.users},
        "keys": [
            {
                "id": row.id,
                "name": row.name,
                "state": row.ended(book.now_s) or "valid",
                "last_used": row.last_used_s and when.iso(row.last_used_s),
                **_caps_record(book.key_caps(row), book.money),
            }
            for row in person.keys
        ],
        "last_used": last_s and when.iso(last_s),
        "share": sorted(person.policy.shown_to),
        **_policy_record(person.policy, person.caps, book.money),
    }


def _policy_record(policy: Policy, caps: Sequence[Held], money: Money) -> dict[str, Any]:
    return {
        "allow": bounds.rules_record(policy.allow),
        "deny": bounds.rules_record(policy.deny),
        "body_bytes": policy.body_bytes,
        "currency": money.currency,
        **_caps_record(caps, money),
    }


def _caps_record(caps: Sequence[Held], money: Money) -> dict[str, Any]:
    return {
        "limits": [bounds.record(it, money) for it in caps if it.cap.unit != "nusd"],
        "budgets": [bounds.record(it, money) for it in caps if it.cap.unit == "nusd"],
    }


# --- teams ----------------------------------------------------------------------------------------


def show_teams(*, as_json: bool, config: Path | None) -> None:
    """List teams."""

    def tell(book: _Book) -> None:
        groups = [book.group(name) for name in sorted(book.settings.teams)]
        if as_json:
            print_json([_group_record(each, book.money) for each in groups])
        elif groups:
            columns = _columns(_TEAM_COLUMNS, book.money)
            cells: list[list[Cell | str]] = [
                [
                    Cell(each.name, "bold"),
                    ", ".join(each.members) or "-",
                    bounds.may(each.policy).replace("; ", "\n"),
                    *_cap_cells(each.caps, book.money),
                ]
                for each in groups
            ]
            print_table(columns, cells, sys.stdout)
        else:
            showing.prose("There is no team. Teams stand under `teams` in config.yaml.", sys.stderr)

    _reading(config, tell)


def show_team(name: str, *, as_json: bool, config: Path | None) -> None:
    """Everything of one team. Raises Unknown."""

    def tell(book: _Book) -> None:
        group = book.group(_known(name, list(book.settings.teams), "team", str))
        if as_json:
            print_json(_group_record(group, book.money))
            return
        _print_facts(
            group.name,
            [
                ("members", ", ".join(group.members) or "none"),
                ("may", bounds.may(group.policy)),
                ("share", "members see what others of it made" if group.policy.shared else ""),
            ],
        )
        _print_caps(group.caps, book.money)

    _reading(config, tell)


def _group_record(group: Group, money: Money) -> dict[str, Any]:
    return {
        "name": group.name,
        "members": list(group.members),
        "share": group.policy.shared,
        **_policy_record(group.policy, group.caps, money),
    }


def _known(name: str, names: Sequence[str], what: str, compared: Callable[[str], str]) -> str:
    """The name as it is written. Raises Unknown."""
    for each in names:
        if compared(each) == compared(name):
            return each
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise Unknown(f"There is no {what} {name!r}.{hint} `lmk {what}s` lists them.")
