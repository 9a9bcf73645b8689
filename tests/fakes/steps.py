"""Gates: a stream waits before each chunk until the test lets it, so that events tell the order."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

GATE_HEADER = b"x-fake-gate"
"""A request with this header has its streamed answer held by the gate that it names."""


class Gate:
    """Holds chunks back. Thread-safe: the test's thread releases, the fake's loop waits.

    `sent` counts the chunks that were handed to the socket; `waiting` those that ask for leave.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._condition = threading.Condition()
        self._permits = 0
        self._sent = 0
        self._open = False
        self._wakers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._chosen: set[asyncio.Event] = set()

    @property
    def sent(self) -> int:
        with self._condition:
            return self._sent

    @property
    def waiting(self) -> int:
        with self._condition:
            return len(self._wakers)

    def release(self, chunks: int = 1) -> None:
        """Lets so many further chunks go."""
        with self._condition:
            self._permits += chunks
            self._wake()

    def step(self) -> None:
        """Lets each of those that wait send one chunk, and no other."""
        with self._condition:
            self._chosen.update(event for _, event in self._wakers)
            self._wake()
            self._wakers.clear()

    def open(self) -> None:
        """Lets everything go, now and later."""
        with self._condition:
            self._open = True
            self._wake()

    def wait_until_waiting(self, chunks: int = 1, timeout_s: float = 45) -> None:
        """Returns when at least so many chunks ask for leave; raises TimeoutError."""
        with self._condition:
            if not self._condition.wait_for(lambda: len(self._wakers) >= chunks, timeout_s):
                came = len(self._wakers)
                raise TimeoutError(f"{came} of {chunks} came to {self.name!r} within {timeout_s} s")

    def wait_until_sent(self, chunks: int, timeout_s: float = 45) -> None:
        """Returns when at least so many chunks were handed to the socket; raises TimeoutError."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._sent >= chunks, timeout_s):
                raise TimeoutError(
                    f"gate {self.name!r} saw {self._sent} of {chunks} chunks within {timeout_s} s"
                )

    async def leave(self) -> None:
        """Waits for leave to send one chunk. On the fake's loop."""
        loop = asyncio.get_running_loop()
        while True:
            event = asyncio.Event()
            with self._condition:
                if self._open or self._permits:
                    self._permits -= 0 if self._open else 1
                    return
                waker = (loop, event)
                self._wakers.append(waker)
                self._condition.notify_all()
            try:
                await event.wait()
                if event in self._chosen:
                    return
            finally:
                with self._condition:
                    self._chosen.discard(event)
                    if waker in self._wakers:
                        self._wakers.remove(waker)

    def mark_sent(self) -> None:
        """One more chunk was handed to the socket. On the fake's loop."""
        with self._condition:
            self._sent += 1
            self._condition.notify_all()

    def _wake(self) -> None:
        for loop, event in self._wakers:
            loop.call_soon_threadsafe(event.set)
        self._condition.notify_all()


@dataclass(frozen=True, slots=True)
class Deaf:
    """A step that waits for leave, and reads nothing of what comes meanwhile."""

    gate: Gate
