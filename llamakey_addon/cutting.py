"""Where a stream can be ended so that what comes last can be read: after an event, after a line."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

type Stream = Literal["sse", "ndjson"]

_ENDS: Final[dict[Stream, re.Pattern[bytes]]] = {
    "sse": re.compile(rb"\r?\n\r?\n|\r\r"),
    "ndjson": re.compile(rb"\n"),
}
_KINDS: Final[dict[bytes, Stream]] = {
    b"text/event-stream": "sse",
    b"application/x-ndjson": "ndjson",
    b"application/ndjson": "ndjson",
    b"application/jsonl": "ndjson",
    b"application/x-jsonl": "ndjson",
    b"application/stream+json": "ndjson",
}
TAIL_BYTES: Final = 4
"""So much of what has gone tells whether it ends with an event."""
_WAIT_BYTES: Final = 64 * 1024


def seam_of(kind: bytes, coding: bytes, expected: str) -> Seam | None:
    """The seam of an answer that is a stream; None for one that is none.

    Arguments:
        kind: its Content-Type.
        coding: its Content-Encoding.
        expected: what a stream of the endpoint looks like. Some providers say `application/json`
            of their lines.
    """
    stream = _stream_of(kind, expected)
    if stream is None:
        return None
    return Seam(stream, packed=coding.strip().lower() not in (b"", b"identity"))


@lru_cache(maxsize=256)
def _stream_of(kind: bytes, expected: str) -> Stream | None:
    kind = kind.partition(b";")[0].strip().lower()
    if kind == b"application/json" and expected == "ndjson":
        return "ndjson"
    return _KINDS.get(kind)


class Seam:
    """Follows a stream and finds the places between its events. One that is packed has none."""

    __slots__ = ("_before", "_end", "_packed", "_waited", "kind")

    def __init__(self, kind: Stream, *, packed: bool = False) -> None:
        self.kind = kind
        self._packed = packed
        self._waited = 0
        self._end = _ENDS[kind]
        self._before = b""
        """The end of what has gone, at least."""

    def passed(self, piece: bytes) -> None:
        """These bytes have gone to the client."""
        self._before = piece if len(piece) >= TAIL_BYTES else (self._before + piece)[-TAIL_BYTES:]

    def last(self, piece: bytes) -> int | None:
        """How much of `piece` may go so that what has gone ends with an event; None where none of
        it does: then it goes as a whole, and the next one is looked at, unless that is `hopeless`.
        """
        if self._packed:
            return None
        tail = self._before[-TAIL_BYTES:]
        if not tail:
            return 0
        if self._at_end(tail):
            return 0
        data = tail + piece
        found = None
        for end in self._end.finditer(data):
            if end.end() > len(tail):
                found = end.end()
        if found is not None:
            return found - len(tail)
        self._waited += len(piece)
        return None

    @property
    def hopeless(self) -> bool:
        """Such a place will not be found."""
        return self._packed or self._waited > _WAIT_BYTES

    def _at_end(self, tail: bytes) -> bool:
        ends = list(self._end.finditer(tail))
        return bool(ends) and ends[-1].end() == len(tail)
