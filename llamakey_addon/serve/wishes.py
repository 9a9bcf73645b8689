"""What the command line asks of `lmk serve`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.serve import envfile


class StartFailed(LlamaKeyError):
    """Something beside the proxy itself did not start; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line asks of `lmk serve`."""

    config: Path | None = None
    listen: str | None = None
    """`HOST:PORT`, before config.yaml's."""
    door: bool = False
    """Open the second door, whatever config.yaml says."""
    web: bool = False
    """Start mitmweb beside the proxy."""
    scripts: tuple[Path, ...] = ()
    verbosity: int = 0
    """1 shows mitmproxy's own log, 2 all of it."""
    env_file: Path = Path(envfile.FILE_NAME)
    workers: int | None = None
    """How many processes serve, before config.yaml's."""
