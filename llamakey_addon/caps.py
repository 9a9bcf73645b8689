"""Caps made ready for use: which requests one counts, and under what name.

The name of a counter (its scope) is made from what the cap counts and of whom, not from where it
stands in config.yaml nor from how much it allows: so a cap that is moved, renamed or raised goes on
from where it was.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple
from urllib.parse import unquote

from llamakey_addon.config.words import folded
from llamakey_addon.globs import glob
from llamakey_addon.journey import Cap, Group, Rule


class Facts(NamedTuple):
    """What of a request caps look at; a row of the ledger has the same."""

    user: str
    key_id: str
    team: str
    provider: str
    endpoint: str
    method: str
    path: str
    model: str
    tag: str


_DECODER: Final = json.JSONDecoder()
#: Where the value of a group stands.
FIELDS: Final[dict[Group, str]] = {
    "key": "key_id",
    "user": "user",
    "team": "team",
    "provider": "provider",
    "model": "model",
    "tag": "tag",
}


class Bound:
    """A cap, and which counter of it a request falls under."""

    __slots__ = ("_any", "cap", "name")

    def __init__(self, cap: Cap) -> None:
        self.cap = cap
        of = cap.of
        filters = [of.providers, of.methods, of.paths, of.models, cap.tags]
        self._any = not any(filters)
        self.name = json.dumps(
            [
                cap.unit,
                cap.window,
                *cap.subject,
                [sorted(words) for words in filters] if any(filters) else [],
                list(cap.each),
            ],
            ensure_ascii=False,
            separators=(",", ":"),
        )
        """Of its counters; with the values of what is counted apart it is a scope."""

    @classmethod
    def of_scope(cls, scope: str) -> tuple[Bound, list[str]]:
        """What a scope names: its cap, as far as that counts, and the values of its groups.

        Raises ValueError, TypeError.
        """
        (unit, window, kind, subject, filters, each), end = _DECODER.raw_decode(scope)
        providers, methods, paths, models, tags = map(tuple, filters or ((),) * 5)
        rule = Rule(providers=providers, methods=methods, paths=paths, models=models)
        cap = Cap("", (kind, subject), unit, 0, window, rule, tags, tuple(each))
        return cls(cap), json.loads(scope[end:]) if end < len(scope) else []

    def fits(self, facts: Facts) -> bool:
        """Whether the cap counts such a request, of whomever it is."""
        if self._any:
            return True
        cap, of = self.cap, self.cap.of
        return (
            (not of.providers or facts.provider in of.providers)
            and (not of.methods or facts.method in of.methods)
            and (not of.models or _named(of.models, facts.model))
            and (not cap.tags or _named(cap.tags, facts.tag))
            and (not of.paths or _on_path(of.paths, facts))
        )

    def is_of(self, facts: Facts) -> bool:
        """Whether such a request is one of the subject's."""
        kind, name = self.cap.subject
        match kind:
            case "everybody":
                return True
            case "user":
                return folded(facts.user) == name
            case "team":
                return facts.team == name
            case _:
                return facts.key_id == name

    def scope(self, facts: Facts) -> str:
        """The name of the counter that such a request falls under."""
        if not self.cap.each:
            return self.name
        values = [self.value(group, facts) for group in self.cap.each]
        return self.name + json.dumps(values, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def value(group: Group, facts: Facts) -> str:
        """A request's value in a group that is counted apart."""
        text: str = getattr(facts, FIELDS[group])
        return folded(text) if group == "user" else text


def _named(patterns: tuple[str, ...], name: str) -> bool:
    return any(glob(pattern, "names").fullmatch(name) for pattern in patterns)


def _on_path(patterns: tuple[str, ...], facts: Facts) -> bool:
    """In any reading of the path: what could be the endpoint is counted as it."""
    once = unquote(facts.path)
    readings = {facts.path, once, unquote(once)}
    for pattern in patterns:
        if pattern.startswith("/"):
            wanted = glob(unquote(pattern))
            if any(wanted.fullmatch(reading) for reading in readings):
                return True
        elif pattern in ("*", "**") or (
            facts.endpoint and glob(pattern, "names").fullmatch(facts.endpoint)
        ):
            return True
    return False
