"""Lines for people, written by a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, TextIO

from llamakey_addon.journal.line import Style
from llamakey_addon.journey import Receipt

#: Lines that wait for a console that stands still; what comes above is counted and dropped.
_WAITING_LINES: Final = 10_000
_CLOSE_S: Final = 2.0
#: Lines are written together when they come so close: to wake a thread for each costs more than
#: the request that it tells of.
_TOGETHER_S: Final = 0.02

type _Item = Receipt | tuple[float, str]


class Console:
    """Lines for people, written by a thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._style = Style.of(stream)
        self._waiting: deque[_Item] = deque()
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
        self._waiting.append(item)
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
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            dropped, self._dropped = self._dropped, 0
            lines = [self._line(item) for item in batch]
            if dropped:
                lines.append(f"({dropped} lines dropped: the console did not take them in time)")
            if not self._emit("".join(f"{line}\n" for line in lines)):
                return

    def _line(self, item: _Item) -> str:
        return self._style.request(item) if isinstance(item, Receipt) else self._style.note(*item)

    def _emit(self, text: str) -> bool:
        try:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:
                encoding = self._stream.encoding or "ascii"
                self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()
        except (OSError, ValueError):
            # Whoever read the console has gone (`lmk | head`); the proxy goes on without it.
            with self._changed:
                self._waiting = deque(maxlen=0)
                self._busy = False
                self._changed.notify_all()
            return False
        return True
