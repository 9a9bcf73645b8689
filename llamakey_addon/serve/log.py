"""What Python's `logging` has to say, in the journal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from llamakey_addon.journal import Journal


class ToJournal(logging.Handler):
    """Python's log for the journal, scrubbed of keys: asyncio's, mitmproxy's, that of scripts.

    Arguments:
        level: from which on the journal has it.
    """

    def __init__(self, journal: Journal, scrub: Callable[[str], str], level: int) -> None:
        super().__init__(level)
        self._journal = journal
        self._scrub = scrub
        self._was = logging.getLogger().level
        self.starting = True
        self.failures: list[str] = []
        """What was logged as an error before anything was served."""

    def install(self) -> None:
        root = logging.getLogger()
        root.addHandler(self)
        root.setLevel(self.level)
        for chatty in ("asyncio", "hpack", "quic", "tornado"):
            logging.getLogger(chatty).setLevel(max(self.level, logging.WARNING))

    def uninstall(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._was)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if text.startswith("Warning: Running proxyserver without nextlayer addon"):
                return  # ours is that addon, by another name
            if record.exc_info and record.exc_info[1] is not None:
                text = f"{text} ({what(record.exc_info[1])})"
            text = self._scrub(text)
            if self.starting and record.levelno >= logging.ERROR:
                self.failures.append(text)
            else:
                self._journal.note(f"{record.levelname.lower()}: {text}")
        except Exception as error:
            # Not logging's own handling, which prints the record with its values.
            self._journal.note(f"a log record of {record.name} failed: {type(error).__name__}")


def what(error: BaseException) -> str:
    """An exception on one line, with the place where it was raised."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}, at {place or 'an unknown place'}"
