"""Several users at one proxy, and a provider that answers by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llamakey_addon.keys import mint
from tests.roadside import Bench, Got, make_bench

PROVIDERS = ("openai", "anthropic", "gemini", "cohere", "mistral", "replicate", "together", "groq")
_SLOTS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}


@dataclass(slots=True)
class People:
    bench: Bench
    keys: dict[str, str]

    def ask(
        self,
        who: str,
        line: str,
        body: object = None,
        answer: object = None,
        *headers: str,
        kind: str = "application/json",
        status: str = "200 OK",
    ) -> Got:
        """What a client gets; `answer` is the provider's, where the request gets there."""
        bench = self.bench
        method, target = line.split()[:2]
        slot = _SLOTS.get(target.split("/")[1])
        key = self.keys[who]
        content = None if body is None else _bytes(body)
        bench.rim.out.clear()
        wishes = len(bench.rim.wishes)
        more = (f"{slot}: {key}", *headers) if slot else headers
        bench.client(bench.head(line, *more, key=None if slot else key, body=content))
        if len(bench.rim.wishes) > wishes:
            bench.open()
            given = _bytes({"ok": True} if answer is None else answer)
            head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(given)}"
            bench.answer(head.encode() + b"\r\n\r\n" + given)
        (got,) = bench.got(method)
        return got

    def may(self, who: str, line: str, body: object = None, *headers: str) -> bool:
        """Whether a request goes to the provider."""
        wishes = len(self.bench.rim.wishes)
        got = self.ask(who, line, body, None, *headers)
        reached = len(self.bench.rim.wishes) > wishes
        assert got.status == 200 if reached else got.status in (400, 403, 404), got
        return reached

    def shown(self, who: str, line: str, document: object) -> Any:
        """What a user sees of a list."""
        return json.loads(self.ask(who, line, None, document).body)


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def make_people(folder: Path, *names: str, limits: dict | None = None, **config: Any) -> People:
    """alice, and users of these names. carol and dave share by their team, erin and frank not;
    grace shows what she makes to frank, heidi to everybody."""
    bench = make_bench(
        folder,
        limits,
        providers={name: {"key": "env:OPENAI_API_KEY"} for name in PROVIDERS},
        teams={"red": {"share": True}, "blue": {}},
        users={
            "carol": {"team": "red"},
            "dave": {"team": "red"},
            "erin": {"team": "blue"},
            "frank": {"team": "blue"},
            "Grace": {"share": ["Frank"]},
            "heidi": {"share": ["*"]},
        },
        **config,
    )
    keys = {"alice": bench.key}
    for name in names:
        minted = mint()
        bench.store.add_key(f"{name}-laptop", name, minted)
        keys[name] = minted.text
    return People(bench, keys)
