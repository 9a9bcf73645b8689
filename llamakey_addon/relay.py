"""Both directions of one WebSocket: what comes in, and what of it may go on now.

Nothing waits for a message to be whole, with one exception: where a client's messages name the
model, each is judged before any of it is sent, as the body of a request is. A real key that the
provider echoes is masked; the masked payload is as long as what came, so the frames stay as they
are, and only a tail that could begin a key waits for the bytes behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from llamakey_addon.errors import Denied
from llamakey_addon.frames import CLOSE, TOO_BIG, Control, FrameError, Frames, Piece
from llamakey_addon.mask import PlainMask


class Tell(Protocol):
    """Somebody who reads along: pieces of messages, unmasked, as they pass."""

    def __call__(self, *, up: bool, opcode: int, piece: bytes, ends: bool) -> None:
        """`up` is from the client; `opcode` is TEXT or BINARY; `ends` ends the message."""


type Judge = Callable[[bytes], None]
"""Given a client's whole message; raises Denied where it may not pass."""

_NO_KEY: Final[tuple[bytes, ...]] = ()


class Relay:
    """One WebSocket.

    Arguments:
        spelled: the real key's spellings, masked in what the provider sends.
        message_bytes: so many may a client's message have.
        judge: of a client's messages, whole; None where none is judged.
        judged_bytes: so many may a judged message have.
        tell: who reads along, or None.
    """

    __slots__ = (
        "_down",
        "_fed",
        "_judge",
        "_judged_bytes",
        "_mask",
        "_passed",
        "_spelled",
        "_tell",
        "_up",
        "_wait_payload",
        "_wait_raw",
        "_waiting",
        "client_close",
        "provider_close",
        "stop",
    )

    def __init__(
        self,
        *,
        spelled: tuple[bytes, ...],
        message_bytes: int,
        judge: Judge | None = None,
        judged_bytes: int = 0,
        tell: Tell | None = None,
    ) -> None:
        self._up = Frames(client=True, message_bytes=message_bytes)
        self._down = Frames(client=False)
        self._judge = judge
        self._judged_bytes = judged_bytes
        self._tell = tell
        self._wait_raw: list[bytes] = []  # of a message that is to be judged
        self._wait_payload = bytearray()
        self._spelled = spelled
        self._mask = PlainMask(_NO_KEY)
        self._fed = self._passed = 0  # payload of the provider's message: into the mask, out of it
        self._waiting: deque[tuple[int, bytes]] = deque()
        """Headers and control frames that wait until so much payload has passed."""
        self.client_close: Control | None = None
        self.provider_close: Control | None = None
        self.stop: FrameError | Denied | None = None
        """Why it cannot go on: to be looked at when what `up` or `down` gave was passed on."""

    @property
    def up_clear(self) -> bool:
        """Whether a frame of ours could go upstream now."""
        return self._up.between_frames and self.client_close is None

    @property
    def down_clear(self) -> bool:
        """Whether a frame of ours could go to the client now."""
        return (
            self._down.between_frames and self._fed == self._passed and self.provider_close is None
        )

    @property
    def closing(self) -> bool:
        """Whether either side has said goodbye."""
        return self.client_close is not None or self.provider_close is not None

    def up(self, data: bytes) -> bytes:
        """From the client; what goes to the provider now."""
        out: list[bytes] = []
        try:
            for part in self._up.read(data):
                if isinstance(part, Control):
                    out.append(part.raw)
                    if part.opcode == CLOSE:
                        self.client_close = part
                elif self._judge is not None:
                    out += self._judged(part, self._judge)
                else:
                    out.append(part.raw)
                    if self._tell is not None:
                        self._tell(up=True, opcode=part.opcode, piece=part.payload, ends=part.ends)
        except (FrameError, Denied) as stop:
            self.stop = stop
        return b"".join(out)

    def down(self, data: bytes) -> bytes:
        """From the provider; what goes to the client now."""
        out: list[bytes] = []
        try:
            for part in self._down.read(data):
                if isinstance(part, Piece):
                    self._veil(part, out)
                elif part.opcode == CLOSE:
                    self._let_go(out)
                    out.append(part.raw)
                    self.provider_close = part
                else:
                    self._waiting.append((self._fed, part.raw))
                    self._emit(b"", out)
        except FrameError as stop:
            self.stop = stop
        return b"".join(out)

    def _judged(self, part: Piece, judge: Judge) -> list[bytes]:
        if part.begins:
            self._wait_raw, self._wait_payload = [], bytearray()
        self._wait_raw.append(part.raw)
        self._wait_payload += part.payload
        if len(self._wait_payload) > self._judged_bytes:
            raise FrameError(f"a message is larger than {self._judged_bytes} bytes", TOO_BIG)
        if not part.ends:
            return []
        payload = bytes(self._wait_payload)
        judge(payload)
        if self._tell is not None:
            self._tell(up=True, opcode=part.opcode, piece=payload, ends=True)
        raw, self._wait_raw, self._wait_payload = self._wait_raw, [], bytearray()
        return raw

    def _veil(self, part: Piece, out: list[bytes]) -> None:
        """Pass a piece on, keys masked."""
        if part.begins:
            self._mask = PlainMask(self._spelled)
            self._fed = self._passed = 0
        if part.header:
            self._waiting.append((self._fed, part.header))
        safe = self._mask.feed(part.body)
        self._fed += len(part.body)
        if part.ends:
            safe += self._mask.end()
        self._emit(safe, out)
        if self._tell is not None:
            self._tell(up=False, opcode=part.opcode, piece=safe, ends=part.ends)

    def _emit(self, payload: bytes, out: list[bytes]) -> None:
        """Payload goes out, and between its bytes what waited for its place among them."""
        while self._waiting:
            place, raw = self._waiting[0]
            before = place - self._passed
            if before > len(payload):
                break
            out.append(payload[:before])
            out.append(raw)
            payload = payload[before:]
            self._passed = place
            self._waiting.popleft()
        out.append(payload)
        self._passed += len(payload)

    def _let_go(self, out: list[bytes]) -> None:
        """The message will not go on: what was held back of it goes out, half a key as stars."""
        self._emit(self._mask.cut(), out)
