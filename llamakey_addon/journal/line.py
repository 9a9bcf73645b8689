"""How a request looks on the console."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TextIO

from llamakey_addon.journal.words import KEPT, cut, duration, escape, middle, safe, size, used, utc
from llamakey_addon.journey import Receipt

#: Narrower terminals get a request on two lines.
_ONE_LINE: Final = 114
#: What the columns of that line take, less path, model and id.
_FIXED: Final = 69

_RESET = "\x1b[0m"
_COLOURS: Final = {
    "dim": "\x1b[2m",
    "green": "\x1b[32m",
    "cyan": "\x1b[36m",
    "yellow": "\x1b[33m",
    "red": "\x1b[31m",
    "bold": "\x1b[1m",
}


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
            return f"{utc(time_s)} {escape(text)}"
        first, *more = textwrap.wrap(escape(text), max(20, self._width() - 10)) or [""]
        lines = [f"{self.paint(_clock(time_s), 'dim')}  {first}", *(" " * 10 + m for m in more)]
        return "\n".join(lines)

    def request(self, receipt: Receipt) -> str:
        if not self.terminal:
            return _plain(receipt)
        words = {
            "user": _shown(receipt.user),
            "provider": _shown(receipt.provider),
            "method": _shown(receipt.method),
            "path": _shown_path(receipt.path),
            "model": _shown(receipt.model),
            "status": str(receipt.status or "-"),
            "time": duration(receipt.total_ms),
            "bytes": f"{size(receipt.bytes_up)}/{size(receipt.bytes_down)}",
            "used": _used(receipt),
        }
        width = self._width()
        remark = "; ".join(_remarks(receipt))
        if width < _ONE_LINE:
            return "\n".join(self._narrow(receipt, words, remark, width))
        return "\n".join([self._wide(receipt, words, width), *self._remark(receipt, remark, width)])

    def _remark(self, receipt: Receipt, remark: str, width: int) -> list[str]:
        wrapped = textwrap.wrap(remark, max(20, width - 9))
        return [" " * 9 + self.paint(line, _tone(receipt)) for line in wrapped]

    def _wide(self, receipt: Receipt, words: dict[str, str], width: int) -> str:
        # What the fixed columns and the id leave is the path's and the model's.
        rest = width - _FIXED - len(receipt.id)
        model = max(12, min(30, rest * 2 // 5))
        path = max(12, min(60, rest - model))
        return " ".join(
            (
                self.paint(_clock(receipt.time_s), "dim"),
                self.paint(f"{words['status']:>3} ", _tone(receipt), "bold"),
                f"{cut(words['user'], 9):<9}",
                self.paint(f"{cut(words['provider'], 10):<10}", "cyan"),
                f"{cut(words['method'], 6):<6}",
                f"{middle(words['path'], path):<{path}}",
                f"{cut(words['model'], model):<{model}}",
                f"{words['time']:>7}",
                f"{cut(words['used'] or words['bytes'], 15):>15}",
                self.paint(f" {receipt.id}", "dim"),
            )
        )

    def _narrow(
        self, receipt: Receipt, words: dict[str, str], remark: str, width: int
    ) -> list[str]:
        method = cut(words["method"], 7)
        provider = cut(words["provider"], 12 if width >= 50 else 8)
        path = max(8, width - 16 - len(provider) - len(method))
        first = (
            f"{self.paint(_clock(receipt.time_s), 'dim')} "
            f"{self.paint(f'{words["status"]:>3}', _tone(receipt), 'bold')} "
            f" {self.paint(provider, 'cyan')} {method} {middle(words['path'], path)}"
        )
        user = cut(words["user"], 12)
        figures = [words["time"], words["used"] or words["bytes"]]
        room = width - 9
        # What the user, the figures and the gaps leave is the model's.
        model = cut(words["model"], max(1, room - sum(map(len, [user, *figures])) - 6))
        facts = [fact for fact in (user, model, *figures) if fact not in ("-", "…", "0/0")]
        # The id is what people search for: it is never cut, and never broken in two.
        if len("  ".join([*facts, receipt.id])) <= room:
            tail = remark and len("  ".join([*facts, receipt.id, remark])) <= room
            last = [*facts, self.paint(receipt.id, "dim")]
            if tail:
                return [first, " " * 9 + "  ".join([*last, self.paint(remark, _tone(receipt))])]
            return [first, " " * 9 + "  ".join(last), *self._remark(receipt, remark, width)]
        return [
            first,
            " " * 9 + "  ".join(facts),
            " " * 9 + self.paint(receipt.id, "dim"),
            *self._remark(receipt, remark, width),
        ]


def _plain(receipt: Receipt) -> str:
    """Nothing cut but a path of absurd length; columns are one space apart, remarks at the end."""
    asked = (receipt.user, receipt.provider, receipt.method, receipt.path, receipt.model)
    short = len(receipt.method) + len(receipt.path) + len(receipt.model) <= KEPT
    spent = _used(receipt).replace(" ", "=")
    line = (
        f"{utc(receipt.time_s)} {_kept(*asked) if short else _asked(*asked)} "
        f"{receipt.status or '-'} {receipt.total_ms:.0f}ms "
        f"{receipt.bytes_up}/{receipt.bytes_down} {spent}{' ' if spent else ''}{receipt.id}"
    )
    if receipt.end in _PLAIN_ENDS and not receipt.denied and not receipt.note:
        return line
    remarks = _remarks(receipt)
    return f"{line} ({'; '.join(remarks)})" if remarks else line


def _asked(user: str, provider: str, method: str, path: str, model: str) -> str:
    """Who asked for what, in a plain line."""
    return (
        f"{_shown(user).replace(' ', '_')} {_shown(provider)} {_shown(method)} "
        f"{middle(_shown_path(path), 400)} {_shown(model).replace(' ', '_')}"
    )


_kept: Final = lru_cache(maxsize=1024)(_asked)
_PLAIN_ENDS: Final = ("complete", "denied")


def _used(receipt: Receipt) -> str:
    if receipt.quality == "none":
        return ""
    counts = receipt.counts
    tokens = (counts.get("input_tokens", 0), counts.get("output_tokens", 0))
    return used(*tokens, receipt.cost_nusd, receipt.quality)


def _remarks(receipt: Receipt) -> list[str]:
    words = [receipt.denied]
    if receipt.end not in _PLAIN_ENDS:
        words.append(receipt.end)
    words.append(receipt.note)
    return [safe(word) for word in words if word]


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
    return cut(safe(text), 200) or "-"


def _shown_path(path: str) -> str:
    return safe(path.partition("?")[0]) or "-"
