"""Calls of a provider, straight to its fake or through the proxy, each with its own key."""

from __future__ import annotations

from tests.client import Answer, Wire
from tests.fakes import World
from tests.harness import Proxy

MIB = 1024 * 1024
BIG = 200 * MIB
BIGGER = 6 * MIB
"""More than the view keeps of a body: up to there it is held for those who look at requests."""
type Fields = list[tuple[str, str]]

JSON: Fields = [("Content-Type", "application/json")]
CREDENTIALS = {
    "anthropic": "x-api-key",
    "elevenlabs": "xi-api-key",
    "gemini": "x-goog-api-key",
    "vectara": "x-api-key",
}
"""Of those that do not take Bearer."""


def credential(provider: str, key: str) -> Fields:
    header = CREDENTIALS.get(provider)
    fields = [(header, key)] if header else [("Authorization", f"Bearer {key}")]
    return [*fields, ("anthropic-version", "2023-06-01")] if provider == "anthropic" else fields


def direct(
    world: World, provider: str, method: str, path: str, fields: Fields, body: bytes
) -> Answer:
    context = world.certificates.client_context()
    with Wire(world.origin(provider), context) as wire:
        wire.request(method, path, [*credential(provider, world.key(provider)), *fields], body)
        return wire.answer(method)


def through(
    proxy: Proxy, provider: str, method: str, path: str, fields: Fields, body: bytes
) -> Answer:
    with Wire(proxy.url) as wire:
        key = credential(provider, proxy.local_key)
        wire.request(method, f"/{provider}{path}", [*key, *fields], body)
        return wire.answer(method)


def bearer(proxy: Proxy) -> Fields:
    return credential("openai", proxy.local_key)
