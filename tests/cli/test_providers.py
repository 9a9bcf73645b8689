"""`lmk providers`: what is ready, and what a whitelist may name."""

from __future__ import annotations

import json

from tests.cli.command import Lmk


def test_endpoints_of_one(lmk: Lmk) -> None:
    done = lmk("providers", "openai")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert ["chat", "POST", "/v1/chat/completions"] in rows
    assert ["realtime", "GET", "/v1/realtime", "(WebSocket)"] in rows
    assert "  POST /v1/realtime/client_secrets" in done.out.splitlines()
    record = json.loads(lmk("providers", "openai", "--json").out)
    chat = {"name": "chat", "methods": ["POST"], "path": "/v1/chat/completions"}
    assert chat | {"websocket": False} in record["endpoints"]
    assert "POST /v1/realtime/client_secrets" in record["mints"]


def test_one_that_is_not_there(lmk: Lmk) -> None:
    done = lmk("providers", "opnai")
    assert done.code == 2
    assert "There is no provider 'opnai'" in done.err
    assert "Did you mean openai?" in done.err
