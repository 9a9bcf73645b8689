"""Replays come through the front door: judged again, booked, and as nobody else than the sender."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Start
from tests.fakes import Request, World
from tests.harness import Proxy, revoke
from tests.view.conftest import CHAT, CONFIG, MEDDLER, Caller
from tests.view.page import Page, marked, ticks

REMEDY = "Send the request from a client with a local key"


@pytest.fixture
def upstream(world: World) -> Callable[[], list[Request]]:
    start = world.mark()
    return lambda: world.requests(since=start)


def _flow(page: Page, call: Caller) -> dict[str, Any]:
    """The flow of a test's call, when all of it is over."""
    call.hooks()
    return page.wait(marked(call.mark))


def _idle(page: Page) -> None:
    for _ in ticks(15):
        if json.loads(page.do("POST", "/commands/replay.client.count"))["value"] == 0:
            return
    raise TimeoutError("a replay does not end")


def _replayed(page: Page, flow: dict[str, Any]) -> dict[str, Any]:
    """The flow once its replay is over."""
    page.do("POST", f"/flows/{flow['id']}/replay")

    def over(each: dict[str, Any]) -> bool:
        answer = each.get("response", {})
        fresh = answer.get("timestamp_end") not in (None, flow["response"]["timestamp_end"])
        return each["id"] == flow["id"] and (fresh or "error" in each)

    found = page.wait(over)
    _idle(page)
    return found


def test_a_replay_is_a_call_of_the_same_user(
    call: Caller, page: Page, world: World, upstream: Callable[[], list[Request]]
) -> None:
    call()
    flow = _flow(page, call)
    again = _replayed(page, flow)
    assert again["is_replay"] == "request"
    assert again["response"]["status_code"] == 200
    first, second = upstream()
    assert second.body == first.body == CHAT
    assert second.header("authorization") == f"Bearer {world.key('openai')}"
    assert second.target == first.target
    ids = {fact["metadata"]["llamakey_request"] for fact in call.hooks()}
    for _ in ticks(10):
        lines = [line for line in call.proxy.log() if line.get("id") in ids]
        if len(lines) == 2:
            break
    assert [(line["user"], line["status"]) for line in lines] == [("alice", 200)] * 2


def test_an_edited_replay_is_judged_as_edited(
    call: Caller, page: Page, watched: Proxy, upstream: Callable[[], list[Request]]
) -> None:
    call(key=watched.mint("bob"))
    flow = _flow(page, call)
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"path": "/openai/v1/files"}})
    again = _replayed(page, flow)
    assert again["response"]["status_code"] == 403
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"path": "/openai/v1/chat/completions"}})
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"content": CHAT.decode() + " "}})
    assert _replayed(page, again)["response"]["status_code"] == 200
    assert [sent.body for sent in upstream()] == [CHAT, CHAT + b" "]


def test_an_edited_head_cannot_smuggle(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    call()
    flow = _flow(page, call)
    for change in (
        {"path": "/openai/v1/files HTTP/1.1\r\nX-Evil: 1"},
        {"method": "GET /admin HTTP/1.1\r\nA: b\r\n"},
        {"headers": [["X-Evil", "1\r\nX-More: 1"]]},
    ):
        page.do("PUT", f"/flows/{flow['id']}", {"request": change})
        assert "does not replay" in _replayed(page, flow)["error"]["msg"]
        page.do("POST", f"/flows/{flow['id']}/revert")
    assert len(upstream()) == 1


def test_host_edits_lead_nowhere(
    call: Caller, page: Page, world: World, upstream: Callable[[], list[Request]]
) -> None:
    call()
    flow = _flow(page, call)
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"host": "evil.example", "port": 1}})
    assert _replayed(page, flow)["response"]["status_code"] == 200
    assert upstream()[-1].header("host") == f"localhost:{world.port('openai')}"


def test_the_replay_of_a_revoked_key_is_refused(
    call: Caller, page: Page, watched: Proxy, upstream: Callable[[], list[Request]]
) -> None:
    key = watched.mint("carol")
    call(key=key)
    flow = _flow(page, call)
    revoke(watched.home, key)
    again = _replayed(page, flow)
    assert again["response"]["status_code"] == 401
    assert b"was revoked" in page.content(again, "response")
    assert len(upstream()) == 1


def test_a_duplicate_runs_as_the_same_key(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    call()
    flow = _flow(page, call)
    twin = page.do("POST", f"/flows/{flow['id']}/duplicate").decode()
    twin = page.do("POST", f"/flows/{twin}/duplicate").decode()
    again = _replayed(page, page.again({"id": twin}))
    assert again["id"] not in ("", flow["id"])
    assert again["response"]["status_code"] == 200
    assert len(upstream()) == 2


def test_a_denied_stranger_is_not_replayed(call: Caller, page: Page) -> None:
    call(key="")
    flow = _flow(page, call)
    assert REMEDY in _replayed(page, flow)["error"]["msg"]


def test_a_cut_body_is_not_replayed(call: Caller, page: Page) -> None:
    call("/cohere/odd/upload", b"a" * 300_000)
    flow = _flow(page, call)
    assert "view.body_bytes" in _replayed(page, flow)["error"]["msg"]


def test_a_replay_that_an_addon_breaks_is_a_denial(
    call: Caller, page: Page, upstream: Callable[[], list[Request]]
) -> None:
    call()
    flow = _flow(page, call)
    headers = [*flow["request"]["headers"], ["x-meddle", "request raise SystemExit"]]
    page.do("PUT", f"/flows/{flow['id']}", {"request": {"headers": headers}})
    assert _replayed(page, flow)["response"]["status_code"] == 500
    page.do("POST", f"/flows/{flow['id']}/revert")
    assert _replayed(page, flow)["response"]["status_code"] == 200
    assert len(upstream()) == 2


def test_replays_wait_for_each_other(call: Caller, page: Page, world: World) -> None:
    gate = world.gate(call.mark)
    gate.open()
    body = CHAT[:-1] + b', "stream": true}'
    call(body=body, more=(("x-fake-gate", call.mark),))
    flow = _flow(page, call)
    twins = [page.do("POST", f"/flows/{flow['id']}/duplicate").decode() for _ in range(3)]
    for twin in twins:
        page.do("POST", f"/flows/{twin}/replay")
    _idle(page)
    for twin in twins:
        again = page.again({"id": twin})
        assert again["response"]["timestamp_end"] > flow["response"]["timestamp_end"]
        assert again["is_replay"] == "request"


def test_flows_from_files_are_nobodys(proxy: Start, world: World, tmp_path: Path) -> None:
    """Uploaded to the page, loaded by command, or given by -C: refused, each with the remedy."""
    watched = proxy("mitmweb", config=CONFIG, args=("-s", str(MEDDLER)))
    page = Page.of(watched)
    call = Caller(watched, "file")
    call()
    flow = page.wait(marked("file"))
    start = world.mark()
    saved = page.do("GET", "/flows/dump")
    status, _ = page.call("POST", "/flows/dump", raw=saved)
    assert status == 200
    uploaded = page.again(flow)
    assert REMEDY in _replayed(page, uploaded)["error"]["msg"]
    file = tmp_path / "flows"
    file.write_bytes(saved)
    page.do("POST", "/commands/replay.client.file", {"arguments": [str(file)]})
    page.do("POST", "/commands/view.flows.load", {"arguments": [str(file)]})
    loaded = page.wait(lambda each: each["id"] != flow["id"])
    assert REMEDY in _replayed(page, loaded)["error"]["msg"]
    page.do(
        "POST",
        "/commands/view.flows.create",
        {"arguments": ["get", f"{world.origin('openai')}/v1"]},
    )
    made = page.wait(lambda each: each["request"]["path"] == "/v1")
    page.do("POST", f"/flows/{made['id']}/replay")
    refused = page.wait(lambda each: "error" in each and each["id"] == made["id"])
    assert REMEDY in refused["error"]["msg"]
    dump = proxy("mitmdump", config=CONFIG, args=("-C", str(file), "--set", "keepserving=true"))
    dump.wait_for_output("does not replay this flow")
    assert dump.healthy()
    assert world.requests(since=start) == []


def test_what_is_saved_says_whose_it_is_and_no_more(call: Caller, page: Page) -> None:
    call()
    flow = _flow(page, call)
    facts = call.hooks()[-1]["metadata"]
    assert facts["llamakey_key"] == call.proxy.local_key.split("-")[2]
    assert all(isinstance(value, str) for value in facts.values())
    assert json.dumps(facts)
    assert flow["is_replay"] is None
