"""WebSockets as flows: handshake and messages in a live mitmweb, no key in any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests import canary
from tests.conftest import Start
from tests.fakes import World
from tests.view.conftest import CONFIG, Caller
from tests.view.page import Page, begun

PATH = "/openai/v1/realtime?model=watched"


@contextmanager
def talking(call: Caller) -> Iterator[ClientConnection]:
    """An open WebSocket whose request has this test's `x-mark`."""
    key = call.proxy.local_key
    headers = {"x-mark": call.mark, "Authorization": f"Bearer {key}"}
    with connect(
        call.proxy.url.replace("http", "ws", 1) + PATH,
        additional_headers=headers,
        subprotocols=[Subprotocol("realtime"), Subprotocol(f"openai-insecure-api-key.{key}")],
        proxy=None,
    ) as client:
        assert client.subprotocol == "realtime"
        client.recv(timeout=45)
        yield client


def ended(mark: str) -> Any:
    def found(flow: dict[str, Any]) -> bool:
        return begun(mark)(flow) and bool((flow.get("websocket") or {}).get("timestamp_end"))

    return found


def messages(page: Page, flow: dict[str, Any]) -> list[dict[str, Any]]:
    found = json.loads(page.do("GET", f"/flows/{flow['id']}/messages/content/auto.json"))
    assert isinstance(found, list)
    return found


def test_handshake_and_messages_stand_in_the_page(page: Page, call: Caller, world: World) -> None:
    key, real = call.proxy.local_key, world.key("openai")
    with talking(call) as client:
        client.send(json.dumps({"type": "fake.echo", "secret": key}))
        client.recv(timeout=45)
        flow = page.wait(lambda flow: begun(call.mark)(flow) and _count(flow) == 3)
        assert flow["response"]["status_code"] == 101
    flow = page.wait(ended(call.mark))
    assert flow["websocket"]["close_code"] == 1000
    assert flow["websocket"]["closed_by_client"] is True
    offered = dict(flow["request"]["headers"])["Sec-WebSocket-Protocol"]
    shown = f"sk-lmk-{key.split('-')[2]}-..."
    assert offered == f"realtime, openai-insecure-api-key.{shown}"
    texts = [(message["from_client"], message["text"]) for message in messages(page, flow)]
    assert [up for up, _ in texts] == [False, True, False]
    assert "session.created" in texts[0][1]
    assert shown in texts[1][1]
    assert "*" * len(real) in texts[2][1]
    everything = json.dumps([page.flows(), texts]).encode()
    assert canary.find(everything, [*world.keys.values(), *call.proxy.keys]) == []


def test_a_key_that_is_told_back_to_its_client_is_masked(
    page: Page, call: Caller, world: World
) -> None:
    """Where it stands in the only subprotocol on offer, a browser wants that one back."""
    key = call.proxy.local_key
    only = Subprotocol(f"openai-insecure-api-key.{key}")
    with connect(
        call.proxy.url.replace("http", "ws", 1) + PATH,
        additional_headers={"x-mark": call.mark},
        subprotocols=[only],
        proxy=None,
    ) as client:
        assert client.subprotocol == only
    flow = page.wait(ended(call.mark))
    said = dict(flow["response"]["headers"])["Sec-WebSocket-Protocol"]
    assert said == f"openai-insecure-api-key.sk-lmk-{key.split('-')[2]}-..."
    assert canary.find(json.dumps(page.flows()).encode(), call.proxy.keys) == []


def _count(flow: dict[str, Any]) -> int:
    return int((flow.get("websocket") or {}).get("messages_meta", {}).get("count", 0))


def test_hooks_come_in_mitmproxys_order(page: Page, call: Caller) -> None:
    with talking(call) as client:
        client.send(b"\0\1")
    page.wait(ended(call.mark))
    assert [fact["hook"] for fact in call.hooks()] == [
        "requestheaders",
        "request",
        "responseheaders",
        "response",
        "websocket_start",
        "websocket_message",
        "websocket_message",
        "websocket_end",
    ]


def test_what_is_too_much_is_counted_and_not_kept(page: Page, call: Caller) -> None:
    with talking(call) as client:
        for _ in range(3):
            client.send(b"x" * 40_000)
        flow = page.wait(lambda flow: begun(call.mark)(flow) and _count(flow) == 3)
    flow = page.wait(ended(call.mark))
    assert _count(flow) == 3, "the greeting, one whole, one cut, and none of the third"
    assert flow["websocket"]["messages_meta"]["contentLength"] == 65536
    assert "the first 65536 are kept" in flow["comment"]


def test_a_kill_ends_it(page: Page, call: Caller) -> None:
    with talking(call) as client:
        flow = page.wait(lambda flow: begun(call.mark)(flow) and _count(flow) == 1)
        page.do("POST", f"/flows/{flow['id']}/kill")
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=45)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.reason == "LlamaKey: killed in the view"
    page.wait(ended(call.mark))
    line = call.proxy.wait_for_log(endpoint="realtime", end="killed in the view")
    assert line["status"] == 101


def test_it_is_not_replayed(page: Page, call: Caller, world: World) -> None:
    with talking(call):
        pass
    flow = page.wait(ended(call.mark))
    since = world.mark()
    page.call("POST", f"/flows/{flow['id']}/replay")
    call.proxy.wait_for_output("Can't replay WebSocket flows.")
    assert world.requests("openai", since=since) == []


def test_the_page_beside_lmk_serve_shows_them_too(
    shared_proxy: Start, world: World, marks: str
) -> None:
    proxy = shared_proxy("lmk", config={**CONFIG, "view": {"web_port": 0}}, args=("--web",))
    call, page = Caller(proxy, marks), Page.of(proxy)
    with talking(call) as client:
        client.send("hello")
    flow = page.wait(ended(marks))
    assert [message["text"] for message in messages(page, flow)][1:] == ["hello"]
