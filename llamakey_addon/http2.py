"""HTTP/2 as far as it takes to refuse it: clients of gRPC get a status with a word, where they
would otherwise report a broken connection. No I/O.

Every stream that a client opens is answered by gRPC's `trailers-only` answer (one HEADERS frame
that ends the stream) with the status UNIMPLEMENTED, which no client tries again by itself. What a
client sends is read frame by frame for its stream's number, and never decoded.
"""

from __future__ import annotations

import struct
from typing import Final
from urllib.parse import quote

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_BYTES: Final = 256 * 1024
MOST_STREAMS: Final = 100
"""Of a client; more is none that reads its answers, which are larger than what asks for them."""

_FRAME_BYTES: Final = 16384
_HEAD_BYTES: Final = 9
_HEADERS, _SETTINGS, _PING, _GOAWAY = 1, 4, 6, 7
_ACK: Final = 1
_END_STREAM_AND_HEADERS: Final = 5
_UNIMPLEMENTED: Final = b"12"
_ENHANCE_YOUR_CALM: Final = 11
_STATUS_200: Final = b"\x88"  # of HPACK's static table
_WORD_BYTES: Final = 1000


class Refusal:
    """One client connection.

    Arguments:
        word: why, and what to do instead.
    """

    def __init__(self, word: str) -> None:
        message = quote(word, safe=" !\"#$&'()*+,/:;<=>?@[]^_`{|}~")[:_WORD_BYTES].encode("ascii")
        self._answer = _STATUS_200 + b"".join(
            _field(name, value)
            for name, value in (
                (b"content-type", b"application/grpc"),
                (b"grpc-status", _UNIMPLEMENTED),
                (b"grpc-message", message),
            )
        )
        self._seen = bytearray()
        self._taken = 0
        self._greeted = False
        self._streams = 0
        self._last_stream = 0
        self.done = False
        """The connection is to be closed."""

    def feed(self, data: bytes) -> bytes:
        """What to answer."""
        self._seen += data
        self._taken += len(data)
        out: list[bytes] = []
        if not self._greeted:
            if len(self._seen) < len(PREFACE) and PREFACE.startswith(self._seen):
                return b""
            if not self._seen.startswith(PREFACE):
                self.done = True
                return b""
            del self._seen[: len(PREFACE)]
            self._greeted = True
            out.append(_frame(_SETTINGS, 0, 0))
        while len(self._seen) >= _HEAD_BYTES and not self.done:
            length = int.from_bytes(self._seen[:3], "big")
            if length > _FRAME_BYTES or self._taken > MOST_BYTES or self._streams >= MOST_STREAMS:
                self.done = True
                out.append(_frame(_GOAWAY, 0, 0, struct.pack("!II", 0, _ENHANCE_YOUR_CALM)))
                break
            if len(self._seen) < _HEAD_BYTES + length:
                break
            kind, flags = self._seen[3], self._seen[4]
            stream = int.from_bytes(self._seen[5:9], "big") & 0x7FFFFFFF
            payload = bytes(self._seen[_HEAD_BYTES : _HEAD_BYTES + length])
            del self._seen[: _HEAD_BYTES + length]
            if kind == _HEADERS and stream > self._last_stream:  # else trailers of one before
                self._last_stream = stream
                self._streams += 1
                out.append(_frame(_HEADERS, _END_STREAM_AND_HEADERS, stream, self._answer))
            elif kind == _SETTINGS and not flags & _ACK:
                out.append(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                out.append(_frame(_PING, _ACK, 0, payload[:8]))
            elif kind == _GOAWAY:
                self.done = True
        return b"".join(out)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        len(payload).to_bytes(3, "big")
        + bytes((kind, flags))
        + struct.pack("!I", stream)
        + (payload)
    )


def _field(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes one that stands in no table (RFC 7541 6.2.2), without Huffman."""
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    head, size = b"\x7f", size - 127
    while size >= 128:
        head += bytes((size % 128 + 128,))
        size //= 128
    return head + bytes((size,)) + text
