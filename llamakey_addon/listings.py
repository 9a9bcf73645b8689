"""Lists in JSON answers, less what somebody may not see."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.filters import WholeFilter

_TOTALS = ("total", "total_count", "count")


class ListFilter(WholeFilter):
    """Shows of a list what `keep` says.

    Arguments:
        paths: where the items' names stand, e.g. `data[].id`; several where there are several lists
            or an item has several names, of which the first that is there counts.
        keep: told a name.
    """

    def __init__(self, paths: Iterable[str], keep: Callable[[str], bool], limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self._paths = tuple(paths)
        self._keep = keep

    def change(self, content: bytes) -> bytes:
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):
            raise UpstreamFault(
                "The provider's answer is a list that has to be filtered for you, and can't be "
                "read. Try again; if it stays so, tell the proxy's owner.",
                detail="a list that is no JSON",
            ) from None
        lists: dict[str, list[str]] = {}
        for path in self._paths:
            where, _, name = path.rpartition("[]")
            lists.setdefault(where, []).append(name.removeprefix("."))
        for where, names in lists.items():
            document = self._prune(document, where, names)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )

    def _prune(self, document: Any, where: str, names: list[str]) -> Any:
        """The document with the list at `where` ("" for itself) pruned."""
        if not where:
            if not isinstance(document, list):
                raise self._no_list(document)
            return [item for item in document if self._kept(item, names)]
        outer, _, last = where.rpartition(".")
        holder = document
        for step in outer.split(".") if outer else ():
            holder = holder.get(step) if isinstance(holder, dict) else None
        if not isinstance(holder, dict):
            raise self._no_list(document)
        items = holder.get(last)
        if items is None:
            return document  # an empty list may be left out
        if not isinstance(items, list):
            raise self._no_list(document)
        kept = [item for item in items if self._kept(item, names)]
        holder[last] = kept
        _tidy(holder, names, len(items) - len(kept), kept)
        return document

    def _kept(self, item: Any, names: list[str]) -> bool:
        name = name_of(item, names)
        if name is None or not self._keep(name):
            return False
        self.kept(item)
        return True

    def kept(self, item: Any) -> None:
        """Told each item that stays."""

    def _no_list(self, document: Any) -> UpstreamFault:
        return UpstreamFault(
            "The provider's answer is not the list that has to be filtered for you. Try again; if "
            "it stays so, tell the proxy's owner.",
            detail=f"a list is not where the catalogue has it: {', '.join(self._paths)}",
        )


def name_of(item: Any, names: Iterable[str]) -> str | None:
    """An item's name: the first of these fields that is a text, the item itself for "".

    A name in braces is made of several: `{owner}/{name}`.
    """
    for name in names:
        value: Any = item
        if "{" in name:
            parts = name.replace("}", "{").split("{")
            if isinstance(item, dict) and all(isinstance(item.get(p), str) for p in parts[1::2]):
                return "".join(item[p] if at % 2 else p for at, p in enumerate(parts))
            continue
        for step in name.split(".") if name else ():
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, str):
            return value
    return None


def _tidy(holder: dict[str, Any], names: list[str], removed: int, kept: list[Any]) -> None:
    """Cursors and totals of a page, so that they tell of nothing that was taken out."""
    if not removed:
        return
    for cursor, item in (("first_id", kept[:1]), ("last_id", kept[-1:])):
        if cursor in holder:
            holder[cursor] = name_of(item[0], names) if item else None
    for total in _TOTALS:
        if type(holder.get(total)) is int:
            holder[total] = max(len(kept), holder[total] - removed)
