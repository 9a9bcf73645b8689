"""Every documented call of every provider, through a live proxy to a fake that wants the real key.

Paths and credentials come from `documented.yaml` and the fakes, both written from the providers'
documentation; the catalogue under test has no say in them.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from llamakey_addon.catalogue import load
from tests.catalogue import documented
from tests.client import Wire
from tests.conftest import Start
from tests.fakes import Request, World
from tests.fakes.families import FAMILIES

CALLS: dict[str, list[documented.Call]] = defaultdict(list)
for _call in documented.calls():
    CALLS[_call.provider].append(_call)
#: Everything; and what hands out credentials of the account, which only a rule by name allows.
RULES = [
    {"paths": ["**"]},
    {"paths": [p.partition(" ")[2] for e in load().entries.values() for p in e.mints]},
]
#: Where the proxy of other tests makes its credentials; here each has the documented key.
KEYS: dict[str, dict[str, object]] = {
    "vertex": {"login": None, "key": "env:FAKE_VERTEX_KEY"},
    "bedrock": {"key": "env:AWS_SECRET_ACCESS_KEY"},
    "bedrock-control": {"key": "env:AWS_SECRET_ACCESS_KEY"},
}
BODY = b'{"model": "m", "input": "hi"}'


def test_every_documented_provider_has_a_fake() -> None:
    assert set(CALLS) <= set(FAMILIES)


@pytest.mark.parametrize("provider", CALLS)
def test_documented_calls(provider: str, shared_proxy: Start, world: World) -> None:
    proxy = shared_proxy(
        config={
            "users": {"alice": {"allow": RULES}},
            "isolation": {"unowned": "allow"},
            "providers": KEYS,
        }
    )
    wrong = []
    with Wire(proxy.url) as wire:
        for call in CALLS[provider]:
            for client in call.clients:
                since = world.mark()
                target, headers = as_sent(call, client, proxy.local_key)
                body = BODY if call.method in ("POST", "PUT", "PATCH") else b""
                wire.request(call.method, f"/{provider}{target}", headers, body)
                answer = wire.answer(call.method)
                seen = world.requests(provider, since)
                if not seen:
                    wrong.append(f"{call} by {client}: {answer.status} {answer.body!r}")
                    continue
                wrong += faults(call, client, world.key(provider), seen[0])
    assert wrong == []


def as_sent(call: documented.Call, client: str, key: str) -> tuple[str, list[tuple[str, str]]]:
    """The target and headers of a client that has the local key in this slot."""
    filled = client.format(key=key)
    if filled.startswith("?"):
        joint = "&" if "?" in call.asked else "?"
        return f"{call.asked}{joint}{filled[1:]}", []
    name, _, value = filled.partition(": ")
    headers = [(name, value)]
    if call.method in ("POST", "PUT", "PATCH"):
        headers.append(("Content-Type", "application/json"))
    return call.asked, headers


def faults(call: documented.Call, client: str, key: str, seen: Request) -> list[str]:
    """Where the request that the fake saw is not the documented one."""
    checks = {
        "credential": (seen.credential, "real"),
        "method": (seen.method, call.method),
        "target": (seen.target, call.target),
        call.header: (seen.values(call.header), [call.value.format(key=key)]),
        "keys": (seen.head.count(key.encode()), 1),
    }
    return [
        f"{call} by {client}: {name} is {got!r}, should be {wanted!r}"
        for name, (got, wanted) in checks.items()
        if got != wanted
    ]
