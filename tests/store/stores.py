"""Stores as tests use them, from here and from other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from llamakey_addon import keys
from llamakey_addon.store import KeyRow, Store

REPO = Path(__file__).parents[2]


def add(store: Store, name: str = "alice", user: str = "", **more: Any) -> tuple[KeyRow, str]:
    """A new key, and its text."""
    minted = keys.mint()
    return store.add_key(name, user or name, minted, **more), minted.text


def rows(store: Store) -> list[KeyRow]:
    return store.keys()


def in_another_process(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code`, in which `store` is a store on the same folder."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom pathlib import Path\nfrom llamakey_addon import keys\n"
            "from llamakey_addon.store import open_store\n"
            f"store = open_store(Path(sys.argv[1]))\n{code}",
            str(folder),
        ],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
