"""What several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

HELP: Final = {"help_option_names": ["-h", "--help"]}

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="config.yaml. Default: ./config.yaml, if there."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
