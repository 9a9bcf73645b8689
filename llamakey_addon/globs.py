"""Globs of rules: `*` stands for anything within a segment, `**` for any segments.

`/v1/files/*` is each file, `/v1/files/**` everything below `/v1/files/`, `/v1/**/content` any depth
between. Everything else stands for itself, with its case.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal


@lru_cache(maxsize=4096)
def glob(pattern: str, kind: Literal["paths", "names"] = "paths") -> re.Pattern[str]:
    """A glob as a regular expression, for `fullmatch`.

    Arguments:
        kind: `paths`, or `names` of endpoints, in which `*` stands for anything.
    """
    if kind == "names":
        return re.compile(re.sub(r"(?:\\\*)+", ".*", re.escape(pattern)), re.DOTALL)
    parts = []
    for segment in re.split(r"(?<=/)", pattern):
        if segment == "**/":
            parts.append("(?:.*/)?")
        elif segment in ("*", "*/"):
            parts.append(f"[^/]+{segment[1:]}")
        else:
            for piece in re.split(r"(\*+)", segment):
                if not piece.startswith("*"):
                    parts.append(re.escape(piece))
                else:
                    parts.append("[^/]*" if piece == "*" else ".*")
    return re.compile("".join(parts), re.DOTALL)
