"""Words that people mistype."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from functools import lru_cache


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean x?`, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean `{near[0]}`?" if near else ""


@lru_cache(maxsize=4096)
def folded(name: str) -> str:
    """A user's name as it is compared."""
    return unicodedata.normalize("NFKC", name).casefold()
