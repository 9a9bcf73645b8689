"""Which processes are alive, told by locks on files: a process id may be another's by now.

Each process that opens rows holds a lock on `llamakey.db-proc-<name>` in the data folder, which the
system takes from it when it ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


class Processes:
    """The processes of one store.

    Arguments:
        store: the store's file, beside which the locks are.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._descriptor = -1
        self.name = ""
        """Of this process; "" until it has entered."""

    def enter(self) -> str:
        """Be known as alive; the name. Raises OSError."""
        while not self.name:
            name = secrets.token_hex(6)
            path = self._path(name)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                kept = os.stat(path).st_ino == os.fstat(descriptor).st_ino
            except OSError:
                kept = False
            if kept:
                self._descriptor, self.name = descriptor, name
            else:  # between the two calls another took us for dead
                os.close(descriptor)
        return self.name

    def others(self) -> Iterator[str]:
        """Names of others that have a file, dead ones too."""
        prefix = self._path("").name
        for entry in os.scandir(self._store.parent):
            name = entry.name.removeprefix(prefix)
            if entry.name != name and name != self.name:
                yield name

    @contextlib.contextmanager
    def dead(self, name: str) -> Iterator[bool]:
        """Whether a process is dead. While the context lasts no other process is told so; after it
        the process is forgotten."""
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            yield True
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """Be dead. Rows that are open are for others to close."""
        if self._descriptor >= 0:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(self.name))
            os.close(self._descriptor)
            self._descriptor, self.name = -1, ""

    def _path(self, name: str) -> Path:
        return self._store.with_name(f"{self._store.name}-proc-{name}")
