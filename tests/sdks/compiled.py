"""Imports what the programs import, so that it is compiled: once, at the set-up of an environment.

    PYTHON tests/sdks/compiled.py      run by scripts/lib.sh, by an environment's own Python

An SDK has thousands of modules, of which the programs use a small part; every worker of a fresh
clone would compile that part again.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

BY_NAME = ("cerebras.cloud.sdk", "fireworks", "groq", "perplexity", "together", "writerai")
"""What programs are told to import."""


def imported(path: Path) -> Iterator[str]:
    """What a program imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            # a name of an SDK that loads its parts late
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def main() -> None:
    warnings.simplefilter("ignore")
    # not its folder: there lies what the programs share
    sys.path[0] = ""
    programs = sorted(Path(__file__).with_name("programs").glob("*.py"))
    for name in dict.fromkeys([*BY_NAME, *(name for p in programs for name in imported(p))]):
        with contextlib.suppress(Exception):  # of another environment than this one
            module, _, last = name.rpartition(".")
            if module in sys.modules:
                getattr(sys.modules[module], last)
            else:
                importlib.import_module(name)


if __name__ == "__main__":
    main()
