"""What the tests of flows share: a mitmweb with an addon that meddles, and calls through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.client import Answer, Wire
from tests.conftest import Start
from tests.harness import Proxy
from tests.view.page import Page, ticks

MEDDLER = Path(__file__).parent / "meddler.py"
CONFIG: dict[str, Any] = {
    "view": {"body_bytes": 65536, "max_flows": 400},
    "limits": {"json_body_bytes": 200_000},
    "users": {"bob": {"allow": [{"providers": ["openai"], "paths": ["/v1/chat/completions"]}]}},
}
#: The last hook of a flow; a WebSocket goes on after its `response`.
LAST = ("response", "error", "websocket_end")
CHAT = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
CHAT_PATH = "/openai/v1/chat/completions"


@pytest.fixture
def watched(shared_proxy: Start) -> Proxy:
    """A mitmweb with LlamaKey and the meddler."""
    return shared_proxy("mitmweb", config=CONFIG, args=("-s", str(MEDDLER)))


@pytest.fixture
def page(watched: Proxy) -> Page:
    return Page.of(watched)


@pytest.fixture
def marks(request: pytest.FixtureRequest) -> str:
    """A word for `x-mark` that no other test uses."""
    return request.node.name.encode().hex()


class Caller:
    """Calls through a proxy."""

    def __init__(self, proxy: Proxy, mark: str) -> None:
        self.proxy = proxy
        self.mark = mark

    def headers(self, key: str | None = None, meddle: str = "") -> list[tuple[str, str]]:
        fields = [("x-mark", self.mark), ("Content-Type", "application/json")]
        key = self.proxy.local_key if key is None else key
        if key:
            fields.append(("Authorization", f"Bearer {key}"))
        if meddle:
            fields.append(("x-meddle", meddle))
        return fields

    def __call__(
        self,
        path: str = CHAT_PATH,
        body: bytes = CHAT,
        *,
        method: str = "POST",
        key: str | None = None,
        meddle: str = "",
        more: tuple[tuple[str, str], ...] = (),
    ) -> Answer:
        with Wire(self.proxy.url) as wire:
            wire.request(method, path, [*self.headers(key, meddle), *more], body)
            return wire.answer(method)

    def hooks(self) -> list[dict[str, Any]]:
        """What the meddler saw of this test's requests; waits for the last hook of one."""
        for _ in ticks(10):
            lines = (self.proxy.folder / "hooks.jsonl").read_text().splitlines()
            facts = [json.loads(line) for line in lines if f'"{self.mark}"' in line]
            if facts and facts[-1]["hook"] in LAST:
                return facts
        raise TimeoutError("no last hook")


@pytest.fixture
def call(watched: Proxy, marks: str) -> Caller:
    return Caller(watched, marks)


@pytest.fixture
def caller(marks: str) -> Callable[[Proxy], Caller]:
    return lambda proxy: Caller(proxy, marks)
