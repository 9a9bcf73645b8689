"""What a program needs to go through the second door: `lmk run` gives it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_PRELOAD: Final = Path(__file__).resolve().parent / "door.cjs"


def variables(door_url: str, key: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The proxy, with the local key as its credentials, and what makes Node use it.

    Arguments:
        door_url: the door, as `http://HOST:PORT`.
        environ: what the program would have without.
    """
    proxy = f"http://key:{key}@{urlsplit(door_url).netloc}"
    preload = f"--require {_quoted(str(_PRELOAD))}"
    options = environ.get("NODE_OPTIONS", "")
    return {
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        # versions of Node since 22.21 and 24 read HTTPS_PROXY when told so; the others get a file
        "NODE_USE_ENV_PROXY": "1",
        "NODE_OPTIONS": options if preload in options else f"{options} {preload}".strip(),
    }


def _quoted(path: str) -> str:
    """As NODE_OPTIONS takes a path with spaces."""
    if shlex.quote(path) == path:
        return path
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
