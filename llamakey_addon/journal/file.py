"""JSON lines in a file."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final

from llamakey_addon.journal.words import KEPT, cut, safe, utc
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
        """Append a request's line. Never raises."""
        self._line(_request(receipt))

    def write(self, record: dict[str, object]) -> None:
        """Append a line. Never raises."""
        self._line(_ENCODER.encode(record))

    def _line(self, line: str) -> None:
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


def _request(receipt: Receipt) -> str:
    first, counts = receipt.first_byte_ms, receipt.counts
    asked = (receipt.user, receipt.key_name, receipt.provider, receipt.endpoint)
    wanted = (receipt.method, receipt.path, receipt.model)
    short = sum(map(len, wanted)) <= KEPT
    line = (
        f'{{"time":"{utc(receipt.time_s)}","id":"{receipt.id}","peer":{_word(receipt.peer)},'
        f"{_kept(*asked, *wanted) if short else _asked(*asked, *wanted)},"
        f'"status":{receipt.status},'
        f'"bytes_up":{receipt.bytes_up},"bytes_down":{receipt.bytes_down},'
        f'"first_byte_ms":{"null" if first is None else round(first, 1)},'
        f'"total_ms":{round(receipt.total_ms, 1)},'
        f'"team":{_word(receipt.team)},"tag":{_word(receipt.tag)},'
        f'"input_tokens":{counts.get("input_tokens", 0)},'
        f'"output_tokens":{counts.get("output_tokens", 0)},'
        f'"cost_nusd":{receipt.cost_nusd},"quality":"{receipt.quality}",'
        f'"end":{_word(receipt.end)}'
    )
    if receipt.denied:
        line += f',"denied":{_word(receipt.denied)}'
    if receipt.note:
        line += f',"note":{_word(receipt.note)}'
    return line + "}"


def _asked(
    user: str, key: str, provider: str, endpoint: str, method: str, path: str, model: str
) -> str:
    """Who asked for what, as members of a line."""
    members = {
        "user": user,
        "key": key,
        "provider": provider,
        "endpoint": endpoint,
        "method": method,
        "path": path.partition("?")[0],
        "model": model,
    }
    return ",".join(f'"{name}":{_word(value)}' for name, value in members.items())


_kept: Final = lru_cache(maxsize=1024)(_asked)


def _word(text: str) -> str:
    """As JSON, escaped and cut."""
    return _short(text) if len(text) <= KEPT else _ENCODER.encode(cut(safe(text), _TEXT))


@lru_cache(maxsize=1024)
def _short(text: str) -> str:
    return _ENCODER.encode(safe(text))


def _remedy(path: Path, error: OSError) -> str:
    what = error.strerror or str(error)
    return (
        f"log file {path} can't be written ({what}): requests go on without it. "
        "Make room or the folder for it, or change logging.file in config.yaml."
    )
