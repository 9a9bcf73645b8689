"""A mark in a file that every process maps: whoever has changed a key changes it.

To ask SQLite whether something was committed costs two system calls and more, many times a request;
to look at the mark costs a comparison of memory. It says that a key was changed, not which: the
truth stands in the database alone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final

_BYTES: Final = 8


class Mark:
    """The mark of one store.

    Arguments:
        path: of the file, made where it is missing. Where it can't be had or mapped, the mark is
            never the same twice, so that whoever asks looks for himself.
    """

    __slots__ = ("_map",)

    def __init__(self, path: Path) -> None:
        self._map: mmap.mmap | None = None
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                if os.fstat(descriptor).st_size < _BYTES:
                    os.truncate(descriptor, _BYTES)
                self._map = mmap.mmap(descriptor, _BYTES)
            finally:
                os.close(descriptor)

    def read(self) -> bytes:
        """The mark of now."""
        return os.urandom(_BYTES) if self._map is None else self._map[:_BYTES]

    def change(self) -> None:
        """A key was changed: after its commit, so that who sees the mark sees the change."""
        if self._map is not None:
            # Not counted up: of two who count at once, one would be lost.
            self._map[:_BYTES] = os.urandom(_BYTES)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
