"""A ledger with rows in it, written by its own hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from llamakey_addon import keys
from llamakey_addon.store import open_store
from tests.store.ledgers import admit, closing

CENT = 10_000_000
"""Nano-dollars."""


def make_key(home: Path, name: str, user: str, **more: Any) -> str:
    """A new key's id."""
    minted = keys.mint()
    with open_store(home) as store:
        return store.add_key(name, user, minted, **more).id


def at(text: str) -> float:
    """Seconds of a time; UTC where it does not say otherwise."""
    when = datetime.fromisoformat(text)
    return when.timestamp() if when.tzinfo else datetime.fromisoformat(f"{text}+00:00").timestamp()


def fill(home: Path, *rows: dict[str, Any]) -> None:
    """Requests that came and were answered; each of alice's unless it says otherwise.

    `when` is their time, `input`, `output` and `cents` what they came to; `open` leaves one
    running; the rest is of `Facts` and `Closing`.
    """
    ended = {"quality", "status", "served", "end"}
    with open_store(home) as store:
        ledger = store.ledger
        for row in rows:
            given = dict(row)
            cost = round(given.pop("cents", 0) * CENT)
            tokens = given.pop("input", 0), given.pop("output", 0)
            how = {name: given.pop(name) for name in ended & given.keys()}
            when, running = at(given.pop("when")), given.pop("open", False)
            hold = admit(ledger, [], when, **given, cost_nusd=cost)
            if not running:
                ledger.settle(hold, closing(*tokens, cost, **how))
        ledger.flush()
        # What runs goes on, as that of a proxy would.
        ledger._connection.execute("UPDATE ledger SET process = ''")  # type: ignore[attr-defined]
