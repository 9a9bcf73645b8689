"""The log: a line a request on the console, and the same as JSON in a file where one is configured.

    20:51:02 200  alice  openai  POST  /v1/chat/completions  gpt-4o-mini  812 ms  1.2k/34k  lmk_…

A line holds no header value, no body, no query and no key. What a client chose (path, method,
model) is escaped, so that it can neither forge a line nor speak to the terminal. The file is
written at once, one `write` a line; the console by a thread of its own, so that a terminal that
stands still (Ctrl-S, a pager that nobody pages) never holds a request.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from llamakey_addon.journal.console import AtOnce, Console
from llamakey_addon.journal.file import File
from llamakey_addon.journal.words import escape, utc
from llamakey_addon.journey import Receipt
from llamakey_addon.keys import redact

if TYPE_CHECKING:
    from llamakey_addon.config import Settings

__all__ = ["Journal", "escape"]


class Journal:
    """Writes receipts and notes. Nothing that goes wrong in it reaches a request.

    Arguments:
        settings: `logging.console` and `logging.file` say where to.
        stream: the console, standard output by default.
        at_once: without a thread, for a process that forks and has little to say.
    """

    def __init__(
        self, settings: Settings, stream: TextIO | None = None, *, at_once: bool = False
    ) -> None:
        stream = sys.stdout if stream is None else stream
        self._console: Console | AtOnce | None = None
        if settings.logging.console:
            self._console = AtOnce(stream) if at_once else Console(stream)
        self._file: File | None = None
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Write to the file that these settings name; the console stays as it was at the start."""
        path = settings.logging.file
        if self._file is not None and path == self._file.path:
            self._file.reopen()
            return
        if self._file is not None:
            self._file.close()
        self._file = None if path is None else File(path, self._complain)

    def write(self, receipt: Receipt) -> None:
        """Log a request."""
        if self._file is not None:
            self._file.request(receipt)
        if self._console is not None:
            self._console.put(receipt)

    def note(self, text: str) -> None:
        """Log what is not one request's: a reload, a failure inside. May have several lines."""
        for line in redact(text).splitlines():
            if self._file is not None:
                self._file.write({"time": utc(time.time()), "note": escape(line)})
            if self._console is not None:
                self._console.put((time.time(), line))

    def reopen(self) -> None:
        """Open the file anew, as after a rotation (which is also noticed without this)."""
        if self._file is not None:
            self._file.reopen()

    def flush(self) -> None:
        """Wait, for a bounded time, until the console has what was written."""
        if self._console is not None:
            self._console.flush()

    def close(self) -> None:
        """Write out what waits, for a bounded time, and close the file. May be called twice."""
        if self._console is not None:
            self._console.close()
            self._console = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _complain(self, text: str) -> None:
        """What stops the log itself goes to standard error: the log can't hold it."""
        try:
            print(text, file=sys.stderr, flush=True)  # noqa: T201  nowhere else is left
        except (OSError, ValueError):
            pass
