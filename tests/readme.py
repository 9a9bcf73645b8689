"""README.md taken apart: its commands, what they print, its tables; and a terminal to run them on.

    ```sh         commands, one a line
    ```console    commands after `$ `, and what each prints
    ```text       more that a running command prints, or a picture
    ```yaml       a config.yaml

In what is printed, a line of `…` alone stands for any lines, and `…` within a line for any text.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
WAIT_S = 150

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: What differs between any two runs, and what stands for it when they are compared.
_PASSING = (
    (r"\bsk-lmk-[0-9a-z]{10}-[0-9A-Za-z…]*", "sk-lmk-KEY"),
    (r"\blmk_[0-9a-f]{16}\b", "lmk_ID"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b\d+ ms\b", "N ms"),
    (r"\b\d+/\d+\b", "N/N"),
    (r"\bServing \d+ of \d+\b", "Serving N of N"),
    (r"[ ─]+", " "),
)


@dataclass(frozen=True, slots=True)
class Command:
    text: str
    printed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int

    @property
    def commands(self) -> tuple[Command, ...]:
        if self.language == "console":
            return tuple(_console(self.text))
        if self.language == "sh":
            lines = self.text.replace("\\\n", " ").splitlines()
            return tuple(Command(line) for line in lines if line and not line.startswith("#"))
        return ()

    def __str__(self) -> str:
        return f"line {self.line}"


def _console(text: str) -> Iterator[Command]:
    command, printed = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield Command(command, tuple(printed))
            command, printed = line[2:], []
        elif _is_open(command):
            command += f"\n{line}"
        else:
            printed.append(line)
    yield Command(command, tuple(printed))


def _is_open(command: str) -> bool:
    """Whether a quotation in it has not ended, so that the next line belongs to it."""
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def text() -> str:
    return README.read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks, of some languages only where any is named."""
    whole = text()
    found = [
        Block(match[1], match[2], whole.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(whole)
    ]
    return [block for block in found if not languages or block.language in languages]


def prose() -> str:
    """All that is not in a block."""
    return _FENCE.sub("", text())


def words() -> list[str]:
    """What stands in backquotes in the prose."""
    return _INLINE.findall(prose())


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its kind."""
    hashes = re.search(rf"^(#+) {re.escape(title)}$", text(), re.MULTILINE)
    assert hashes, title
    return re.split(rf"^{hashes[1]} ", text()[hashes.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def between(mark: str) -> str:
    """What stands between `<!-- mark -->` and `<!-- /mark -->`."""
    return _marked(mark).split(text())[2]


def with_marked(mark: str, new: str) -> str:
    """README.md with something else between two marks."""
    return _marked(mark).sub(lambda match: f"{match[1]}{new}{match[3]}", text())


def _marked(mark: str) -> re.Pattern[str]:
    return re.compile(f"(<!-- {mark} -->)(.*?)(<!-- /{mark} -->)", re.DOTALL)


# --- what is printed ------------------------------------------------------------------------------


def plain(printed: str) -> str:
    """Output as it is compared: no colours, and one word for what differs between runs."""
    printed = _ANSI.sub("", printed).replace("\r\n", "\n")
    for pattern, word in _PASSING:
        printed = re.sub(pattern, word, printed)
    return "".join(f"{line.strip()}\n" for line in printed.splitlines())


def shows(promised: str, printed: str) -> bool:
    """Whether the output has what README promises."""
    pattern = "".join(
        r"(?:.*\n)*?"
        if line == "…"
        else r"[^\n]*".join(map(re.escape, re.split("…", line))) + r"\s*\n"
        for line in plain(promised).splitlines()
        if line
    )
    return re.search(rf"^{pattern}", plain(printed), re.MULTILINE) is not None


# --- a terminal -----------------------------------------------------------------------------------


class Terminal:
    """A command that runs on a terminal of 100 columns, until it is stopped."""

    def __init__(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        self.process = subprocess.Popen(
            # `exec`, so that a signal reaches the command and not the shell
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env={**environ, "TERM": "xterm-256color"},
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
        )
        os.close(side)
        self._changed = threading.Condition()
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def printed(self) -> str:
        with self._changed:
            return _ANSI.sub("", self._text).replace("\r\n", "\n")

    def wait_for(self, pattern: str, timeout_s: float = WAIT_S) -> re.Match[str]:
        """Until something printed matches."""
        end_s = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.printed)):
            with self._changed:
                gone = not self._reader.is_alive()
                if not gone:
                    self._changed.wait(0.2)
            if (gone and not re.search(pattern, self.printed)) or time.monotonic() > end_s:
                raise AssertionError(f"{pattern!r} was not printed:\n{self.printed}")
        return found

    def press(self, keys: str) -> None:
        """Type on its keyboard."""
        os.write(self._main, keys.encode())

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(WAIT_S)
        finally:
            self._reader.join(5)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        os.close(self._main)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._main, 65536)
            except OSError as error:
                if error.errno == errno.EIO:
                    return  # so Linux says that the other side has closed
                raise
            if not data:
                return
            with self._changed:
                self._text += data.decode("utf-8", "replace")
                self._changed.notify_all()


@contextlib.contextmanager
def terminal(command: str, folder: Path, environ: Mapping[str, str]) -> Iterator[Terminal]:
    running = Terminal(command, folder, environ)
    try:
        yield running
    finally:
        running.close()
