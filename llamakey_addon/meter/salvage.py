"""What can be read of JSON that is not whole: cut off, or without its middle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

_TRIES: Final = 16
_BETWEEN: Final = re.compile(r"[\s,\[\x1e]*")


def documents(data: bytes) -> Iterator[Any]:
    """The complete documents at the beginning of `data`: of lines of JSON, or of a list that is not
    closed."""
    text = data.decode("utf-8", "replace")
    decoder = json.JSONDecoder()
    at = 0
    while (start := _BETWEEN.match(text, at)) and start.end() < len(text):
        try:
            found, at = decoder.raw_decode(text, start.end())
        except (ValueError, RecursionError):
            return
        yield found


def tail_members(data: bytes, names: Iterable[str]) -> dict[str, Any]:
    """The members at the document's end from the first of `names` on, with which they stand.

    A name counts where what follows it closes exactly the outermost object or the one within: the
    rest, with the braces that it lacks put in front, is JSON. So a name in a text or deep in the
    document (an argument of a tool, say) is not taken for the provider's own.
    """
    data = data.rstrip()
    # what ends an event's data or a list of documents
    tail = data.removesuffix(b"]").rstrip() if data.endswith(b"}]") else data
    for name in names:
        needle = re.compile(rb'"%s"\s*:' % re.escape(name.encode()))
        for match in list(needle.finditer(tail))[: -_TRIES - 1 : -1]:
            rest = tail[match.start() :]
            for before in (b"{", b'{"":{'):
                try:
                    found = json.loads(before + rest)
                except (ValueError, RecursionError):
                    continue
                inner = found.get("", found) if before != b"{" else found
                if isinstance(inner, dict):
                    return inner
    return {}


def head_member(data: bytes, name: str) -> Any:
    """A text near the document's beginning that is a member of the outermost object or of the one
    within; None where there is none."""
    needle = re.compile(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % re.escape(name.encode()))
    for tried, match in enumerate(needle.finditer(data)):
        if tried == _TRIES:
            break
        for after in (b"}", b"}}"):
            try:
                json.loads(data[: match.end()] + after)
                return json.loads(match[1])
            except (ValueError, RecursionError):
                continue
    return None
