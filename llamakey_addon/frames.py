"""WebSocket frames (RFC 6455) as they pass. No I/O.

A relay need not put messages together: `Frames` reads along and hands on what came in pieces, each
with what it belongs to; the header of a frame once it is whole and valid. Control frames are whole
when they are handed on, since a close is judged by its code. No extension is ever agreed on, so a
frame means what RFC 6455 says by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

#: Codes of a close: RFC 6455 7.4 and IANA's registry.
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
BAD_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
TRY_AGAIN: Final = 1013
BAD_GATEWAY: Final = 1014

_CONTINUATION: Final = 0
_OPCODES: Final = frozenset({_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_CODES: Final = frozenset({*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)})
_CONTROL_BYTES: Final = 125
_REASON_BYTES: Final = 123


class FrameError(Exception):
    """The other side does not keep to RFC 6455. The message says how.

    `code` is what it is told in a close.
    """

    def __init__(self, text: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one data frame: its header, and of its payload what there is."""

    header: bytes
    """As it came; empty for a later piece of a frame."""
    body: bytes
    """Payload as it came: masked, where frames are."""
    opcode: int
    """TEXT or BINARY: what the message is."""
    begins: bool
    """The message begins here."""
    frame_ends: bool
    ends: bool
    """The message ends here."""
    mask: bytes = b""
    """Turned to where `body` begins; empty where frames are not masked."""

    @property
    def raw(self) -> bytes:
        return self.header + self.body

    @property
    def payload(self) -> bytes:
        """`body`, unmasked."""
        return masked(self.body, self.mask) if self.mask else self.body


@dataclass(frozen=True, slots=True)
class Control:
    """A whole control frame."""

    raw: bytes
    opcode: int
    """CLOSE, PING or PONG."""
    payload: bytes
    """Unmasked."""

    @property
    def code(self) -> int:
        """Of a close."""
        return int.from_bytes(self.payload[:2]) if self.payload else NO_CODE

    @property
    def reason(self) -> str:
        return self.payload[2:].decode("utf-8", "replace")


class Frames:
    """Reads the frames of one direction.

    Arguments:
        client: they are a client's, so each is masked; a server's never are.
        message_bytes: so many may a message have; None for any number.
    """

    __slots__ = (
        "_at",
        "_client",
        "_ends",
        "_left",
        "_mask",
        "_message_bytes",
        "_opcode",
        "_size",
        "_unread",
        "closed",
    )

    def __init__(self, *, client: bool, message_bytes: int | None = None) -> None:
        self._client = client
        self._message_bytes = message_bytes
        self._unread = b""  # of a header or a control frame that is not whole
        self._opcode = 0  # of the message that has begun; 0 between messages
        self._size = 0  # bytes of that message, as far as its frames' headers tell
        self._ends = False  # the message ends with this frame
        self._left = 0  # bytes of the frame's payload that have not come
        self._at = 0  # bytes of it that have
        self._mask = b""
        self.closed = False
        """A close came: nothing after it counts."""

    @property
    def between_frames(self) -> bool:
        """Whether every frame that was handed on is whole."""
        return not self._left

    def read(self, data: bytes) -> Iterator[Piece | Control]:
        """What `data` brings, in its order. To be taken to its end.

        Raises:
            FrameError: what comes next is not valid; nothing more can be read.
        """
        if self._unread:
            data = self._unread + data
        at = 0
        while not self.closed:
            if self._left:
                if at == len(data):
                    break
                body = data[at : at + self._left]
                at += len(body)
                yield self._piece(b"", body, begins=False)
                continue
            header = self._header(data, at)
            if header is None:
                break
            size, opcode, length, mask = header
            if opcode >= CLOSE:
                if len(data) < at + size + length:
                    break
                raw = data[at : at + size + length]
                at += len(raw)
                yield self._control(raw, opcode, raw[size:], mask)
                continue
            begins = not self._opcode
            if begins:
                self._opcode, self._size = opcode, 0
            self._size += length
            if self._message_bytes is not None and self._size > self._message_bytes:
                raise FrameError(f"a message is larger than {self._message_bytes} bytes", TOO_BIG)
            self._ends = bool(data[at] & 0x80)
            self._left, self._at, self._mask = length, 0, mask
            title = data[at : at + size]
            body = data[at + size : at + size + length]
            at += len(title) + len(body)
            yield self._piece(title, body, begins=begins)
        self._unread = b"" if self.closed else data[at:]

    def _header(self, data: bytes, at: int) -> tuple[int, int, int, bytes] | None:
        """The header at this place: its size, opcode, the payload's length, the mask.

        None where it is not whole; a beginning that cannot be valid is refused all the same.
        """
        there = len(data) - at
        if there < 1:
            return None
        first = data[at]
        if first & 0x70:
            raise FrameError("a reserved bit is set, though no extension was agreed on")
        opcode = first & 15
        if opcode not in _OPCODES:
            raise FrameError("a frame has an unknown opcode")
        if opcode >= CLOSE:
            if not first & 0x80:
                raise FrameError("a control frame is fragmented")
        elif (opcode == _CONTINUATION) != bool(self._opcode):
            raise FrameError(
                "a message begins within another"
                if self._opcode
                else "a continuation has nothing to continue"
            )
        if there < 2:
            return None
        second = data[at + 1]
        if bool(second & 0x80) != self._client:
            raise FrameError(
                "a client's frame is not masked" if self._client else "a server's frame is masked"
            )
        length = second & 0x7F
        if opcode >= CLOSE and length > _CONTROL_BYTES:
            raise FrameError("a control frame is too long")
        size = 2
        if length > 125:
            least, wide = (126, 2) if length == 126 else (1 << 16, 8)
            size += wide
            if there < size:
                return None
            length = int.from_bytes(data[at + 2 : at + size])
            if not least <= length < 1 << 63:
                raise FrameError("a frame's length is not written in the shortest form")
        mask = b""
        if self._client:
            size += 4
            if there < size:
                return None
            mask = data[at + size - 4 : at + size]
        return size, opcode, length, mask

    def _piece(self, header: bytes, body: bytes, *, begins: bool) -> Piece:
        mask = self._mask
        if mask and (turn := self._at & 3):
            mask = mask[turn:] + mask[:turn]
        self._left -= len(body)
        self._at += len(body)
        ends = self._ends and not self._left
        piece = Piece(header, body, self._opcode, begins, not self._left, ends, mask)
        if ends:
            self._opcode = 0
        return piece

    def _control(self, raw: bytes, opcode: int, payload: bytes, mask: bytes) -> Control:
        if mask:
            payload = masked(payload, mask)
        if opcode == CLOSE:
            if len(payload) == 1:
                raise FrameError("a close has half a code")
            if payload:
                if int.from_bytes(payload[:2]) not in _CODES:
                    raise FrameError("a close has a code that may not be sent")
                try:
                    payload[2:].decode("utf-8")
                except UnicodeDecodeError:
                    raise FrameError("a close's reason is not UTF-8", BAD_DATA) from None
            self.closed = True
        return Control(raw, opcode, payload)


def masked(data: bytes, mask: bytes) -> bytes:
    """`data` masked, or unmasked, which is the same; `mask` has four bytes."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def close(code: int, reason: str, *, mask: bytes = b"") -> bytes:
    """A close frame; of a reason so much as fits. `mask` is for a client's."""
    payload = struct.pack("!H", code)
    payload += reason.encode("utf-8")[:_REASON_BYTES].decode("utf-8", "ignore").encode("utf-8")
    if mask:
        return bytes((0x80 | CLOSE, 0x80 | len(payload))) + mask + masked(payload, mask)
    return bytes((0x80 | CLOSE, len(payload))) + payload
