"""JSON lines in a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from llamakey_addon.journal.words import cut, safe, utc
from llamakey_addon.journey import Receipt

#: Length of a client's words; a target may be as long as a whole head.
_TEXT: Final = 2048
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class File:
    """JSON lines, appended; follows a rotation; says once when it fails, once when it is well."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self.path = path
        self._complain = complain
        self._descriptor = -1
        self._identity = (0, 0)
        self._lost = 0
        self._partial = False
        # Scripts may log from threads of theirs.
        self._lock = threading.Lock()
        self._open_or_complain()

    def request(self, receipt: Receipt) -> None:
        """Append a request's line."""
        self.write(_record(receipt))

    def write(self, record: dict[str, object]) -> None:
        """Append a line. Never raises."""
        line = _ENCODER.encode(record)
        # A lone surrogate (JSON may hold one) has been escaped; `replace` is for what has not.
        with self._lock:
            self._append(line.encode("utf-8", "replace") + b"\n")

    def _append(self, data: bytes) -> None:
        try:
            self._follow()
            if self._partial:
                data = b"\n" + data
            written = os.write(self._descriptor, data)
            self._partial = written < len(data)
            if self._partial:
                raise OSError(f"{written} of {len(data)} bytes were taken")
        except OSError as error:
            if not self._lost:
                self._complain(_remedy(self.path, error))
            self._lost += 1
            return
        if self._lost:
            self._complain(f"log file {self.path}: writing again; {self._lost} lines are missing")
            self._lost = 0

    def reopen(self) -> None:
        """Open the file that has the name now."""
        with self._lock:
            self._close()
            self._open_or_complain()

    def close(self) -> None:
        """Give the file back; a later write opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open_or_complain(self) -> None:
        try:
            self._open()
        except OSError as error:
            if not self._lost:
                self._complain(_remedy(self.path, error))
            self._lost += 1

    def _open(self) -> None:
        # NONBLOCK: a named pipe that nobody reads is a fault to report, not a place to wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
        self._descriptor = os.open(self.path, flags | getattr(os, "O_CLOEXEC", 0), 0o600)
        found = os.fstat(self._descriptor)
        self._identity = (found.st_dev, found.st_ino)

    def _follow(self) -> None:
        """Open the file that has the name now: rotation moves the old one away."""
        if self._descriptor < 0:
            self._open()
            return
        try:
            found = os.stat(self.path)
            moved = (found.st_dev, found.st_ino) != self._identity
        except FileNotFoundError:
            moved = True
        if moved:
            self._close()
            self._open()


def _record(receipt: Receipt) -> dict[str, object]:
    first = receipt.first_byte_ms
    record: dict[str, object] = {
        "time": utc(receipt.time_s),
        "id": receipt.id,
        "peer": _word(receipt.peer),
        "user": _word(receipt.user),
        "key": _word(receipt.key_name),
        "provider": receipt.provider,
        "endpoint": receipt.endpoint,
        "method": _word(receipt.method),
        "path": _word(receipt.path.partition("?")[0]),
        "model": _word(receipt.model),
        "status": receipt.status,
        "bytes_up": receipt.bytes_up,
        "bytes_down": receipt.bytes_down,
        "first_byte_ms": None if first is None else round(first, 1),
        "total_ms": round(receipt.total_ms, 1),
        "team": _word(receipt.team),
        "tag": _word(receipt.tag),
        "input_tokens": receipt.counts.get("input_tokens", 0),
        "output_tokens": receipt.counts.get("output_tokens", 0),
        "cost_nusd": receipt.cost_nusd,
        "quality": receipt.quality,
        "end": _word(receipt.end),
    }
    if receipt.denied:
        record["denied"] = _word(receipt.denied)
    if receipt.note:
        record["note"] = _word(receipt.note)
    return record


def _word(text: str) -> str:
    return cut(safe(text), _TEXT)


def _remedy(path: Path, error: OSError) -> str:
    what = error.strerror or str(error)
    return (
        f"log file {path} can't be written ({what}): requests go on without it. "
        "Make room or the folder for it, or change logging.file in config.yaml."
    )
