"""What can be read of JSON that is not whole: cut off, or without its middle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
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


def tail_member(data: bytes, way: Sequence[str]) -> Any:
    """What stands at `way`, near the document's end; None where nothing does.

    A name counts where what follows it closes exactly the objects that hold it: the rest, with as
    many braces in front, is JSON. So a name in a text or elsewhere in the document (an argument of
    a tool, say) is not taken for the provider's own.
    """
    data = data.rstrip()
    # the end of a list of documents
    tail = data.removesuffix(b"]").rstrip() if data.endswith(b"}]") else data
    *outer, name = way
    before = b'{"":' * len(outer) + b"{"
    needle = re.compile(rb'"%s"\s*:' % re.escape(name.encode()))
    for match in list(needle.finditer(tail))[: -_TRIES - 1 : -1]:
        try:
            found = json.loads(before + tail[match.start() :])
        except (ValueError, RecursionError):
            continue
        for _ in outer:
            found = found[""]
        return found[name]
    return None


def head_member(data: bytes, way: Sequence[str]) -> Any:
    """A text that stands at `way`, near the document's beginning; None where none does. Of its
    outer names only the number counts."""
    needle = re.compile(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*+")' % re.escape(way[-1].encode()))
    for tried, match in enumerate(needle.finditer(data)):
        if tried == _TRIES:
            break
        try:
            json.loads(data[: match.end()] + b"}" * len(way))
            return json.loads(match[1])
        except (ValueError, RecursionError):
            continue
    return None
