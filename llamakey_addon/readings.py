"""A path as a provider may read it."""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_DOTS = re.compile(r"(?:^|[/\\])\.{1,2}(?:[/\\]|$)")


def readings(path: str) -> tuple[str, ...]:
    """All of them; a rule that allows must fit each, one that denies any.

    With its escapes undone, for `%3A` is `:` to all; with `%2F` as a character of a segment and as
    a slash; and undone once more where that leaves escapes. A path that turns out to have dot
    segments has no reading that a rule could allow.
    """
    if "%" not in path:
        return (path,)
    found = [unescaped(path, slashes=False)]
    text = path
    for _ in range(4):
        text = unescaped(text, slashes=True)
        found.append(text)
        if not _ESCAPE.search(text):
            return () if _DOTS.search(text) else tuple(dict.fromkeys(found))
    return ()


def unescaped(text: str, *, slashes: bool) -> str:
    """Undo escapes once, byte for byte, so that what is no UTF-8 stays different too."""

    def undo(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return match[0].upper() if char == "/" and not slashes else char

    return _ESCAPE.sub(undo, text)
