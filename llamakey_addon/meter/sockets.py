"""The meter of a WebSocket: reads along in both directions, message by message.

    meter = socket_meter_for(endpoint, Asked.of(call, body))
    meter(up=False, opcode=1, piece=piece, ends=True)    # as the relay tells it
    meter.so_far(), meter.end(complete=True)             # as of any answer

Sums up what each event says: a socket serves many answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llamakey_addon.journey import NO_COUNTS, Counts, Metered
from llamakey_addon.meter.asked import NOTHING_ASKED, Asked
from llamakey_addon.meter.events import Whole
from llamakey_addon.meter.flavour import Flavour
from llamakey_addon.meter.flavours import SOCKETS
from llamakey_addon.meter.tally import Tally

if TYPE_CHECKING:
    from llamakey_addon.catalogue.models import Endpoint

_TEXT: Final = 1


def socket_meter_for(endpoint: Endpoint | None, asked: Asked = NOTHING_ASKED) -> SocketMeter:
    """The meter of a WebSocket to this endpoint."""
    return SocketMeter(None if endpoint is None else SOCKETS.get(endpoint.usage), asked)


class SocketMeter:
    """Reads one WebSocket along; never raises. Made by `socket_meter_for`."""

    __slots__ = ("_broken", "_messages", "_tally")

    def __init__(self, flavour: Flavour | None, asked: Asked) -> None:
        self._tally = None if flavour is None else Tally(flavour, asked)
        self._messages = (Whole(), Whole())
        self._broken = False

    def __call__(self, *, up: bool, opcode: int, piece: bytes, ends: bool) -> None:
        """A piece of a message, unmasked."""
        tally = self._tally
        if tally is None or not (opcode == _TEXT or tally.flavour.binary):
            return
        try:
            message = self._messages[up]
            message.feed(piece)
            if ends:
                if up:
                    tally.sent(message.end())
                else:
                    tally.message(message.end())
        except Exception:
            self._broken = True

    def so_far(self) -> Counts:
        """What was used until now."""
        try:
            return NO_COUNTS if self._tally is None else self._tally.guessed()
        except Exception:
            return NO_COUNTS

    def end(self, complete: bool) -> Metered:
        """What was used in all. `complete` is whether both sides said goodbye."""
        tally = self._tally
        if tally is None:
            return Metered(exact=True)
        try:
            exact = tally.said and complete and not (self._broken or tally.failed)
            counts = tally.figures() if exact else tally.guessed()
            terms = tuple(sorted(tally.terms.items()))
            return Metered(counts, exact=exact, model=tally.model, terms=terms)
        except Exception:
            return Metered(self.so_far())
