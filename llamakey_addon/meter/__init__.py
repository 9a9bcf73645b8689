"""Reads along what was used, from the answer's bytes as they pass.

    meter = meter_for(endpoint, status, headers, Asked.of(call, body))
    meter.feed(piece)            # each piece of the answer's body, before it is passed on
    meter.so_far()               # at any time: counts, guessed where the provider has yet to say
    meter.end(complete=True)     # once: Metered

A meter never raises, holds nothing back and changes nothing: it is fed the bytes that the provider
sent (after the mask, before any filter takes something out; content-coding still on). What it
cannot read it guesses, and says so (`Metered.exact`).

How an answer is read hangs on its Content-Type: JSON, server-sent events, lines of JSON; the
flavour in the catalogue says where its figures stand. An answer or event of more than a mebibyte is
read by its beginning and its end; figures stand in the end, in every API that sends so much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llamakey_addon.journey import NO_COUNTS, Counts, Headers, Metered
from llamakey_addon.meter.asked import NOTHING_ASKED, Asked
from llamakey_addon.meter.events import Events, Lines, Whole
from llamakey_addon.meter.flavour import Flavour, Tally
from llamakey_addon.meter.flavours import FLAVOURS, UNKNOWN
from llamakey_addon.meter.unpack import Unpack, Unreadable

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Endpoint

__all__ = ["Asked", "Meter", "meter_for"]

NOTHING: Final = Metered(exact=True)


def meter_for(
    endpoint: Endpoint | None, status: int, headers: Headers, asked: Asked = NOTHING_ASKED
) -> Meter:
    """The meter for an answer.

    Arguments:
        endpoint: None for a path that the catalogue does not know; then what looks like usage is
            taken for it, and is never exact.
        status: of the provider's answer. Only successes cost something.
        headers: of the provider's answer.
    """
    try:
        if not 200 <= status < 300 or (endpoint is not None and endpoint.usage == "none"):
            return Meter(None, asked)
        flavour = UNKNOWN if endpoint is None else FLAVOURS[endpoint.usage]
        return Meter(flavour, asked, headers)
    except Exception:
        return Meter(UNKNOWN, asked, (), broken=True)


class Meter:
    """Reads one answer along. Made by `meter_for`."""

    __slots__ = ("_broken", "_kind", "_reader", "_tally", "_unpack")

    def __init__(
        self, flavour: Flavour | None, asked: Asked, headers: Headers = (), *, broken: bool = False
    ) -> None:
        self._tally = None if flavour is None else Tally(flavour, asked)
        self._reader: Events | Lines | Whole | Unread | None = None
        self._unpack: Unpack | None = None
        self._broken = broken
        self._kind = b""
        if self._tally is None or broken:
            return
        self._kind = _header(headers, b"content-type").partition(b";")[0].strip().lower()
        coding = _header(headers, b"content-encoding").strip().lower()
        if coding not in (b"", b"identity"):
            try:
                self._unpack = Unpack(coding)
            except Unreadable:
                self._broken = True
        if flavour is not None and flavour.heads is not None:
            flavour.heads(self._tally, headers)

    def feed(self, piece: bytes) -> None:
        """Read along. Costs a few microseconds for a piece of a stream."""
        tally = self._tally
        if tally is None or self._broken or not piece:
            return
        try:
            if self._unpack is not None:
                piece = self._unpack.feed(piece)
                if not piece:
                    return
            reader = self._reader
            if reader is None:
                reader = self._reader = _reader(self._kind, piece)
            if isinstance(reader, Events):
                if block := reader.feed(piece):
                    tally.block(block, b"\n\n")
            elif isinstance(reader, Lines):
                if block := reader.feed(piece):
                    tally.block(block, b"\n")
            elif isinstance(reader, Whole):
                reader.feed(piece)
                tally.listen(piece)
        except Exception:
            self._broken = True

    def so_far(self) -> Counts:
        """What was used until now, as far as one can tell: the provider's figures, and where they
        are still to come, input from the request's length and output from the text that passed."""
        try:
            return NO_COUNTS if self._tally is None else self._tally.guessed()
        except Exception:
            return NO_COUNTS

    def end(self, complete: bool) -> Metered:
        """What was used in all.

        Arguments:
            complete: whether the answer came to its end; False where the client left, the provider
                broke off, a time-out or a cut ended it.
        """
        tally = self._tally
        if tally is None:
            return NOTHING
        try:
            self._finish()
            return self._metered(tally, complete)
        except Exception:
            return Metered(self.so_far())

    def _finish(self) -> None:
        """Read what no blank line or line end closed."""
        reader, tally = self._reader, self._tally
        if tally is None or self._broken or not isinstance(reader, Events | Lines | Whole):
            return
        rest = reader.end()
        if isinstance(reader, Whole):
            if not reader.shortened:
                tally.pieces = tally.text_bytes = 0  # texts across two pieces were not heard
                tally.listen(rest)
            tally.whole(rest, shortened=reader.shortened)
        elif rest:
            tally.block(rest, b"\n\n" if isinstance(reader, Events) else b"\n")

    def _metered(self, tally: Tally, complete: bool) -> Metered:
        flavour = tally.flavour
        if flavour.asks is not None:
            flavour.asks(tally)
        streamed = isinstance(self._reader, Events | Lines)
        exact = (
            flavour.exact
            and tally.said
            and not self._broken
            and not tally.failed
            and not tally.mixed
            and (complete or tally.ended)
            and (not streamed or not flavour.closing or tally.closed)
        )
        if tally.later and not tally.said:
            return NOTHING
        if flavour.reports and not (exact or (tally.mixed and complete)):
            return NOTHING if not tally.said else Metered()
        counts = tally.figures() if exact else tally.guessed()
        terms = tuple(sorted(tally.terms.items()))
        return Metered(counts, exact=exact, model=tally.model, terms=terms, job=tally.job)


class Unread:
    """For bodies that say nothing: audio, images."""


def _reader(kind: bytes, first: bytes) -> Events | Lines | Whole | Unread:
    """By the answer's type; where that is none of a stream's, by how it begins."""
    if kind == b"text/event-stream":
        return Events()
    if kind in _LINES:
        return Lines()
    if kind.startswith((b"audio/", b"image/", b"video/", b"model/")):
        return Unread()
    if first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_EVENT_STARTS):
        return Events()
    return Whole()


_EVENT_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b": ")
_LINES: Final = frozenset(
    {
        b"application/x-ndjson",
        b"application/ndjson",
        b"application/jsonl",
        b"application/x-jsonl",
        b"application/json-lines",
        b"application/jsonlines",
        b"application/stream+json",
    }
)


def _header(headers: Headers, name: bytes) -> bytes:
    for other, value in headers:
        if other.lower() == name:
            return value
    return b""
