"""Answers that are changed on their way to the client: lists that show what is one's own, usage
that was asked for by the proxy alone.

A grant names makers of filters; when the answer's head is there, each makes a filter for it or
leaves it alone. What goes to the client has then no length, validator or digest of the provider's,
and no content-coding: upstream was asked for none (`unconditional`), and one that comes all the
same is undone. Where all filters only read, everything stays as it is. Filters work on what the
mask has passed; the meter reads before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from llamakey_addon.errors import UpstreamFault
from llamakey_addon.journey import Headers
from llamakey_addon.meter.unpack import Unpack, Unreadable

#: Of a request, what could make its answer a part, or none because "nothing has changed".
_CONDITIONS = frozenset(
    {
        b"accept-encoding",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
        b"want-content-digest",
        b"want-digest",
        b"want-repr-digest",
    }
)

#: Of an answer, what speaks of the bytes that the provider sent.
_OF_THE_BYTES = frozenset(
    {
        b"accept-ranges",
        b"content-digest",
        b"content-encoding",
        b"content-length",
        b"content-md5",
        b"content-range",
        b"digest",
        b"etag",
        b"last-modified",
        b"repr-digest",
    }
)


class Filter(Protocol):
    """Changes one answer. May raise: `Denied` where nothing has gone out yet is what the client
    gets, and everything else cuts the answer."""

    @property
    def whole(self) -> bool:
        """Whether nothing goes out before `end`, not even the answer's head: so that an answer that
        turns out to be unreadable can become a denial."""

    @property
    def changes(self) -> bool:
        """Whether it gives out other bytes than it is given, in the end; else it only reads, and
        may hold back."""

    def feed(self, piece: bytes) -> bytes:
        """What may pass now."""

    def end(self) -> bytes:
        """The rest, when the answer is complete."""


class MakeFilter(Protocol):
    def __call__(self, status: int, headers: Headers) -> Filter | None:
        """A filter for the answer with this head, or None."""


class WholeFilter:
    """Base of filters that change an answer as a whole. Subclasses say how in `change`."""

    whole = True
    changes = True

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._limit_bytes:
            raise UpstreamFault(
                "The provider's answer is a list that has to be filtered for you, and too long for "
                "that. Ask for a page of it.",
                setting="limits.json_body_bytes",
            )
        self._parts.append(piece)
        return b""

    def end(self) -> bytes:
        return self.change(b"".join(self._parts))

    def change(self, content: bytes) -> bytes:
        """The answer as the client may see it. Raises Denied where it can't be read."""
        raise NotImplementedError


class Chain:
    """The filters of one answer, one behind the other."""

    __slots__ = ("_filters", "_unpack", "changes", "feed", "whole")

    def __init__(self, filters: Sequence[Filter], coding: bytes) -> None:
        self._filters = tuple(filters)
        self._unpack = None if coding in (b"", b"identity") else Unpack(coding)
        self.whole = any(each.whole for each in filters)
        self.changes = self._unpack is not None or any(each.changes for each in filters)
        alone = self._unpack is None and len(self._filters) == 1
        self.feed: Callable[[bytes], bytes] = self._filters[0].feed if alone else self._feed
        """What may pass now."""

    def _feed(self, piece: bytes) -> bytes:
        if self._unpack is not None:
            try:
                piece = self._unpack.feed(piece)
            except Unreadable as error:
                raise _unreadable(str(error)) from None
        for each in self._filters:
            if not piece:
                break
            piece = each.feed(piece)
        return piece

    def end(self) -> bytes:
        piece = b""
        for each in self._filters:
            if piece:
                piece = each.feed(piece)
            piece += each.end()
        return piece


def chain_for(makers: Sequence[MakeFilter], status: int, headers: Headers) -> Chain | None:
    """The filters of an answer with this head; None where none has to do with it.

    Raises UpstreamFault where it cannot be read.
    """
    filters = [each for make in makers if (each := make(status, headers)) is not None]
    if not filters:
        return None
    coding = b", ".join(v for n, v in headers if n.lower() == b"content-encoding").strip().lower()
    try:
        return Chain(filters, coding)
    except Unreadable as error:
        raise _unreadable(str(error)) from None


def unconditional(headers: Headers) -> Headers:
    """A request's headers, so that its answer is whole and in no content-coding."""
    kept = [pair for pair in headers if pair[0].lower() not in _CONDITIONS]
    kept.append((b"Accept-Encoding", b"identity"))
    return tuple(kept)


def of_other_bytes(headers: Headers) -> Headers:
    """An answer's headers without those that speak of the provider's bytes."""
    return tuple(pair for pair in headers if pair[0].lower() not in _OF_THE_BYTES)


def _unreadable(detail: str) -> UpstreamFault:
    return UpstreamFault(
        "The provider's answer has to be changed for you, and can't be read. Try again; if it "
        "stays so, tell the proxy's owner.",
        detail=detail,
    )
