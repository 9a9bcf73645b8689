"""Content-Encoding undone on the side, so that the meter reads what the client will read."""

from __future__ import annotations

import zlib
from typing import Final

_GZIP: Final = zlib.MAX_WBITS | 16
_STEP: Final = 256 * 1024
_BOMB_RATIO: Final = 200
_BOMB_BYTES: Final = 16 * 1024 * 1024


class Unreadable(Exception):
    """A body cannot be read along. The message says why."""


class Unpack:
    """Unpacks gzip (also in several members) or deflate (with zlib's wrapper or without).

    A body that unpacks to more than 200 times its size, beyond 16 MiB, is not read on.
    """

    __slots__ = ("_gzip", "_in", "_out", "_start", "_unpack")

    def __init__(self, coding: bytes) -> None:
        """`coding` is gzip, x-gzip or deflate; raises Unreadable for any other."""
        coding = coding.strip().lower()
        if coding not in (b"gzip", b"x-gzip", b"deflate"):
            raise Unreadable("its Content-Encoding is neither gzip nor deflate")
        self._gzip = coding != b"deflate"
        self._unpack = zlib.decompressobj(_GZIP) if self._gzip else None
        self._start = b""
        self._in = self._out = 0

    def feed(self, data: bytes) -> bytes:
        """What `data` unpacks to. Raises Unreadable."""
        self._in += len(data)
        if self._unpack is None:
            data = self._start = self._start + data
            if len(data) < 2:
                return b""
            wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._unpack = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        parts: list[bytes] = []
        while True:
            if self._unpack.eof:
                data = data.lstrip(b"\0")  # padding
                if not data or not self._gzip:
                    break
                self._unpack = zlib.decompressobj(_GZIP)  # another member
            try:
                plain = self._unpack.decompress(data, _STEP)
            except zlib.error as error:
                raise Unreadable(f"it is not what its Content-Encoding says: {error}") from None
            parts.append(plain)
            self._out += len(plain)
            if self._out > _BOMB_BYTES and self._out > _BOMB_RATIO * self._in:
                raise Unreadable("it unpacks to too much")
            data = self._unpack.unused_data if self._unpack.eof else self._unpack.unconsumed_tail
            # a full step: zlib may hold more back, though it has taken all there is
            if not data and len(plain) < _STEP:
                break
        return b"".join(parts)
