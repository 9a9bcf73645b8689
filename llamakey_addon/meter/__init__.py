"""Reads along what was used, from the answer's bytes as they pass.

    meter = meter_for(endpoint, status, headers, Asked.of(call, body))
    meter.feed(piece)            # each piece of the answer's body, before it is passed on
    meter.so_far()               # at any time: counts, guessed where the provider has yet to say
    meter.end(complete=True)     # once: Metered

A meter never raises, holds nothing back and changes nothing: it is fed the bytes that the provider
sent (after the mask, before any filter takes something out; content-coding still on). What it
cannot read it guesses, and says so (`Metered.exact`).

How an answer is read hangs on its Content-Type: JSON, server-sent events, lines of JSON, AWS's
event streams; the flavour in the catalogue says where its figures stand. An answer or event of more
than a mebibyte is read by its beginning and its end; figures stand in the end, in every API that
sends so much.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from llamakey_addon.journey import NO_COUNTS, Counts, Headers, Metered
from llamakey_addon.meter.asked import NOTHING_ASKED, Asked
from llamakey_addon.meter.events import Events, Lines, Whole
from llamakey_addon.meter.eventstream import Messages
from llamakey_addon.meter.flavour import Flavour, guess_tokens
from llamakey_addon.meter.flavours import FLAVOURS, UNKNOWN
from llamakey_addon.meter.tally import BYTES_PER_TOKEN, Tally
from llamakey_addon.meter.unpack import Unpack, Unreadable

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Endpoint

__all__ = ["Asked", "Meter", "meter_for"]

NOTHING: Final = Metered(exact=True)


def meter_for(
    endpoint: Endpoint | None,
    status: int,
    headers: Headers,
    asked: Asked = NOTHING_ASKED,
    *,
    read: tuple[bytes, bytes] | None = None,
) -> Meter:
    """The meter for an answer.

    Arguments:
        endpoint: None for a path that the catalogue does not know; then what looks like usage is
            taken for it, and is never exact.
        status: of the provider's answer. Only successes cost something.
        headers: of the provider's answer.
        read: their Content-Type and Content-Encoding, where these were looked for before.
    """
    try:
        if not 200 <= status < 300 or (endpoint is not None and endpoint.usage == "none"):
            return Meter(None, asked)
        flavour = UNKNOWN if endpoint is None else FLAVOURS[endpoint.usage]
        return Meter(flavour, asked, headers, read)
    except Exception:
        return Meter(UNKNOWN, asked, broken=True)


class Meter:
    """Reads one answer along. Made by `meter_for`."""

    __slots__ = (
        "_allowed",
        "_between",
        "_block",
        "_broken",
        "_kind",
        "_read",
        "_reader",
        "_silent",
        "_take",
        "_tally",
        "_told",
        "_unpack",
        "_until",
    )

    def __init__(
        self,
        flavour: Flavour | None,
        asked: Asked,
        headers: Headers = (),
        read: tuple[bytes, bytes] | None = None,
        *,
        broken: bool = False,
    ) -> None:
        self._tally = None if flavour is None else Tally(flavour, asked)
        self._reader: Events | Lines | Messages | Whole | None = None
        self._take: Callable[[bytes], None] | None = None
        """Takes pieces of an answer that is no stream."""
        self._read: Callable[[bytes], bytes] | None = None
        """Finds the whole events or lines among pieces of one that is; those are a block."""
        self._block: Callable[[bytes, bytes], None] | None = None
        self._between = b""
        self._unpack: Unpack | None = None
        self._broken = broken
        self._silent = flavour is None or broken
        self._kind = b""
        self._told = self._allowed = self._until = 0
        if self._tally is None or flavour is None or broken:
            return
        if read is None or flavour.heads is not None:
            # the first of a name counts
            named = {name.lower(): value for name, value in headers[::-1]}
            if flavour.heads is not None:
                flavour.heads(self._tally, named)
            read = read or (named.get(b"content-type", b""), named.get(b"content-encoding", b""))
        self._kind = _kind_of(read[0])
        coding = read[1]
        if coding and (coding := coding.strip().lower()) not in (b"", b"identity"):
            try:
                self._unpack = Unpack(coding)
            except Unreadable:
                self._broken = self._silent = True

    def feed(self, piece: bytes) -> None:
        """Read along. Costs a few microseconds for a piece of a stream."""
        if self._silent or not piece:
            return
        try:
            if self._unpack is not None:
                piece = self._unpack.feed(piece)
                if not piece:
                    return
            if self._read is None and self._take is None:
                self._begin(piece)
            if self._read is not None and self._block is not None:
                if data := self._read(piece):
                    self._block(data, self._between)
            elif self._take is not None:
                self._take(piece)
        except Exception:
            self._broken = self._silent = True

    def _begin(self, first: bytes) -> None:
        """Choose how to read, by the answer's type and how it begins."""
        tally = self._tally
        reader: Events | Lines | Messages | Whole | None
        if tally is not None and tally.flavour.lines:
            reader = Lines() if first.lstrip().startswith(b"{") else None
        else:
            reader = None if tally is None else _reader(self._kind, first)
        self._reader = reader
        if tally is None or reader is None:
            self._silent = True
        elif isinstance(reader, Whole):
            tally.pattern = tally.flavour.whole_text or tally.pattern
            self._take = _whole(reader, tally)
        else:
            self._between = b"\n\n" if isinstance(reader, Events) else b"\n"
            self._read, self._block = reader.feed, tally.block

    def so_far(self) -> Counts:
        """What was used until now, as far as one can tell: the provider's figures, and where they
        are still to come, input from the request's length and output from the text that passed."""
        tally, reader = self._tally, self._reader
        try:
            if tally is not None and isinstance(reader, Whole) and not reader.shortened:
                tally.heard_anew(reader.kept)
            return NO_COUNTS if tally is None else tally.so_far()
        except Exception:
            return NO_COUNTS

    def allow(self, tokens: int) -> None:
        """So many tokens more may come out before `is_within` says no."""
        tally = self._tally
        counted = tally is not None and tally.flavour.guess is guess_tokens
        # a whole answer's text is not listened to yet
        if tokens <= 0 or tally is None or not counted or isinstance(self._reader, Whole):
            self._until = 0  # nobody can tell from how much has passed
            return
        self._told = tally.told
        self._allowed = tally.heard_tokens + tokens
        self._until = tally.heard + tokens * BYTES_PER_TOKEN

    def is_within(self) -> bool:
        """Whether, for certain, no more tokens came out than `allow` has allowed, and the provider
        has told no figures since."""
        tally = self._tally
        if tally is None:
            return True
        if tally.told != self._told:
            return False
        if tally.heard < self._until:
            return True
        if not self._until:
            return False
        # All that passed may have been text. How much of it was can be told; asked again each time
        # when the rest could be used up, that costs less than a running count.
        left = self._allowed - tally.heard_tokens
        self._until = tally.heard + left * BYTES_PER_TOKEN if left > 0 else 0
        return left > 0

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
            return self._metered(tally, complete, self._finish(tally))
        except Exception:
            return Metered(self.so_far())

    def _finish(self, tally: Tally) -> bytes:
        """Read what no blank line or line end closed. What of a whole answer's text was not
        listened to yet."""
        reader = self._reader
        if reader is None or (self._broken and not isinstance(reader, Whole)):
            return b""
        if isinstance(reader, Whole):
            whole = reader.kept
            if not self._broken:
                tally.whole(whole, shortened=reader.shortened)
            return whole
        if rest := reader.end():
            tally.block(rest, b"\n\n" if isinstance(reader, Events) else b"\n")
        return b""

    def _metered(self, tally: Tally, complete: bool, whole: bytes) -> Metered:
        flavour = tally.flavour
        tally.ask()
        tally.catch_up()
        streamed = self._reader is not None and not isinstance(self._reader, Whole)
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
        if not exact and isinstance(self._reader, Whole):
            (tally.listen if self._reader.shortened else tally.heard_anew)(whole)
        counts = tally.figures() if exact else tally.guessed()
        terms = tuple(sorted(tally.terms.items())) if tally.terms else ()
        return Metered(counts, exact=exact, model=tally.model, terms=terms, job=tally.job)


def _whole(reader: Whole, tally: Tally) -> Callable[[bytes], None]:
    """Its text is listened to at the end, where figures lack; until then only to what is not kept
    for so long."""

    def take(piece: bytes) -> None:
        anew = not reader.shortened
        if dropped := reader.feed(piece):
            (tally.heard_anew if anew else tally.listen)(dropped)

    return take


@lru_cache(maxsize=256)
def _kind_of(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0].strip().lower()


def _reader(kind: bytes, first: bytes) -> Events | Lines | Messages | Whole | None:
    """By the answer's type; where that is none of a stream's, by how it begins. None for what says
    nothing: audio, images."""
    if kind == b"text/event-stream":
        return Events()
    if kind in _LINES:
        return Lines()
    if kind == b"application/vnd.amazon.eventstream":
        return Messages()
    if kind.startswith((b"audio/", b"image/", b"video/", b"model/")):
        return None
    if first[:1] == b"{":
        return Whole()
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
