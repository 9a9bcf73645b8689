"""Bodies by their framing: by length, in chunks, or until the connection closes. No I/O.

`Body` knows to the byte where a body ends, which llhttp does not tell; what passes on is framed
anew, so that nothing of one side's framing reaches the other.
"""

from __future__ import annotations

import re
from typing import Final

CHUNKED: Final = -1
"""Body length of a chunked body."""
UNTIL_CLOSE: Final = -2
"""Body length of an answer that ends with its connection."""

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_CHUNK_LINE_BYTES: Final = 256
_TRAILER_BYTES: Final = 16 * 1024
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KNOWN_BYTES: Final = 2048


def _size_line(whole: int) -> bytes | None:
    """The size line of the one chunk that is so long with its framing, as `chunk` writes it."""
    for digits in range(1, 8):
        line = b"%x\r\n" % max(0, whole - digits - 4)
        if len(line) == digits + 2 and whole > digits + 4:
            return line
    return None


_SIZE_LINES: Final = tuple(map(_size_line, range(_KNOWN_BYTES)))


class FramingError(Exception):
    """A body's framing is broken. The message says how."""


class Body:
    """Reads one body by its framing.

    `read` takes bytes of the connection and gives back the body's bytes among them; `rest` is then
    what follows the body, and `done` says that it is complete. Chunks of a chunked body are joined
    a call, so that a million one-byte chunks do not become a million pieces.

    Arguments:
        length: bytes, CHUNKED or UNTIL_CLOSE.
        any_chunks: chunks may be as tiny as they like (an answer, token by token).
    """

    __slots__ = (
        "_any_chunks",
        "_chunks",
        "_left",
        "_line",
        "_state",
        "done",
        "rest",
        "size",
        "sole",
        "trailers",
    )

    def __init__(self, length: int, *, any_chunks: bool = False) -> None:
        self._any_chunks = any_chunks
        self._left = length if length >= 0 else 0
        self._line = b""
        self._chunks = 0
        self._state = "length" if length >= 0 else "size" if length == CHUNKED else "close"
        self.done = length == 0
        self.rest = b""
        self.sole = False
        """What was read last is one whole chunk, framed as `chunk` would."""
        self.size = 0
        """Bytes of the body so far."""
        self.trailers: list[bytes] = []
        """Trailer lines of a chunked body, without their CR LF."""

    def read(self, data: bytes) -> bytes:
        """Body bytes in `data`.

        Raises:
            FramingError: the chunks are malformed, or there are absurdly many tiny ones.
        """
        if self._state == "size" and not self._line:
            # as nearly every piece of a stream is: one chunk, whole
            whole = len(data)
            line = _SIZE_LINES[whole] if whole < _KNOWN_BYTES else _size_line(whole)
            if line is not None and data.startswith(line) and data.endswith(b"\r\n"):
                piece = data[len(line) : -2]
                if not self._any_chunks:
                    self._count_chunk()
                self.size += len(piece)
                self.rest = b""
                self.sole = True
                return piece
        self.sole = False
        if self._state == "length":
            size, left = len(data), self._left
            self.rest = b""
            if size > left:
                data, self.rest = data[:left], data[left:]
                size = left
            self._left = left - size
            self.size += size
            self.done = size == left
            return data
        if self._state == "close":
            self.size += len(data)
            self.rest = b""
            return data
        return self._read_chunks(data)

    def end(self) -> None:
        """The connection ended. Completes a body that ends so; else it stays not done."""
        if self._state == "close":
            self.done = True

    def _count_chunk(self) -> None:
        self._chunks += 1
        # 10,000 chunks of any size, then 16 bytes a chunk on average: costs stay in proportion
        if self._chunks > 10_000 + self.size // 16 and not self._any_chunks:
            raise FramingError("too many tiny chunks")

    def _read_chunks(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        at = 0
        size = len(data)
        self.rest = b""
        while at < size:
            if self._state == "data":
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self.size += len(piece)
                pieces.append(piece)
                if self._left == 0:
                    self._state = "crlf"
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                if len(self._line) > _CHUNK_LINE_BYTES and self._state != "trailer":
                    raise FramingError("a chunk's size line is too long")
                if len(self._line) > _TRAILER_BYTES:
                    raise FramingError("a trailer is too long")
                break
            line = self._line + data[at : end + 1]
            self._line = b""
            at = end + 1
            if not line.endswith(b"\r\n"):
                raise FramingError("a line in a chunked body does not end in CR LF")
            if self._take_line(line[:-2]):
                self.rest = data[at:]
                self.done = True
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take_line(self, line: bytes) -> bool:
        """One line of the framing; True after the last."""
        if self._state == "crlf":
            if line:
                raise FramingError("a chunk is longer than its size says")
            self._state = "size"
        elif self._state == "size":
            match = _CHUNK_SIZE.fullmatch(line) if len(line) <= _CHUNK_LINE_BYTES else None
            if match is None:
                raise FramingError("a chunk's size is not a hexadecimal number")
            self._left = int(match[1], 16)
            self._state = "data" if self._left else "trailer"
            self._count_chunk()
        else:
            if not line:
                return True
            self.trailers.append(line)
            if sum(map(len, self.trailers)) > _TRAILER_BYTES:
                raise FramingError("the trailers are too long")
            name, colon, value = line.partition(b":")
            if not colon or not re.fullmatch(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise FramingError("a trailer is not a header line")
            if _CONTROL.search(value) or b"\r" in value:
                raise FramingError("a trailer holds control characters")
        return False


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body. `data` must not be empty: that would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a chunked body."""
    return b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"
