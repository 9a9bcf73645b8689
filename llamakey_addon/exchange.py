"""One request and its answer, while they are on the road."""

from __future__ import annotations

import os
from typing import Final

from llamakey_addon import framing, http1
from llamakey_addon.cutting import Seam
from llamakey_addon.errors import Denied
from llamakey_addon.filters import Chain
from llamakey_addon.journey import Ask, Detour, Errand, Grant, Headers, Seal, Visit
from llamakey_addon.mask import NO_MASK, Mask
from llamakey_addon.meter import Meter
from llamakey_addon.meter.sockets import SocketMeter
from llamakey_addon.relay import Relay
from llamakey_addon.rim import Link, Look

_IDS_AT_ONCE: Final = 256
_ID_BYTES: Final = 8
_ids: list[str] = []


def new_id() -> str:
    """Of a request: `lmk_` and sixteen random letters. Randomness is fetched for many at once."""
    if not _ids:
        letters = os.urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        step = 2 * _ID_BYTES
        _ids.extend(letters[at : at + step] for at in range(0, len(letters), step))
    return f"lmk_{_ids.pop()}"


if hasattr(os, "register_at_fork"):  # a child's ids are its own
    os.register_at_fork(after_in_child=_ids.clear)


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "answer",
        "answer_body",
        "answer_headers",
        "ask",
        "begun",
        "body",
        "chain",
        "chunked_out",
        "close_after",
        "content",
        "cutting",
        "detour",
        "down",
        "ends_with_connection",
        "errand",
        "first_byte_s",
        "grant",
        "head",
        "head_bytes",
        "last_piece",
        "link",
        "listener",
        "look",
        "mask",
        "meter",
        "parts",
        "relay",
        "resent",
        "seal",
        "seam",
        "sent_s",
        "spelled",
        "start",
        "started_s",
        "turn",
        "up",
        "visit",
        "window",
    )

    def __init__(self, ask: Ask, head: http1.RequestHead, now_s: float) -> None:
        self.ask = ask
        self.head = head
        self.started_s = now_s
        self.turn = 0
        """Of the road, in which it began."""
        self.visit: Visit | None = None
        self.grant: Grant | None = None
        self.seal: Seal | None = None
        self.errand: Errand | None = None
        self.detour: Detour | None = None
        """Of a CONNECT to a host that is no provider's."""
        self.look: Look | None = None
        self.link: Link | None = None
        self.body = framing.Body(head.length)
        self.parts: list[bytes] = []
        self.start = b""
        """How the body begins, but for spaces; while it is read."""
        self.window = 0  # bytes of a body that are kept for judging
        self.content: bytes | None = None
        self.answer: http1.AnswerHead | None = None
        self.answer_headers: Headers = ()
        """End to end, without the real key."""
        self.answer_body: framing.Body
        """From the answer's head on."""
        self.head_bytes = b""
        """Of the answer, while its head is not whole."""
        self.mask: Mask = NO_MASK
        self.spelled: tuple[bytes, ...] = ()
        self.relay: Relay | None = None
        """Once the provider has switched to a WebSocket."""
        self.chain: Chain | None = None
        self.begun = False
        """Something of the answer has gone out."""
        self.meter: Meter | None = None
        self.listener: SocketMeter | None = None
        """One of them from the answer's head on."""
        self.seam: Seam | None = None
        """Of a stream that is ended where a budget is used up."""
        self.cutting: Denied | None = None
        """Why it is to be ended, at the next place that allows it."""
        self.last_piece = b""
        """Of the answer's body, as it went to the client; with what was before where it is tiny."""
        self.chunked_out = False
        self.close_after = not head.keep_alive
        self.ends_with_connection = False
        self.resent = False
        self.sent_s = 0.0
        self.first_byte_s: float | None = None
        self.up = self.down = 0
