"""Flows of a live mitmweb: whole, in order, denials included, and no key in any."""

from __future__ import annotations

import json

import pytest

from llamakey_addon.tokens import traces
from tests import canary
from tests.client import Wire
from tests.fakes import World
from tests.fakes.families.openai import TEXT
from tests.harness import Proxy
from tests.view.conftest import CHAT, CHAT_PATH, Caller
from tests.view.page import Page, begun, marked


def test_a_call_stands_whole_in_the_page(
    page: Page, call: Caller, world: World, watched: Proxy
) -> None:
    answer = call()
    assert answer.status == 200
    flow = page.wait(marked(call.mark))
    request, response = flow["request"], flow["response"]
    assert request["method"] == "POST"
    assert (request["scheme"], request["host"], request["port"]) == (
        "http",
        "localhost",
        watched.port,
    )
    assert request["path"] == CHAT_PATH
    key_id = watched.local_key.split("-")[2]
    assert ["Authorization", f"Bearer sk-lmk-{key_id}-..."] in request["headers"]
    assert page.content(flow, "request") == CHAT
    assert response["status_code"] == 200
    assert page.content(flow, "response") == answer.body
    assert flow["server_conn"]["address"] == ["localhost", world.port("openai")]
    assert flow["client_conn"]["peername"][0] == "127.0.0.1"
    times = [
        request["timestamp_start"],
        request["timestamp_end"],
        response["timestamp_start"],
        response["timestamp_end"],
    ]
    assert times == sorted(times)
    assert "error" not in flow
    everything = json.dumps(page.flows()).encode()
    assert canary.find(everything, [*world.keys.values(), *watched.keys]) == []


def test_hooks_come_in_mitmproxys_order_and_say_whose_it_is(page: Page, call: Caller) -> None:
    call()
    page.wait(marked(call.mark))
    hooks = call.hooks()
    assert [fact["hook"] for fact in hooks] == [
        "requestheaders",
        "request",
        "responseheaders",
        "response",
    ]
    assert [fact["content"] for fact in hooks[:2]] == [False, True]
    facts = hooks[-1]["metadata"]
    assert facts["llamakey_user"] == "alice"
    assert facts["llamakey_provider"] == "openai"
    assert facts["llamakey_upstream"].endswith("/v1/chat/completions")
    assert facts["llamakey_request"].startswith("lmk_")


def test_a_stream_is_recorded_while_it_passes(page: Page, call: Caller, world: World) -> None:
    gate = world.gate(call.mark)
    body = CHAT[:-1] + b', "stream": true}'
    with Wire(call.proxy.url) as wire:
        wire.request("POST", CHAT_PATH, [*call.headers(), ("x-fake-gate", call.mark)], body)
        gate.release()
        _, status, _, fields = wire.head()
        pieces = iter(wire.pieces("POST", status, fields))
        first = next(pieces)
        flow = page.wait(lambda each: begun(call.mark)(each) and "response" in each)
        assert flow["response"]["timestamp_end"] is None
        gate.open()
        whole = first + b"".join(pieces)
    flow = page.wait(marked(call.mark))
    assert page.content(flow, "response") == whole
    assert whole.endswith(b"data: [DONE]\n\n")


def test_a_packed_answer_is_kept_as_on_the_wire(page: Page, call: Caller) -> None:
    answer = call("/cohere/odd/gzip", b"", method="GET", more=(("Accept-Encoding", "gzip"),))
    flow = page.wait(marked(call.mark))
    assert ["content-encoding", "gzip"] in flow["response"]["headers"]
    assert flow["response"]["contentLength"] == len(answer.body)
    assert page.content(flow, "response") != answer.body  # mitmweb unpacks for its reader


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        (CHAT_PATH, "", 401),
        (CHAT_PATH, "sk-proj-a-real-looking-key-of-somebodys", 401),
        ("/nobody/v1/x", None, 404),
        ("/openai/v1/../x", None, 400),
    ],
)
def test_denials_are_flows_too(
    page: Page, call: Caller, path: str, key: str | None, status: int
) -> None:
    answer = call(path, key=key)
    assert answer.status == status
    flow = page.wait(marked(call.mark))
    assert flow["response"]["status_code"] == status
    assert page.content(flow, "response") == answer.body
    assert b"real-looking" not in json.dumps(page.flows()).encode()
    assert [fact["hook"] for fact in call.hooks()] == [
        "requestheaders",
        "request",
        "responseheaders",
        "response",
    ]


def test_a_denial_by_a_rule_shows_the_body_too(page: Page, call: Caller, watched: Proxy) -> None:
    answer = call("/openai/v1/embeddings", b'{"model": "m", "input": "x"}', key=watched.mint("bob"))
    assert answer.status == 403
    flow = page.wait(marked(call.mark))
    assert flow["response"]["status_code"] == 403


def test_a_key_in_the_query_is_masked(page: Page, call: Caller, watched: Proxy) -> None:
    answer = call(
        f"/gemini/v1beta/models?pageSize=1&key={watched.local_key}", b"", method="GET", key=""
    )
    assert answer.status == 200
    flow = page.wait(marked(call.mark))
    key_id = watched.local_key.split("-")[2]
    assert flow["request"]["path"] == f"/gemini/v1beta/models?pageSize=1&key=sk-lmk-{key_id}-..."


def test_large_bodies_are_cut_with_a_word(page: Page, call: Caller) -> None:
    body = b"a" * 300_000
    answer = call("/cohere/odd/upload", body)
    assert json.loads(answer.body)["length"] == len(body)
    flow = page.wait(marked(call.mark))
    assert flow["request"]["contentLength"] == 65536
    assert "of the request's 300000 bytes the first 65536 are kept" in flow["comment"]
    answer = call("/cohere/odd/download?bytes=100000", b"", method="GET")
    assert len(answer.body) == 100_000
    flow = page.wait(lambda each: marked(call.mark)(each) and each["request"]["method"] == "GET")
    assert flow["response"]["contentLength"] == 65536
    assert "of the answer's 100000 bytes" in flow["comment"]


def test_a_client_that_leaves_is_an_error(page: Page, call: Caller, world: World) -> None:
    gate = world.gate(call.mark)
    body = CHAT[:-1] + b', "stream": true}'
    with Wire(call.proxy.url) as wire:
        wire.request("POST", CHAT_PATH, [*call.headers(), ("x-fake-gate", call.mark)], body)
        gate.release()
        wire.head()
    flow = page.wait(marked(call.mark))
    assert flow["error"]["msg"] == "client left"
    gate.open()
    assert call.hooks()[-1]["hook"] == "error"


def test_an_answer_that_ends_midway_is_an_error(page: Page, call: Caller) -> None:
    answer = call("/cohere/odd/truncated?framing=chunked", b"", method="GET")
    assert not answer.whole
    flow = page.wait(lambda each: begun(call.mark)(each) and "error" in each)
    assert flow["response"]["status_code"] == 200
    assert call.hooks()[-1]["hook"] == "error"


def test_the_health_page_is_no_flow(page: Page, watched: Proxy) -> None:
    assert watched.healthy()
    assert all(flow["request"]["path"] != "/_llamakey/health" for flow in page.flows())


def test_pipelined_requests_are_flows_of_one_connection(page: Page, call: Caller) -> None:
    with Wire(call.proxy.url) as wire:
        for _ in range(3):
            wire.request("POST", CHAT_PATH, call.headers(), CHAT)
        for _ in range(3):
            assert TEXT.encode() in wire.answer("POST").body
    page.wait(marked(call.mark))
    flows = [flow for flow in page.flows() if marked(call.mark)(flow)]
    assert len({flow["id"] for flow in flows}) == 3
    assert len({flow["client_conn"]["id"] for flow in flows}) == 1


def test_a_head_that_cannot_be_read_is_a_flow_too(page: Page, call: Caller) -> None:
    """Nothing of it is known but that it came, and what was said to it."""
    with Wire(call.proxy.url) as wire:
        wire.send(b"GET  /openai/v1/models HTTP/1.1\r\n\r\n")
        answer = wire.answer()
    assert answer.status == 400
    id = dict(answer.headers)[b"x-llamakey-request-id"].decode()
    flow = page.wait(lambda each: id in json.dumps(each.get("response", {})))
    assert flow["response"]["status_code"] == 400
    assert page.content(flow, "response") == answer.body


def test_a_ticket_in_an_answer_is_in_no_flow(page: Page, call: Caller, watched: Proxy) -> None:
    key = watched.local_key
    start = (("x-goog-upload-command", "start"), ("x-goog-api-key", key))
    place = call("/gemini/upload/v1beta/files", b'{"file": {}}', key="", more=start)
    address = place.header("x-goog-upload-url")
    assert address.partition("llamakey=")[2].startswith(f"sk-lmk-{key.split('-')[2]}-u")
    finish = (("x-goog-upload-command", "upload, finalize"),)
    target = address.removeprefix(watched.url)
    assert call(target, b"x", key="", more=finish).status == 200
    told = call("/replicate/v1/predictions/p1", b"", method="GET")
    assert b"llamakey=sk-lmk-" in told.body
    page.wait(lambda flow: marked(call.mark)(flow) and "/replicate/" in flow["request"]["path"])
    flows = [flow for flow in page.flows() if marked(call.mark)(flow)]
    assert [flow["response"]["status_code"] for flow in flows] == [200, 200, 200]
    shown = json.dumps(flows).encode() + page.content(flows[-1], "response")
    assert shown.count(b"llamakey=sk-lmk-") >= 4
    assert list(traces(shown)) == []
