"""Signals of a process without an event loop: noted, and read when it has time for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Final

#: What a parent hears; SIGCHLD wakes it.
HEARD: Final = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR2", "SIGCHLD")
    if hasattr(signal, name)
)


class Signals:
    """Catches them from now on."""

    def __init__(self) -> None:
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)
        self._before: dict[int, Any] = {n: signal.signal(n, _nothing) for n in HEARD}
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # They may be blocked from the process's former life, so that none was lost meanwhile.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)

    def fileno(self) -> int:
        """Readable when there are any."""
        return self._woken

    def take(self) -> list[int]:
        """Those that came since the last call, in their order."""
        try:
            return list(os.read(self._woken, 4096))
        except BlockingIOError:
            return []

    def held_back[T](self, work: Callable[[], T]) -> T:
        """What `work` returns; no signal comes while it runs."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        try:
            return work()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def forget(self) -> None:
        """Leave them to what stood before."""
        signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            signal.signal(number, before)
        os.close(self._woken)
        os.close(self._wake)


def _nothing(number: int, frame: object) -> None:
    """The wake-up descriptor has it."""
