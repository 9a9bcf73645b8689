"""Clients that go on: each keeps its connection, asks again and again, and tries nothing twice."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

PATH = "/openai/v1/chat/completions"
#: How long some clients rest between two requests, with their connection open.
REST_S = 0.3


@dataclass(slots=True)
class Tally:
    """What they met."""

    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    whole: int = 0
    """Answers that came to their end."""
    errors: list[str] = field(default_factory=list)
    """Whatever an SDK would raise, had it not tried again."""
    goodbyes: int = 0
    """Answers that said `Connection: close`."""
    ids: list[str] = field(default_factory=list)
    """Of requests that were answered."""


async def run(
    url: str,
    key: str,
    body: dict[str, Any],
    *,
    clients: int,
    requests: int,
    seed: int = 3,
    tally: Tally | None = None,
    enough: Callable[[], bool] | None = None,
) -> Tally:
    """So many clients make so many requests in all; every other one streams.

    Arguments:
        tally: to be read while they do.
        enough: they go on beyond `requests` until this is true.
    """
    tally = Tally() if tally is None else tally
    left = [requests]
    chance = random.Random(seed)

    def more() -> bool:
        left[0] -= 1
        return left[0] >= 0 or (enough is not None and not enough())

    async def client() -> None:
        # no TLS, so nothing to verify it by
        transport = httpx.AsyncHTTPTransport(retries=0, verify=False)
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, transport=transport, timeout=100
        ) as asking:
            while more():
                streams = chance.random() < 0.5
                await _ask(asking, {**body, "stream": streams}, tally)
                if chance.random() < 0.2:
                    await asyncio.sleep(chance.random() * REST_S)

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def _ask(asking: httpx.AsyncClient, body: dict[str, Any], tally: Tally) -> None:
    try:
        async with asking.stream("POST", PATH, json=body) as answer:
            content = await answer.aread()
    except httpx.HTTPError as error:
        tally.errors.append(f"{type(error).__name__}: {error}")
        return
    tally.statuses[answer.status_code] += 1
    tally.ids.append(answer.headers.get("x-llamakey-request-id", ""))
    tally.goodbyes += answer.headers.get("connection") == "close"
    if answer.status_code != 200:
        tally.errors.append(f"{answer.status_code}: {content[:200]!r}")
    elif body["stream"] and not content.endswith(b"data: [DONE]\n\n"):
        tally.errors.append(f"a stream ended early: {content[-100:]!r}")
    else:
        tally.whole += 1
