"""Hosts of a provider that only it can name: globs in which `*` is a label, or a part of one.

`*.svc.*.example.io` stands for `index-1.svc.eu-west1.example.io`, and for nothing with another
number of labels. The catalogue's globs end in two labels without a `*`, so that the domain is
always the provider's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

GLOB: Final = r"^(?:[a-z0-9*-]+\.)*[a-z0-9-]+\.[a-z]+$"
_LONGEST: Final = 253


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(r"\.".join(_label(label) for label in glob.split(".")))


def _label(glob: str) -> str:
    """A label as names have it: no `-` at its ends."""
    return (
        r"(?!-)(?=[a-z0-9-]{1,63}(?:\.|$))"
        + re.escape(glob).replace(r"\*", "[a-z0-9-]+")
        + "(?<!-)"
    )


def fits(glob: str, host: str) -> bool:
    """Whether a host, in lower case and without a port, is one of a glob's."""
    return len(host) <= _LONGEST and _pattern(glob).fullmatch(host) is not None
