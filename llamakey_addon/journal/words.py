"""How values are written: escaped, cut, in units that people read."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from llamakey_addon.keys import redact

#: Longer texts are not remembered.
KEPT: Final = 200


def safe(text: str) -> str:
    """`text` without local keys, escaped."""
    return _safe(text) if len(text) <= KEPT else escape(redact(text))


@lru_cache(maxsize=1024)
def _safe(text: str) -> str:
    return escape(redact(text))


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
    if count < 1000:
        return str(count)
    value = float(count)
    for unit in ("", "k", "M", "G"):
        if value < 999.5 or unit == "G":
            break
        value /= 1000
    return f"{value:.1f}{unit}" if unit and value < 9.95 else f"{value:.0f}{unit}"


def used(tokens_in: int, tokens_out: int, cost_nusd: int, quality: str) -> str:
    """Tokens and cost for people: `1.2k+345 $0.0042`, with `~` where they are estimated."""
    if quality == "none":
        return ""
    if quality == "unpriced":
        cost = "$?"
    else:
        cost = "free" if quality == "free" else dollars(cost_nusd)
    text = f"{size(tokens_in)}+{size(tokens_out)} {cost}"
    return f"~{text}" if quality == "estimated" else text


def dollars(nusd: int) -> str:
    """Nano-dollars for people: `$12.34`, `$0.0042`, `$0.0000031`; two digits that count."""
    usd = nusd / 1e9
    if usd >= 0.995 or not nusd:
        return f"${usd:.2f}"
    return f"${usd:.{1 - math.floor(math.log10(usd))}f}"


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


def cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def middle(text: str, length: int) -> str:
    """Cut in the middle: both the start and the end of a path say what it is."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def utc(time_s: float) -> str:
    micros = round(time_s * 1_000_000)
    return f"{_second(micros // 1_000_000)}.{micros // 1000 % 1000:03}Z"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]
