"""Lines for people, written by a thread of its own."""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final, TextIO

from llamakey_addon.journal.line import Style
from llamakey_addon.journey import Receipt

#: Lines that wait for a console that stands still; what comes above is counted and dropped.
_WAITING_LINES: Final = 10_000
_CLOSE_S: Final = 2.0
#: Lines are written together when they come so close: to wake a thread for each costs more than
#: the request that it tells of.
_TOGETHER_S: Final = 0.1
#: POSIX's PIPE_BUF on Linux.
_WHOLE_BYTES: Final = 4096
_PATIENCE_S: Final = 1.0

type _Item = Receipt | tuple[float, str]


class Console:
    """Lines for people, written by a thread.

    They are made where they are put: made by the thread, a hundred at a time, they would hold up
    whatever request comes meanwhile.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._style = Style.of(stream)
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._busy = False
        self._awake = False
        """Whether the thread will see what is put without being told."""
        self._hurry = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, item: _Item) -> None:
        if len(self._waiting) >= _WAITING_LINES:
            self._dropped += 1
            return
        self._waiting.append(self._line(item))
        if not self._awake:
            with self._changed:
                self._awake = True
                self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._busy), _CLOSE_S)

    def close(self) -> None:
        with self._changed:
            self._closing = self._hurry = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = self._awake = False  # and then look: what comes later says so
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                self._busy = self._awake = True
                self._changed.wait_for(lambda: self._hurry, _TOGETHER_S)
                self._hurry = self._closing
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(f"({dropped} lines dropped: the console did not take them in time)")
            if not self._emit(lines):
                return

    def _line(self, item: _Item) -> str:
        return self._style.request(item) if isinstance(item, Receipt) else self._style.note(*item)

    def _emit(self, lines: list[str]) -> bool:
        try:
            for text in _together(lines):
                _write(self._stream, text)
        except (OSError, ValueError):
            # Whoever read the console has gone (`lmk | head`); the proxy goes on without it.
            with self._changed:
                self._waiting = deque(maxlen=0)
                self._busy = False
                self._changed.notify_all()
            return False
        return True


class AtOnce:
    """The same without a thread; a console that stands still for a second misses what is said."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._style = Style.of(stream)

    def put(self, item: _Item) -> None:
        try:
            if select.select([], [self._stream], [], _PATIENCE_S)[1]:
                line = (
                    self._style.request(item)
                    if isinstance(item, Receipt)
                    else self._style.note(*item)
                )
                _write(self._stream, f"{line}\n")
        except (OSError, ValueError):
            pass  # whoever read it has gone

    def flush(self) -> None:
        """All is written."""

    def close(self) -> None:
        """There is nothing to end."""


def _together(lines: list[str]) -> Iterator[str]:
    """Lines in pieces that a pipe takes whole: beside those of other workers none is torn."""
    piece: list[str] = []
    size = 0
    for line in lines:
        length = len(line.encode("utf-8", "replace")) + 1
        if piece and size + length > _WHOLE_BYTES:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(f"{line}\n")
        size += length
    yield "".join(piece)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
