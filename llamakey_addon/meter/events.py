"""Server-sent events and lines of JSON, taken apart as they come: split at any byte, no I/O.

Events follow the WHATWG's grammar: lines end in LF, CR or CR LF; a byte order mark may stand
before the first; a blank line ends an event; lines that begin with `:` are comments; the values of
an event's `data` lines are joined by LF.
"""

from __future__ import annotations

from typing import Final

KEPT_BYTES: Final = 1024 * 1024
"""Up to which an event, a line or a whole answer is kept. Of a longer one the middle is dropped."""
HEAD_BYTES: Final = 16 * 1024
TAIL_BYTES: Final = 128 * 1024

_BOM: Final = b"\xef\xbb\xbf"


class Events:
    """Complete events among what came.

    What is given back has LF for every line end, and ends with a blank line; it may hold several
    events, one after the other.
    """

    __slots__ = ("_after_cr", "_plainly", "_rest", "_start")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._after_cr = False
        self._plainly = False
        """Neither within a byte order mark nor within CR LF."""
        self._start: bytes | None = b""
        """Beginning of the stream, until it is known whether it is a byte order mark."""

    def feed(self, data: bytes) -> bytes:
        if self._plainly and not self._rest and data.endswith(b"\n\n") and data.find(b"\r") < 0:
            return data  # as nearly every piece of a stream is: whole events
        if self._start is not None:
            data = self._start + data
            if len(data) < 3 and _BOM.startswith(data):
                self._start = data
                return b""
            self._start = None
            self._plainly = True
            data = data.removeprefix(_BOM)
        if self._after_cr or b"\r" in data:
            data = self._plain(data)
        rest = self._rest
        if rest:
            if b"\n\n" not in rest[-1:] + data:
                _append(rest, data)
                return b""
            data = bytes(rest) + data
            rest.clear()
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            _append(rest, data)
            return b""
        if end == len(data):
            return data
        _append(rest, data[end:])
        return data[:end]

    def end(self) -> bytes:
        """The last event, where no blank line ends it."""
        rest = (self._start or b"") + self._rest
        self._rest.clear()
        self._start = None
        return rest

    def _plain(self, data: bytes) -> bytes:
        """`data` with LF for CR LF and CR. A CR at its end may be the first half of a CR LF."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            if not data:
                self._after_cr = False
                self._plainly = True
                return b""
        self._after_cr = data.endswith(b"\r")
        self._plainly = not self._after_cr
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def data_of(event: bytes) -> bytes:
    """The data of one event whose line ends are LF."""
    if event.startswith(b"data:") and b"\n" not in event:
        return event[6:] if event.startswith(b"data: ") else event[5:]
    values = []
    for line in event.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            values.append(value.removeprefix(b" "))
    return b"\n".join(values)


class Lines:
    """Complete lines among what came, each with its LF. A CR before it is JSON's white space."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> bytes:
        end = data.rfind(b"\n") + 1
        if end == 0:
            _append(self._rest, data)
            return b""
        whole = bytes(self._rest) + data[:end]
        self._rest.clear()
        _append(self._rest, data[end:])
        return whole

    def end(self) -> bytes:
        """The last line, where nothing ends it."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class Whole:
    """A whole answer, kept up to a bound."""

    __slots__ = ("_kept", "shortened")

    def __init__(self) -> None:
        self._kept = bytearray()
        self.shortened = False
        """Whether the middle was dropped."""

    def feed(self, data: bytes) -> bytes:
        """What had to be dropped for it, from the middle; most often nothing."""
        kept = self._kept
        kept += data
        if len(kept) <= KEPT_BYTES:
            return b""
        dropped = bytes(kept[HEAD_BYTES:-TAIL_BYTES])
        del kept[HEAD_BYTES:-TAIL_BYTES]
        self.shortened = True
        return dropped

    @property
    def kept(self) -> bytes:
        return bytes(self._kept)

    def end(self) -> bytes:
        """All of it, or its beginning and its end."""
        kept = bytes(self._kept)
        self._kept.clear()
        return kept


def _append(kept: bytearray, data: bytes) -> None:
    """Keep `data` too. Where that is too much, the middle of it all is dropped."""
    kept += data
    if len(kept) > KEPT_BYTES:
        del kept[HEAD_BYTES:-TAIL_BYTES]
