"""What a provider's users make under the account, ready to be looked for in requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llamakey_addon.catalogue.models import Entry, Owned
from llamakey_addon.documents import Object

type Doing = Literal["list", "make", "item"]

_LOOKING = ("GET", "HEAD")
_LONGEST = 2048
_SHORT = 64
_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind, compiled."""

    owned: Owned
    path: re.Pattern[str]
    id: re.Pattern[str] | None
    public: re.Pattern[str] | None
    fields: frozenset[str]

    @property
    def name(self) -> str:
        return self.owned.kind

    def normal(self, text: str) -> str:
        """The id in a text that holds one, such as `files/abc`; "" where it is none."""
        if self.id is None:
            return text
        match = self.id.search(text)
        return "" if match is None else match[match.lastindex or 0]

    def id_of(self, text: str) -> str:
        """The same of a text that is an id, be it of another form than is known."""
        return self.normal(text) or ("" if self.id is None or self.id.groups else text)

    def is_public(self, id: str) -> bool:
        return self.public is not None and self.public.fullmatch(id) is not None


@dataclass(frozen=True, slots=True)
class Mention:
    """An id that a request names."""

    kind: Kind
    id: str
    certain: bool
    """It stands where nothing but an id of this kind does."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """All kinds of a provider."""

    all: tuple[Kind, ...]
    anywhere: re.Pattern[str] | None
    """Any id of a known form."""
    fields: Mapping[str, tuple[Kind, ...]]
    """By name without case: the kinds whose ids stand under it."""
    _paths: dict[tuple[str, bool], tuple[Kind, Doing, str] | None] = field(default_factory=dict)
    plain: set[tuple[str, str]] = field(default_factory=set)
    """Short texts that hold no id, with the names that they stand under."""
    dull: set[str] = field(default_factory=set)
    """Short names that are no id, and under which none stands for certain."""

    def what(self, path: str, method: str) -> tuple[Kind, Doing, str] | None:
        """What a request with this path does to which kind, and the id of an item."""
        asked = (path, method in _LOOKING)
        if len(path) > _LONGEST:
            return self._what(path, looking=method in _LOOKING)
        if asked not in self._paths:
            if len(self._paths) >= _KEPT:
                self._paths.clear()
            self._paths[asked] = self._what(path, looking=method in _LOOKING)
        return self._paths[asked]

    def _what(self, path: str, *, looking: bool) -> tuple[Kind, Doing, str] | None:
        for kind in self.all:
            match = kind.path.fullmatch(path)
            if match is None:
                continue
            segment = match["id"]
            if segment is None:
                return kind, "list" if looking else "make", ""
            if segment in kind.owned.verbs:
                continue
            return kind, "item", segment.partition(":")[0]
        return None

    def in_document(self, document: Any) -> list[Mention]:
        """The ids in a document: in its texts, and in the names of its objects.

        One step for each value, and most of them end where they begin: nearly every text is words,
        or one that came before, and nearly every name is.
        """
        found: list[Mention] = []
        plain, dull = self.plain, self.dull
        # objects, and lists with the name that they stand under; it grows as they are found
        waiting: list[Any] = [("", [document])]
        for value in waiting:
            if type(value) is Object:
                for pair in value:
                    name, inner = pair
                    is_dull = name in dull or self._look_at_name(name, found)
                    kind = type(inner)
                    if kind is str:
                        if is_dull and (" " in inner or pair in plain or len(inner) > _LONGEST):
                            continue
                        found += self.in_text(name, inner)
                    elif kind is Object:
                        waiting.append(inner)
                    elif kind is list:
                        waiting.append(pair)
                continue
            name, items = value
            is_dull = name in dull or self._look_at_name(name, found)
            for item in items:
                kind = type(item)
                if kind is str:
                    if is_dull and (" " in item or (name, item) in plain or len(item) > _LONGEST):
                        continue
                    found += self.in_text(name, item)
                elif kind is Object:
                    waiting.append(item)
                elif kind is list:
                    waiting.append((name, item))
        return found

    def _look_at_name(self, name: str, found: list[Mention]) -> bool:
        """Whether nothing is certain of what stands under a name; ids in the name itself are added
        to `found`."""
        mentions = () if ("", name) in self.plain else self.in_text("", name)
        found += mentions
        if self._certain(name) is not None:
            return False
        if not mentions and len(name) <= _SHORT:
            if len(self.dull) >= _KEPT:
                self.dull.clear()
            self.dull.add(name)
        return True

    def _certain(self, name: str) -> tuple[Kind, ...] | None:
        """The kinds whose ids stand under a name."""
        certain = self.fields.get(name)
        if certain is None and not name.islower():
            certain = self.fields.get(name.casefold())
        return certain

    def in_text(self, name: str, text: str) -> Sequence[Mention]:
        """The ids in a text that stands under a name."""
        certain = self._certain(name)
        if certain is None and (len(text) > _LONGEST or " " in text):
            return ()  # words, and not a name
        found = self._in_text(text, certain or ())
        if not found and certain is None and len(text) <= _SHORT and len(name) <= _SHORT:
            if len(self.plain) >= _KEPT:
                self.plain.clear()
            self.plain.add((name, text))
        return found

    def _in_text(self, text: str, certain: Sequence[Kind]) -> Sequence[Mention]:
        found = [
            Mention(kind, id, True) for kind in certain if (id := kind.normal(text.strip())) != ""
        ]
        if len(text) > _LONGEST or len(text.split(None, 1)) > 1:
            return found
        if self.anywhere is None or not self.anywhere.search(text):
            return found
        found += [
            Mention(kind, match[match.lastindex or 0], False)
            for kind in self.all
            if kind.id is not None
            for match in kind.id.finditer(text)
        ]
        return found


_compiled: dict[int, tuple[Entry, Kinds]] = {}


def kinds_of(entry: Entry) -> Kinds:
    """The kinds of an entry, compiled once. Keyed by identity: see `route._guide`."""
    known = _compiled.get(id(entry))
    if known is not None:
        return known[1]
    if len(_compiled) >= _KEPT:
        _compiled.clear()
    kinds = _compile(entry)
    _compiled[id(entry)] = (entry, kinds)
    return kinds


def _compile(entry: Entry) -> Kinds:
    kinds = []
    fields: dict[str, list[Kind]] = {}
    for owned in entry.owned:
        paths = "|".join(
            re.sub(r"\\\{[a-z_]+\\\}", "[^/]+", re.escape(path)) for path in owned.paths
        )
        kind = Kind(
            owned,
            re.compile(f"(?:{paths})(?:/(?P<id>[^/]+)(?:/.*)?)?/?", re.IGNORECASE),
            re.compile(owned.id) if owned.id else None,
            re.compile(owned.public) if owned.public else None,
            frozenset(owned.fields),
        )
        kinds.append(kind)
        for name in owned.fields:
            fields.setdefault(name.casefold(), []).append(kind)
    forms = [f"(?:{owned.id})" for owned in entry.owned if owned.id]
    return Kinds(
        tuple(kinds),
        re.compile("|".join(forms)) if forms else None,
        {name: tuple(found) for name, found in fields.items()},
    )
