"""The log: a line a request on the console, and the same as JSON in a file where one is configured.

    20:51:02 200  alice  openai  POST  /v1/chat/completions  gpt-4o-mini  812 ms  1.2k/34k  lmk_…

A line holds no header value, no body, no query and no key. What a client chose (path, method,
model) is escaped, so that it can neither forge a line nor speak to the terminal. The file is
written at once, one `write` a line; the console by a thread of its own, so that a terminal that
stands still (Ctrl-S, a pager that nobody pages) never holds a request.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from llamakey_addon.journey import Receipt
from llamakey_addon.keys import redact

if TYPE_CHECKING:
    from llamakey_addon.config import Settings

#: Lines that wait for a console that stands still; what comes above is counted and dropped.
_WAITING_LINES: Final = 10_000
_CLOSE_S: Final = 2.0
#: Length of a client's words in the JSON file; a target may be as long as a whole head.
_FILE_TEXT: Final = 2048
#: Narrower terminals get a request on two lines.
_ONE_LINE: Final = 112
#: What the columns of that line take, less path, model and id.
_FIXED: Final = 68

_RESET = "\x1b[0m"
_COLOURS: Final = {
    "dim": "\x1b[2m",
    "green": "\x1b[32m",
    "cyan": "\x1b[36m",
    "yellow": "\x1b[33m",
    "red": "\x1b[31m",
    "bold": "\x1b[1m",
}


class Journal:
    """Writes receipts and notes. Nothing that goes wrong in it reaches a request.

    Arguments:
        settings: `logging.console` and `logging.file` say where to.
        stream: the console, standard output by default.
    """

    def __init__(self, settings: Settings, stream: TextIO | None = None) -> None:
        stream = sys.stdout if stream is None else stream
        self._console = _Console(stream) if settings.logging.console else None
        self._file: _File | None = None
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Write to the file that these settings name; the console stays as it was at the start."""
        path = settings.logging.file
        if self._file is not None and path == self._file.path:
            self._file.reopen()
            return
        if self._file is not None:
            self._file.close()
        self._file = None if path is None else _File(path, self._complain)

    def write(self, receipt: Receipt) -> None:
        """Log a request."""
        if self._file is not None:
            self._file.write(_record(receipt))
        if self._console is not None:
            self._console.put(receipt)

    def note(self, text: str) -> None:
        """Log what is not one request's: a reload, a failure inside. May have several lines."""
        for line in redact(text).splitlines():
            if self._file is not None:
                self._file.write({"time": _utc(time.time()), "note": escape(line)})
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


def escape(text: str) -> str:
    """`text` with everything that is not printable written out (`\\x1b`, `\\u202e`), and `\\`
    doubled, so that the original can be told."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        "\\\\" if char == "\\" else char if char.isprintable() else _escaped(char) for char in text
    )


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def size(count: int) -> str:
    """Bytes for people: `812`, `1.2k`, `34M`."""
    value = float(count)
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"


def duration(milliseconds: float) -> str:
    """`812 ms`, `12.3 s`, `4m10s`, `2h05m`."""
    if milliseconds < 9_999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return (
        f"{minutes}m{int(seconds) % 60:02}s"
        if minutes < 100
        else f"{minutes // 60}h{minutes % 60:02}m"
    )


# --- the file -------------------------------------------------------------------------------------


def _record(receipt: Receipt) -> dict[str, object]:
    first = receipt.first_byte_ms
    record: dict[str, object] = {
        "time": _utc(receipt.time_s),
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
        "end": _word(receipt.end),
    }
    if receipt.denied:
        record["denied"] = _word(receipt.denied)
    if receipt.note:
        record["note"] = _word(receipt.note)
    return record


def _word(text: str) -> str:
    return _cut(escape(redact(text)), _FILE_TEXT)


def _utc(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class _File:
    """JSON lines, appended; follows a rotation; says once when it fails, once when it is well."""

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self.path = path
        self._complain = complain
        self._descriptor = -1
        self._identity = (0, 0)
        self._lost = 0
        self._partial = False
        self._open_or_complain()

    def write(self, record: dict[str, object]) -> None:
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        # A lone surrogate (JSON may hold one) has been escaped; `replace` is for what has not.
        data = line.encode("utf-8", "replace") + b"\n"
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
        self.close()
        self._open_or_complain()

    def close(self) -> None:
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
            self.close()
            self._open()


def _remedy(path: Path, error: OSError) -> str:
    what = error.strerror or str(error)
    return (
        f"log file {path} can't be written ({what}): requests go on without it. "
        "Make room or the folder for it, or change logging.file in config.yaml."
    )


# --- the console ----------------------------------------------------------------------------------

type _Item = Receipt | tuple[float, str]


class _Console:
    """Lines for people, written by a thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._style = Style.of(stream)
        self._waiting: deque[_Item] = deque()
        self._dropped = 0
        self._busy = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def put(self, item: _Item) -> None:
        with self._changed:
            if len(self._waiting) >= _WAITING_LINES:
                self._dropped += 1
                return
            self._waiting.append(item)
            self._changed.notify_all()

    def flush(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._busy), _CLOSE_S)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                batch = list(self._waiting)
                self._waiting.clear()
                dropped, self._dropped = self._dropped, 0
                self._busy = True
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


class Style:
    """How lines look: coloured and aligned on a terminal, plain and whole elsewhere."""

    def __init__(self, *, terminal: bool, colour: bool, width: Callable[[], int]) -> None:
        self.terminal = terminal
        self._colour = colour
        self._width = width

    @classmethod
    def of(cls, stream: TextIO) -> Style:
        try:
            terminal = stream.isatty()
        except ValueError:
            terminal = False
        colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return cls(
            terminal=terminal, colour=colour, width=lambda: shutil.get_terminal_size().columns
        )

    def paint(self, text: str, *names: str) -> str:
        if not self._colour or not text:
            return text
        return "".join(_COLOURS[name] for name in names) + text + _RESET

    def note(self, time_s: float, text: str) -> str:
        if not self.terminal:
            return f"{_utc(time_s)} {escape(text)}"
        return f"{self.paint(_clock(time_s), 'dim')}  {escape(text)}"

    def request(self, receipt: Receipt) -> str:
        path = escape(redact(receipt.path.partition("?")[0]))
        words = {
            "user": _shown(receipt.user),
            "provider": _shown(receipt.provider),
            "method": _shown(receipt.method),
            "path": path or "-",
            "model": _shown(receipt.model),
            "status": str(receipt.status or "-"),
            "time": duration(receipt.total_ms),
            "bytes": f"{size(receipt.bytes_up)}/{size(receipt.bytes_down)}",
        }
        remarks = _remarks(receipt)
        if not self.terminal:
            return _plain(receipt, words, remarks)
        width = self._width()
        lines = (
            self._wide(receipt, words, width)
            if width >= _ONE_LINE
            else self._narrow(receipt, words, width)
        )
        if remarks:
            wrapped = textwrap.wrap("; ".join(remarks), max(20, width - 9))
            lines += (" " * 9 + self.paint(line, _tone(receipt)) for line in wrapped)
        return "\n".join(lines)

    def _wide(self, receipt: Receipt, words: dict[str, str], width: int) -> list[str]:
        # What the fixed columns and the id leave is the path's and the model's.
        rest = width - _FIXED - len(receipt.id)
        model = max(12, min(30, rest * 2 // 5))
        path = max(12, min(60, rest - model))
        return [
            " ".join(
                (
                    self.paint(_clock(receipt.time_s), "dim"),
                    self.paint(f"{words['status']:>3} ", _tone(receipt), "bold"),
                    f"{_cut(words['user'], 9):<9}",
                    self.paint(f"{_cut(words['provider'], 10):<10}", "cyan"),
                    f"{_cut(words['method'], 6):<6}",
                    f"{_middle(words['path'], path):<{path}}",
                    f"{_cut(words['model'], model):<{model}}",
                    f"{words['time']:>7}",
                    f"{words['bytes']:>9}",
                    self.paint(f" {receipt.id}", "dim"),
                )
            )
        ]

    def _narrow(self, receipt: Receipt, words: dict[str, str], width: int) -> list[str]:
        method = _cut(words["method"], 7)
        provider = _cut(words["provider"], 12 if width >= 50 else 8)
        path = max(8, width - 16 - len(provider) - len(method))
        lines = [
            f"{self.paint(_clock(receipt.time_s), 'dim')} "
            f"{self.paint(f'{words["status"]:>3}', _tone(receipt), 'bold')} "
            f" {self.paint(provider, 'cyan')} {method} {_middle(words['path'], path)}"
        ]
        # The id is what people search for: it is never cut, and never broken in two.
        room = width - 9
        rest = len(words["time"]) + len(words["bytes"]) + 4
        details = f"{_cut(words['user'], 12)}  {words['time']}  {words['bytes']}"
        if room - len(details) - 2 >= 12:
            model = _cut(words["model"], room - rest - 2 - min(12, len(words["user"])))
            details = f"{_cut(words['user'], 12)}  {model}  {words['time']}  {words['bytes']}"
        if len(details) + 2 + len(receipt.id) <= room:
            return [*lines, " " * 9 + details + self.paint(f"  {receipt.id}", "dim")]
        return [*lines, " " * 9 + details, " " * 9 + self.paint(receipt.id, "dim")]


def _plain(receipt: Receipt, words: dict[str, str], remarks: list[str]) -> str:
    """Nothing cut but a path of absurd length; columns are one space apart, remarks at the end."""
    line = " ".join(
        (
            _utc(receipt.time_s),
            words["user"].replace(" ", "_"),
            words["provider"],
            words["method"],
            _middle(words["path"], 400),
            words["model"].replace(" ", "_"),
            words["status"],
            f"{receipt.total_ms:.0f}ms",
            f"{receipt.bytes_up}/{receipt.bytes_down}",
            receipt.id,
        )
    )
    return f"{line} ({'; '.join(remarks)})" if remarks else line


def _remarks(receipt: Receipt) -> list[str]:
    words = [receipt.denied]
    if receipt.end not in ("complete", "denied"):
        words.append(receipt.end)
    words.append(receipt.note)
    return [escape(redact(word)) for word in words if word]


def _tone(receipt: Receipt) -> str:
    status = receipt.status
    if status >= 500 or status == 0:
        return "red"
    if status >= 400 or receipt.note:
        return "yellow"
    return "green"


def _clock(time_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_s))


def _shown(text: str) -> str:
    return _cut(escape(redact(text)), 200) or "-"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _middle(text: str, length: int) -> str:
    """Cut in the middle: both the start and the end of a path say what it is."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
