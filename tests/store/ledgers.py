"""Short words for openings, claims and caps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from typing import Any

from llamakey_addon.caps import Bound, Facts
from llamakey_addon.journey import Cap
from llamakey_addon.store.ledger import Claim, Closing, Hold, Ledger, Opening
from llamakey_addon.store.windows import Windows

FACTS = Facts(
    user="alice",
    key_id="abcdefghij",
    team="research",
    provider="openai",
    endpoint="chat",
    method="POST",
    path="/v1/chat/completions",
    model="gpt-5-mini",
    tag="",
)
_IDS = itertools.count()
_FIELDS = set(Facts._fields)


def cap(unit: Any, most: int, window: Any = "", **more: Any) -> Cap:
    """A cap of everybody's, unless `subject` says otherwise."""
    return Cap(
        setting=more.pop("setting", "everybody.limits[0]"),
        subject=more.pop("subject", ("everybody", "")),
        unit=unit,
        most=most,
        window=window,
        **more,
    )


def opening(now_s: float | None = None, **more: Any) -> Opening:
    """An opening of alice's; what is given changes her facts, or the estimate."""
    facts = FACTS._replace(**{name: more.pop(name) for name in _FIELDS & more.keys()})
    return Opening(f"lmk_{next(_IDS):016x}", time.time() if now_s is None else now_s, facts, **more)


def claims(caps: Sequence[Cap], of: Opening, windows: Windows | None = None) -> list[Claim]:
    """What an opening takes of caps, all of which fit."""
    amounts = {
        "requests": 1,
        "concurrent": 1,
        "tokens": of.input_tokens + of.output_tokens,
        "nusd": of.cost_nusd,
    }
    windows = windows or Windows()
    return [
        Claim(
            bound := Bound(each),
            bound.scope(of.facts),
            windows.span(each.unit, each.window, of.time_s),
            amounts[each.unit],
        )
        for each in caps
    ]


def admit(ledger: Ledger, caps: Sequence[Cap], now_s: float | None = None, **more: Any) -> Hold:
    """Open a row; see `opening`."""
    each = opening(now_s, **more)
    return ledger.admit(each, claims(caps, each))


def closing(input_tokens: int = 0, output_tokens: int = 0, cost_nusd: int = 0, **more: Any) -> Any:
    counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    defaults: dict[str, Any] = {"status": 200, "end": "complete", "quality": "exact"}
    return Closing(**defaults | {"counts": counts, "cost_nusd": cost_nusd} | more)
