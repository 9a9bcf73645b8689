"""What the parent and a worker tell each other: words over a pair of sockets, some with content.

Settings go this way when they were loaded anew, real keys included: from the memory of one process
to that of its child, by no file and no command line. `Secret` itself refuses to be pickled; the two
functions here are the one place that takes it apart.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import pickle
import select
import socket
import struct
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from llamakey_addon.config import Settings
from llamakey_addon.errors import ConfigError
from llamakey_addon.keys import Secret

_HEAD: Final = struct.Struct("!BI")
_LENGTH: Final = struct.Struct("!I")
_PIECE: Final = 1 << 18
#: A worker that does not take an order for so long is stuck.
PATIENCE_S: Final = 10.0


class Word(enum.IntEnum):
    """Their numbers stay: after an upgrade a new parent speaks to old workers."""

    SETTINGS = 1
    """Serve by these from now on."""
    REOPEN = 2
    """Open the log file anew."""
    RETIRE = 3
    """Others take the connections from now on: end what is here."""
    STOP = 4
    """Let running answers end, for `limits.drain_timeout_s`."""
    NOW = 5
    """End at once."""

    READY = 16
    """Connections are taken."""
    FAILED = 17
    """Why it ends."""
    REFUSED = 18
    """Why it can't take the settings."""
    TAKEN = 19
    """It serves by the new settings."""


class Line:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._got = bytearray()
        self.closed = False
        """Whether the other side has ended."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def say(self, word: Word, content: bytes = b"") -> bool:
        """Whether it was taken, within PATIENCE_S. A side that has ended takes anything; `heard`
        tells of its end."""
        data = memoryview(_HEAD.pack(word, len(content)) + content)
        end_s = time.monotonic() + PATIENCE_S
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while data:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                if not poll.poll(max(0.0, end_s - time.monotonic()) * 1000):
                    return False
            except OSError:
                break
        return True

    def heard(self) -> list[tuple[int, bytes]]:
        """What has come since the last call. Does not wait."""
        while not self.closed:
            try:
                piece = self._socket.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                piece = b""
            self.closed = not piece
            self._got += piece
        words = []
        while len(self._got) >= _HEAD.size:
            word, length = _HEAD.unpack_from(self._got)
            end = _HEAD.size + length
            if len(self._got) < end:
                break
            words.append((word, bytes(self._got[_HEAD.size : end])))
            del self._got[:end]
        return words

    def close(self) -> None:
        self._socket.close()


def pair() -> tuple[Line, Line]:
    """The parent's end, and the worker's."""
    ours, theirs = socket.socketpair()
    return Line(ours), Line(theirs)


def pack(settings: Settings) -> bytes:
    """Settings for a worker. Holds real keys.

    Before them stands what fields each of their classes has: a pickled dataclass is its values in
    their order, and after an upgrade a worker's own classes may have others.
    """
    out = io.BytesIO()
    packer = _Packer(out, pickle.HIGHEST_PROTOCOL)
    packer.dump(settings)
    shape = json.dumps(packer.shape).encode()
    return _LENGTH.pack(len(shape)) + shape + out.getvalue()


def unpack(data: bytes) -> Settings:
    """What `pack` made, in another process of ours.

    Raises ConfigError where it is of other code.
    """
    (length,) = _LENGTH.unpack_from(data)
    begin = _LENGTH.size + length
    for place, names in json.loads(data[_LENGTH.size : begin]).items():
        module, _, name = place.partition(":")
        kind = getattr(sys.modules.get(module), name, None)
        if kind is None or names != _names(kind):
            raise ConfigError(f"{name} has other fields in the code that made them")
    settings: Settings = pickle.loads(data[begin:])  # noqa: S301  from our own parent
    return settings


def _names(kind: type[Any]) -> list[str]:
    return [each.name for each in dataclasses.fields(kind)]


class _Packer(pickle.Pickler):
    def __init__(self, out: io.BytesIO, protocol: int) -> None:
        super().__init__(out, protocol)
        self.shape: dict[str, list[str]] = {}
        """Fields by `module:class`."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if dataclasses.is_dataclass(kind):
            self.shape[f"{kind.__module__}:{kind.__qualname__}"] = _names(kind)
        if isinstance(value, MappingProxyType):
            return _mapping, (dict(value),)
        if isinstance(value, Secret):
            return _secret, (value.reveal(min(value.hosts)), value.hosts, value.source)
        return NotImplemented


def _mapping(values: dict[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(values)


def _secret(value: bytes, hosts: frozenset[str], source: str) -> Secret:
    return Secret(value.decode("ascii"), hosts=hosts, source=source)
