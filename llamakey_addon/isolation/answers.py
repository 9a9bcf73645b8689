"""Answers that tell of what was made: lists show one's own, and what is new gets its owner before
the client has its id."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.filters import WholeFilter
from llamakey_addon.isolation.kinds import Kind, Kinds
from llamakey_addon.isolation.whose import Whose
from llamakey_addon.listings import ListFilter

_EVENT_BYTES = 16 * 1024 * 1024


class OwnList(ListFilter):
    """Shows of a list what the user sees."""

    def __init__(self, kind: Kind, kinds: Kinds, whose: Whose, limit_bytes: int) -> None:
        super().__init__(kind.owned.listed, self._sees, limit_bytes)
        self._kind = kind
        self._kinds = kinds
        self._whose = whose

    def _sees(self, name: str) -> bool:
        id = self._kind.id_of(name)
        return self._kind.is_public(name) or (id != "" and self._whose.sees(self._kind, id))

    def kept(self, item: Any) -> None:
        claim_yields(self._kind, self._kinds, self._whose, item)


class Told(WholeFilter):
    """An answer in JSON that tells of something new, or of one's own; it passes unchanged."""

    changes = False

    def __init__(self, learn: Callable[[Any], object], limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._learn = learn

    def change(self, content: bytes) -> bytes:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            return content  # it tells of nothing
        self._learn(document)
        return content


class ToldInStream:
    """Server-sent events, held back until one has told of what is new."""

    whole = False
    changes = False

    def __init__(self, learn: Callable[[Any], object]) -> None:
        self._learn = learn
        self._held = b""
        self._known = False

    def feed(self, piece: bytes) -> bytes:
        if self._known:
            return piece
        self._held += piece
        done = 0
        while (end := self._held.find(b"\n", done)) >= 0:
            line = self._held[done:end].strip()
            if line.startswith(b"data:") and self._tells(line[5:]):
                self._known = True
                held, self._held = self._held, b""
                return held
            done = end + 1
        passed, self._held = self._held[:done], self._held[done:]
        if len(self._held) > _EVENT_BYTES:
            raise UpstreamFault("The provider's answer has an event that is too long to be read.")
        return passed

    def _tells(self, data: bytes) -> bool:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return False
        return bool(self._learn(document))

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held


def claim_new(kind: Kind, kinds: Kinds, whose: Whose, document: Any) -> bool:
    """Put what an answer tells of into the user's name; whether it told of anything."""
    ids = [
        id
        for path in kind.owned.at
        for value in values_at(document, path)
        if isinstance(value, str) and (id := kind.id_of(value))
    ]
    whose.claim(kind, ids)
    claim_yields(kind, kinds, whose, document)
    return bool(ids)


def claim_yields(kind: Kind, kinds: Kinds, whose: Whose, document: Any) -> None:
    """What the provider made for something that is the user's."""
    for name, paths in kind.owned.yields.items():
        for other in kinds.all:
            if other.name == name:
                ids = [
                    other.id_of(value)
                    for path in paths
                    for value in values_at(document, path)
                    if isinstance(value, str)
                ]
                whose.claim_quietly(other, ids)


def values_at(document: Any, path: str) -> list[Any]:
    """Every value at a path of a provider's JSON."""
    found = [document]
    for step in path.split("."):
        name, items = step.removesuffix("[]"), step.endswith("[]")
        if name:
            found = [value[name] for value in found if isinstance(value, dict) and name in value]
        if items:
            found = [item for value in found if isinstance(value, list) for item in value]
    return found
