"""Each real key against its provider's cheapest endpoint: is it good, and if not, why?

A key goes to its own provider's hosts and nowhere else, by the one way that asks for tokens too:
verified, bounded, no redirect followed. Nothing of an answer is shown but its status.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from llamakey_addon import credentials
from llamakey_addon.asking import asker
from llamakey_addon.catalogue.models import Check
from llamakey_addon.config import Settings
from llamakey_addon.credentials import Ask, MakingFailed, Placed, Reply
from llamakey_addon.errors import LlamaKeyError
from llamakey_addon.journey import Outgoing, Provider, Seal, Upstream

type State = Literal[
    "ok",
    "wrong",
    "expired",
    "forbidden",
    "limited",
    "used up",
    "failing",
    "unreachable",
    "untested",
]

_AT_ONCE: Final = 8
_EXPIRED: Final = re.compile(rb"expired", re.IGNORECASE)
_SPENT: Final = re.compile(
    rb"insufficient|exceeded your current quota|billing|credit", re.IGNORECASE
)
_OF_THE_KEY: Final = re.compile(rb"api[ _-]?key|credential|unauthenticated|token", re.IGNORECASE)

GOOD: Final = frozenset[State]({"ok", "untested"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one key."""

    provider: Provider
    state: State
    told: str
    """What happened, and what to do."""
    status: int = 0
    """Of the answer; 0 without one."""
    took_ms: float = 0.0


def look(settings: Settings) -> list[Finding]:
    """Test the keys of all providers that are ready, several at once; in the order of the ids."""
    ask = asker(lambda: settings.upstream_proxy)
    providers = [
        provider
        for provider in sorted(settings.providers.values(), key=lambda provider: provider.id)
        if provider.ready and (provider.secret is not None or provider.recipe is not None)
    ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda provider: test(provider, ask), providers))


def test(provider: Provider, ask: Ask) -> Finding:
    """Test one key, or what a credential is made of."""
    begun_s = time.monotonic()
    try:
        seal = _seal(provider, ask)
        check = provider.entry.check
        if check is None or provider.upstream is None:
            if provider.recipe is not None:
                return Finding(provider, "ok", "a credential was made; no call was tried with it")
            return Finding(provider, "untested", "no call is known that costs nothing")
        reply = _call(provider, check, seal, ask)
    except MakingFailed as failure:
        state: State = "unreachable" if failure.passing else "wrong"
        return Finding(provider, state, str(failure))
    except LlamaKeyError as error:
        return Finding(provider, "failing", str(error))
    took_ms = (time.monotonic() - begun_s) * 1000
    state = judge(reply.status, reply.body, check.good)
    told = _TOLD[state].format(where=_where(provider), status=reply.status)
    return Finding(provider, state, told, reply.status, took_ms)


def judge(status: int, body: bytes, good: Iterable[int]) -> State:
    """What an answer says of the key that it was asked with."""
    if 200 <= status < 300 or status in good:
        return "ok"
    if status == 402 or (status in (403, 429) and _SPENT.search(body)):
        return "used up"
    if status == 429:
        return "limited"
    if 400 <= status < 500 and _EXPIRED.search(body):
        return "expired"
    if status == 401 or (status == 400 and _OF_THE_KEY.search(body)):
        return "wrong"
    return "forbidden" if status == 403 else "failing"


_TOLD: Final[dict[State, str]] = {
    "ok": "",
    "wrong": "the provider does not know it ({status}): put the right one into {where}",
    "expired": "its time is over ({status}): make a new one at the provider, put it into {where}",
    "forbidden": "known, and not allowed to do this ({status}): see to its rights at the provider",
    "limited": "known, and at a rate limit just now ({status}): try again, or see to the account",
    "used up": "known, and nothing is left of its account ({status}): see to its billing",
    "failing": "the provider answered {status}, which says nothing of the key",
}


def _where(provider: Provider) -> str:
    if provider.secret is not None:
        return provider.secret.source
    return "its login" if provider.recipe is None else provider.recipe.source


def _seal(provider: Provider, ask: Ask) -> Seal:
    if provider.recipe is not None:
        return credentials.maker(provider.recipe, ask)().seal
    assert provider.secret is not None
    return Placed(provider.secret, provider.entry.credential.place)


def _call(provider: Provider, check: Check, seal: Seal, ask: Ask) -> Reply:
    upstream, path = provider.upstream, check.path
    assert upstream is not None
    if check.host in provider.named_hosts:
        upstream = Upstream("https", check.host, 443, ca=upstream.ca, owner=provider.id)
    elif check.host:  # the owner's one server for all of them
        path = f"/{check.host}{path}"
    content = check.body.encode() or None
    headers = [(name.encode(), value.encode()) for name, value in check.headers.items()]
    headers.append((b"Host", upstream.authority.encode()))
    headers.append((b"Accept", b"application/json"))
    if content is not None:
        headers.append((b"Content-Type", b"application/json"))
    # b"" for what signs: there is a body, and it is empty
    request = Outgoing(upstream, check.method, path, tuple(headers), content or b"")
    sealed, _ = seal.put(request)
    fields = {
        name.decode("latin-1"): value.decode("latin-1") for name, value in (*headers, *sealed)
    }
    return ask(check.method, upstream.origin + path, fields, content, ca=upstream.ca)
